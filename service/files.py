"""Files that are there whole or not at all, and files that are no traps."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

__all__ = ["is_the_file", "open_plain", "put_file", "synchronise"]


def open_plain(path: Path, *, follow: bool = False) -> int:
    """A descriptor to read a plain file with.

    Args:
        path: of the file.
        follow: take a link for the plain file that it names.

    Raises:
        OSError: it cannot be opened, or is no plain file; `strerror` says why in words.
    """
    try:
        # Without O_NONBLOCK a FIFO would wait here for somebody to write to it.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            why = "a link that leads back to itself" if follow else "links are not followed"
            raise OSError(error.errno, why, str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return descriptor


def is_the_file(path: str | Path, descriptor: int, *, size: int | None = None, directory: int | None = None) -> bool:
    """Whether a path still leads to an open file, and that has the size that was written: people remove files.

    Args:
        directory: descriptor of the directory that a relative path begins in.
    """
    try:
        there = os.stat(path, dir_fd=directory)
    except OSError:
        return False
    # The size as well: somebody may have emptied it, which leaves the file where it was.
    return os.path.samestat(there, os.fstat(descriptor)) and size in (None, there.st_size)


def put_file(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Put a file in its place, whatever is there; readers find the old one or all of the new one.

    Args:
        path: of the file; its directory must exist.
        content: all of it.
        mode: of the file, whatever the umask.
        durable: wait until it is on the disk under its name. What can be made again need not wait.

    Raises:
        OSError: it cannot be written; what was there still is.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            if durable:
                os.fsync(descriptor)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    if durable:
        synchronise(path.parent)


def synchronise(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk.

    Raises:
        OSError: it is not there, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
