"""What cannot be written is counted, and what was written before and after is whole."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hoverboard.journal import shed_log
from hoverboard.journal.format import FRAME_HEAD_BYTES
from hoverboard.journal.writer import JournalFull, JournalWriter
from hoverboard.telemetry import recording_state
from tests.disks import small_disk
from tests.unit.journal.written import BATCH, GAP, MIB, Everything, copied, entry, open_writer, read_all, read_on

_FILLS_ITS_LIMIT = """
import os, resource, signal, sys
from pathlib import Path
from hoverboard.journal.writer import JournalFull
from tests.unit.journal.written import BATCH, entry, open_writer
writer = open_writer(Path(sys.argv[1]), segment_bytes=10_000_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
written = refused = 0
for i in range(100):
    try:
        writer.append(BATCH, bytes([i]) * 5000, count=3)
        written += 1
    except JournalFull:
        writer.shed([entry(3)])
        refused += 1
print(writer.directory, written, refused, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_that_may_not_grow_is_a_full_disk_and_the_gap_outlives_a_kill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FILLS_ITS_LIMIT, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    directory, written, refused = run.stdout.split()
    assert run.returncode == -9 and int(written) == 39 and int(refused) == 61
    found = read_all(Path(directory))
    assert found.payloads[:39] == [bytes([i]) * 5000 for i in range(39)]
    assert (found.damages, found.records, found.state) == ([], 3 * 39, "finished")
    assert [one.records for gap in found.gaps for one in gap.entries] == [3 * 61]


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    with small_disk(tmp_path / "disk", "size=1m") as place:
        yield place


def fill(writer: JournalWriter, payload: bytes, times: int) -> int:
    """Append as an engine does; returns how many were shed."""
    shed = 0
    for _ in range(times):
        try:
            writer.append(BATCH, payload, count=3, needs={"v": b"version"})
        except JournalFull:
            writer.shed([entry(3)])
            shed += 1
    return shed


@pytest.mark.parametrize("segment_bytes", [100_000, 10 * MIB])
@pytest.mark.parametrize("fsync", [True, False])
def test_a_full_disk_is_counted_and_written_to_again_once_there_is_room(
    disk: Path, tmp_path: Path, segment_bytes: int, fsync: bool
) -> None:
    # In both journals the first segment is rolled or kept by its size, and the disk has room again when it is gone.
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    writer = open_writer(disk / "journal", segment_bytes=segment_bytes, fsync=fsync)
    shed = fill(writer, os.urandom(7000), 200)
    assert 100 < shed < 199
    orphan = read_all(copied(writer.directory, tmp_path / "killed"))
    assert orphan.damages == [] and orphan.records == 3 * (200 - shed)
    assert [one.records for gap in orphan.gaps for one in gap.entries] == [3 * shed]
    writer.tick()
    ballast.unlink()
    assert fill(writer, b"room again", 50) == 0
    writer.close()
    found = read_all(writer.directory)
    assert found.damages == [] and found.records == 3 * (250 - shed)
    assert [one.records for gap in found.gaps for one in gap.entries] == [3 * shed]


def test_that_records_are_dropped_is_told_as_it_begins_and_as_it_ends(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shed_log, "_CALM_S", 0.0)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    with capture_logs() as logged:
        writer = JournalWriter(
            disk / "journal",
            process="engine-0",
            segment_bytes=100_000,
            budget_bytes=100 * MIB,
            fsync=False,
            part=recording_state.journal(tmp_path, "engine-0"),
        )
        shed = fill(writer, os.urandom(7000), 200)
        (disk / "rest").write_bytes(bytes(free(disk)))
        writer.tick()
        said = recording_state.read(tmp_path)
        assert said.state == "failing"
        ballast.unlink()
        writer.tick()  # the gap is written
        assert recording_state.read(tmp_path).state == "off"
    assert f"({3 * shed} so far, counted in the table gaps)" in (said.then or "")
    assert "make room" in (said.then or "")
    assert [(line["log_level"], line["event"]) for line in logged] == [
        ("error", "records_dropped"),
        ("warning", "records_kept_again"),
    ]
    assert logged[-1]["dropped"] == 3 * shed
    writer.close()


def test_a_disk_that_stays_full_lets_a_journal_close_and_keeps_its_gap(disk: Path) -> None:
    writer = open_writer(disk / "journal", segment_bytes=100_000)
    shed = fill(writer, os.urandom(7000), 200)
    (disk / "rest").write_bytes(bytes(free(disk)))
    writer.tick()
    writer.close()
    assert not (writer.directory / "closed").exists()
    found = read_all(writer.directory)
    assert (found.state, found.damages) == ("finished", [])
    assert [one.records for gap in found.gaps for one in gap.entries] == [3 * shed]


def free(place: Path) -> int:
    status = os.statvfs(place)
    return status.f_bavail * status.f_bsize


# -- short writes -------------------------------------------------------------------------------------------------------


def short(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """The next `writev` writes so many bytes and no more."""
    real = os.writev

    def cut(descriptor: int, buffers: list[bytes]) -> int:
        monkeypatch.setattr(os, "writev", real)
        return os.write(descriptor, b"".join(buffers)[:size])

    monkeypatch.setattr(os, "writev", cut)


_FRONT = FRAME_HEAD_BYTES + len(b"version")


@pytest.mark.parametrize("size", [0, 1, FRAME_HEAD_BYTES, _FRONT - 1, _FRONT, _FRONT + 1, _FRONT + FRAME_HEAD_BYTES])
@pytest.mark.parametrize("truncating", [True, False], ids=["taken back", "left behind"])
def test_a_short_write_is_taken_back_or_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, truncating: bool
) -> None:
    writer = open_writer(tmp_path)
    follower = read_on(writer.directory, Everything())
    writer.append(BATCH, b"before", count=1)
    short(monkeypatch, size)
    if not truncating:
        monkeypatch.setattr(os, "ftruncate", raising(errno.EIO))
    with pytest.raises(JournalFull, match=f"{size} of "):
        writer.append(BATCH, b"torn", count=5, needs={"v": b"version"})
    # Whoever has seen the version frame, which was whole, has seen it for good.
    read_on(writer.directory, follower)
    writer.append(BATCH, b"after", count=1, needs={"v": b"version"})
    writer.close()
    assert len(list(writer.directory.glob("*.seg"))) == (1 if truncating else 2)
    for found in (read_on(writer.directory, follower), read_all(writer.directory)):
        assert [frame.payload for frame in found.frames if frame.kind == BATCH] == [b"before", b"after"]
        assert found.records == 2 and all(damage.records == 0 for damage in found.damages)
        assert truncating is False or found.damages == []
    versions = [frame.segment for frame in follower.frames if frame.kind == 1]
    assert versions == ([0] if truncating else [0, 1] if size >= _FRONT else [1])


@pytest.mark.parametrize("missing", [1, 20, 60, 90])
@pytest.mark.parametrize("truncating", [True, False], ids=["taken back", "left behind"])
@pytest.mark.parametrize("fsync", [True, False])
def test_a_gap_that_has_no_room_behind_its_frame_waits_and_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int, truncating: bool, fsync: bool
) -> None:
    writer = open_writer(tmp_path, fsync=fsync)
    writer.shed([entry(5)])
    frame, gap = FRAME_HEAD_BYTES + 5, FRAME_HEAD_BYTES + len(writer._gap.payload)
    short(monkeypatch, frame + gap - missing)
    if not truncating:
        monkeypatch.setattr(os, "ftruncate", raising(errno.EIO))
    if missing > gap:
        with pytest.raises(JournalFull):
            writer.append(BATCH, b"first", count=5)
    else:
        writer.append(BATCH, b"first", count=5)
    writer.shed([entry(6)])
    writer.append(BATCH, b"after", count=1)
    writer.close()
    found = read_all(writer.directory)
    expected = [BATCH, GAP] if missing > gap else [BATCH, BATCH, GAP]
    assert [one.kind for one in found.frames] == expected
    assert [one.records for gap in found.gaps for one in gap.entries] == [11]
    assert sum(damage.records or 0 for damage in found.damages) == 0


def test_a_full_disk_is_not_filled_with_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(tmp_path)
    monkeypatch.setattr(os, "writev", lambda descriptor, buffers: os.write(descriptor, b"".join(buffers)[:150]))
    before = writer.usage_bytes
    for _ in range(50):
        with pytest.raises(JournalFull):
            writer.append(BATCH, bytes(5000), count=1)
        writer.shed([entry(1)])
    assert writer.usage_bytes == before
    monkeypatch.undo()
    writer.close()
    assert [one.records for gap in read_all(writer.directory).gaps for one in gap.entries] == [50]


def raising(number: int) -> Callable[..., int]:
    def broken(*arguments: object, **options: object) -> int:
        raise OSError(number, os.strerror(number))

    return broken


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
def test_a_refused_write_says_where_and_why_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    writer = open_writer(tmp_path)
    real = os.writev
    monkeypatch.setattr(os, "writev", raising(number))
    with pytest.raises(JournalFull, match=rf"00000000\.seg: .*{os.strerror(number)}"):
        writer.append(BATCH, b"x", count=1)
    monkeypatch.setattr(os, "writev", real)
    writer.append(BATCH, b"y", count=1)
    assert read_all(writer.directory).payloads == [b"y"]


def test_a_segment_that_cannot_be_begun_is_begun_later_under_the_same_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(tmp_path, segment_bytes=500)
    writer.append(BATCH, bytes(400), count=1)
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
    for _ in range(3):
        with pytest.raises(JournalFull, match=r"00000001\.seg could not be begun"):
            writer.append(BATCH, bytes(400), count=1)
        writer.tick()
    monkeypatch.setattr(os, "write", real)
    writer.append(BATCH, bytes(300), count=1)
    writer.close()
    found = read_all(writer.directory)
    assert found.damages == [] and found.records == 2
    assert sorted(path.name for path in writer.directory.glob("*.seg")) == ["00000000.seg", "00000001.seg"]


def test_the_rests_of_a_segment_that_could_not_even_be_removed_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(tmp_path, segment_bytes=500)
    writer.append(BATCH, bytes(400), count=1)
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
    monkeypatch.setattr(os, "unlink", raising(errno.EIO))
    with pytest.raises(JournalFull):
        writer.append(BATCH, bytes(400), count=1)
    monkeypatch.undo()
    follower = read_all(writer.directory)
    writer.append(BATCH, bytes(300), count=1)
    read_on(writer.directory, follower)
    assert follower.records == 2 and [damage.records for damage in follower.damages] == [0]


def test_writes_that_fail_at_random_lose_nothing_that_was_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short writes, refused writes and truncations that fail, while a reader follows."""
    generator = random.Random(3)
    writev, ftruncate, write = os.writev, os.ftruncate, os.write

    def unreliable_writev(descriptor: int, buffers: list[bytes]) -> int:
        data = b"".join(buffers)
        chance = generator.random()
        if chance < 0.1:
            raise OSError(errno.ENOSPC, "full")
        return (
            write(descriptor, data[: generator.randrange(len(data))]) if chance < 0.4 else writev(descriptor, buffers)
        )

    def unreliable_ftruncate(descriptor: int, size: int) -> None:
        if generator.random() < 0.3:
            raise OSError(errno.EIO, "broken")
        ftruncate(descriptor, size)

    writer = open_writer(tmp_path, segment_bytes=5000)
    monkeypatch.setattr(os, "writev", unreliable_writev)
    monkeypatch.setattr(os, "ftruncate", unreliable_ftruncate)
    follower, accepted, shed = Everything(), [], 0
    for i in range(2000):
        payload = i.to_bytes(4, "big") * generator.randrange(1, 60)
        try:
            writer.append(BATCH, payload, count=2, needs={"v": b"version"})
            accepted.append(payload)
        except JournalFull:
            writer.shed([entry(2)])
            shed += 2
        if i % 7 == 0:
            assert read_on(writer.directory, follower, 2000).state == "waiting"
    monkeypatch.undo()
    writer.close()
    for found in (read_on(writer.directory, follower), read_all(writer.directory)):
        assert [frame.payload for frame in found.frames if frame.kind == BATCH] == accepted
        assert sum(one.records for gap in found.gaps for one in gap.entries) == shed
        assert sum(damage.records or 0 for damage in found.damages) == 0
        assert found.state == "finished" and len(accepted) > 500 and shed > 500
