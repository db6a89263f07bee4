"""What journals hold, as the recorder reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hoverboard.journal.chunk import Position
from hoverboard.journal.finding import journals
from hoverboard.journal.reader import read
from hoverboard.journal.records import Record, decode

__all__ = ["records_of"]

_CHUNK = 1 << 20


def records_of(root: Path, process: str = "") -> list[Record]:
    """Every record of the journals below `root`, in each journal's order; nothing may be damaged.

    Args:
        process: only the journals of this one, such as `api-0`.
    """
    found = [journal for journal in journals(root) if process in ("", journal.process)]
    return [record for journal in found for record in _records(journal.directory)]


def _records(directory: Path) -> Iterator[Record]:
    position = Position(0, 0, 0, 0)
    while True:
        chunk = read(directory, position, max_bytes=_CHUNK)
        assert not chunk.damages, chunk.damages
        yield from (decode(frame.payload) for frame in chunk.frames)
        position = chunk.end
        if chunk.state != "more":
            return
