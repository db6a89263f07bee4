import asyncio
import errno
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hoverboard.journal.group_commit import Committer
from hoverboard.journal.records import GapEntry, GapRecord, LabelRecord, RejectionRecord
from hoverboard.journal.writer import JournalWriter, NotOnDisk
from tests.journals import records_of


class Gated(JournalWriter):
    """A journal that writes nothing while its gate is shut.

    Attributes:
        sizes: how many frames or gaps each write had.
        failure: raised by every write, when set.
    """

    gate: threading.Event
    sizes: list[int]
    failure: Exception | None

    def append_all(self, kind: int, payloads: Sequence[bytes]) -> int:
        self._pass(len(payloads))
        return super().append_all(kind, payloads)

    def shed(self, entries: Sequence[GapEntry]) -> None:
        self._pass(len(entries))
        super().shed(entries)

    def _pass(self, size: int) -> None:
        assert self.gate.wait(10)
        self.sizes.append(size)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def writer(root: Path) -> Gated:
    writer = Gated(root, process="api-0", segment_bytes=1 << 20, budget_bytes=1 << 30, fsync=True)
    assert isinstance(writer, Gated)
    writer.gate, writer.sizes, writer.failure = threading.Event(), [], None
    writer.gate.set()
    return writer


@pytest.fixture
def committer(writer: Gated) -> Committer:
    return Committer(writer, fsync=True)


def label(name: str) -> LabelRecord:
    return LabelRecord(1, b"x" * 16, name, None, "api", None, "r")


def gap(reason: str) -> GapEntry:
    return GapEntry(None, None, reason, 1, 0, 0, 1, 1)


def labels(root: Path) -> list[str | None]:
    return [record.label for record in records_of(root) if isinstance(record, LabelRecord)]


async def started(*work: Awaitable[Any]) -> list[asyncio.Future[Any]]:
    """Begin some work, and let all of it come as far as it gets."""
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(one) for one in work]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_what_comes_while_the_journal_is_busy_shares_the_next_write(
    committer: Committer, writer: Gated, root: Path
) -> None:
    writer.gate.clear()
    first = await started(committer.append([label("0")]))
    rest = await started(*(committer.append([label(f"{n}a"), label(f"{n}b")]) for n in range(1, 4)))
    writer.gate.set()
    assert await asyncio.gather(*first, *rest) == [1, 2, 2, 2]
    assert writer.sizes == [1, 6]
    assert labels(root) == ["0", "1a", "1b", "2a", "2b", "3a", "3b"]
    await committer.close()


async def test_kinds_and_gaps_are_kept_apart(committer: Committer, root: Path) -> None:
    rejection = RejectionRecord(1, "r", None, "m", None, None, -32601, "k", None, None, None)
    done = await asyncio.gather(
        committer.append([label("a")]),
        committer.append([rejection]),
        committer.shed(gap("one")),
        committer.append([label("b")]),
        committer.shed(gap("two")),
    )
    assert list(done) == [1, 1, True, 1, True]
    await committer.close()
    records = records_of(root)
    assert labels(root) == ["a", "b"]
    assert sum(isinstance(record, RejectionRecord) for record in records) == 1
    reasons = [entry.reason for record in records if isinstance(record, GapRecord) for entry in record.entries]
    assert sorted(reasons) == ["one", "two"]


async def test_a_caller_that_leaves_takes_nobody_along(committer: Committer, writer: Gated, root: Path) -> None:
    writer.gate.clear()
    (busy,) = await started(committer.append([label("busy")]))
    leaving, staying = await started(committer.append([label("leaving")]), committer.append([label("staying")]))
    leaving.cancel()
    await asyncio.sleep(0)
    writer.gate.set()
    assert [await busy, await staying] == [1, 1]
    assert leaving.cancelled()
    assert labels(root) == ["busy", "leaving", "staying"]
    await committer.close()


@pytest.mark.parametrize("size", [0, 1, 90, 200, 350])
async def test_of_a_disk_that_becomes_full_everybody_learns_what_is_written(
    committer: Committer, root: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Callable[..., int] = os.writev

    def short(descriptor: int, buffers: Sequence[bytes]) -> int:
        if not size:
            raise OSError(errno.ENOSPC, "no space left on device")
        return os.write(descriptor, b"".join(buffers)[:size])

    monkeypatch.setattr(os, "writev", short)
    written = await asyncio.gather(*(committer.append([label(f"{n}a"), label(f"{n}b")]) for n in range(3)))
    monkeypatch.setattr(os, "writev", whole)
    names = [f"{n}{half}" for n in range(3) for half in "ab"]
    assert labels(root) == names[: sum(written)]
    assert written == sorted(written, reverse=True)
    assert sum(written) < 6
    assert (sum(written) > 0) == (size >= 90)
    assert await committer.append([label("after")]) == 1
    assert labels(root) == [*names[: sum(written)], "after"]
    await committer.close()


async def test_of_a_disk_that_cannot_be_waited_for_everybody_learns_that_it_may_be_lost(
    committer: Committer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    def short(descriptor: int, buffers: Sequence[bytes]) -> int:
        return os.write(descriptor, b"".join(buffers)[:350])

    with monkeypatch.context() as broken:
        broken.setattr("hoverboard.journal.appending.synchronise", failing)
        broken.setattr(os, "writev", short)
        pairs = ([label(f"{n}a"), label(f"{n}b")] for n in range(6))
        done = await asyncio.gather(*(committer.append(pair) for pair in pairs), return_exceptions=True)
    unsure = [one.frames if isinstance(one, NotOnDisk) else one for one in done]
    there = labels(root)
    assert 0 < len(there) < 12
    assert unsure == [max(min(len(there) - 2 * n, 2), 0) for n in range(6)]
    assert [isinstance(one, NotOnDisk) for one in done] == [2 * n < len(there) for n in range(6)]
    assert await committer.append([label("after")]) == 1
    assert labels(root) == [*there, "after"]
    await committer.close()


async def test_a_defect_reaches_everybody_who_waits(committer: Committer, writer: Gated) -> None:
    writer.failure = RuntimeError("a defect")
    done = await asyncio.gather(
        *(committer.append([label("a")]) for _ in range(3)), committer.shed(gap("x")), return_exceptions=True
    )
    assert [type(one) for one in done] == [RuntimeError] * 4
    writer.failure = None
    assert await committer.append([label("after")]) == 1
    await committer.close()


async def test_the_end_waits_for_what_is_under_way(committer: Committer, writer: Gated, root: Path) -> None:
    writer.gate.clear()
    await started(committer.append([label("a")]))
    (later,) = await started(committer.append([label("b")]))
    later.cancel()
    (closing,) = await started(committer.close())
    assert not closing.done()
    writer.gate.set()
    await closing
    assert labels(root) == ["a", "b"]
    assert len(list(root.glob("*/closed"))) == 1
