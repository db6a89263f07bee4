"""What a reader hands out: frames, what is missing between them, and where to read on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

__all__ = ["Chunk", "Damage", "Frame", "Position", "Reason", "State"]

State = Literal["more", "waiting", "finished"]
Reason = Literal["damaged", "missing", "duplicate", "torn"]


@dataclass(frozen=True, slots=True)
class Position:
    """Where to read on.

    Attributes:
        segment: its number.
        offset: in its file, bytes; 0 is before its header.
        seq: of the next frame.
        rows: records in the frames before it.
    """

    segment: int = 0
    offset: int = 0
    seq: int = 0
    rows: int = 0


# A struct that garbage collection need not look at: a chunk holds thousands, and none of them is in a cycle.
class Frame(msgspec.Struct, frozen=True, gc=False):
    """One whole frame.

    Attributes:
        kind: tag of its record.
        payload: the encoded record.
        seq: frames of the journal before it.
        rows: records in them.
        count: records in this frame.
        segment, offset: where it stands; offset -1 for the gap that was still in the reserve file.
    """

    kind: int
    payload: bytes
    seq: int
    rows: int
    count: int
    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of a journal that holds no frames, or none to be read.

    Attributes:
        reason: `damaged` (bytes that do not check), `missing` (frames without a trace, or a whole segment),
            `duplicate` (frames that stand elsewhere too: nothing is lost) or `torn` (the end of a journal whose writer
            was killed or lost its power: what was written last, if anything).
        seq: of the first lost frame.
        frames: that are lost; None where nobody can know.
        records: in them; None where nobody can know.
        segment, offset: where the stretch begins.
        bytes: in it, of the files that are there.
    """

    reason: Reason
    seq: int
    frames: int | None
    records: int | None
    segment: int
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """What was read at once.

    Attributes:
        frames: whole, in order, each once; seals left out, and gaps that were read before.
        damages: between them, in order.
        end: where to read on.
        state: `more` (read on at once), `waiting` (the writer is alive, and nothing complete follows yet) or
            `finished` (everything was read, and nobody can add to it).
        gap_generation: of the last gap up to here; hand it in again when reading on.
    """

    frames: list[Frame]
    damages: list[Damage]
    end: Position
    state: State
    gap_generation: int
