"""What an unfinished export or replay left in its folder: where it cannot be gone on with, which file it is, and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa

from hoverboard.errors import ConfigError, HoverboardError
from hoverboard.offline.parquet_source import streamed

__all__ = ["gone_on_with", "unfit"]

_NOT_OURS: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
_BATCH_ROWS: Final = 8192


def unfit(folder: Path, path: Path, why: str) -> ConfigError:
    """That a file in a work folder cannot be gone on with.

    Args:
        folder: of the unfinished run.
        path: of the file.
        why: what is wrong with it, the end of a sentence that begins with its path.
    """
    return ConfigError(f"{path} {why}: what is unfinished in {folder} cannot be gone on with; --restart throws it away")


@contextmanager
def gone_on_with(folder: Path, elsewhere: str) -> Iterator[None]:
    """What is done within reads and writes what an unfinished run has left in a folder.

    Args:
        folder: of the run.
        elsewhere: how to name another folder, such as `--workspace`.

    Raises:
        ConfigError: a file there is damaged or missing, or the user may not change the folder; with the file.
    """
    try:
        yield
    except HoverboardError:
        raise
    except OSError as error:
        path = _file_of(folder, error)
        if path is not None and error.errno in _NOT_OURS:
            raise ConfigError(
                f"{path}: {os.strerror(error.errno)}. {folder} is where this command keeps what it has done so far: let its user "
                f"read and write there, or name another folder with {elsewhere}"
            ) from error
        if path is not None and error.errno == errno.ENOENT:
            raise unfit(folder, path, "is missing") from error
        if error.errno is not None:
            raise
        raise _damage(folder, error) or error from error  # Arrow's own have no number
    except (pa.ArrowException, ValueError, KeyError) as error:
        found = _damage(folder, error)
        if found is None:
            raise
        raise found from error


def _file_of(folder: Path, error: OSError) -> Path | None:
    """The file in a folder, or the folder, that an error is about; None for another one."""
    named = error.filename2 or error.filename
    path = Path(os.fsdecode(named)) if named is not None else None
    if path is None and error.errno is not None:  # Arrow writes it into the sentence
        quoted = str(error).split("'")
        path = Path(quoted[1]) if len(quoted) > 1 else None
    if path is None:
        return None
    inside = path.absolute().is_relative_to(folder.absolute()) or folder.absolute().is_relative_to(path.absolute())
    return path if inside else None


def _damage(folder: Path, error: Exception) -> ConfigError | None:
    """The first file of a folder that cannot be read; None where all can, and the error says nothing of files."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        try:
            if path.suffix == ".json":
                msgspec.json.decode(path.read_bytes())
            elif path.suffix == ".parquet":
                with streamed(path) as file:
                    for _ in file.iter_batches(_BATCH_ROWS):
                        pass
        except (pa.ArrowException, OSError, ValueError) as damage:
            reason = str(damage).partition("\n")[0].rstrip(".")
            return unfit(folder, path, f"is damaged ({reason})")
    if isinstance(error, pa.ArrowException):
        return ConfigError(
            f"the files in {folder} do not belong together ({str(error).partition(chr(10))[0].rstrip('.')}): what is unfinished "
            "there cannot be gone on with; --restart throws it away"
        )
    return None
