from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import threading
import time
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from hoverboard.journal import appending, usage
from hoverboard.journal.finding import is_alive, journals
from hoverboard.journal.format import FRAME_HEAD_BYTES, HEADER_BYTES, SLOT_BYTES
from hoverboard.journal.records import GapEntry
from hoverboard.journal.writer import JournalFull, JournalWriter
from tests.unit.journal.written import BATCH, GAP, MIB, REJECTION, copied, entry, open_writer, read_all

VERSION = 1


@pytest.fixture
def writer(tmp_path: Path) -> JournalWriter:
    return open_writer(tmp_path / "journal")


def descriptors() -> int:
    return psutil.Process().num_fds()


def segments(writer: JournalWriter) -> list[str]:
    return sorted(path.name for path in writer.directory.glob("*.seg"))


# -- what is written ------------------------------------------------------------------------------------------------------


def test_one_append_is_one_write_with_its_version_in_front(
    writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = os.writev

    def counted(descriptor: int, buffers: list[bytes]) -> int:
        calls.append(len(buffers))
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "writev", counted)
    writer.append(BATCH, b"first", count=3, needs={"m/1": b"version 1"})
    writer.append(BATCH, b"second", count=2, needs={"m/1": b"version 1"})
    writer.append(BATCH, b"third", count=1, needs={"m/2": b"version 2", "m/1": b"version 1"})
    assert len(calls) == 3
    found = read_all(writer.directory)
    assert [(f.kind, f.payload, f.count) for f in found.frames] == [
        (VERSION, b"version 1", 0),
        (BATCH, b"first", 3),
        (BATCH, b"second", 2),
        (VERSION, b"version 2", 0),
        (BATCH, b"third", 1),
    ]
    assert [f.seq for f in found.frames] == [0, 1, 2, 3, 4]
    assert [f.rows for f in found.frames] == [0, 0, 3, 5, 5]


def test_several_frames_are_one_write_and_one_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(tmp_path, fsync=True)
    writer.shed([entry(5)])
    calls: list[str] = []
    real = os.writev

    def counted(descriptor: int, buffers: list[bytes]) -> int:
        calls.append("write")
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "writev", counted)
    monkeypatch.setattr(appending, "synchronise", lambda descriptor: calls.append("wait"))
    payloads = [f"rejection {i}".encode() for i in range(100)]
    assert writer.append_all(REJECTION, payloads) == 100
    assert writer.append_all(REJECTION, []) == 0
    assert calls == ["write", "wait"]
    found = read_all(writer.directory)
    assert found.payloads[:-1] == payloads and found.records == 100
    assert [gap.entries[0].records for gap in found.gaps] == [5]


