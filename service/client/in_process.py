"""An engine in this process, called as a service is: for tests and notebooks, without HTTP and without other processes.

It runs on an event loop in a thread of its own, so that plain code, a notebook and a test with a loop of its own use it alike.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from hoverboard.backends.backend import require_framework
from hoverboard.client.aio import AsyncClient
from hoverboard.client.messages import Received, Send
from hoverboard.client.sync import Client
from hoverboard.config import Settings
from hoverboard.errors import ConfigError, Unreachable

if TYPE_CHECKING:
    from hoverboard.rpc.dispatch import Dispatcher

__all__ = ["InProcessService", "serve_in_process"]

_URL: Final = "http://in-process"
"""What clients of it say that they call."""
_GONE: Final = "the engine in this process has been shut down"


def serve_in_process(models: Path | str, *, recording: Path | str | None = None, **settings: Any) -> InProcessService:
    """Serve a models directory within this process, for as long as a `with` block lasts.

        with hoverboard.serve_in_process("models") as client:
            assert client.predict("digits", images).labels[0] == "9"

        async with hoverboard.serve_in_process("models", recording="data") as client:
            answer = await client.predict("digits", images)

    What it yields is a `Client` (with `async with`, an `AsyncClient`) that has admin methods too, and answers and refuses
    exactly as over HTTP: calls take the same way from JSON to the engine and back. Several may run at once. Entering takes
    the seconds that TensorFlow and the models need to load; a version that cannot be served is told by `describe`. Ctrl-C ends that
    once the version that is being loaded has been, and leaves nothing behind.

    Unlike `hoverboard serve`, nothing ends a graph that hangs.

    Args:
        models: the models directory.
        recording: data directory whose journals take every sample, answer, refusal and label; it belongs to this process
            meanwhile. Nothing carries them to Postgres: no database is started, and none is written to. To have them in tables, run
            `hoverboard serve --models ... --data-dir ...` on the same directory once the block has ended; its recorder drains all that
            is there. None records nothing, and then there is no `label`.
        settings: settings of the service by name, such as `max_batch=16`; those left out are of the environment and
            `hoverboard.toml`, as for `hoverboard serve`. What is about listeners and other processes has no effect.

    Raises:
        EngineMissing: TensorFlow is not installed; entering says what to type.
        ConfigError: there is no such models directory, a setting makes no sense, or the data directory cannot be used.
        DataDirLocked: a service runs on that data directory.
        RuntimeError: what it returns is entered a second time before its first block has ended.
    """
    return InProcessService(Path(models), None if recording is None else Path(recording), settings)


class InProcessService:
    """A context manager, plain and asynchronous, around an engine in this process; made by `serve_in_process`."""

    def __init__(self, models: Path, recording: Path | None, settings: dict[str, Any]) -> None:
        if not models.is_dir():  # here and not on entering: this is the line that is wrong
            raise ConfigError(f"models directory {models} does not exist or is no directory")
        where = {"recording": "off"} if recording is None else {"recording": "on", "data_dir": recording}
        # Models of a test do not change under it; `scan` looks at the disk when asked to.
        self._settings = Settings.load(
            "an argument of serve_in_process", **{"scan_interval_s": 3600.0, **settings, "models": models, **where}
        )
        self._serving: _Serving | None = None
        self._entering = threading.Lock()

    if not TYPE_CHECKING:  # type checkers know that there is no such method

        def __getattr__(self, name: str) -> object:
            raise AttributeError(
                f"{name}: serve_in_process(...) is entered before it is called: "
                "`with hoverboard.serve_in_process(...) as client:`, and then client.predict(...)"
            )

    def __enter__(self) -> Client:
        serving = self._begin()
        try:
            serving.start().result()
        except BaseException:  # Ctrl-C too, while models load: nobody would end it any more
            self.__exit__(None, None, None)  # to its end, so that the data directory is free when the caller hears
            raise
        return Client(_URL, transport=_Transport(serving))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._serving is not None:
            self._serving.stop().result()
            self._serving = None

    async def __aenter__(self) -> AsyncClient:
        serving = self._begin()
        try:
            await asyncio.wrap_future(serving.start())
        except BaseException:  # as above
            await self.__aexit__(None, None, None)
            raise
        return AsyncClient(_URL, transport=_AsyncTransport(serving))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._serving is not None:
            await asyncio.wrap_future(self._serving.stop())
            self._serving = None

    def _begin(self) -> _Serving:
        require_framework("serve_in_process")
        with self._entering:  # else two threads at once would both find it free
            if self._serving is not None:  # whose engine nobody would end, were it forgotten for another
                raise RuntimeError(
                    "this serve_in_process(...) is entered already: use the client that entering gave, or call serve_in_process again "
                    "for an engine of its own"
                )
            self._serving = _Serving(self._settings)
            return self._serving


class _Serving:
    """The thread, its event loop, and what answers on it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._loading: asyncio.Task[None] | None = None
        self._begun: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._numbers = itertools.count(1)
        self._dispatcher: Dispatcher | None = None
        # A daemon: a notebook that is closed in the middle of a `with` block must not hang.
        self._thread = threading.Thread(target=self._run, name="hoverboard", daemon=True)

    def start(self) -> Future[None]:
        """Begin; the future is done once every model has had its chance to load, or with why nothing runs."""
        self._thread.start()
        return self._begun

    def stop(self) -> Future[None]:
        """Answer what was asked, or give up loading, and end; the future is done when that is done."""
        with suppress(RuntimeError):  # it has ended already, and its loop with it
            self._loop.call_soon_threadsafe(self._give_up)
        return self._ended

    def _give_up(self) -> None:
        self._stop.set()
        if self._loading is not None:
            self._loading.cancel()

    def submit(self, body: bytes) -> Future[Received]:
        """Answer one message.

        Raises:
            Unreachable: it has been stopped.
        """
        answering = self._answer(body)
        try:
            return asyncio.run_coroutine_threadsafe(answering, self._loop)
        except RuntimeError as error:  # its loop is closed
            answering.close()
            raise Unreachable(_GONE, sent=False) from error

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except (
            asyncio.CancelledError
        ):  # given up while it loaded: whoever did that waits for the end, and not for the start
            self._begun.cancel()
            self._ended.set_result(None)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the start is told
            if self._begun.done():
                self._ended.set_exception(error)
            else:
                self._begun.set_exception(error)
                self._ended.set_result(None)
        else:
            self._ended.set_result(None)

    async def _serve(self) -> None:
        self._loading = asyncio.current_task()
        async with _dispatcher(self._settings) as self._dispatcher:
            self._loading = None  # from here on it ends by itself once it is told to stop
            if self._begun.set_running_or_notify_cancel():
                self._begun.set_result(None)
            await self._stop.wait()

    async def _answer(self, body: bytes) -> Received:
        from hoverboard.rpc.call import RpcRequest

        # A call that comes while the loop ends would never be answered.
        if self._dispatcher is None or self._stop.is_set():
            raise Unreachable(_GONE, sent=False)
        request = RpcRequest(f"in-process-{next(self._numbers)}", time.monotonic())
        reply = await self._dispatcher.handle(body, request)
        return Received(reply.body or b"")


