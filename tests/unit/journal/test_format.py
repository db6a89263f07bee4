from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from hoverboard.journal.chunk import Position
from hoverboard.journal.format import (
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    MARKER,
    SLOT_PAYLOAD,
    NewerFormat,
    SegmentHeader,
    Totals,
    checksum,
    frame_seed,
    pack_head,
    pack_header,
    pack_slot,
    pack_totals,
    segment_name,
    segment_number,
    unpack_head,
    unpack_header,
    unpack_slot,
    unpack_totals,
)
from hoverboard.journal.reader import read
from tests.unit.journal.written import BATCH, entry, open_writer, read_all

JOURNAL = UUID("01890f3c-0000-7000-8000-0123456789ab")
HEADER = SegmentHeader(JOURNAL, 3, 1000, 64_000, 7, "engine-0")


def little(number: int, size: int) -> bytes:
    return number.to_bytes(size, "little")


def test_a_segment_header_is_as_documented() -> None:
    prelude = b"\x89HBJ\r\n\x1a\x01"
    prelude += little(checksum(prelude), 4)
    numbers = little(3, 4) + little(1000, 8) + little(64_000, 8) + little(7, 8)
    body = prelude + JOURNAL.bytes + numbers + b"engine-0".ljust(32, b"\0")
    assert pack_header(HEADER) == body + little(checksum(body), 4)
    assert len(pack_header(HEADER)) == HEADER_BYTES == 92
    assert unpack_header(pack_header(HEADER) + b"frames", "here") == HEADER


def test_a_frame_is_as_documented() -> None:
    payload = b"payload"
    body = b"\xfd\x48\x42\xf6" + little(7, 4) + little(1000, 8) + little(64_000, 8) + little(64, 4) + b"\x02"
    body += little(checksum(payload), 4)
    seed = checksum(JOURNAL.bytes + little(3, 4))
    head = pack_head(frame_seed(JOURNAL, 3), payload, seq=1000, rows=64_000, count=64, kind=2)
    assert head == body + little(checksum(body, seed), 4)
    assert len(head) == FRAME_HEAD_BYTES == 37


def test_the_reserve_and_the_totals_are_as_documented() -> None:
    head = little(5, 8) + little(3, 4)
    assert pack_slot(5, b"gap") == head + little(checksum(head + b"gap"), 4) + b"gap"
    prelude = b"\x89HBC\r\n\x1a\x01"
    body = prelude + little(checksum(prelude), 4) + little(2, 4) + little(10, 8) + little(20, 8) + bytes(4)
    assert pack_totals(Totals(2, 10, 20)) == body + little(checksum(body), 4)
    assert len(pack_totals(Totals(2, 10, 20))) == 40


def test_checksums_are_castagnolis() -> None:
    assert checksum(b"123456789") == 0xE3069283


def test_what_a_writer_leaves_can_be_read_with_the_document_alone(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append(BATCH, b"a batch", count=9)
    writer.close()
    data = (writer.directory / "00000000.seg").read_bytes()
    frame = data[92:]
    assert frame[:8] == MARKER + little(7, 4)
    assert frame[8:29] == little(0, 8) + little(0, 8) + little(9, 4) + b"\x02"
    assert frame[37:44] == b"a batch"
    assert frame[44:48] == MARKER and len(frame) == 44 + 37


@pytest.mark.parametrize("bit", range(8))
def test_no_flipped_bit_goes_unnoticed(bit: int) -> None:
    seed = frame_seed(JOURNAL, 3)
    things = {
        pack_header(HEADER): lambda data: unpack_header(data, "here"),
        pack_head(seed, b"payload", seq=1, rows=2, count=3, kind=4): lambda data: unpack_head(seed, data),
        pack_slot(5, b"gap"): unpack_slot,
        pack_totals(Totals(2, 10, 20)): unpack_totals,
    }
    for whole, unpack in things.items():
        assert unpack(whole) is not None
        for place in range(len(whole)):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            assert unpack(bytes(flipped)) is None
            assert unpack(whole[:place]) is None


def test_a_frame_checks_in_its_own_segment_only() -> None:
    head = pack_head(frame_seed(JOURNAL, 3), b"", seq=1, rows=2, count=3, kind=4)
    assert unpack_head(frame_seed(JOURNAL, 3), head) is not None
    assert unpack_head(frame_seed(JOURNAL, 4), head) is None
    assert unpack_head(frame_seed(UUID(int=1), 3), head) is None


def newer(header: bytes) -> bytes:
    begin = header[:7] + b"\x02"
    return begin + little(checksum(begin), 4) + b"something else"


def test_a_newer_format_is_refused_with_a_sentence() -> None:
    with pytest.raises(NewerFormat, match=r"x\.seg has journal format 2, and this Hoverboard reads formats up to 1"):
        unpack_header(newer(pack_header(HEADER)), "x.seg")


def test_frames_before_a_newer_segment_are_read_and_then_it_is_refused(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append(BATCH, b"a batch", count=9)
    writer.close()
    (writer.directory / segment_name(1)).write_bytes(newer(pack_header(HEADER)))
    with pytest.raises(NewerFormat, match="format 2"):
        read_all(writer.directory)
    chunk = read(writer.directory, Position(), max_bytes=1000)
    assert [frame.payload for frame in chunk.frames] == [b"a batch"] and chunk.state == "more"


def test_file_names_are_numbers_of_eight_digits_and_no_others() -> None:
    assert segment_name(12) == "00000012.seg"
    assert segment_number("00000012.seg") == 12
    assert segment_number(segment_name(123_456_789)) == 123_456_789
    for name in ("12.seg", "00000012", "0000001x.seg", ".seg", "reserve", "00000012.seg.bak", "0000001².seg"):
        assert segment_number(name) is None
    assert segment_number(f"{2**32 - 1}.seg") == 2**32 - 1
    for name in (f"{2**32}.seg", "99999999999999999999.seg", f"{'9' * 5000}.seg"):  # no header holds such a number
        assert segment_number(name) is None


def test_a_process_name_that_is_too_long_keeps_whole_letters() -> None:
    header = SegmentHeader(JOURNAL, 0, 0, 0, 0, "é" * 40)
    found = unpack_header(pack_header(header), "here")
    assert found is not None and found.process == "é" * 16
    odd = unpack_header(pack_header(SegmentHeader(JOURNAL, 0, 0, 0, 0, "x" + "é" * 40)), "here")
    assert odd is not None and odd.process == "x" + "é" * 15


def test_the_largest_gap_fits_its_slot() -> None:
    assert unpack_slot(pack_slot(1, bytes(SLOT_PAYLOAD))) == (1, bytes(SLOT_PAYLOAD))
    assert len(pack_slot(1, bytes(SLOT_PAYLOAD))) == 65536
    assert entry(1).records == 1
