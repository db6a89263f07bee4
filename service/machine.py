"""Tells what is wrong with this machine for the moment from what is wrong with a version.

A full disk, a missing right or too few file descriptors pass: whatever met them is tried again. What is wrong with a version
stays until its files change.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hoverboard.errors import MACHINE

__all__ = ["check_of", "confine", "pause_s"]

_FIRST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 60.0
_IDLE_SHARE: Final = 4.0  # a try that takes long is not made more often than that: others need the machine, too

_RIGHTS: Final = frozenset({errno.EACCES, errno.EPERM})
_HANDLES: Final = frozenset({errno.EMFILE})
_PASSING: Final = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENFILE, errno.ETIMEDOUT),
        *(errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ENOTCONN, errno.EHOSTDOWN),
    }
)
_TENSORFLOW: Final = {"PermissionDeniedError": _RIGHTS, "UnavailableError": _PASSING}
_DEEPEST: Final = 8
_LITTLE_KIB: Final = 1024 * 1024
"""KiB of memory that is free: with less, running out of it says nothing of whoever did."""

_confined: Path | None = None


def confine(directory: Path) -> None:
    """Say that this process has given up rights, handles and memory: from here on, lacking them is its own doing.

    Args:
        directory: whose files it may still read; that one of them cannot be read is the machine's doing.
    """
    global _confined  # noqa: PLW0603 - it holds for the whole process, as what the sandbox took does
    _confined = directory


def check_of(error: BaseException, check: str) -> str:
    """The check that an error fails: `machine` where it, or what led to it, is this machine's state; else `check`."""
    return MACHINE if any(map(_passes, _causes(error))) else check


def pause_s(tries: int, took_s: float) -> float:
    """Seconds until something is tried again that has failed so many times in a row.

    Args:
        tries: how often it has failed, at least 1.
        took_s: what the last try took.
    """
    return max(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(tries - 1, 30)), _IDLE_SHARE * took_s)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it: libraries wrap what the system says in errors of their own."""
    current: BaseException | None = error
    for _ in range(_DEEPEST):
        if current is None:
            return
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _passes(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":  # TensorFlow's own
        return _memory_is_short()
    if isinstance(error, OSError):
        if error.errno == errno.ENOMEM:
            return _memory_is_short()
        if error.errno == errno.ENOENT:
            return _no_temporary_folder()  # any other file that is missing is the version's own fault
        if error.errno in _RIGHTS:
            return _confined is None or _lies_in(error.filename, _confined)
        return error.errno in _PASSING or (_confined is None and error.errno in _HANDLES)
    kinds = _TENSORFLOW.get(type(error).__name__)
    return kinds is not None and not (_confined is not None and kinds is _RIGHTS)


def _lies_in(file: object, directory: Path) -> bool:
    return isinstance(file, str | os.PathLike) and Path(file).is_relative_to(directory)


def _no_temporary_folder() -> bool:
    """Whether TMPDIR is gone, or none of its kind can be written to."""
    try:
        return not Path(tempfile.gettempdir()).is_dir()
    except OSError:
        return True


def _memory_is_short() -> bool:
    """Whether memory is short for everybody; in a process that may take what it likes, running out of it says so."""
    if _confined is None:
        return True
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    free = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), _LITTLE_KIB)
    return free < _LITTLE_KIB
