"""Watches what an engine runs: ends one that hangs, and writes down which version an engine died on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from service.engine.attempts import LoadAttempts
from service.engine.slots import EXECUTION, LOOP, Run, clear_runs, read_runs
from service.telemetry import logs

__all__ = ["EngineWatch"]

_POLL_S: Final = 0.25
_LOOKS: Final = 4
"""Looks in a row that must find a run overdue: after the whole machine stood still, the engine comes first."""
_OUTSIDE: Final = ("killed by SIGKILL", "killed by SIGTERM", "killed by SIGINT", "killed by SIGHUP")
"""Ends that come from outside: what a batch does to its process looks otherwise."""

_log = logs.get("supervisor")


class EngineWatch:
    """Watches one engine through its slots.

    Args:
        path: of its slots.
        attempts: where its deaths are written down.
    """

    def __init__(self, path: Path, attempts: LoadAttempts) -> None:
        self._path = path
        self._attempts = attempts
        self._counted = False

    def runs(self) -> Sequence[Run]:
        """What it runs now."""
        return read_runs(self._path)

    def executes(self) -> Sequence[Run]:
        """As `runs`, without loads: what keeps callers waiting."""
        return [run for run in self.runs() if run.slot in (LOOP, EXECUTION)]

    async def watch(self, process: asyncio.subprocess.Process) -> None:
        """End the process once something in it is overdue; one life of it."""
        self._counted = False
        seen: dict[Run, int] = {}
        while True:
            await asyncio.sleep(_POLL_S)
            now = time.monotonic()
            seen = {run: seen.get(run, 0) + 1 for run in self.runs() if run.until < now}
            hung = [run for run, looks in seen.items() if looks >= _LOOKS]
            if hung:
                self._count(hung, "did not end in time")
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                return

    def ended(self, how: str, *, asked: bool) -> None:
        """Told when the process has ended, and whether it was asked to: write down what it died on."""
        runs = self.runs()
        clear_runs(self._path)
        if asked or self._counted or not runs:
            return
        if how in _OUTSIDE:  # by a person, or by the kernel for want of memory, which a load may well be to blame for
            runs = [run for run in runs if run.kind == "load"]
        self._count(runs, how)

    def _count(self, runs: Sequence[Run], how: str) -> None:
        """A load that goes on beside a batch is the likelier cause."""
        self._counted = True
        loads = [run for run in runs if run.kind == "load"]
        for model, version, kind in sorted({(run.model, run.version, run.kind) for run in loads or runs}):
            said = f"the last time a {kind} {how}"
            deaths = self._attempts.count(model, version, kind, said)
            _log.error("engine_died_on_version", model=model, version=version, kind=kind, how=how, deaths=deaths)
