"""Real journals, and all that a reader gets from one."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hoverboard.journal.chunk import Damage, Frame, Position
from hoverboard.journal.reader import read
from hoverboard.journal.records import GapEntry, GapRecord, decode
from hoverboard.journal.writer import JournalWriter

MIB = 1024 * 1024
BATCH, REJECTION, GAP = 2, 3, 6


def open_writer(root: Path, **options: Any) -> JournalWriter:
    given: dict[str, Any] = {
        "process": "engine-0",
        "segment_bytes": MIB,
        "budget_bytes": 100 * MIB,
        "fsync": False,
        **options,
    }
    return JournalWriter(root, **given)


def entry(records: int, *, model: str | None = "m", reason: str = "budget", at: int = 1_000) -> GapEntry:
    return GapEntry(model, 1 if model else None, reason, records, records, 0, at, at + 1)


@dataclass
class Everything:
    """All of a journal, from chunks of any size."""

    frames: list[Frame] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    end: Position = field(default_factory=Position)
    state: str = ""
    generation: int = 0

    @property
    def payloads(self) -> list[bytes]:
        return [frame.payload for frame in self.frames]

    @property
    def records(self) -> int:
        return sum(frame.count for frame in self.frames)

    @property
    def gaps(self) -> list[GapRecord]:
        decoded = [decode(frame.payload) for frame in self.frames if frame.kind == GAP]
        return [record for record in decoded if isinstance(record, GapRecord)]


def read_on(directory: Path, so_far: Everything, max_bytes: int = MIB) -> Everything:
    """Read until there is nothing more now."""
    while True:
        before = so_far.end
        chunk = read(directory, before, max_bytes=max_bytes, gap_generation=so_far.generation)
        so_far.frames += chunk.frames
        so_far.damages += chunk.damages
        so_far.end, so_far.state, so_far.generation = chunk.end, chunk.state, chunk.gap_generation
        if chunk.state != "more":
            return so_far
        assert chunk.end != before


def read_all(directory: Path, max_bytes: int = MIB) -> Everything:
    return read_on(directory, Everything(), max_bytes)


def copied(directory: Path, below: Path) -> Path:
    """The journal as a kill -9 of its writer at this moment would leave it: all that was written, and no lock."""
    below.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copytree(directory, below / directory.name))


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Within, the journal looks like its writer was alive."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
