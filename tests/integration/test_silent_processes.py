"""An engine that hangs is ended, and what it died on is written down; what killed it from outside is not."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Self

import pytest

from hoverboard.engine.models.deaths import LoadAttempts
from hoverboard.engine.slots import slots_path
from hoverboard.supervisor import hangs
from hoverboard.supervisor.child import Backoff, Child, ChildSpec
from hoverboard.supervisor.hangs import ChildWatch, EngineWatch
from hoverboard.telemetry.pulse import pulse_path

RUNS = """
import os, signal, sys, time
from pathlib import Path
from hoverboard.engine.slots import EXECUTION, LOOP, Slots
slots = Slots(Path(sys.argv[1]))
what, seconds, then = sys.argv[2], float(sys.argv[3]), sys.argv[4]
if what == "load":
    loading = slots.trying(("m", 3), seconds)
    loading.__enter__()
if what != "nothing":
    slots.begin(LOOP, ("m", 2), seconds if what == "batch" else 60)
print("ran", flush=True)
os.kill(os.getpid(), getattr(signal, then)) if then.startswith("SIG") else time.sleep(60)
"""


class Engine:
    """A process that notes what it runs as an engine does, kept by a supervisor's child."""

    def __init__(self, folder: Path, what: str, seconds: float, then: str) -> None:
        self.attempts = LoadAttempts(folder / "loading")
        self.output = io.BytesIO()
        path = slots_path(folder, "engine-0")
        command = [sys.executable, "-c", RUNS, str(path), what, str(seconds), then]
        watch = EngineWatch(path, self.attempts, pulse_path(folder, "engine-0"))
        self.child = Child(ChildSpec("engine-0", command), folder, Backoff(0.01), self.output, watch)

    async def __aenter__(self) -> Self:
        self._keeping = asyncio.create_task(self.child.keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.child.stop(0.1, asyncio.Event())
        await self._keeping

    async def lives(self, count: int) -> None:
        async with asyncio.timeout(30):
            while self.output.getvalue().count(b"ran") < count:
                await asyncio.sleep(0.02)

    def blamed(self) -> set[int]:
        return {version for version in (2, 3) if self.attempts.deaths("m", version)}


async def test_a_batch_that_does_not_end_in_time_is_ended_with_its_engine(tmp_path: Path) -> None:
    async with Engine(tmp_path, "batch", 0.1, "hangs") as engine:
        await engine.lives(2)
        assert engine.blamed() == {2}
    (file,) = (tmp_path / "loading").iterdir()
    assert "did not end in time" in json.loads(file.read_text())[0]["how"]


@pytest.mark.parametrize(
    ("what", "then", "blamed"),
    [
        ("batch", "SIGSEGV", {2}),
        ("load", "SIGABRT", {3}),
        ("load", "SIGKILL", {3}),
        ("batch", "SIGKILL", set()),
        ("nothing", "SIGSEGV", set()),
    ],
)
async def test_a_death_counts_against_what_ran_unless_it_came_from_outside(
    tmp_path: Path, what: str, then: str, blamed: set[int]
) -> None:
    async with Engine(tmp_path, what, 60, then) as engine:
        await engine.lives(2)
        assert engine.blamed() == blamed


async def test_a_batch_that_the_kernel_ends_for_want_of_memory_is_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 7\noom_kill 4\n")
    monkeypatch.setattr(hangs, "_VMSTAT", vmstat)
    async with Engine(tmp_path, "batch", 60, "waits") as engine:
        await engine.lives(1)
        await asyncio.sleep(0.5)
        vmstat.write_text("nr_free_pages 7\noom_kill 5\n")
        assert engine.child.pid is not None
        os.kill(engine.child.pid, signal.SIGKILL)
        await engine.lives(2)
        assert engine.blamed() == {2}
        (file,) = (tmp_path / "loading").iterdir()
        assert "took more memory than there was" in json.loads(file.read_text())[0]["how"]


async def test_what_ends_because_it_was_asked_to_counts_for_nothing(tmp_path: Path) -> None:
    async with Engine(tmp_path, "load", 60, "hangs") as engine:
        await engine.lives(1)
    assert engine.blamed() == set()


async def test_a_run_within_its_time_is_left_alone(tmp_path: Path) -> None:
    async with Engine(tmp_path, "batch", 60, "hangs") as engine:
        await engine.lives(1)
        pid = engine.child.pid
        await asyncio.sleep(1.6)
        assert engine.child.pid == pid


def test_signals_that_come_from_outside_are_named_as_a_child_names_them() -> None:
    from hoverboard.supervisor.child import _how
    from hoverboard.supervisor.hangs import _OUTSIDE

    assert _how(-signal.SIGKILL) in _OUTSIDE


BEATS = """
import asyncio, sys, time
from pathlib import Path
from hoverboard import children
from hoverboard.engine.slots import EXECUTION, Slots, slots_path
from hoverboard.telemetry.pulse import pulse_path
folder, what = Path(sys.argv[1]), sys.argv[2]
async def main():
    if what == "batch":
        Slots(slots_path(folder, "engine-0")).begin(EXECUTION, ("m", 2), 2.0)
    await asyncio.sleep(1.0)
    print("ran", flush=True)
    if what == "holds":
        time.sleep(60)
    await asyncio.sleep(60)
    return 0
children.run(main(), pulse_path(folder, "engine-0"))
"""


class Beating(Engine):
    """A process whose event loop beats as a child's does, until it is stopped or held."""

    def __init__(self, folder: Path, what: str, *, engine: bool = True) -> None:
        self.attempts = LoadAttempts(folder / "loading")
        self.output = io.BytesIO()
        pulse = pulse_path(folder, "engine-0")
        watch = EngineWatch(slots_path(folder, "engine-0"), self.attempts, pulse) if engine else ChildWatch(pulse)
        command = [sys.executable, "-c", BEATS, str(folder), what]
        self.child = Child(ChildSpec("engine-0", command), folder, Backoff(0.01), self.output, watch)

    def stop(self) -> None:
        assert self.child.pid is not None
        os.kill(self.child.pid, signal.SIGSTOP)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent process is ended after a second or two instead of many."""
    for name, seconds in (("_SILENT_S", 1.5), ("_BUSY_SILENT_S", 1.5), ("_STARTS_S", 0.0)):
        monkeypatch.setattr(hangs, name, seconds)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("engine", [True, False])
async def test_a_process_that_is_stopped_is_ended_and_started_again_and_no_version_is_blamed(
    tmp_path: Path, *, engine: bool
) -> None:
    async with Beating(tmp_path, "idles", engine=engine) as beating:
        await beating.lives(1)
        beating.stop()
        await beating.lives(2)
        assert beating.blamed() == set()


@pytest.mark.usefixtures("impatient")
async def test_a_process_that_is_stopped_before_its_first_beat_is_ended_and_started_again(tmp_path: Path) -> None:
    async with Beating(tmp_path, "idles", engine=False) as beating:
        while beating.child.pid is None:
            await asyncio.sleep(0.01)
        first = beating.child.pid
        beating.stop()
        await beating.lives(1)
        assert beating.child.pid != first


@pytest.mark.usefixtures("impatient")
async def test_a_batch_that_is_late_because_its_process_was_stopped_is_not_to_blame(tmp_path: Path) -> None:
    async with Beating(tmp_path, "batch") as beating:
        await beating.lives(1)
        beating.stop()
        await beating.lives(2)
        assert beating.blamed() == set()


@pytest.mark.usefixtures("impatient")
async def test_a_process_whose_event_loop_is_held_is_ended(tmp_path: Path) -> None:
    async with Beating(tmp_path, "holds") as beating:
        await beating.lives(2)
        assert beating.blamed() == set()


@pytest.mark.usefixtures("impatient")
async def test_a_process_that_beats_is_left_alone(tmp_path: Path) -> None:
    async with Beating(tmp_path, "idles") as beating:
        await beating.lives(1)
        pid = beating.child.pid
        await asyncio.sleep(3)
        assert beating.child.pid == pid
