"""Has versions loaded, and takes over what comes of it: a version that lives, or a reason why it must not.

What is wrong with a version stays until its files change. What is wrong with this machine passes: such a version is tried
again by itself, with longer and longer pauses.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

import structlog

from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.catalog import Models
from hoverboard.engine.models.deaths import LoadAttempts
from hoverboard.engine.models.jobs import LoadJobs
from hoverboard.engine.models.memory import MOST_ON_DEMAND, Memory
from hoverboard.engine.models.state import Model, Version
from hoverboard.errors import Overloaded, VersionRefused
from hoverboard.machine import pause_s
from hoverboard.telemetry import families
from hoverboard.versions import VersionOnDisk

__all__ = ["LoadVersion", "Loads"]

_log = structlog.get_logger(__name__)
_LONGEST_REASON: Final = 2000
"""Characters of a reason: every process keeps it, and it may quote what a graph says."""

LoadVersion = Callable[[VersionOnDisk, int | None], LiveVersion]
"""Loads a version, blocking, given the model's largest batch; raises VersionRefused."""


class Loads:
    """The loads of an engine.

    Args:
        models: whose versions.
        memory: where they find room.
        load: loads one version; runs on `pool`.
        pool: threads for two loads at once.
        attempts: remembers versions on which the process died.
        settle: called with a model one of whose loads has ended.
    """

    def __init__(
        self,
        models: Models,
        memory: Memory,
        load: LoadVersion,
        pool: Executor,
        attempts: LoadAttempts,
        *,
        settle: Callable[[Model], None],
    ) -> None:
        self._models = models
        self._memory = memory
        self._load_version = load
        self._pool = pool
        self._attempts = attempts
        self._settle = settle
        self._jobs = LoadJobs(self._load, still_wanted=self._still_wanted, ended=self._ended)
        self.of, self.quiet, self.aclose = self._jobs.of, self._jobs.quiet, self._jobs.aclose

    def want(self, model: Model, version: Version) -> asyncio.Future[None]:
        """Have a version loaded; the future is done when it lives or is refused. Asking again changes nothing."""
        number = version.place.number
        # A roll-back must not wait until another model has loaded; a first load of a named version may.
        asked_for = version.ordered or (number == model.serving.stable and model.stable is not None)
        suspect = self._attempts.deaths(model.name, number) > 0
        return self._jobs.want(model, version, asked_for=asked_for, suspect=suspect)

    def demand(self, model: Model, number: int) -> None:
        """Have a version loaded since somebody called it by number, where it is on disk only.

        Raises:
            Overloaded: as many others are on their way already.
        """
        version = model.versions.get(number)
        if version is None or version.loading or not version.loadable:
            return
        if sum(v.on_demand and v.loading for *_, v in self._models.versions()) >= MOST_ON_DEMAND:
            raise Overloaded("Too many versions are being loaded on demand", retry_after_ms=1000)
        version.on_demand = True
        self.want(model, version)
        self._models.publish()

    def refuse(self, model: Model, version: Version, refusal: VersionRefused) -> None:
        """Keep a version from going live, for good or until this machine is well again, and say so."""
        reason = refusal.reason[:_LONGEST_REASON]
        facts = {"model": model.name, "version": version.place.number, "check": refusal.check, "reason": reason}
        if refusal.passing:
            version.tries += 1
            pause = pause_s(version.tries, version.took_s)
            version.again_at = time.monotonic() + pause
            _log.warning("version_waits", **facts, again_in_s=round(pause), tries=version.tries)
            reason = (
                f"{reason} (something is wrong with this machine, not with the version: tried again in {pause:.0f} s)"
            )
        else:
            _log.error("version_refused", **facts)
        version.refused = VersionRefused(reason, check=refusal.check)
        version.on_demand = version.ordered = False
        model.changed()
        families.loads.labels(model.name, version.place.number, refusal.check).inc()

    def forget_deaths(self, model: Model, number: int) -> None:
        """Give a version on which the process died another chance."""
        self._attempts.forget(model.name, number)

    def again_in_s(self) -> float:
        """Seconds until the first version that waits for this machine to be well is tried again; infinite where none does."""
        due = (v.again_at for *_, v in self._models.versions() if v.again_at is not None)
        return min(due, default=math.inf) - time.monotonic()

    def _known(self, model: Model, version: Version) -> bool:
        """Whether a version is still the one of its number: it or its model may have been removed, or read anew."""
        return self._models.by_name.get(model.name) is model and model.versions.get(version.place.number) is version

    def _still_wanted(self, model: Model, version: Version) -> bool:
        """Asked when a load's turn has come."""
        number = version.place.number
        if not self._known(model, version) or not version.loadable:
            return False
        filling = any(each.version == number for each in model.intended().values())
        return filling or number in model.serving.pins or version.on_demand or version.ordered

    async def _load(self, model: Model, version: Version) -> LiveVersion:
        self._memory.make_room(version)
        self._models.publish()
        started = time.monotonic()
        number, max_batch = version.place.number, model.serving.batching.max_batch
        try:
            # Here, not before the job: a person may have had the deaths forgotten while it waited.
            self._attempts.check(model.name, number)
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    self._pool, self._load_version, version.place, max_batch
                )
            finally:
                self._attempts.survived(model.name, number)
        finally:
            version.took_s = time.monotonic() - started

    def _ended(self, model: Model, version: Version, outcome: LiveVersion | VersionRefused | None) -> None:
        """Take over how a load ended; None where it was not wanted any more."""
        known = self._known(model, version)
        if isinstance(outcome, VersionRefused):
            self.refuse(model, version, outcome)
        elif outcome is not None and known and not version.gone:
            _take_over(model, version, outcome)
        if known:
            self._settle(model)  # first: what has just got a role is not crowded out
            self._memory.crowd_out()
        self._models.publish()


def _take_over(model: Model, version: Version, live: LiveVersion) -> None:
    number = version.place.number
    version.live = live
    version.tries = 0
    # The load may have found least lengths that the manifest does not say.
    version.public = {**(version.public or {}), "inputs": live.source.manifest["inputs"]}
    live.used_at = time.monotonic()
    families.loads.labels(model.name, number, "ok").inc()
    families.memory_bytes.labels(model.name, number).set(live.memory_bytes)
    _log.info(
        "version_live",
        model=model.name,
        version=number,
        executor=live.executor.name,
        buckets=list(live.costs.sizes),
        seconds=round(live.load_ms / 1e3, 3),
    )
