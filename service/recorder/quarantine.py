"""Records that Postgres or the encoding refused: put aside in files, so that draining goes on and nothing is thrown away.

`<data_dir>/quarantine/<journal>-<seq>[.<row>].frame` holds the payload of a frame, or of one of its rows, as it was
journaled; only the service's own user can read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from hoverboard.files import put_file
from hoverboard.journal.records import Record, decode

__all__ = ["QUARANTINE", "Quarantine"]

QUARANTINE: Final = "quarantine"
_SUFFIX: Final = ".frame"


class Quarantine:
    """The files that were put aside.

    Args:
        data_dir: of the service.

    Attributes:
        written: files written so far by this process.
    """

    def __init__(self, data_dir: Path) -> None:
        self.written = 0
        self._data_dir = data_dir
        self._directory = data_dir / QUARANTINE

    def put(self, journal: UUID, seq: int, row: int | None, payload: bytes) -> str:
        """Write a payload, durably; a second time changes nothing. Returns the file, relative to the data directory.

        Raises:
            OSError: it cannot be written.
        """
        # What is put aside is what clients sent: for the service's own user only.
        self._directory.mkdir(mode=0o700, exist_ok=True)
        # By its place in the journal: tried again after a rollback, the same record is the same file.
        place = f"{seq:08d}" if row is None else f"{seq:08d}.{row}"
        path = self._directory / f"{journal}-{place}{_SUFFIX}"
        put_file(path, payload)
        self.written += 1
        return path.relative_to(self._data_dir).as_posix()

    def files(self) -> list[Path]:
        """All of them."""
        return sorted(self._directory.glob(f"[!.]*{_SUFFIX}"))

    def records(self) -> Iterator[tuple[Path, Record | None]]:
        """What is in the files that are still there; None where nobody can say."""
        for path in self.files():
            try:
                yield path, decode(path.read_bytes())
            except FileNotFoundError:  # an erasure was quicker
                continue
            except (msgspec.DecodeError, OSError):
                yield path, None

    def expire(self, before: datetime) -> list[Path]:
        """Remove what was put aside before a time: a record in a file is not kept for longer than one in a table.

        Returns:
            The files that are gone.
        """
        expired = [path for path in self.files() if _put_aside_at(path) < before.timestamp()]
        for path in expired:
            path.unlink(missing_ok=True)
        return expired


def _put_aside_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # an erasure was quicker
        return math.inf
