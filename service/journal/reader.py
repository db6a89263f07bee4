"""Reads a journal from a position on, never changing a file, never stopping at a damaged place."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from hoverboard.journal.chunk import Chunk, Damage, Frame, Position, Reason, State
from hoverboard.journal.finding import is_alive, segment_numbers, totals
from hoverboard.journal.format import HEADER_BYTES, SEAL, NewerFormat
from hoverboard.journal.records import KINDS, GapRecord, decode, encode
from hoverboard.journal.reserve import reserved_gap
from hoverboard.journal.segment import Found, SegmentFile, out_of_place

__all__ = ["beginning", "read"]

_GAP: Final = KINDS[GapRecord]
_DAMAGE_BYTES: Final = 128
"""What a damage counts as against `max_bytes`."""


def beginning(directory: Path) -> Position:
    """The position of the first segment that is there: what was before it has been deleted, or is missing.

    Raises:
        NewerFormat: it is of a later format.
    """
    for number in segment_numbers(directory):
        with suppress(FileNotFoundError), SegmentFile(directory, _uuid(directory), number) as file:
            header = file.header()
            if header is not None and file.belongs(header):
                return Position(number, 0, header.seq, header.rows)
            first, _ = file.search(0)
            if first is not None:
                return Position(number, 0, first.head.seq, first.head.rows)
    return Position()


def read(directory: Path, position: Position, *, max_bytes: int, gap_generation: int = 0) -> Chunk:
    """Read frames from a position on.

    Args:
        directory: the journal's; its name is the journal's UUID.
        position: `Position()`, or the `end` of the chunk before.
        max_bytes: how much to return at most; one frame in any case.
        gap_generation: of the last gap that was read, so that one that is also in the reserve file counts once.

    Raises:
        NewerFormat: the next segment is of a later format; what was before it has been returned.
        OSError: a file cannot be opened or read.
    """
    # In this order: when the writer was gone before the files were looked at, they are all there will be; and a segment
    # that had a successor then is complete.
    alive = is_alive(directory)
    numbers = segment_numbers(directory)
    walk = _Walk(directory, position, max_bytes, gap_generation)
    return walk.chunk(walk.run(numbers, alive=alive))


@dataclass(slots=True)
class _Stretch:
    """Bytes that were passed over since the last frame; see `Damage`.

    Attributes:
        begun: where to begin again if nobody can say yet what it is.
        lost: of the frames in it whose head alone checks the one with the highest seq.
        open_end: whether bytes follow that frame.
    """

    reason: Reason
    begun: Position
    bytes: int = 0
    lost: Found | None = None
    open_end: bool = False


@dataclass(slots=True)
class _Walk:
    """One call of `read`."""

    directory: Path
    position: Position
    max_bytes: int
    gap_generation: int
    frames: list[Frame] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    taken: int = 0
    stretch: _Stretch | None = None
    left: Position | None = None
    journal: UUID = field(init=False)
    segment: int = field(init=False)
    offset: int = field(init=False)
    seq: int = field(init=False)
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.journal = _uuid(self.directory)
        at = self.position
        self.segment, self.offset, self.seq, self.rows = at.segment, at.offset, at.seq, at.rows

    def chunk(self, state: State) -> Chunk:
        end = self._here() if self.stretch is None else self.stretch.begun
        return Chunk(self.frames, self.damages, end, state, self.gap_generation)

    def run(self, numbers: list[int], *, alive: bool) -> State:
        """Read until there is enough, or nothing more."""
        ahead = [number for number in numbers if number >= self.segment]
        for number in ahead:
            live = alive and number == ahead[-1]
            if number > self.segment:
                self._enter(number)
            try:
                with SegmentFile(self.directory, self.journal, number) as file:
                    state = self._segment(file, live=live)
            except FileNotFoundError:
                continue  # deleted since; if something is missing, the next one tells
            except NewerFormat:
                if not self.frames and not self.damages:
                    raise
                state = "more"
            if state != "finished":
                return state
        if alive:
            return "waiting"
        self._end(numbers)
        return "finished"

    def _enter(self, number: int) -> None:
        """Go to a segment that is not the one of the position."""
        if number > self.segment + 1 or self.offset == 0:
            self._pass("missing", 0)
        # What is missing at the segment's beginning was lost behind this place.
        self.left = self._here()
        self.segment, self.offset = number, 0

    def _segment(self, file: SegmentFile, *, live: bool) -> State:
        """Read one segment to its end (`finished`), or until there is enough, or nothing complete."""
        if self.offset == 0:
            self._header(file)
        passed_over: frozenset[int] | None = None
        while True:
            found, payload = file.frame(self.offset) or (None, b"")
            if found is None:
                if self.offset >= file.size:
                    # The writer of a live one notices, too, and begins another, whose header says what is missing.
                    if self.offset > file.size and not live:
                        self._pass("missing", 0)  # emptied, or cut short, by somebody else
                    return "waiting" if live else "finished"
                if not self._skip(file, live=live):
                    return "waiting" if live else "finished"
                continue
            if found.head.seq > self.seq and passed_over is None:
                # Only where frames are missing, or stand in another order, is the whole segment worth looking through.
                passed_over = out_of_place(file.frames(found.offset), self.seq)
            if found.head.seq < self.seq or (passed_over and found.offset in passed_over):
                self._pass("duplicate", found.end - found.offset)
                self.offset = found.end
                continue
            self._known(found.head.seq, found.head.rows)
            if not self._take(found, payload):
                return "more"

    def _header(self, file: SegmentFile) -> None:
        header = file.header()
        if header is None:
            return
        if not file.belongs(header):
            self._pass("duplicate", file.size)
            self.offset = file.size
            return
        self.gap_generation = max(self.gap_generation, header.gap_generation)
        if header.seq >= self.seq:
            # What is missing here was cut off the segment before.
            self._known(header.seq, header.rows, self.left)
        self.offset = HEADER_BYTES

    def _skip(self, file: SegmentFile, *, live: bool) -> bool:
        """Go to the next whole frame; False where there is none. In a live segment this one may yet be completed."""
        found, lost = file.search(self.offset)
        if live:
            if found is None:
                return False
            # A later frame is whole, so this one was complete before that was written: see it as it is now.
            file.refresh()
            if file.frame(self.offset) is not None:
                return True
        end = file.size if found is None else found.offset
        self._pass("damaged", end - self.offset, lost, open_end=lost is not None and lost.end != end)
        self.offset = end
        return found is not None

    def _pass(self, reason: Reason, size: int, lost: Found | None = None, *, open_end: bool = False) -> None:
        """Pass over bytes at the present place."""
        stretch = self.stretch
        if stretch is None:
            stretch = self.stretch = _Stretch(reason, self._here())
        if reason == "damaged" or (reason == "missing" and stretch.reason == "duplicate"):
            stretch.reason = reason
        stretch.bytes += size
        if lost is not None and lost.head.seq >= self.seq:
            stretch.lost, stretch.open_end = lost, open_end
        elif reason == "damaged":
            stretch.open_end = True

    def _known(self, seq: int, rows: int, begun: Position | None = None) -> None:
        """It is certain again which frame comes next: account for what was passed over, or is missing since `begun`."""
        stretch = self.stretch
        frames, records = seq - self.seq, max(rows - self.rows, 0)
        if frames or (stretch is not None and stretch.bytes):
            self._damage(stretch or _Stretch("missing", begun or self._here()), frames, records)
        self.stretch = None
        self.seq, self.rows = seq, rows

    def _damage(self, stretch: _Stretch, frames: int | None, records: int | None) -> None:
        reason: Reason = "missing" if stretch.reason == "duplicate" and frames else stretch.reason
        at = stretch.begun
        self.damages.append(Damage(reason, self.seq, frames, records, at.segment, at.offset, stretch.bytes))
        self.taken += _DAMAGE_BYTES

    def _take(self, found: Found, payload: bytes) -> bool:
        """Return a frame; False where there is no room for it."""
        size = found.end - found.offset
        # One frame in any case, or a frame above the limit would be asked for again and again.
        if (self.frames or self.damages) and self.taken + size > self.max_bytes:
            self.offset = found.offset
            return False
        head = found.head
        if head.kind != SEAL and not (head.kind == _GAP and self._repeated(payload)):
            self.frames.append(Frame(head.kind, payload, head.seq, head.rows, head.records, self.segment, found.offset))
        self.taken += size
        self.seq, self.rows, self.offset = head.seq + 1, head.rows + head.records, found.end
        return True

    def _repeated(self, payload: bytes) -> bool:
        """Whether a gap was read before; takes note of it."""
        generation = _generation(payload)
        # A gap is written again where the disk may have lost it; each generation counts once.
        if 0 < generation <= self.gap_generation:
            return True
        self.gap_generation = max(self.gap_generation, generation)
        return False

    def _end(self, numbers: list[int]) -> None:
        """Nothing comes any more: account for the end, and for the gap that never became a frame."""
        # The order of these questions is that of how much each of them knows: totals say exactly what was lost.
        known = totals(self.directory)
        stretch = self.stretch
        if known is not None and known.frames >= self.seq:
            self._known(known.frames, known.rows)
        elif stretch is None and self.segment not in numbers:
            self._damage(_Stretch("missing", self._here()), None, None)
        elif stretch is not None and stretch.reason == "missing" and not stretch.bytes:
            self._damage(stretch, None, None)
        elif stretch is not None and stretch.reason != "damaged":
            self._known(self.seq, self.rows)
        elif stretch is not None and stretch.lost is not None and not stretch.open_end:
            head = stretch.lost.head
            self._known(head.seq + 1, head.rows + head.records)
        elif stretch is not None:
            # A frame that nobody was told of: its writer died before the write was whole.
            stretch.reason = "torn"
            self._damage(stretch, None, None)
        self.stretch = None
        self._reserved()

    def _reserved(self) -> None:
        gap = reserved_gap(self.directory)
        if gap is not None and gap.generation > self.gap_generation:
            self.frames.append(Frame(_GAP, encode(gap), self.seq, self.rows, 0, self.segment, -1))
            self.gap_generation = gap.generation

    def _here(self) -> Position:
        return Position(self.segment, self.offset, self.seq, self.rows)


def _generation(payload: bytes) -> int:
    try:
        record = decode(payload)
    except msgspec.DecodeError:
        return 0
    return record.generation if isinstance(record, GapRecord) else 0


def _uuid(directory: Path) -> UUID:
    return UUID(directory.name)