@asynccontextmanager
async def _dispatcher(settings: Settings) -> AsyncIterator[Dispatcher]:
    """What answers messages: an engine that has settled, with its journals where it records, and every method."""
    from hoverboard.api.app import limits_of
    from hoverboard.api.call_log import CallObserver
    from hoverboard.api.journal import recording
    from hoverboard.engine.engine import Engine
    from hoverboard.engine.process import journaling
    from hoverboard.rpc.codecs import CodecBook
    from hoverboard.rpc.dispatch import Dispatcher
    from hoverboard.rpc.fastlane import FastLane
    from hoverboard.rpc.methods import UNRECORDED, admin_methods, public_methods, table
    from hoverboard.rpc.openrpc import with_discovery
    from hoverboard.supervisor.claims import DataDir

    async with AsyncExitStack() as stack:
        if settings.recording == "on":
            stack.callback(DataDir.claim(settings.data_dir).release)
        # In the order in which the service has them: what records outlives what is recorded, and the lock outlives both.
        sink = await stack.enter_async_context(journaling(settings, "engine-0", None))
        engine = await stack.enter_async_context(Engine(settings, sink=sink))
        journal = await stack.enter_async_context(recording(settings, "api-0", lambda: engine.catalog))
        book = CodecBook()
        stack.callback(engine.subscribe(book.update))
        if sink is not None:
            stack.callback(engine.subscribe(sink.follow))
        await engine.settled()  # before that, calls would be told that the engine is starting
        limits = limits_of(settings)
        public = public_methods(engine, book, limits, journal)
        admin = admin_methods(engine, book, journal)
        methods = with_discovery([*public, *admin], book, url=_URL, title="Hoverboard")
        lane = FastLane(public[0])
        absent = UNRECORDED if journal is None else {}
        yield Dispatcher(table(methods), limits, CallObserver("warning"), lane=lane, recording=journal, absent=absent)


class _Transport:
    """A `Transport` to an engine in this process."""

    def __init__(self, serving: _Serving) -> None:
        self._serving = serving

    def exchange(self, message: Send) -> Received:
        """See `Transport.exchange`."""
        answer = self._serving.submit(message.body)
        try:
            return answer.result(message.timeout_s)
        except (TimeoutError, CancelledError) as error:
            answer.cancel()
            raise Unreachable("the engine in this process did not answer") from error

    def close(self) -> None:
        """The engine ends with its `with` block, not with a client."""


class _AsyncTransport:
    """An `AsyncTransport` to an engine in this process, from whichever event loop."""

    def __init__(self, serving: _Serving) -> None:
        self._serving = serving

    async def exchange(self, message: Send) -> Received:
        """See `AsyncTransport.exchange`."""
        try:
            async with asyncio.timeout(message.timeout_s):
                return await asyncio.wrap_future(self._serving.submit(message.body))
        except TimeoutError as error:
            raise Unreachable("the engine in this process did not answer") from error

    async def close(self) -> None:
        """See `_Transport.close`."""
