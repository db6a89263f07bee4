r"""A journal's files, byte by byte: format 1. Integers are little-endian, checksums CRC32C, sizes in bytes.

`<data_dir>/journal/<uuid>/` is one journal: what one api or engine process has written between its start and its end.
The process holds an flock on the directory itself; once that is free, nothing is added any more.

    00000000.seg ...  segments, in order; each a header and then frames without anything between them
    reserve           two slots for the gap that is not yet a frame; its blocks are allocated when the journal begins
    closed            totals, written last when a journal is closed in order

Segment header, 92 bytes

    offset  size
         0     7  magic: 89 48 42 4a 0d 0a 1a ("\x89HBJ\r\n\x1a")
         7     1  format version: 1
         8     4  checksum of the 8 bytes before
        12    16  the journal's UUID
        28     4  the segment's number, that of its file name
        32     8  seq: frames of the journal before this segment
        40     8  rows: records in them
        48     8  generation of the last gap frame among them; 0 for none
        56    32  the process, such as `engine-0`: UTF-8, filled up with NUL
        88     4  checksum of everything before

The first 12 bytes are the same in every later format, so that a reader can tell a newer one from a damaged one.

Frame, 37 bytes and its payload

         0     4  marker: fd 48 42 f6
         4     4  size of the payload, at most 1 GiB
         8     8  seq: frames of the journal before this one
        16     8  rows: records in them
        24     4  count: records in this frame; 0 for version, gap and seal frames
        28     1  kind: 0 for a seal, else the tag of the record in `hoverboard.journal.records`
        29     4  checksum of the payload
        33     4  checksum of the 33 bytes before, begun with that of the journal's UUID and the segment's number (4)
        37        payload: the record as MessagePack; empty for a seal

A frame checks in its own segment only. So what is copied to another place, or a payload that looks like frames, is
never taken for one; and as the head has a checksum of its own, a frame whose payload is lost still says how much that was.
A gap that the disk may have lost is written again, with the same generation: each generation counts once.
A seal ends a segment that its writer has left in order.

What is cut off a segment, even exactly between two frames, is missed and counted by the seq and rows in the header of the
next one, behind the last one by the totals. Only the end of a journal that was not closed has neither: where its last
segment was cut between two frames, or is gone as a whole, nothing tells what is left from what a kill -9 leaves.

Slot of the reserve file, 65536 bytes each

         0     8  serial: of two slots that check the higher one counts
         8     4  size of the payload
        12     4  checksum of the 12 bytes before and the payload
        16        payload: a `GapRecord`; it counts only where its generation is above that of every gap frame

The file `closed`, 40 bytes

         0     7  magic: 89 48 42 43 0d 0a 1a ("\x89HBC\r\n\x1a")
         7     1  format version: 1
         8     4  checksum of the 8 bytes before
        12     4  number of the last segment
        16     8  frames in the journal
        24     8  records in them
        32     4  zero
        36     4  checksum of everything before
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

import google_crc32c

from hoverboard.errors import NewerFormat

__all__ = [
    "CLOSED_FILE",
    "FORMAT",
    "FRAME_HEAD_BYTES",
    "HEADER_BYTES",
    "MARKER",
    "MAX_PAYLOAD",
    "RESERVE_FILE",
    "SEAL",
    "SLOT_BYTES",
    "SLOT_PAYLOAD",
    "TOTALS_BYTES",
    "FrameHead",
    "NewerFormat",
    "SegmentHeader",
    "Totals",
    "checksum",
    "frame_seed",
    "pack_head",
    "pack_header",
    "pack_slot",
    "pack_totals",
    "segment_name",
    "segment_number",
    "unpack_head",
    "unpack_header",
    "unpack_slot",
    "unpack_totals",
]

FORMAT: Final = 1
SEAL: Final = 0
MAX_PAYLOAD: Final = 1 << 30
_MOST_RECORDS: Final = 1 << 62
MARKER: Final = b"\xfdHB\xf6"

RESERVE_FILE: Final = "reserve"
CLOSED_FILE: Final = "closed"
_SUFFIX: Final = ".seg"
_LAST_SEGMENT: Final = 2**32 - 1  # a header has four bytes for its number
_DIGITS: Final = len(str(_LAST_SEGMENT))

_SEGMENT_MAGIC: Final = b"\x89HBJ\r\n\x1a"
_CLOSED_MAGIC: Final = b"\x89HBC\r\n\x1a"
_U32: Final = struct.Struct("<I")
_PRELUDE: Final = struct.Struct("<7sBI")
_HEADER: Final = struct.Struct("<16sIQQQ32s")
_HEAD: Final = struct.Struct("<4sIQQIBI")
_SLOT: Final = struct.Struct("<QI")
_TOTALS: Final = struct.Struct("<IQQI")

HEADER_BYTES: Final = _PRELUDE.size + _HEADER.size + _U32.size
FRAME_HEAD_BYTES: Final = _HEAD.size + _U32.size
TOTALS_BYTES: Final = _PRELUDE.size + _TOTALS.size + _U32.size
SLOT_BYTES: Final = 65536
SLOT_PAYLOAD: Final = SLOT_BYTES - _SLOT.size - _U32.size


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """How a segment begins.

    Attributes:
        journal: it belongs to.
        number: its place among the journal's segments, from 0.
        seq, rows: frames of the journal before it, and records in them.
        gap_generation: of the last gap frame before it.
        process: that writes it, such as `engine-0`.
    """

    journal: UUID
    number: int
    seq: int
    rows: int
    gap_generation: int
    process: str


class FrameHead(NamedTuple):
    """What stands before a payload; `size` is the payload's, `payload_sum` its checksum, `records` the frame's count."""

    size: int
    seq: int
    rows: int
    records: int
    kind: int
    payload_sum: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What a closed journal holds.

    Attributes:
        segment: number of the last one.
        frames: in all segments.
        rows: records in them.
    """

    segment: int
    frames: int
    rows: int