@pytest.mark.parametrize("whole", [0, 1, 4, 5])
def test_of_several_frames_those_that_found_room_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    writer = open_writer(tmp_path)
    writer.shed([entry(5)])
    size = FRAME_HEAD_BYTES + 10
    monkeypatch.setattr(
        os, "writev", lambda descriptor, buffers: os.write(descriptor, b"".join(buffers)[: whole * size + size // 2])
    )
    if whole:
        assert writer.append_all(REJECTION, [bytes([i]) * 10 for i in range(5)]) == whole
    else:
        with pytest.raises(JournalFull, match=" of "):
            writer.append_all(REJECTION, [bytes([i]) * 10 for i in range(5)])
    monkeypatch.undo()
    writer.close()
    found = read_all(writer.directory)
    assert found.payloads[:-1] == [bytes([i]) * 10 for i in range(whole)]
    assert [gap.entries[0].records for gap in found.gaps] == [5] and found.damages == []


def test_many_versions_are_written_with_one_write_too(writer: JournalWriter) -> None:
    writer.append(BATCH, b"batch", count=1, needs={str(i): f"version {i}".encode() for i in range(2000)})
    assert len(read_all(writer.directory).frames) == 2001


def test_each_segment_is_self_sufficient(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=2000)
    for i in range(20):
        writer.append(BATCH, bytes([i]) * 400, count=1, needs={"v": b"version"})
    assert len(segments(writer)) > 3
    found = read_all(writer.directory)
    for number in range(len(segments(writer))):
        assert next(frame for frame in found.frames if frame.segment == number).payload == b"version"
    assert all(path.stat().st_size <= 2000 + FRAME_HEAD_BYTES for path in writer.directory.glob("*.seg"))


def test_a_frame_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=1000)
    large = os.urandom(5000)
    for payload in (b"small", large, b"small"):
        writer.append(BATCH, payload, count=1)
    assert segments(writer) == ["00000000.seg", "00000001.seg", "00000002.seg"]
    assert read_all(writer.directory).payloads == [b"small", large, b"small"]


def test_a_payload_over_a_gibibyte_is_refused(writer: JournalWriter) -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return (1 << 30) + 1

    with pytest.raises(JournalFull, match="at most 1073741824"):
        writer.append(BATCH, Huge(), count=1)


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        writer = open_writer(tmp_path / "journal")
        writer.append(BATCH, b"x", count=1)
        writer.close()
    finally:
        os.umask(before)
    directories = [tmp_path / "journal", writer.directory]
    files = list(writer.directory.iterdir())
    assert {path.name for path in files} == {"00000000.seg", "reserve", "closed"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_its_name_is_a_time_ordered_uuid(tmp_path: Path) -> None:
    first, second = open_writer(tmp_path), open_writer(tmp_path)
    assert first.uuid.version == second.uuid.version == 7
    assert UUID(first.directory.name) == first.uuid
    assert [info.uuid for info in journals(tmp_path)] == sorted([first.uuid, second.uuid])


# -- its lock ----------------------------------------------------------------------------------------------------------


def test_it_is_alive_until_it_is_closed(writer: JournalWriter) -> None:
    assert is_alive(writer.directory)
    writer.close()
    assert not is_alive(writer.directory)


def test_those_who_ask_at_once_do_not_take_each_other_for_the_writer(writer: JournalWriter) -> None:
    writer.close()
    descriptor = os.open(writer.directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    assert not is_alive(writer.directory)
    os.close(descriptor)


def test_a_child_process_does_not_inherit_the_lock(writer: JournalWriter) -> None:
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        writer.close()
        assert child.poll() is None
        assert not is_alive(writer.directory)
    finally:
        child.kill()
        child.wait()


def test_a_journal_is_not_seen_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = fcntl.flock

    def watched(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX:
            seen.append(journals(tmp_path))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", watched)
    writer = open_writer(tmp_path)
    assert seen == [[]]
    assert [info.alive for info in journals(tmp_path)] == [True]
    writer.close()


def test_a_failed_start_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    before = descriptors()
    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(JournalFull, match="No space left"):
        open_writer(tmp_path / "journal")
    monkeypatch.undo()
    assert list((tmp_path / "journal").iterdir()) == []
    assert descriptors() == before


# -- ends ---------------------------------------------------------------------------------------------------------------


def test_closing_twice_is_closing_once_and_nothing_is_written_afterwards(writer: JournalWriter) -> None:
    writer.append(BATCH, b"x", count=1)
    writer.close()
    before = {path.name: path.read_bytes() for path in writer.directory.iterdir()}
    writer.close()
    writer.tick()
    with pytest.raises(JournalFull, match="closed"):
        writer.append(BATCH, b"x", count=1)
    with pytest.raises(JournalFull, match="closed"):
        writer.shed([entry(1)])
    assert {path.name: path.read_bytes() for path in writer.directory.iterdir()} == before


def test_tick_begins_a_new_segment_when_the_first_frame_is_old(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, roll_after_s=0.05)
    time.sleep(0.06)
    writer.tick()
    assert segments(writer) == ["00000000.seg"]  # without content it is not old
    writer.append(BATCH, b"x", count=1)
    writer.tick()
    assert segments(writer) == ["00000000.seg"]
    time.sleep(0.06)
    writer.tick()
    writer.tick()
    assert segments(writer) == ["00000000.seg", "00000001.seg"]
    writer.append(BATCH, b"y", count=1)
    assert read_all(writer.directory).payloads == [b"x", b"y"]


# -- gaps ---------------------------------------------------------------------------------------------------------------


def test_shed_records_become_one_frame_behind_the_next_append(writer: JournalWriter) -> None:
    writer.shed([entry(5, at=100)])
    writer.shed([entry(7, at=50), entry(1, reason="disk full")])
    writer.append(BATCH, b"x", count=1)
    writer.append(BATCH, b"y", count=1)
    found = read_all(writer.directory)
    assert [frame.kind for frame in found.frames] == [BATCH, GAP, BATCH]
    assert found.gaps[0].generation == 1
    assert found.gaps[0].entries == [
        GapEntry("m", 1, "budget", 12, 12, 0, 50, 101),
        entry(1, reason="disk full"),
    ]


def test_tick_writes_a_gap_that_waits(writer: JournalWriter) -> None:
    writer.shed([entry(5)])
    assert read_all(writer.directory).frames == []
    writer.tick()
    assert [gap.generation for gap in read_all(writer.directory).gaps] == [1]
    writer.shed([entry(6)])
    writer.close()
    found = read_all(writer.directory)
    assert [(gap.generation, gap.entries[0].records) for gap in found.gaps] == [(1, 5), (2, 6)]
    assert all(frame.offset > 0 for frame in found.frames)


@pytest.mark.parametrize("then", ["nothing", "append", "append and shed", "tick", "close"])
def test_a_gap_counts_once_wherever_its_writer_is_killed(writer: JournalWriter, tmp_path: Path, then: str) -> None:
    writer.append(BATCH, b"x", count=1)
    writer.shed([entry(5)])
    expected = 5
    if then.startswith("append"):
        writer.append(BATCH, b"y", count=1)
    if then == "append and shed":
        writer.shed([entry(6)])
        expected += 6
    if then == "tick":
        writer.tick()
    if then == "close":
        writer.close()
    found = read_all(copied(writer.directory, tmp_path / "orphan"), max_bytes=10)
    assert found.state == "finished"
    assert sum(entry.records for gap in found.gaps for entry in gap.entries) == expected
    again = read_all(writer.directory)
    if then == "close":
        assert again.gaps == found.gaps


def test_the_reserve_is_allocated_when_the_journal_begins(writer: JournalWriter) -> None:
    status = (writer.directory / "reserve").stat()
    assert status.st_size == 2 * SLOT_BYTES
    assert status.st_blocks * 512 >= 2 * SLOT_BYTES


def test_a_torn_reserve_still_says_what_it_said_before(writer: JournalWriter, tmp_path: Path) -> None:
    writer.shed([entry(5)])
    writer.shed([entry(6)])
    orphan = copied(writer.directory, tmp_path / "orphan")
    data = bytearray((orphan / "reserve").read_bytes())
    data[SLOT_BYTES + 30] ^= 1
    (orphan / "reserve").write_bytes(data)
    assert [gap.entries[0].records for gap in read_all(orphan).gaps] == [5]


def test_a_gap_that_cannot_be_kept_is_not_counted_and_says_so(
    writer: JournalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.shed([entry(5)])

    def broken(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(JournalFull, match="not even a gap"):
        writer.shed([entry(6)])
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: len(data) - 1)
    with pytest.raises(JournalFull, match="not even a gap"):
        writer.shed([entry(7)])
    monkeypatch.undo()
    assert [gap.entries[0].records for gap in read_all(copied(writer.directory, tmp_path / "a")).gaps] == [5]
    writer.shed([entry(8)])
    assert [gap.entries[0].records for gap in read_all(copied(writer.directory, tmp_path / "b")).gaps] == [13]


def test_a_gap_of_more_models_than_fit_is_counted_by_reason(writer: JournalWriter) -> None:
    writer.shed([entry(1, model=f"model {i:0500}") for i in range(200)])
    writer.shed([entry(2, reason="disk full")])
    writer.append(BATCH, b"x", count=1)
    (gap,) = read_all(writer.directory).gaps
    assert [(one.model, one.version, one.reason, one.records) for one in gap.entries] == [
        (None, None, "budget", 200),
        ("m", 1, "disk full", 2),
    ]


def test_a_gap_of_more_reasons_than_fit_is_refused(writer: JournalWriter) -> None:
    with pytest.raises(JournalFull, match="does not fit"):
        writer.shed([entry(1, reason=f"reason {i:0500}") for i in range(200)])


# -- the disk budget ----------------------------------------------------------------------------------------------------


def test_before_the_budget_is_used_up_there_is_no_room_for_what_can_be_done_without(tmp_path: Path) -> None:
    taken = 2 * SLOT_BYTES + HEADER_BYTES
    writer = open_writer(tmp_path, budget_bytes=taken + 1_000_000)
    while not writer.short_of_room:
        assert writer.usage_bytes <= 0.75 * (taken + 1_000_000)
        writer.append(BATCH, bytes(10_000), count=1)
    assert 0.75 * (taken + 1_000_000) < writer.usage_bytes < 0.77 * (taken + 1_000_000)
    assert not writer.over_budget


def test_own_appends_count_against_the_budget_at_once_and_others_with_tick(tmp_path: Path) -> None:
    budget = 2 * (2 * SLOT_BYTES + HEADER_BYTES) + 100_000
    first = open_writer(tmp_path, budget_bytes=budget)
    second = open_writer(tmp_path, budget_bytes=budget)
    second.append(BATCH, bytes(60_000), count=1)
    assert not second.over_budget
    first.append(BATCH, bytes(50_000), count=1)
    assert not first.over_budget and not second.over_budget
    first.tick()
    assert first.over_budget
    second.append(BATCH, bytes(30_000), count=1)
    assert not second.over_budget
    second.append(BATCH, bytes(9_950), count=1)
    assert second.over_budget
    (first.directory / "00000000.seg").unlink()
    second.tick()
    assert not second.over_budget
    assert second.usage_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())


def test_what_is_appended_while_tick_looks_at_the_disk_counts_too(
    writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looking(root: Path) -> int:
        writer.append(BATCH, bytes(1000), count=1)
        return 5000

    monkeypatch.setattr(usage, "bytes_below", looking)
    writer.tick()
    assert writer.usage_bytes == 5000 + 1000 + FRAME_HEAD_BYTES


def test_what_a_start_finds_counts_from_its_beginning(tmp_path: Path) -> None:
    first = open_writer(tmp_path)
    first.append(BATCH, bytes(MIB), count=1)
    first.close()
    assert open_writer(tmp_path, budget_bytes=MIB).over_budget


# -- the disk -----------------------------------------------------------------------------------------------------------


def test_fsync_waits_for_the_disk_before_every_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []

    def counted(descriptor: int) -> None:
        waited.append("data")
        os.fsync(descriptor)

    monkeypatch.setattr(appending, "synchronise", counted)
    writer = open_writer(tmp_path, fsync=True)
    waited.clear()
    writer.append(BATCH, b"x", count=1, needs={"v": b"v"})
    assert waited == ["data"]
    lazy = open_writer(tmp_path, fsync=False)
    waited.clear()
    lazy.append(BATCH, b"x", count=1)
    assert waited == []


def test_with_fsync_a_new_file_is_in_its_directory_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directories: list[bool] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        directories.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    writer = open_writer(tmp_path, fsync=True, segment_bytes=1000)
    assert directories.count(True) == 2  # the journal's own, with its first segment, and the one it is in
    directories.clear()
    writer.append(BATCH, bytes(900), count=1)
    writer.append(BATCH, bytes(900), count=1)
    assert directories.count(True) == 1


def test_threads_may_append_shed_and_tick_at_once(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=20_000, roll_after_s=0.0)
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            writer.tick()

    def shed() -> None:
        for _ in range(300):
            writer.shed([entry(1)])

    def append(kind: int) -> None:
        for i in range(500):
            writer.append(kind, f"{kind} {i}".encode() * 20, count=1)

    ticking, shedding = threading.Thread(target=tick), threading.Thread(target=shed)
    appending = [threading.Thread(target=append, args=(kind,)) for kind in (BATCH, REJECTION)]
    for thread in (ticking, shedding, *appending):
        thread.start()
    for thread in (shedding, *appending):
        thread.join()
    stop.set()
    ticking.join()
    writer.close()
    found = read_all(writer.directory)
    assert found.damages == [] and found.records == 1000
    for kind in (BATCH, REJECTION):
        expected = [f"{kind} {i}".encode() * 20 for i in range(500)]
        assert [frame.payload for frame in found.frames if frame.kind == kind] == expected
    assert sum(one.records for gap in found.gaps for one in gap.entries) == 300


@pytest.mark.alone
def test_an_append_costs_little_beside_its_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(tmp_path, segment_bytes=64 * MIB)
    monkeypatch.setattr(os, "writev", lambda descriptor, buffers: sum(map(len, buffers)))
    payload, needs = os.urandom(20_000), {"v": b"version"}
    best = float("inf")
    for _ in range(20):
        begun = time.perf_counter()
        for _ in range(100):
            writer.append(BATCH, payload, count=64, needs=needs)
        best = min(best, (time.perf_counter() - begun) / 100)
    print(f"an append of 20 kB: {best * 1e6:.1f} us without the write")  # noqa: T201 - the figure is the point
    assert best < 50e-6
