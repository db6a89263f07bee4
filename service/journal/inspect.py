"""What journals hold, counted: for a person who looks at a data directory. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hoverboard.journal.chunk import Chunk, Damage, State
from hoverboard.journal.finding import JournalInfo, journals
from hoverboard.journal.format import RESERVE_FILE
from hoverboard.journal.reader import beginning, read
from hoverboard.journal.records import KINDS, GapEntry, GapRecord, decode
from hoverboard.journal.reserve import reserved_gap

__all__ = ["WORDS", "Survey", "survey", "surveys"]

WORDS: Final[Mapping[int, str]] = {
    kind: record.__name__.removesuffix("Record").lower() for record, kind in KINDS.items()
}
"""What a frame of a kind holds, in a word."""

_AT_ONCE: Final = 4 * 1024 * 1024


@dataclass(slots=True)
class Survey:
    """One journal, read through.

    Attributes:
        info: what is there.
        state: `waiting` where its writer is alive, else `finished`.
        bytes: in its segments and its reserve file.
        frames: that are whole, by kind; seals left out.
        records: in them, by kind.
        damages: what is not.
        pending: records that the writer has counted as missing, and has no gap frame for yet.
    """

    info: JournalInfo
    state: State = "more"
    bytes: int = 0
    frames: dict[str, int] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=dict)
    damages: list[Damage] = field(default_factory=list)
    pending: tuple[GapEntry, ...] = ()


def surveys(root: Path) -> Iterator[Survey]:
    """Read every journal below a directory, oldest first. Raises NewerFormat, OSError."""
    for info in journals(root):
        yield survey(info)


def survey(info: JournalInfo) -> Survey:
    """Read a journal from its first segment that is there.

    Raises:
        NewerFormat: it is of a later format.
        OSError: a file cannot be read.
    """
    found = Survey(info, bytes=sum(segment.bytes for segment in info.segments) + _size(info.directory / RESERVE_FILE))
    position, generation = beginning(info.directory), 0
    while found.state == "more":
        chunk = read(info.directory, position, max_bytes=_AT_ONCE, gap_generation=generation)
        _count(found, chunk)
        position, generation = chunk.end, chunk.gap_generation
        found.state = chunk.state
    gap = reserved_gap(info.directory)
    if found.state == "waiting" and gap is not None and gap.generation > generation:
        found.pending = tuple(gap.entries)
    return found


def _count(found: Survey, chunk: Chunk) -> None:
    for frame in chunk.frames:
        # From the reserve file: it is no frame yet, and counted as pending.
        if frame.offset < 0:
            record = decode(frame.payload)
            found.pending = tuple(record.entries) if isinstance(record, GapRecord) else ()
            continue
        kind = WORDS.get(frame.kind, f"kind {frame.kind}")
        found.frames[kind] = found.frames.get(kind, 0) + 1
        found.records[kind] = found.records.get(kind, 0) + frame.count
    found.damages += chunk.damages


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
