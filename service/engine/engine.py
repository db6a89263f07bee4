"""The engine in this process: its life, and what an `EnginePort` promises. The socket server is a thin skin over it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import structlog

from hoverboard.config import Settings
from hoverboard.contract.calls import PredictAnswer, PredictCall, RecordSink
from hoverboard.contract.catalog import Catalog
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.deaths import LoadAttempts, attempts_dir
from hoverboard.engine.models.proofs import Proofs
from hoverboard.engine.models.registry import Registry
from hoverboard.engine.runner import Runner
from hoverboard.engine.scheduler import Scheduler
from hoverboard.engine.slots import EXECUTION, Slots
from hoverboard.engine.socket.listeners import Listeners
from hoverboard.engine.worker import Worker
from hoverboard.errors import HoverboardError, NotReady
from hoverboard.telemetry import families
from hoverboard.versions import VersionOnDisk
from hoverboard.versions.manifest import KERAS_FILE

if TYPE_CHECKING:
    from hoverboard.engine.models.loader import Loader

__all__ = ["Engine"]

T = TypeVar("T")
_log = structlog.get_logger(__name__)
_SOONEST_S: Final = 0.5  # at which the disk is looked at again for a version that waits, however seldom it is otherwise
_TRIAL_SHARE: Final = 0.4  # of `load_deadline_s`: a trial that is late must end before the engine is taken to hang
_TIMINGS: Final = "timings"
_PROOFS: Final = "proofs"
_SERVED: Final = "served"


class Engine:
    """Loads versions and answers calls. An async context manager, and an `EnginePort` in this process.

    Entering returns at once; `settled` waits until every model has had its chance to load.

    Args:
        settings: of the service.
        sink: where executed batches are recorded before they are answered.
        slots: where it notes what it runs, for a supervisor that ends it when that hangs. Without one, as in offline
            scoring, a graph that never returns is waited for until somebody ends the process.

    Attributes:
        submit, cancel: the scheduler's own. They are called for each prediction, so that no method stands between.
    """

    def __init__(self, settings: Settings, *, sink: RecordSink | None = None, slots: Slots | None = None) -> None:
        self._settings = settings
        self._slots = slots or Slots()
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
        self._runner = Runner(sink, self._slots, self._worker, settings.batch_deadline_s)
        self._scheduler = Scheduler(
            settings,
            lookup=self._registry.lookup,
            demand=self._registry.demand,
            serving=self._registry.serving,
            hides=self._registry.hides,
            runner=self._runner,
            worker=self._worker,
        )
        self.submit = self._scheduler.submit
        self.cancel = self._scheduler.cancel
        self._listeners = Listeners()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._settled: asyncio.Future[None] = self._loop.create_future()
        self._stack.enter_context(self._worker)
        self._stack.callback(self._loader_pool.shutdown)
        self._stack.push_async_callback(self._registry.aclose)
        self._stack.callback(self._proofs.close)  # before that: what is being tried is not waited for
        for work in (self._follow_disk(), self._scheduler.sweep()):
            self._stack.push_async_callback(_cancel, asyncio.ensure_future(work))
        return self

    async def __aexit__(self, *_: object) -> None:
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
        await self._scheduler.drain()
        self._runner.finish()

    # -- EnginePort ----------------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """What the engine knows about its models now."""
        return self._registry.catalog

    @property
    def connected(self) -> bool:
        """Whether calls can be taken now."""
        return not self._scheduler.closing

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

    def _announce(self, catalog: Catalog) -> None:
        self._scheduler.follow(catalog)
        self._listeners.tell(catalog)

    # -- the disk ------------------------------------------------------------------------------------------------

    async def _follow_disk(self) -> None:
        try:
            self._loader = await self._loop.run_in_executor(self._loader_pool, self._prepare)
        except Exception as error:  # noqa: BLE001 - `settled` raises it where somebody waits
            self._settled.set_exception(error)
            return
        traced: dict[tuple[str, int], int] = {}
        settling: asyncio.Future[None] | None = None
        try:
            while True:
                try:
                    await self._registry.refresh()
                    self._count_retraces(traced)
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

    def _count_retraces(self, traced: dict[tuple[str, int], int]) -> None:
        """Say where a graph was traced again since the last look: a call that does that waits for seconds."""
        for live in self._registry.live():
            traces = live.executor.traces()
            more = traces - traced.get(live.key, traces)
            if more > 0:
                families.retraces.labels(*live.key).inc(more)
                _log.error("retraced", model=live.key[0], version=live.key[1], times=more)
            traced[live.key] = traces

    # -- loads -----------------------------------------------------------------------------------------------------

    def _prepare(self) -> Loader:
        """On the loader's thread: the imports that take seconds."""
        self._proofs.prepare()
        from hoverboard.backends.backend import configured
        from hoverboard.engine.models.loader import Loader

        threads = thread_settings(self._settings)
        if configured(KERAS_FILE, threads).device_kind() == "gpu":
            self._scheduler.depth = 2  # the host assembles one batch while the device runs the other
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
            with self._slots.trying(key, self._runner.unmeasured_s, EXECUTION):
                return job()

        return self._worker.call(watched)


def thread_settings(settings: Settings) -> tuple[int, int]:
    """Threads within one operation and operations at once; by default half the cores, the api has the others."""
    return settings.intra_op_threads or max(1, (os.cpu_count() or 2) // 2), settings.inter_op_threads


async def _cancel(task: asyncio.Future[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