def checksum(data: bytes, begun: int = 0) -> int:
    """CRC32C of `data`, going on from that of what stands before it."""
    value: int = google_crc32c.extend(begun, data)
    return value


def segment_name(number: int) -> str:
    """The file name of a segment."""
    return f"{number:08d}{_SUFFIX}"


def segment_number(name: str) -> int | None:
    """The number that a file name says; None where it is not a segment's."""
    stem = name.removesuffix(_SUFFIX)
    if not (stem.isascii() and stem.isdecimal()) or len(stem) > _DIGITS or name != segment_name(int(stem)):
        return None
    number = int(stem)
    return number if number <= _LAST_SEGMENT else None


def pack_header(header: SegmentHeader) -> bytes:
    """The first bytes of a segment."""
    # Of a character that is cut in two nothing is kept.
    process = header.process.encode()[:32].decode(errors="ignore").encode()
    rest = _HEADER.pack(header.journal.bytes, header.number, header.seq, header.rows, header.gap_generation, process)
    return _checked(_prelude(_SEGMENT_MAGIC) + rest)


def unpack_header(data: bytes, place: str) -> SegmentHeader | None:
    """The header that a segment begins with; None where it does not check.

    Raises:
        NewerFormat: it is whole, and of a later format than this module's; `place` says where.
    """
    version = _version(data, _SEGMENT_MAGIC)
    # Before the rest is checked: a later format may have another size, and must not pass for damage.
    if version is not None and version > FORMAT:
        raise NewerFormat(
            f"{place} has journal format {version}, and this Hoverboard reads formats up to {FORMAT}: "
            "upgrade it, or let the newer one drain the journal first"
        )
    if version != FORMAT or not _checks(data, HEADER_BYTES):
        return None
    journal, number, seq, rows, generation, process = _HEADER.unpack_from(data, _PRELUDE.size)
    name = process.rstrip(b"\0").decode(errors="replace")
    return SegmentHeader(UUID(bytes=journal), number, seq, rows, generation, name)


def frame_seed(journal: UUID, number: int) -> int:
    """What the checksums of a segment's frame heads begin with."""
    # A frame that is copied to another segment, or is part of a payload, does not check there.
    return checksum(journal.bytes + _U32.pack(number))


def pack_head(seed: int, payload: bytes, *, seq: int, rows: int, count: int, kind: int) -> bytes:
    """What stands before a payload."""
    head = _HEAD.pack(MARKER, len(payload), seq, rows, count, kind, checksum(payload))
    return head + _U32.pack(checksum(head, seed))


def unpack_head(seed: int, data: bytes, offset: int = 0) -> FrameHead | None:
    """The frame head at an offset; None where it does not check."""
    if len(data) - offset < FRAME_HEAD_BYTES:
        return None
    marker, size, seq, rows, records, kind, payload_sum = _HEAD.unpack_from(data, offset)
    # Cheap tests first: in a damaged stretch most places that look like a marker are none.
    if marker != MARKER or seq > _MOST_RECORDS or rows > _MOST_RECORDS:
        return None
    end = offset + _HEAD.size
    if checksum(data[offset:end], seed) != _U32.unpack_from(data, end)[0]:
        return None
    return FrameHead(size, seq, rows, records, kind, payload_sum)


def pack_slot(serial: int, payload: bytes) -> bytes:
    """The beginning of a slot of the reserve file."""
    head = _SLOT.pack(serial, len(payload))
    return head + _U32.pack(checksum(payload, checksum(head))) + payload


def unpack_slot(data: bytes) -> tuple[int, bytes] | None:
    """A slot's serial and payload; None where it does not check or was never written."""
    if len(data) < SLOT_BYTES - SLOT_PAYLOAD:
        return None
    serial, size = _SLOT.unpack_from(data)
    begin = _SLOT.size + _U32.size
    payload = data[begin : begin + size]
    expected = checksum(payload, checksum(data[: _SLOT.size]))
    # A slot that was never written is zeros; serials begin at 1.
    if not serial or len(payload) != size or _U32.unpack_from(data, _SLOT.size)[0] != expected:
        return None
    return serial, payload


def pack_totals(totals: Totals) -> bytes:
    """The file `closed`."""
    return _checked(_prelude(_CLOSED_MAGIC) + _TOTALS.pack(totals.segment, totals.frames, totals.rows, 0))


def unpack_totals(data: bytes) -> Totals | None:
    """What the file `closed` says; None where it does not check."""
    if _version(data, _CLOSED_MAGIC) != FORMAT or not _checks(data, TOTALS_BYTES):
        return None
    segment, frames, rows, _ = _TOTALS.unpack_from(data, _PRELUDE.size)
    return Totals(segment, frames, rows)


def _prelude(magic: bytes) -> bytes:
    begin = magic + bytes([FORMAT])
    return begin + _U32.pack(checksum(begin))


def _version(data: bytes, magic: bytes) -> int | None:
    """The format that a file's first bytes say; None where they do not check."""
    if len(data) < _PRELUDE.size:
        return None
    found, version, expected = _PRELUDE.unpack_from(data)
    return int(version) if found == magic and checksum(data[:8]) == expected else None


def _checked(data: bytes) -> bytes:
    return data + _U32.pack(checksum(data))


def _checks(data: bytes, size: int) -> bool:
    """Whether the last four of the first `size` bytes are the checksum of those before them."""
    body = data[: size - _U32.size]
    return len(data) >= size and bool(_U32.unpack_from(data, len(body))[0] == checksum(body))
