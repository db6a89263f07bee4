from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from hoverboard.journal.chunk import Position
from hoverboard.journal.finding import is_alive, journals, totals
from hoverboard.journal.format import FRAME_HEAD_BYTES, HEADER_BYTES, MARKER
from hoverboard.journal.reader import beginning, read
from hoverboard.recorder.lag import Lag
from tests.unit.journal.written import (
    BATCH,
    GAP,
    MIB,
    Everything,
    copied,
    entry,
    locked,
    open_writer,
    read_all,
    read_on,
)

_WRITES_ON = """
import os, sys
from pathlib import Path
from tests.unit.journal.written import BATCH, open_writer
writer = open_writer(Path(sys.argv[1]), segment_bytes=20_000)
print(writer.directory, flush=True)
for i in range(int(sys.argv[2])):
    writer.append(BATCH, i.to_bytes(4, "big") * (1 + i % 200), count=i % 5, needs={"v": b"version"})
    if i % 100 == 99:
        writer.tick()
    if i == 1000:
        sys.stdin.readline()
writer.close()
"""


def write(root: Path, sizes: list[int], **options: int) -> tuple[Path, list[bytes]]:
    writer = open_writer(root, **options)
    payloads = [os.urandom(size) for size in sizes]
    for payload in payloads:
        writer.append(BATCH, payload, count=2)
    writer.close()
    return writer.directory, payloads


@pytest.mark.parametrize("max_bytes", [1, 100, 1000, MIB])
def test_what_was_written_is_read_in_order_in_chunks_of_any_size(tmp_path: Path, max_bytes: int) -> None:
    directory, payloads = write(tmp_path, [0, 1, 37, 500, 20_000, 3] * 5, segment_bytes=3000)
    found = read_all(directory, max_bytes)
    assert found.payloads == payloads
    assert [frame.rows for frame in found.frames] == list(range(0, 60, 2))
    assert (found.state, found.damages, found.end.rows) == ("finished", [], 60)
    again = read_on(directory, Everything(end=found.end))
    assert (again.frames, again.damages, again.end) == ([], [], found.end)


def test_a_frame_of_any_size_is_read(tmp_path: Path) -> None:
    directory, payloads = write(tmp_path, [1000, 262_143, 262_144, 262_145, 1000, 3 * MIB, 1], segment_bytes=8 * MIB)
    found = read_all(directory)
    assert found.payloads == payloads and found.damages == []


def test_a_chunk_is_no_larger_than_asked_for_unless_one_frame_is(tmp_path: Path) -> None:
    directory, payloads = write(tmp_path, [1000] * 20 + [50_000] + [1000] * 3)
    position, sizes = Position(), []
    for _ in range(len(payloads)):
        chunk = read(directory, position, max_bytes=5000)
        sizes.append([len(frame.payload) for frame in chunk.frames])
        position = chunk.end
        if chunk.state == "finished":
            break
    assert sizes == [[1000] * 4] * 5 + [[50_000], [1000] * 3]


def test_a_large_journal_is_read_with_little_memory(tmp_path: Path) -> None:
    directory, _ = write(tmp_path, [100_000] * 200, segment_bytes=16 * MIB)
    position = Position()
    tracemalloc.start()
    try:
        while True:
            chunk = read(directory, position, max_bytes=MIB)
            position = chunk.end
            if chunk.state != "more":
                break
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert position.seq == 202  # with two seals
    print(f"20 MB in chunks of 1 MiB: peak {peak / MIB:.1f} MiB")  # noqa: T201 - the figure is the point
    assert peak < 4 * MIB


def test_a_frame_says_where_it_stands(tmp_path: Path) -> None:
    directory, payloads = write(tmp_path, [500] * 10, segment_bytes=2000)
    for frame, payload in zip(read_all(directory).frames, payloads, strict=True):
        data = (directory / f"{frame.segment:08d}.seg").read_bytes()
        assert data[frame.offset :].startswith(MARKER)
        assert data[frame.offset + FRAME_HEAD_BYTES :].startswith(payload)


def test_reading_changes_nothing(tmp_path: Path) -> None:
    directory, _ = write(tmp_path, [500] * 10, segment_bytes=2000)
    (directory / "00000001.seg").write_bytes((directory / "00000001.seg").read_bytes()[:-700])
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}
    assert read_all(directory).damages
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()} == before


