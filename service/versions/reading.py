"""How the files of a models directory are looked at: no link is followed, nothing blocks, nothing is read without bounds.

Whoever can write to the directory could otherwise stop the service with a FIFO, or fill its memory through a link.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Final

from hoverboard.files import open_plain

__all__ = ["MOST_FILES", "entries", "files", "open_file", "read_file"]

MIB: Final = 1024 * 1024
MOST_FILES: Final = 10_000
"""Most files of one version."""
_MOST_ENTRIES: Final = 100_000  # of the models directory, and of one model's
_DEEPEST: Final = 16  # folders in each other in one version


def open_file(path: Path, *, follow: bool = False) -> BufferedReader:
    """Open a plain file for reading.

    Args:
        path: of the file.
        follow: take a link for the plain file that it names.

    Raises:
        OSError: it cannot be opened, or is no plain file; `strerror` says why in words.
    """
    return os.fdopen(open_plain(path, follow=follow), "rb")


def read_file(path: Path, most: int, *, follow: bool = False) -> bytes:
    """The bytes of a plain file.

    Args:
        path: of the file.
        most: bytes it may have.
        follow: as for `open_file`.

    Raises:
        OSError: as `open_file`, and where it is larger than `most`.
    """
    with open_file(path, follow=follow) as file:
        # The file may grow while it is read: one byte more than allowed is asked for.
        content = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
    if content is None or len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {_size(most)}", str(path))
    return content


def _size(count: int) -> str:
    return f"{count // MIB} MiB" if count >= MIB else f"{count // 1024} KiB"


def entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a directory, hidden names left out.

    Raises:
        OSError: it cannot be listed, or holds more than anybody keeps there.
    """
    with os.scandir(directory) as entries:
        for count, entry in enumerate(entries):
            # A folder that something fills without end would otherwise keep all models from being looked at.
            if count >= _MOST_ENTRIES:
                raise OSError(errno.E2BIG, f"more than {_MOST_ENTRIES} entries", str(directory))
            if not entry.name.startswith("."):
                yield entry


def files(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file of a version, at any depth: its name from `directory`, and its status. Links are files here.

    A file that goes away while this looks is passed over.

    Raises:
        OSError: a folder cannot be listed, or there are too many files, or too deep.
    """
    # A list of what is still to do and no recursion, whose depth the folder would decide.
    waiting = [(directory, "", 0)]
    count = 0
    while waiting:
        folder, prefix, depth = waiting.pop()
        if depth > _DEEPEST:
            raise OSError(errno.E2BIG, f"folders more than {_DEEPEST} deep", str(folder))
        with os.scandir(folder) as entries:
            for entry in entries:
                count += 1
                if count > MOST_FILES:
                    raise OSError(errno.E2BIG, f"more than {MOST_FILES} files", str(directory))
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((folder / entry.name, f"{name}/", depth + 1))
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield name, status
