"""The order of loads: each a job that nothing else waits for, the most needed first.

There are two lanes, each with one load at a time: one for everything, and one for what a person has just asked for, so
that a roll-back never waits until another model has been loaded. Where one load holds up the first lane for long, what
waits behind it goes on in the second.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.state import Model, Version
from hoverboard.errors import VersionRefused
from hoverboard.machine import check_of

__all__ = ["LoadJobs"]

_log = structlog.get_logger(__name__)
LONG_S = 30.0
"""Seconds after which a load keeps the others waiting no more."""
NEW_S = 60.0
"""Seconds that readiness waits at most for models that nobody has called yet."""


@dataclass(slots=True, eq=False)
class _Job:
    model: Model
    version: Version
    done: asyncio.Future[None]
    suspect: bool
    begun: bool = False
    lanes: set[bool] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _LoadLane:
    waiting: list[tuple[bool, bool, bool, int, _Job]] = field(default_factory=list)
    work: asyncio.Task[None] | None = None


class LoadJobs:
    """Jobs that load versions.

    Args:
        load: loads one version; raises VersionRefused.
        still_wanted: asked when a load's turn has come.
        ended: called with how a load ended; None where it was not wanted any more.
    """

    def __init__(
        self,
        load: Callable[[Model, Version], Awaitable[LiveVersion]],
        *,
        still_wanted: Callable[[Model, Version], bool],
        ended: Callable[[Model, Version, LiveVersion | VersionRefused | None], None],
    ) -> None:
        self._load = load
        self._still_wanted = still_wanted
        self._ended = ended
        self._numbers = itertools.count()
        self._lanes = (_LoadLane(), _LoadLane())
        self._jobs: dict[Version, _Job] = {}
        self._closed = False

    def want(
        self, model: Model, version: Version, *, asked_for: bool = False, suspect: bool = False
    ) -> asyncio.Future[None]:
        """Have a version loaded; the future is done when it lives or is refused. Asking again changes nothing.

        Args:
            model: whose.
            version: which.
            asked_for: a person waits for it.
            suspect: the process died while this version ran before: all others come first, and nobody waits for it.
        """
        job = self._jobs.get(version)
        if job is None:
            version.loading = True
            job = self._jobs[version] = _Job(model, version, asyncio.get_running_loop().create_future(), suspect)
        if not job.begun and asked_for not in job.lanes:
            job.lanes.add(asked_for)
            lane = self._lanes[asked_for]
            # A model that answers already can wait for one that does not, and a new one for those that callers know.
            rank = (suspect, model.stable is not None, not model.needed, next(self._numbers), job)
            heapq.heappush(lane.waiting, rank)
            self._wake(lane)
        return job.done

    def _wake(self, lane: _LoadLane) -> None:
        if lane.work is None or lane.work.done():
            lane.work = asyncio.ensure_future(self._run(lane))

    def _overtake(self) -> None:
        """Let what waits in the first lane go on in the second."""
        first, second = self._lanes
        if first.waiting and not self._closed:
            for rank in first.waiting:  # they stay in the first lane, too: whichever comes to them first takes them
                heapq.heappush(second.waiting, rank)
            self._wake(second)

    def of(self, version: Version) -> asyncio.Future[None] | None:
        """Done with the job of a version; None where it has none."""
        job = self._jobs.get(version)
        return job.done if job is not None else None

    async def quiet(self) -> None:
        """Wait until every version that is wanted has had its chance, but for suspects, and not long for new models."""
        until = time.monotonic() + NEW_S
        while True:  # a load that ends may want another one: a refused version the one before it
            patient = time.monotonic() < until
            jobs = [job for job in self._jobs.values() if not job.suspect and (patient or job.model.needed)]
            if not jobs:
                return
            patience = max(0.0, until - time.monotonic()) if patient else None
            await asyncio.wait([job.done for job in jobs], timeout=patience)

    async def aclose(self) -> None:
        """Begin no more; waits for loads that run."""
        self._closed = True
        await asyncio.gather(*[lane.work for lane in self._lanes if lane.work is not None])

    async def _run(self, lane: _LoadLane) -> None:
        while lane.waiting and not self._closed:
            *_, job = heapq.heappop(lane.waiting)
            if job.begun:
                continue  # the other lane was quicker
            job.begun = True
            model, version = job.model, job.version
            outcome: LiveVersion | VersionRefused | None = None
            if self._still_wanted(model, version):
                late = asyncio.get_running_loop().call_later(LONG_S, self._overtake)
                outcome = await self._outcome(model, version)
                late.cancel()
            version.loading = False
            del self._jobs[version]
            try:
                self._ended(model, version, outcome)
            except Exception:  # noqa: BLE001 - the loads of other models go on
                _log.exception("load_not_taken_over", model=model.name, version=version.place.number)
            job.done.set_result(None)

    async def _outcome(self, model: Model, version: Version) -> LiveVersion | VersionRefused:
        try:
            return await self._load(model, version)
        except VersionRefused as refusal:
            return refusal
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this version's own
            check = check_of(error, "load")
            if check == "load":
                _log.exception("load_failed", model=model.name, version=version.place.number)
            return VersionRefused(f"loading failed: {type(error).__name__}", check=check)
