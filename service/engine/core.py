"""The engine in this process: admission, batches in flight, answers. The socket server is a thin skin over it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import structlog

from hoverboard.config import Settings
from hoverboard.contract.calls import PredictAnswer, PredictCall, RecordSink
from hoverboard.contract.catalog import Catalog
from hoverboard.contract.signature import Array
from hoverboard.engine.answers import BatchOutcome, Strange, joined, part_answer, placed, record_of, strange_of
from hoverboard.engine.costs import followed
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.attempts import LoadAttempts, attempts_dir
from hoverboard.engine.models.proofs import Proofs
from hoverboard.engine.models.registry import Registry
from hoverboard.engine.models.state import HIDDEN
from hoverboard.engine.queue import Batch, Done, Queue, Slice, Work, tell
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.engine.slots import EXECUTION, LOOP, Slots
from hoverboard.engine.socket.listeners import Listeners
from hoverboard.engine.worker import Worker
from hoverboard.errors import (
    Cause,
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
from hoverboard.versions import VersionOnDisk
from hoverboard.versions.manifest import KERAS_FILE

if TYPE_CHECKING:
    from hoverboard.engine.models.loading import Loader

__all__ = ["Engine"]

T = TypeVar("T")
_log = structlog.get_logger(__name__)
_SWEEP_S: Final = 0.05
_SOONEST_S: Final = 0.5  # at which the disk is looked at again for a version that waits, however seldom it is otherwise
_TRIAL_SHARE: Final = 0.4  # of `load_deadline_s`: a trial that is late must end before the engine is taken to hang
_AFTER_FAILURE_S: Final = 1.0  # what failed once may fail each time: the log must not fill up with it
_TELL_AGAIN_S: Final = 5.0
_SHORT_S: Final = 0.002
"""Execution time up to which a batch runs on the event loop itself: a thread of its own would cost as much again in
waiting for it to be scheduled, on cores that are busy."""
_MOST_SUPPLEMENTS: Final = 8  # batches whose outliers wait to be looked at by the other detectors
_TIMINGS: Final = "timings"
_PROOFS: Final = "proofs"
_SERVED: Final = "served"
_HANGS: Final = 20.0  # times its measured execution time
_TRIAL: Final = 4.0  # times `batch_deadline_s`, where nothing was measured that would tell


class Engine:
    """Loads versions and answers calls. An async context manager, and an `EnginePort` in this process.

    Entering returns at once; `settled` waits until every model has had its chance to load.

    Args:
        settings: of the service.
        sink: where executed batches are recorded before they are answered.
        slots: where it notes what it runs, for a supervisor that ends it when that hangs. Without one, as in offline
            scoring, a graph that never returns is waited for until somebody ends the process.
    """

    def __init__(self, settings: Settings, *, sink: RecordSink | None = None, slots: Slots | None = None) -> None:
        self._settings = settings
        self._sink = sink
        self._slots = slots or Slots()
        self._hang_s = settings.batch_deadline_s
        self._proving = threading.local()
        self._worker = Worker("execute")
        self._loader_pool = ThreadPoolExecutor(2, thread_name_prefix="load")
        self._loader: Loader | None = None
        owned = settings.data_dir if settings.data_dir.is_dir() else None
        self._timings_dir = owned / _TIMINGS if owned else None
        self._proofs = Proofs(owned / _PROOFS if owned else None, _TRIAL_SHARE * settings.load_deadline_s)
        self._registry = Registry(
            settings.models,
            self._load,
            self._loader_pool,
            LoadAttempts(attempts_dir(owned) if owned else None),
            memory_limit_bytes=settings.memory_limit_mb * 1024 * 1024,
            changed=self._announce,
            served=owned / _SERVED if owned else None,
        )
        self._queue = Queue(self._registry.lookup, self._withdraw_parts)
        self._listeners = Listeners()
        self._depth = 1
        self._supplements = 0
        self._in_flight = 0
        self._busy_until = 0.0
        self._delayed: asyncio.Handle | None = None
        self._closing = False
        self._any_delay = bool(settings.max_batch_delay_ms)
        self._short_s = 0.0 if settings.journal_fsync else _SHORT_S  # the event loop waits for no fsync
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._settled: asyncio.Future[None] = self._loop.create_future()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stack.enter_context(self._worker)
        self._stack.callback(self._loader_pool.shutdown)
        self._stack.push_async_callback(self._registry.aclose)
        self._stack.callback(self._proofs.close)  # before that: what is being tried is not waited for
        for work in (self._follow_disk(), self._sweep()):
            self._stack.push_async_callback(_cancel, asyncio.ensure_future(work))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()
        await self._stack.aclose()

    async def settled(self) -> None:
        """Wait until the first scan is over: every model is live, or its reason is in the catalog.

        Raises:
            Exception: whatever keeps the runtime from being loaded at all.
        """
        await asyncio.shield(self._settled)

    async def drain(self) -> None:
        """Take no more calls; wait for those that were taken."""
        self._closing = True
        await self._idle.wait()

    # -- EnginePort ----------------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """What the engine knows about its models now."""
        return self._registry.catalog

    @property
    def connected(self) -> bool:
        """Whether calls can be taken now."""
        return not self._closing

    def subscribe(self, listener: Callable[[Catalog], None]) -> Callable[[], None]:
        """See `EnginePort.subscribe`."""
        return self._listeners.add(listener, self.catalog)

    async def predict(self, call: PredictCall) -> PredictAnswer:
        """See `EnginePort.predict`."""
        outcome: asyncio.Future[PredictAnswer] = self._loop.create_future()

        def done(answer: PredictAnswer | HoverboardError) -> None:
            if outcome.done():
                return
            if isinstance(answer, HoverboardError):
                outcome.set_exception(answer)
            else:
                outcome.set_result(answer)

        work = self.submit(call, done)
        try:
            return await outcome
        except asyncio.CancelledError:
            if work is not None:
                self.cancel(work)
            raise

    async def admin(self, action: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `EnginePort.admin`."""
        return await self._registry.admin(action, params)

    # -- calls in ------------------------------------------------------------------------------------------------

    def submit(self, call: PredictCall, done: Done) -> Work | None:
        """Take a call; `done` is told its answer or its error once, perhaps before this returns.

        Returns what `cancel` wants, or None where the call was refused at once.
        """
        now = time.monotonic()
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
        version.used_at = now
        work = Work(call, done, now)
        self._queue.push(work, version)
        # The calls of one tick of the event loop are let in together, so that they share a batch.
        if not self._in_flight and self._delayed is None:
            self._idle.clear()
            self._delayed = self._loop.call_soon(self._start)
        return work

    def cancel(self, work: Work) -> None:
        """Take back what still waits of a call; it is not answered any more."""
        if not work.closed:
            families.dropped.labels(work.call.model, "cancelled").inc()
        self._queue.discard(work)
        self._rest_if_idle()

    def _admit(self, call: PredictCall, now: float) -> LiveVersion:
        if self._closing:
            raise NotReady("The engine is stopping", retry_after_ms=1000)
        version = self._registry.lookup(call.model, call.version)
        if version.fingerprint != call.fingerprint:
            raise StaleSignature(call.model)
        serving = self._registry.serving(call.model)
        if call.n > serving.limits.max_instances:
            raise InvalidParams("/instances", f"at most {serving.limits.max_instances} instances", str(call.n))
        busy, own = max(0.0, self._busy_until - now), version.costs.predict(call.n)
        limit_s = (serving.batching.max_queue_ms or self._settings.max_queue_ms) / 1e3
        longest_s = min(limit_s, call.deadline - now - own)
        ahead = busy + self._queue.seconds()
        if ahead <= longest_s:  # whatever the order
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
            while self._in_flight < self._depth and self._delayed is None:
                now = time.monotonic()
                batch = self._queue.next_batch(now) if not self._wait_for_company(now) else None
                if batch is None:
                    break
                self._begin(batch, now)
        except Exception:  # noqa: BLE001 - the loop must live
            _log.exception("pump_failed")
            if self._delayed is None:
                self._delayed = self._loop.call_later(_SWEEP_S, self._start)
        self._rest_if_idle()

    def _begin(self, batch: Batch, now: float) -> None:
        """Run a batch, here or on the execution thread; where it cannot even begin, its callers are told."""
        self._in_flight += 1
        cost = batch.version.costs.seconds(batch.bucket)
        self._busy_until = max(now, self._busy_until) + cost
        if self._is_short(batch.version, cost) and self._worker.idle:
            self._run_here(batch)
            return
        try:
            job = partial(self._run, batch, batch.columns(), EXECUTION)
            self._worker.submit(self._loop, job, partial(self._finish, batch))
        except Exception as error:  # noqa: BLE001 - as above
            self._close(batch, None, error)

    def _is_short(self, version: LiveVersion, cost: float) -> bool:
        """Whether a batch may keep the event loop; not where its samples, the disk or a failure may make it long."""
        if version.sized_by_caller or version.failing or self._depth > 1:
            return False
        return cost <= self._short_s >= version.run_s / 2

    def _run_here(self, batch: Batch) -> None:
        """Run a short batch at once; what waits has its turn in the next tick, with what arrived meanwhile."""
        outcome, failure = None, None
        try:
            outcome = self._run(batch, batch.columns(), LOOP)
        except Exception as error:  # noqa: BLE001 - the loop must live; the callers are told
            failure = error
        self._close(batch, outcome, failure)
        if self._queue.waiting and self._delayed is None:
            self._delayed = self._loop.call_soon(self._start)

    def _wait_for_company(self, now: float) -> bool:
        """With a `max_batch_delay_ms`, an idle executor lets a small batch grow that long."""
        if self._in_flight or not self._any_delay:
            return False
        waits = [self._wait_of(model, now) for model, rows in self._queue.rows().items() if rows]
        wait = min(waits, default=0.0)
        if wait <= 0:
            return False
        self._delayed = self._loop.call_later(wait, self._start)
        return True

    def _wait_of(self, model: str, now: float) -> float:
        """How much longer a model's calls may wait for company, in seconds."""
        delay_ms = self._registry.serving(model).batching.max_batch_delay_ms
        delay_s = (self._settings.max_batch_delay_ms if delay_ms is None else delay_ms) / 1e3
        oldest = self._queue.oldest(model)
        if oldest is None or not delay_s or self._queue.rows()[model] >= self._largest(model):
            return 0.0
        return oldest + delay_s - now

    def _largest(self, model: str) -> int:
        return max((live.costs.largest for live in self._registry.live() if live.key[0] == model), default=1)

    def _patience(self, batch: Batch) -> float:
        """Seconds after which a batch is taken to hang: far more than any that ends ever took."""
        patience = max(self._hang_s, _HANGS * batch.version.costs.seconds(batch.bucket))
        if batch.version.sized_by_caller:  # what was timed says little: give it what its callers give it, within reason
            latest = max(part.work.call.deadline for part in batch.slices) - time.monotonic()
            patience = max(patience, min(latest, _TRIAL * self._hang_s))
        return patience

    def _run(self, batch: Batch, columns: list[Array], slot: int) -> BatchOutcome:
        """On either thread: run, then record, so that no answer leaves before its record."""
        started_at, started = time.time(), time.monotonic()
        self._slots.begin(slot, batch.version.key, self._patience(batch))
        try:
            executed = batch.version.execute(columns, batch.rows, batch.bucket)
        finally:
            self._slots.end(slot)
        ids = sample_ids(batch.rows, started_at)
        outcome = BatchOutcome(executed, ids, started_at, started)
        if self._sink is not None:
            strange = strange_of(executed, columns, ids)
            try:
                record = record_of(batch, columns, outcome)
                self._sink.append(record)
            except Overloaded as error:
                outcome.refused = error
            else:
                outcome.ok, outcome.strange = record.ok, strange
        batch.version.run_s = followed(batch.version.run_s, time.monotonic() - started)
        return outcome

    def _finish(self, batch: Batch, outcome: BatchOutcome | None, error: BaseException | None) -> None:
        """On the event loop: answer everybody, and run what gathered meanwhile."""
        self._close(batch, outcome, error)
        self._pump()

    def _close(self, batch: Batch, outcome: BatchOutcome | None, error: BaseException | None) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._busy_until = 0.0
        if outcome is None:
            _log.error("batch_failed", model=batch.version.key[0], version=batch.version.key[1], exc_info=error)
            for part in batch.slices:
                self._queue.refuse(part.work, InternalError())
            return
        self._answer(batch, outcome)
        try:
            executed = outcome.executed
            model, number = batch.version.key
            families.batch_size.labels(model).observe(batch.rows)
            families.execution_seconds.labels(model, number, executed.bucket).observe(executed.seconds)
            if outcome.strange is not None:
                self._supplement(batch.version, outcome.strange)
        except Exception:  # noqa: BLE001 - the loop must live
            _log.exception("batch_not_followed", model=batch.version.key[0], version=batch.version.key[1])

    def _supplement(self, version: LiveVersion, strange: Strange) -> None:
        """Have the other detectors look at outliers, between the batches; a flood of them is not worth the time."""
        sink, outliers = self._sink, version.outliers
        if sink is None or outliers is None or self._supplements >= _MOST_SUPPLEMENTS:
            return
        self._supplements += 1

        def look() -> None:
            self._slots.begin(EXECUTION, version.key, _TRIAL * self._hang_s)
            try:
                looked = version.look(strange.columns)
            finally:
                self._slots.end(EXECUTION)
            if looked is None:
                return
            for decided, rows in looked.by_reason(outliers.chosen).items():
                ids = b"".join(strange.ids[16 * row : 16 * row + 16] for row in rows)
                sink.supplement(
                    version.source, decided, ids, {name: all_[rows] for name, all_ in looked.scores.items()}
                )

        def looked(_: None, error: BaseException | None) -> None:
            self._supplements -= 1
            if error is not None:
                _log.error("outliers_not_looked_at", model=version.key[0], version=version.key[1], exc_info=error)

        self._worker.submit(self._loop, look, looked)

    def _withdraw_parts(self, work: Work) -> None:
        if work.version is not None:
            self._withdraw(work.version, b"".join([answer.sample_ids for _, answer in work.parts]))

    def _withdraw(self, version: LiveVersion, sample_ids: bytes) -> None:
        """Take back what is recorded of predictions that nobody gets; on the thread that may wait for the disk.

        Not before the refusal: an engine that dies in between leaves no more behind than one that dies with the whole call in
        flight, whose records are written before any answer and which nobody can take back. Such predictions are real ones of
        real samples, and the callers were told of a failure.
        """
        if self._sink is not None:
            job = partial(self._sink.withdraw, version.source, sample_ids)
            self._worker.submit(self._loop, job, partial(_withdrawn, version))

    def _answer(self, batch: Batch, outcome: BatchOutcome) -> None:
        row = 0
        for part in batch.slices:
            first, row = row, row + part.rows
            try:
                self._answer_part(batch, part, first, outcome)
            except Exception:  # noqa: BLE001 - the loop must live
                _log.exception("call_not_answered", model=batch.version.key[0], version=batch.version.key[1])
                self._queue.refuse(part.work, InternalError())

    def _answer_part(self, batch: Batch, part: Slice, first: int, outcome: BatchOutcome) -> None:
        """Answer one call with its rows of a batch, from `first` on, or keep them until the rest of it has run."""
        work, executed = part.work, outcome.executed
        if work.closed or work.version is not batch.version:
            if outcome.ok is not None and outcome.ok[first]:  # it ended after the record was written
                self._withdraw(batch.version, outcome.ids[16 * first : 16 * (first + part.rows)])
            return
        if outcome.refused is not None:
            self._queue.refuse(work, outcome.refused)
            return
        if executed.errors:
            rows = range(first, first + part.rows)
            failed = next((row for row in rows if row in executed.errors), None)
            if failed is not None:
                error = executed.errors[failed]
                self._tell_cause(batch.version, error.cause)
                self._queue.refuse(work, placed(error, part.start + failed - first))
                return
        answer = part_answer(batch, part, first, outcome)
        work.answered += part.rows
        if part.rows != work.call.n:
            work.parts.append((part.start, answer))
            if work.answered != work.call.n:
                return
            answer = joined(work)
        work.closed = True
        work.done(answer)

    def _tell_cause(self, version: LiveVersion, cause: Cause | None) -> None:
        """Log why a sample failed, now and then: others may fail as often as there are calls."""
        now = time.monotonic()
        if cause is None or now - version.told_at < _TELL_AGAIN_S:
            return
        version.told_at = now
        model, number = version.key
        # The graph's reason may quote what the model hides.
        reason = HIDDEN if self._registry.hides(model) else cause.reason
        _log.warning("sample_failed", model=model, version=number, reason=reason)

    def _rest_if_idle(self) -> None:
        if not self._in_flight and self._delayed is None and not self._queue.waiting:
            self._idle.set()

    # -- in the background ---------------------------------------------------------------------------------------

    async def _follow_disk(self) -> None:
        try:
            self._loader = await self._loop.run_in_executor(self._loader_pool, self._prepare)
        except Exception as error:  # noqa: BLE001 - `settled` raises it where somebody waits
            self._settled.set_exception(error)
            return
        retraced: dict[tuple[str, int], int] = {}
        settling: asyncio.Future[None] | None = None
        try:
            while True:
                try:
                    await self._registry.refresh()
                    self._count_retraces(retraced)
                except Exception:  # noqa: BLE001 - the next scan may well succeed, and what serves goes on
                    _log.exception("refresh_failed")
                settling = settling or asyncio.ensure_future(self._settle())
                due_in_s = max(self._registry.again_in_s(), _SOONEST_S)
                await asyncio.sleep(min(self._settings.scan_interval_s, due_in_s))
        finally:
            if settling is not None:
                settling.cancel()

    async def _settle(self) -> None:
        """Wait for the loads that the first look at the disk asked for, while the disk is followed already."""
        await self._registry.settled()
        gc.collect()
        gc.freeze()  # start-up's objects live for ever: unloading a version must not walk them again
        self._settled.set_result(None)

    def _count_retraces(self, seen: dict[tuple[str, int], int]) -> None:
        for live in self._registry.live():
            traces = live.executor.traces()
            more = traces - seen.get(live.key, traces)
            if more > 0:
                families.retraces.labels(*live.key).inc(more)
                _log.error("retraced", model=live.key[0], version=live.key[1], times=more)
            seen[live.key] = traces

    async def _sweep(self) -> None:
        """Refuse what expires while a long batch runs, and keep the gauges current."""
        named: set[str] = set()
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                self._expire()
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

    def _expire(self) -> None:
        if self._idle.is_set():
            return
        for work in self._queue.expire(time.monotonic()):
            families.dropped.labels(work.call.model, DeadlineExceeded.kind).inc()
        self._rest_if_idle()

    def _prepare(self) -> Loader:
        """On the loader's thread: the imports that take seconds."""
        self._proofs.prepare()
        from hoverboard.backends.backend import configured
        from hoverboard.engine.models.loading import Loader

        threads = thread_settings(self._settings)
        if configured(KERAS_FILE, threads).device_kind() == "gpu":
            self._depth = 2  # the host assembles one batch while the device runs the other
        return Loader(
            self._prove,
            self._settings.max_batch,
            xla=self._settings.xla == "auto",
            timings_dir=self._timings_dir,
            threads=threads,
            proofs=self._proofs,
        )

    def _load(self, place: VersionOnDisk, max_batch: int | None) -> LiveVersion:
        """On a loader's thread."""
        if self._loader is None:
            raise NotReady
        self._proving.key = key = place.path.parent.name, place.number
        with self._slots.trying(key, self._settings.load_deadline_s):
            return self._loader.load(place, max_batch)

    def _prove(self, job: Callable[[], T]) -> T:
        """On a loader's thread: have the execution thread run a graph that is being loaded, which may hang there."""
        key = self._proving.key

        def watched() -> T:
            with self._slots.trying(key, _TRIAL * self._hang_s, EXECUTION):
                return job()

        return self._worker.call(watched)

    def _announce(self, catalog: Catalog) -> None:
        delays = [self._registry.serving(name).batching.max_batch_delay_ms for name in catalog.models]
        self._any_delay = bool(self._settings.max_batch_delay_ms or any(delays))
        self._listeners.tell(catalog)


def thread_settings(settings: Settings) -> tuple[int, int]:
    """Threads within one operation and operations at once; by default half the cores, the api has the others."""
    return settings.intra_op_threads or max(1, (os.cpu_count() or 2) // 2), settings.inter_op_threads


def _withdrawn(version: LiveVersion, _: None, error: BaseException | None) -> None:
    if error is not None:
        _log.error("withdrawal_not_journaled", model=version.key[0], version=version.key[1], exc_info=error)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1e3) + 1)


async def _cancel(task: asyncio.Future[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
