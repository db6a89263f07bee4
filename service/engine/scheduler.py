"""Which call runs when: admission, deadlines, batches in flight. In come calls, out go their answers or errors.

All of it happens on the event loop. Which version answers, what time it is and where a batch runs are given from
outside, so that every rule can be tested without a framework and without a disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from hoverboard.config import Settings
from hoverboard.contract.calls import PredictCall
from hoverboard.contract.catalog import Catalog
from hoverboard.engine.answers import Answers, BatchOutcome
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.queue import Lookup, Queue
from hoverboard.engine.runner import Runner
from hoverboard.engine.slots import EXECUTION, LOOP
from hoverboard.engine.work import Batch, Done, Work, tell
from hoverboard.engine.worker import Worker
from hoverboard.errors import (
    DeadlineExceeded,
    HoverboardError,
    InternalError,
    InvalidParams,
    NotReady,
    Overloaded,
    RpcError,
    StaleSignature,
)
from hoverboard.telemetry import families
from hoverboard.versions import Serving

__all__ = ["Scheduler"]

_log = structlog.get_logger(__name__)
_SWEEP_S: Final = 0.05
_AFTER_FAILURE_S: Final = 1.0  # what failed once may fail each time: the log must not fill up with it
_SHORT_S: Final = 0.002
"""Execution time up to which a batch runs on the event loop itself: a thread of its own would cost as much again in
waiting for it to be scheduled, on cores that are busy."""


class Scheduler:
    """Takes calls, and keeps the executor busy with them.

    Args:
        settings: of the service.
        lookup: finds the live version that answers a model's number or role now; raises RpcError where none does.
        demand: called with a model and a number or role that is not live; may have it loaded.
        serving: a model's `serving.toml` in force.
        hides: whether what callers send to a model must not be logged.
        runner: runs batches and records them.
        worker: the thread for those that are not short.
        clock: the monotonic clock, in seconds, that deadlines are given on.

    Attributes:
        depth: batches in flight at once.
        closing: whether no more calls are taken.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        lookup: Lookup,
        demand: Callable[[str, int | str], None],
        serving: Callable[[str], Serving],
        hides: Callable[[str], bool],
        runner: Runner,
        worker: Worker,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.depth = 1
        self.closing = False
        self._lookup = lookup
        self._demand = demand
        self._serving = serving
        self._runner = runner
        self._worker = worker
        self._clock = clock
        self._queue = Queue(lookup, runner.withdraw_parts)
        self._answers = Answers(self._queue.refuse, runner.withdraw, hides)
        self._max_queue_ms = settings.max_queue_ms
        self._delay_ms = settings.max_batch_delay_ms
        self._any_delay = bool(self._delay_ms)
        self._short_s = 0.0 if settings.journal_fsync else _SHORT_S  # the event loop waits for no fsync
        self._in_flight = 0
        self._busy_until = 0.0
        self._delayed: asyncio.Handle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    async def drain(self) -> None:
        """Take no more calls; wait for those that were taken."""
        self.closing = True
        await self._idle.wait()

    def follow(self, catalog: Catalog) -> None:
        """Take over which models let their batches wait for company."""
        delays = [self._serving(name).batching.max_batch_delay_ms for name in catalog.models]
        self._any_delay = bool(self._delay_ms or any(delays))

    # -- calls in ------------------------------------------------------------------------------------------------

    def submit(self, call: PredictCall, done: Done) -> Work | None:
        """Take a call; `done` is told its answer or its error once, perhaps before this returns.

        Returns what `cancel` wants, or None where the call was refused at once.
        """
        now = self._clock()
        try:
            version = self._admit(call, now)
        except HoverboardError as error:
            if isinstance(error, RpcError):
                families.dropped.labels(call.model, error.kind).inc()
            tell(call, done, error)
            return None
        except Exception:  # noqa: BLE001 - the loop must live
            _log.exception("admission_failed", model=call.model)
            tell(call, done, InternalError())
            return None
        version.used_at = now  # the least recently used leaves memory first
        work = Work(call, done, now)
        self._queue.push(work, version)
        # The calls of one tick of the event loop are let in together, so that they share a batch.
        if not self._in_flight and self._delayed is None:
            self._idle.clear()
            self._delayed = asyncio.get_running_loop().call_soon(self._start)
        return work

    def cancel(self, work: Work) -> None:
        """Take back what still waits of a call; it is not answered any more."""
        if not work.closed:
            families.dropped.labels(work.call.model, "cancelled").inc()
        self._queue.discard(work)
        self._rest_if_idle()

    def _admit(self, call: PredictCall, now: float) -> LiveVersion:
        """The version that is to answer a call, whose turn comes before its deadline.

        A queue that can only be left by missing the deadline helps nobody: the caller is told at once, and may try
        elsewhere.
        """
        if self.closing:
            raise NotReady("The engine is stopping", retry_after_ms=1000)
        try:
            version = self._lookup(call.model, call.version)
        except NotReady:
            self._demand(call.model, call.version)
            raise
        if version.fingerprint != call.fingerprint:
            raise StaleSignature(call.model)
        serving = self._serving(call.model)
        if call.n > serving.limits.max_instances:
            raise InvalidParams("/instances", f"at most {serving.limits.max_instances} instances", str(call.n))
        busy, own = max(0.0, self._busy_until - now), version.costs.predict(call.n)
        limit_s = (serving.batching.max_queue_ms or self._max_queue_ms) / 1e3
        longest_s = min(limit_s, call.deadline - now - own)
        # Whatever the order, no more is ahead than everything: a sum over lanes, which mostly suffices. What exactly is
        # ahead is a walk over all waiting calls.
        if busy + self._queue.seconds() <= longest_s:
            return version
        ahead = busy + self._queue.ahead(call, own)
        if now + ahead + own > call.deadline:
            raise DeadlineExceeded(
                "The deadline cannot be met: too much work is ahead", retry_after_ms=_milliseconds(ahead)
            )
        if ahead > limit_s:
            raise Overloaded(retry_after_ms=_milliseconds(ahead))
        return version

    # -- batches -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._delayed = None
        self._pump()

    def _pump(self) -> None:
        """Keep the executor busy as long as anything waits. Never raises: whatever happens, it runs again."""
        try:
            while self._in_flight < self.depth and self._delayed is None:
                now = self._clock()
                batch = self._queue.next_batch(now) if not self._wait_for_company(now) else None
                if batch is None:
                    break
                self._begin(batch, now)
        except Exception:  # noqa: BLE001 - the loop must live
            _log.exception("pump_failed")
            if self._delayed is None:
                self._delayed = asyncio.get_running_loop().call_later(_SWEEP_S, self._start)
        self._rest_if_idle()

    def _begin(self, batch: Batch, now: float) -> None:
        """Run a batch, here or on the execution thread; where it cannot even begin, its callers are told."""
        self._in_flight += 1
        cost = batch.version.costs.seconds(batch.bucket)
        self._busy_until = max(now, self._busy_until) + cost
        # While the thread proves a new version, a batch beside it would slow both, and make the timings wrong.
        if self._is_short(batch.version, cost) and self._worker.idle:
            self._run_here(batch)
            return
        try:
            job = partial(self._runner.run, batch, batch.columns(), EXECUTION)
            self._worker.submit(job, partial(self._finish, batch))
        except Exception as error:  # noqa: BLE001 - as above
            self._close(batch, None, error)

    def _is_short(self, version: LiveVersion, cost: float) -> bool:
        """Whether a batch may keep the event loop; not where its samples, the disk or a failure may make it long."""
        if version.sized_by_caller or version.failing or self.depth > 1:
            return False
        # `run_s` has the record in it: on a slow disk even a quick graph would hold the event loop.
        return cost <= self._short_s >= version.run_s / 2

    def _run_here(self, batch: Batch) -> None:
        """Run a short batch at once; what waits has its turn in the next tick, with what arrived meanwhile."""
        outcome, failure = None, None
        try:
            outcome = self._runner.run(batch, batch.columns(), LOOP)
        except Exception as error:  # noqa: BLE001 - the loop must live; the callers are told
            failure = error
        self._close(batch, outcome, failure)
        if self._queue.waiting and self._delayed is None:
            self._delayed = asyncio.get_running_loop().call_soon(self._start)

    def _finish(self, batch: Batch, outcome: BatchOutcome | None, error: BaseException | None) -> None:
        """On the event loop: answer everybody, and run what gathered meanwhile."""
        self._close(batch, outcome, error)
        self._pump()

    def _close(self, batch: Batch, outcome: BatchOutcome | None, error: BaseException | None) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._busy_until = 0.0  # predictions that were too long must not add up
        if outcome is None:
            _log.error("batch_failed", model=batch.version.key[0], version=batch.version.key[1], exc_info=error)
            for part in batch.slices:
                self._queue.refuse(part.work, InternalError())
            return
        self._answers.give(batch, outcome)
        try:
            executed = outcome.executed
            model, number = batch.version.key
            families.batch_size.labels(model).observe(batch.rows)
            families.execution_seconds.labels(model, number, executed.bucket).observe(executed.seconds)
            self._runner.follow(batch.version, outcome)
        except Exception:  # noqa: BLE001 - the loop must live
            _log.exception("batch_not_followed", model=batch.version.key[0], version=batch.version.key[1])

    def _rest_if_idle(self) -> None:
        if not self._in_flight and self._delayed is None and not self._queue.waiting:
            self._idle.set()

    # -- company -------------------------------------------------------------------------------------------------

    def _wait_for_company(self, now: float) -> bool:
        """With a `max_batch_delay_ms`, an idle executor lets a small batch grow that long."""
        if self._in_flight or not self._any_delay:
            return False
        waits = [self._wait_of(model, rows, now) for model, rows in self._queue.rows().items() if rows]
        wait = min(waits, default=0.0)
        if wait <= 0:
            return False
        self._delayed = asyncio.get_running_loop().call_later(wait, self._start)
        return True

    def _wait_of(self, model: str, rows: int, now: float) -> float:
        """How much longer a model's calls may wait for company, in seconds."""
        delay_ms = self._serving(model).batching.max_batch_delay_ms
        delay_s = (self._delay_ms if delay_ms is None else delay_ms) / 1e3
        oldest = self._queue.oldest(model)
        if oldest is None or not delay_s or rows >= self._queue.largest(model):
            return 0.0
        return oldest + delay_s - now

    # -- deadlines -----------------------------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Refuse what expires while a long batch runs, and keep the gauges current, until cancelled."""
        named: set[str] = set()
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                self.expire()
                depth = self._queue.rows()
                if not depth and not named:
                    continue
                for model in named | depth.keys():
                    families.queue_depth.set(depth.get(model, 0), model)
                families.queue_seconds.set(self._queue.seconds())
                named = set(depth)
            except Exception:  # noqa: BLE001 - the loop must live
                _log.exception("sweep_failed")
                await asyncio.sleep(_AFTER_FAILURE_S)

    def expire(self) -> None:
        """Refuse every waiting call whose deadline has passed."""
        if self._idle.is_set():  # nothing waits: mostly so, twenty times a second
            return
        for work in self._queue.expire(self._clock()):
            families.dropped.labels(work.call.model, DeadlineExceeded.kind).inc()
        self._rest_if_idle()


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1e3) + 1)
