"""How far Postgres is behind the journals, told from the files alone: Postgres may be away."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from hoverboard.errors import HoverboardError, NewerFormat
from hoverboard.files import open_plain
from hoverboard.journal.chunk import Position
from hoverboard.journal.finding import JournalInfo, SegmentInfo
from hoverboard.journal.format import (
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    frame_seed,
    segment_name,
    unpack_head,
    unpack_header,
)
from hoverboard.journal.reader import read
from hoverboard.journal.records import BatchRecord, SingleRecord, decode
from hoverboard.recorder.cursor import Cursor

__all__ = ["Behind", "Lag"]

# Enough for the first frame after the cursor, of whose records only the time is wanted.
_LOOK_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Behind:
    """What is journaled and not in Postgres.

    Attributes:
        rows: records, as far as the frames' heads can be read.
        bytes: of files.
        seconds: age of the oldest of these records; 0 where there is none.
    """

    rows: int
    bytes: int
    seconds: float


@dataclass(slots=True)
class _Tail:
    """Up to where a segment's frames were counted."""

    segment: int
    offset: int
    rows: int


class Lag:
    """Remembers how far it has counted, so that each look reads only what is new."""

    def __init__(self) -> None:
        self._tails: dict[UUID, _Tail] = {}

    def measure(self, journals: Sequence[JournalInfo], cursors: Mapping[UUID, Cursor], *, now: datetime) -> Behind:
        """Look at all journals.

        Args:
            journals: everything on disk.
            cursors: as last seen; a journal without one counts as a whole.
            now: the clock that records are timed by.
        """
        rows = size = 0
        oldest = now.timestamp()
        for journal in journals:
            cursor = cursors.get(journal.uuid)
            at = Position() if cursor is None else cursor.position
            behind = 0 if cursor is not None and cursor.finished else _bytes(journal.segments, at)
            if not behind:
                continue
            size += behind
            rows += max(0, self._rows(journal) - at.rows)
            oldest = min(oldest, _oldest(journal, at) or oldest)
        self._tails = {journal.uuid: self._tails[journal.uuid] for journal in journals if journal.uuid in self._tails}
        return Behind(rows, size, max(0.0, now.timestamp() - oldest))

    def _rows(self, journal: JournalInfo) -> int:
        """Records in all frames of a journal."""
        last = journal.segments[-1]
        tail = self._tails.get(journal.uuid)
        try:
            # Heads of frames alone are read, without their payloads: Postgres may be hours behind.
            descriptor = open_plain(journal.directory / segment_name(last.number))
        except OSError:
            return 0  # deleted meanwhile
        try:
            if tail is None or tail.segment != last.number:
                tail = _begin(descriptor, last.number)
            _go_on(descriptor, tail, frame_seed(journal.uuid, last.number))
        except NewerFormat:
            return 0  # the drain says so
        finally:
            os.close(descriptor)
        self._tails[journal.uuid] = tail
        return tail.rows


def _bytes(segments: Sequence[SegmentInfo], at: Position) -> int:
    behind = sum(segment.bytes for segment in segments if segment.number > at.segment)
    return behind + sum(max(0, segment.bytes - at.offset) for segment in segments if segment.number == at.segment)


def _begin(descriptor: int, number: int) -> _Tail:
    header = unpack_header(os.pread(descriptor, HEADER_BYTES, 0), segment_name(number))
    return _Tail(number, HEADER_BYTES, 0 if header is None else header.rows)


def _go_on(descriptor: int, tail: _Tail, seed: int) -> None:
    while (head := unpack_head(seed, os.pread(descriptor, FRAME_HEAD_BYTES, tail.offset))) is not None:
        tail.offset += FRAME_HEAD_BYTES + head.size
        tail.rows = head.rows + head.records


def _oldest(journal: JournalInfo, at: Position) -> float | None:
    """Time of the first record after a position, seconds since the epoch."""
    try:
        frames = read(journal.directory, at, max_bytes=_LOOK_BYTES).frames
    except (OSError, HoverboardError):
        return None
    for frame in frames:
        try:
            record = decode(frame.payload)
        except msgspec.DecodeError:
            continue
        if isinstance(record, BatchRecord):
            return record.started_us / 1e6
        if isinstance(record, SingleRecord):
            return record.at_us / 1e6
    return None
