"""Watches the children: ends one that is silent or hangs, and writes down which version an engine died on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from hoverboard.engine.models.deaths import LoadAttempts
from hoverboard.engine.slots import EXECUTION, LOOP, Run, clear_runs, read_runs
from hoverboard.telemetry import logs
from hoverboard.telemetry.pulse import is_stopped, last_beat, silent_s

__all__ = ["ChildWatch", "EngineWatch", "Note"]

_POLL_S: Final = 0.25
_LOOKS: Final = 4
"""Looks in a row that must find a run overdue: after the whole machine stood still, the engine comes first."""
_QUIET_S: Final = 0.6
"""Somewhat more than between two beats: from here on it is worth asking the system whether the process is stopped."""
_SILENT_S: Final = 15.0
"""After which a process that is stopped is ended, and an engine that runs no graph."""
_BUSY_SILENT_S: Final = 60.0
"""After which any other is: one call of native code may hold a loop for long, as may a machine with too much to do."""
_STARTS_S: Final = 120.0
_OUTSIDE: Final = ("killed by SIGKILL", "killed by SIGTERM", "killed by SIGINT", "killed by SIGHUP")
"""Ends that come from outside: what a batch does to its process looks otherwise."""
_VMSTAT: Final = Path("/proc/vmstat")

_log = logs.get("supervisor")


Note = Callable[[Literal["start", "stop", "death"], str | None], None]
"""Told what becomes of a process, and more about it in words."""


class ChildWatch:
    """Watches one child through its pulse.

    Args:
        pulse: path of it.
        note: told when a life of it begins (`start`) and how it ended (`stop`, where it was asked to, or `death`).
    """

    def __init__(self, pulse: Path, note: Note | None = None) -> None:
        self._pulse = pulse
        self._note = note
        self._why: str | None = None
        self._beat = 0.0
        self._silent_s = 0.0
        self._stopped = False

    async def watch(self, process: asyncio.subprocess.Process) -> None:
        """End the process once it is silent for too long; one life of it."""
        self._beat = self._silent_s = 0.0
        self._why = None
        if self._note is not None:
            self._note("start", None)
        looked = time.monotonic()
        while True:
            await asyncio.sleep(_POLL_S)
            now = time.monotonic()
            # Not by the clock: while the machine sleeps or stands still, nobody could have beaten.
            self._listen(process.pid, min(now - looked, 2 * _POLL_S))
            looked = now
            why = self._why = self._wrong(now)
            if why is not None:
                _log.error("child_hangs", pid=process.pid, why=why, then="it is ended and started again")
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                return

    def ended(self, how: str, *, asked: bool) -> None:
        """Told when the process has ended, and whether it was asked to."""
        clear_runs(self._pulse)
        if self._note is not None:
            self._note("stop" if asked else "death", how if self._why is None else f"{how}: {self._why}")

    def _listen(self, pid: int, passed_s: float) -> None:
        beat = last_beat(self._pulse)
        # One that does not beat yet, since it starts, or does not any more, since it ends, may be stopped all the same.
        self._stopped = (not beat or silent_s(self._pulse) > _QUIET_S) and is_stopped(pid)
        silent = self._stopped or (beat and beat == self._beat)
        self._silent_s = self._silent_s + passed_s if silent else 0.0
        self._beat = beat

    def _patience(self) -> float:
        return _BUSY_SILENT_S

    def _wrong(self, now: float) -> str | None:  # noqa: ARG002 - an engine's watch wants to know
        """Why to end the process; None while all is well."""
        if self._silent_s < (_SILENT_S if self._stopped else self._patience()):
            return None
        if self._stopped:
            return f"the process is stopped, by SIGSTOP or a debugger: no sign of life for {self._silent_s:.0f} s"
        return f"its event loop has not turned for {self._silent_s:.0f} s"


class EngineWatch(ChildWatch):
    """Watches one engine through its slots, too.

    Args:
        path: of its slots.
        attempts: where its deaths are written down.
        pulse: path of its pulse.
        note: as for `ChildWatch`.
    """

    def __init__(self, path: Path, attempts: LoadAttempts, pulse: Path, note: Note | None = None) -> None:
        super().__init__(pulse, note)
        self._path = path
        self._attempts = attempts
        self._counted = False
        self._seen: dict[Run, int] = {}
        self._paused: set[Run] = set()
        self._began = 0.0
        self._memory_kills = 0

    def runs(self) -> Sequence[Run]:
        """What it runs now."""
        return read_runs(self._path)

    def executes(self) -> Sequence[Run]:
        """As `runs`, without loads: what keeps callers waiting."""
        return [run for run in self.runs() if run.slot in (LOOP, EXECUTION)]

    async def watch(self, process: asyncio.subprocess.Process) -> None:
        """End the process once it is silent for too long, or something in it is overdue; one life of it."""
        self._counted = False
        self._seen, self._paused = {}, set()
        self._began = time.monotonic()
        self._memory_kills = _memory_kills()
        await super().watch(process)

    def ended(self, how: str, *, asked: bool) -> None:
        """Told when the process has ended, and whether it was asked to: write down what it died on."""
        super().ended(how, asked=asked)
        runs = self.runs()
        clear_runs(self._path)
        if asked or self._counted or not runs:
            return
        if how == _OUTSIDE[0] and _memory_kills() > self._memory_kills:
            how = "took more memory than there was"
        if how in _OUTSIDE:  # by a person, or by whoever else runs short of memory; a load may well be to blame
            runs = [run for run in runs if run.kind == "load"]
        self._count(runs, how)

    def _patience(self) -> float:
        """Longer while the engine starts or loads: what it imports and reads may hold the interpreter."""
        starts = time.monotonic() - self._began < _STARTS_S
        return _BUSY_SILENT_S if starts or any(run.kind == "load" for run in self.runs()) else _SILENT_S

    def _wrong(self, now: float) -> str | None:
        runs = self.runs()
        if self._stopped:  # whatever runs meanwhile cannot end
            self._seen.clear()
            self._paused.update(runs)
            return self._silent(())
        self._seen = {run: self._seen.get(run, 0) + 1 for run in runs if run.until < now}
        hung = [run for run, looks in self._seen.items() if looks >= _LOOKS]
        if hung:
            self._count([run for run in hung if run not in self._paused], "did not end in time")
            return "a run in it did not end in time"
        if any(run.slot in (LOOP, EXECUTION) for run in runs):
            self._silent_s = 0.0  # it has a time of its own
        return self._silent([run for run in runs if run.kind == "load"])

    def _silent(self, loads: Sequence[Run]) -> str | None:
        why = super()._wrong(0.0)
        if why is not None:
            self._count(loads, "held up the engine's event loop")
        return why

    def _count(self, runs: Sequence[Run], how: str) -> None:
        """A load that goes on beside a batch is the likelier cause."""
        self._counted = True
        loads = [run for run in runs if run.kind == "load"]
        for model, version, kind in sorted({(run.model, run.version, run.kind) for run in loads or runs}):
            reason = f"the last time a {kind} {how}"
            deaths = self._attempts.count(model, version, kind, reason)
            _log.error("engine_died_on_version", model=model, version=version, kind=kind, how=how, deaths=deaths)


def _memory_kills() -> int:
    """How many processes the kernel has ended for want of memory, in any control group; 0 where it does not say."""
    with contextlib.suppress(OSError):
        for line in _VMSTAT.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