# -- while it is written ------------------------------------------------------------------------------------------------


def test_a_living_journal_is_waited_for_and_followed(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=400)
    found = Everything()
    for i in range(10):
        assert read_on(writer.directory, found).state == "waiting"
        assert len(found.frames) == i
        writer.append(BATCH, bytes(100), count=1)
    writer.close()
    assert read_on(writer.directory, found).state == "finished"
    assert [frame.seq for frame in found.frames] == sorted(frame.seq for frame in found.frames)
    assert found.records == 10 and found.damages == []


@pytest.mark.parametrize("cut", range(1, 2 * (FRAME_HEAD_BYTES + 100), 9))
def test_an_incomplete_frame_is_waited_for_while_its_writer_lives_and_torn_afterwards(tmp_path: Path, cut: int) -> None:
    writer = open_writer(tmp_path / "journal")
    for _ in range(3):
        writer.append(BATCH, bytes(100), count=1)
    orphan = copied(writer.directory, tmp_path / "orphan")
    segment = orphan / "00000000.seg"
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-cut])
    with locked(orphan):
        found = read_all(orphan)
        kept = 3 - -(-cut // (FRAME_HEAD_BYTES + 100))
        assert (found.state, found.records, found.damages) == ("waiting", kept, [])
        segment.write_bytes(whole)
        read_on(orphan, found)
        assert (found.state, found.records, found.damages) == ("waiting", 3, [])
    segment.write_bytes(whole[:-cut])
    torn = read_all(orphan)
    assert (torn.state, torn.records) == ("finished", kept)
    if cut % (FRAME_HEAD_BYTES + 100):
        (damage,) = torn.damages
        assert (damage.reason, damage.frames, damage.records) == ("torn", None, None)
        assert (damage.seq, damage.bytes) == (kept, FRAME_HEAD_BYTES + 100 - cut % (FRAME_HEAD_BYTES + 100))
    else:
        assert torn.damages == []


@pytest.mark.parametrize("size", [0, 1, 50, HEADER_BYTES - 1])
def test_a_segment_that_has_just_begun_is_waited_for(tmp_path: Path, size: int) -> None:
    writer = open_writer(tmp_path / "journal", segment_bytes=300)
    for _ in range(3):
        writer.append(BATCH, bytes(150), count=1)
    orphan = copied(writer.directory, tmp_path / "orphan")
    segment = orphan / "00000002.seg"
    whole = segment.read_bytes()
    segment.write_bytes(whole[:size])
    with locked(orphan):
        found = read_all(orphan)
        assert (found.state, found.records, found.damages) == ("waiting", 2, [])
        segment.write_bytes(whole)
        read_on(orphan, found)
        assert (found.state, found.records, found.damages) == ("waiting", 3, [])


def test_a_damaged_frame_of_a_living_journal_is_passed_over_once_a_later_one_is_whole(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    for i in range(3):
        writer.append(BATCH, bytes([i]) * 100, count=7)
    segment = writer.directory / "00000000.seg"
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    with segment.open("r+b") as file:
        file.write(data)
    found = read_all(writer.directory)
    assert (found.state, found.records, found.damages) == ("waiting", 14, [])
    writer.append(BATCH, b"later", count=1)
    read_on(writer.directory, found)
    assert found.payloads == [bytes(100), bytes([1]) * 100, b"later"]
    (damage,) = found.damages
    assert (damage.reason, damage.seq, damage.frames, damage.records) == ("damaged", 2, 1, 7)


def test_a_frame_that_was_torn_when_first_seen_is_seen_again_before_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer takes a torn frame back and writes two others while the reader looks."""
    writer = open_writer(tmp_path)
    writer.append(BATCH, b"first", count=1)
    segment = writer.directory / "00000000.seg"
    size = segment.stat().st_size
    writer.append(BATCH, b"second", count=1)
    writer.append(BATCH, b"third", count=1)
    whole = segment.read_bytes()
    real, reads = os.pread, itertools.count()

    def torn_at_first(descriptor: int, length: int, offset: int) -> bytes:
        data = bytearray(real(descriptor, length, offset))
        if next(reads) == 0:
            data[size + 40] ^= 1
        return bytes(data)

    monkeypatch.setattr(os, "pread", torn_at_first)
    found = read_all(writer.directory)
    assert found.payloads == [b"first", b"second", b"third"] and found.damages == []
    assert segment.read_bytes() == whole


def test_another_process_is_followed_while_it_writes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITES_ON, str(tmp_path), "4000"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdin is not None
    directory = Path(child.stdout.readline().strip())
    found = Everything()
    while sum(frame.kind == BATCH for frame in found.frames) <= 1000:
        assert read_on(directory, found, max_bytes=5000).state == "waiting"
    child.stdin.close()  # it writes on
    while read_on(directory, found, max_bytes=5000).state != "finished":
        pass
    child.stdout.close()
    assert child.wait() == 0
    batches = [frame for frame in found.frames if frame.kind == BATCH]
    assert [int.from_bytes(frame.payload[:4], "big") for frame in batches] == list(range(4000))
    assert found.damages == [] and found.records == sum(i % 5 for i in range(4000))


def test_damage_before_a_segment_that_has_just_begun_is_told_once_that_is_whole(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "journal", segment_bytes=400)
    for _ in range(4):
        writer.append(BATCH, bytes(100), count=3)
    orphan = copied(writer.directory, tmp_path / "orphan")
    first, second = orphan / "00000000.seg", orphan / "00000001.seg"
    first.write_bytes(first.read_bytes()[:-200])
    whole = second.read_bytes()
    second.write_bytes(whole[:50])
    with locked(orphan):
        found = read_all(orphan)
        assert (found.state, found.records, found.damages) == ("waiting", 0, [])
        second.write_bytes(whole)
        read_on(orphan, found)
        assert (found.state, found.records) == ("waiting", 6)
        (damage,) = found.damages
        assert (damage.segment, damage.frames, damage.records) == (0, 3, 6)  # with the seal


# -- what is missing ----------------------------------------------------------------------------------------------------


def test_deleted_segments_before_the_position_are_not_missed(tmp_path: Path) -> None:
    directory, payloads = write(tmp_path, [500] * 10, segment_bytes=1500)
    found = Everything(end=Position())
    for number in range(5):
        chunk = read(directory, found.end, max_bytes=1100)
        assert chunk.damages == []
        found.frames += chunk.frames
        found.end = chunk.end
        for old in range(number):
            if old < found.end.segment:
                (directory / f"{old:08d}.seg").unlink(missing_ok=True)
    read_on(directory, found)
    assert found.payloads == payloads and found.damages == []


def test_the_segment_of_the_position_may_be_deleted_once_it_is_read(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "journal", segment_bytes=300)
    writer.append(BATCH, bytes(150), count=1)
    found = read_all(writer.directory)
    writer.append(BATCH, bytes(150), count=1)
    read_on(writer.directory, found)
    (writer.directory / "00000000.seg").unlink()
    writer.append(BATCH, bytes(150), count=1)
    read_on(writer.directory, found)
    assert (found.state, found.records, found.damages) == ("waiting", 3, [])


def test_a_missing_segment_is_counted_exactly(tmp_path: Path) -> None:
    directory, payloads = write(tmp_path, [500] * 10, segment_bytes=1500)
    (directory / "00000001.seg").unlink()
    found = read_all(directory)
    (damage,) = found.damages
    assert (damage.reason, damage.frames, damage.records) == ("missing", 3, 4)  # two and a seal
    assert found.payloads == payloads[:2] + payloads[4:]


def test_a_journal_whose_first_segments_are_gone_for_a_new_database_is_counted_exactly(tmp_path: Path) -> None:
    directory, payloads = write(tmp_path, [500] * 10, segment_bytes=1500)
    for number in (0, 1):
        (directory / f"{number:08d}.seg").unlink()
    found = read_all(directory)
    (damage,) = found.damages
    assert (damage.reason, damage.seq, damage.records) == ("missing", 0, 8)
    assert found.payloads == payloads[4:]
    assert beginning(directory) == Position(2, 0, 6, 8)
    assert read_on(directory, Everything(end=beginning(directory))).damages == []


def test_a_closed_journal_knows_what_its_end_was(tmp_path: Path) -> None:
    directory, payloads = write(tmp_path, [500] * 10, segment_bytes=1500)
    last = max(directory.glob("*.seg"))
    last.write_bytes(last.read_bytes()[: HEADER_BYTES + 5])
    found = read_all(directory)
    assert found.payloads == payloads[:8]
    (damage,) = found.damages
    assert (damage.frames, damage.records, damage.bytes) == (3, 4, 5)
    last.unlink()
    again = read_all(directory)
    (damage,) = again.damages
    assert (damage.reason, damage.records, damage.bytes) == ("missing", 4, 0)
    assert read_on(directory, Everything(end=again.end)).damages == []


def test_an_orphan_without_any_segment_says_that_nobody_knows(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "journal")
    writer.append(BATCH, b"x", count=1)
    orphan = copied(writer.directory, tmp_path / "orphan")
    (orphan / "00000000.seg").unlink()
    (damage,) = read_all(orphan).damages
    assert (damage.reason, damage.frames, damage.records) == ("missing", None, None)


def test_a_gap_in_a_deleted_segment_is_not_taken_from_the_reserve_again(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "journal", segment_bytes=1500)
    writer.shed([entry(5)])
    for _ in range(6):
        writer.append(BATCH, bytes(500), count=1)
    orphan = copied(writer.directory, tmp_path / "orphan")
    assert len(read_all(orphan).gaps) == 1
    (orphan / "00000000.seg").unlink()
    assert read_all(orphan).gaps == []


def test_a_gap_from_the_reserve_has_no_place_and_counts_once(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "journal")
    writer.append(BATCH, b"x", count=1)
    writer.shed([entry(5)])
    orphan = copied(writer.directory, tmp_path / "orphan")
    found = read_all(orphan)
    frame = found.frames[-1]
    assert (frame.kind, frame.offset, frame.seq, frame.rows, frame.count) == (GAP, -1, 1, 1, 0)
    assert found.generation == 1
    again = read(orphan, found.end, max_bytes=1000, gap_generation=found.generation)
    assert (again.frames, again.state) == ([], "finished")


# -- broken disks, and what is not a journal -----------------------------------------------------------------------------


def test_a_page_that_cannot_be_read_counts_as_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, payloads = write(tmp_path, [3000] * 10)
    real = os.pread

    def broken(descriptor: int, length: int, offset: int) -> bytes:
        if offset < 12_288 and offset + length > 8192:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", broken)
    found = read_all(directory)
    (damage,) = found.damages
    assert (damage.reason, damage.frames, damage.records) == ("damaged", 3, 6)
    assert found.payloads == payloads[:2] + payloads[5:]


def test_other_files_are_no_journals_and_no_segments(tmp_path: Path) -> None:
    directory, payloads = write(tmp_path, [10])
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "0190f3c0").touch()
    (tmp_path / str(directory.name).upper()).mkdir()
    (directory / "00000001.seg.part").write_bytes(b"x")
    (directory / "notes").mkdir()
    (info,) = journals(tmp_path)
    assert (info.directory, info.process, info.alive, info.closed) == (directory, "engine-0", False, True)
    assert [(one.number, one.bytes) for one in info.segments] == [
        (0, (directory / "00000000.seg").stat().st_size),
    ]
    assert read_all(directory).payloads == payloads
    assert journals(tmp_path / "nothing") == []
    with pytest.raises(FileNotFoundError):
        is_alive(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["00000000.seg", "closed", "reserve"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_what_stands_in_the_place_of_a_journals_file_keeps_no_other_from_being_read(
    tmp_path: Path, name: str, kind: str
) -> None:
    writer = open_writer(tmp_path)
    writer.append(BATCH, b"a batch", count=1, needs={})
    writer.close()
    other = copied(writer.directory, tmp_path / "copies").rename(tmp_path / str(uuid4()))
    place = other / name
    place.unlink()
    if kind == "fifo":
        os.mkfifo(place)  # whoever opens it without care waits for a writer
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero")
    for look in (read_all, totals):
        with suppress(OSError):
            look(other)
    Lag().measure(journals(tmp_path), {}, now=datetime.now(UTC))
    assert writer.uuid in [info.uuid for info in journals(tmp_path)]
    assert read_all(writer.directory).records == 1
