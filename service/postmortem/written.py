"""Files that are written for somebody: whole or not at all, and where there is no room, a sentence that says what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hoverboard.errors import ConfigError
from hoverboard.files import put_file

__all__ = ["room_for", "write_page"]

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MODE: Final = 0o644


@contextmanager
def room_for(path: Path, then: str) -> Iterator[None]:
    """What is written within goes to this file or folder.

    Args:
        path: told where there is no room for it; Arrow's own errors name none.
        then: what to do once there is.

    Raises:
        ConfigError: there is no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise ConfigError(
            f"{path} could not be written: {os.strerror(error.errno)}. Make room there; {then}"
        ) from error


def write_page(path: Path, page: str) -> None:
    """Put a page in its place.

    Raises:
        ConfigError: there is no room for it; what was there still is.
        OSError: it cannot be written for another reason.
    """
    try:
        with room_for(path, "the same command writes it then"):
            if path.exists() and not path.is_file():  # such as /dev/stdout: nothing can take its place
                path.write_text(page, encoding="utf-8")
            else:
                put_file(path.resolve(), page.encode(), mode=_MODE)
    except OSError as error:  # of a file beside it, whose name nobody has given
        raise OSError(error.errno, error.strerror, str(path)) from error
