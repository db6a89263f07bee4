"""The engine over its unix socket, as the api sees it: an `EnginePort` that reconnects by itself."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, cast

import msgspec
import structlog

from hoverboard.contract.calls import PredictAnswer, PredictCall
from hoverboard.contract.catalog import Catalog
from hoverboard.engine.socket.listeners import Listeners
from hoverboard.engine.socket.wire import (
    FLUSH_AT,
    AdminMessage,
    AnswerMessage,
    CallMessage,
    CancelMessage,
    CatalogMessage,
    FailureMessage,
    FrameReader,
    ToClient,
    ToEngine,
    decode_answers,
    frame_of_fit,
)
from hoverboard.errors import DeadlineExceeded, HoverboardError, InternalError, NotReady, Overloaded

__all__ = ["EngineClient"]

_log = structlog.get_logger(__name__)
_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 1.0
_SWEEP_S: Final = 0.1
_GRACE_S: Final = 0.25  # the engine itself refuses what expires; past this it does not answer at all
_RETRY_AFTER_MS: Final = 1000
_MOST_BUFFERED: Final = 64 << 20
"""Bytes that wait for an engine which does not read, above which calls are refused; what one turn adds comes on top."""


class EngineClient:
    """An engine behind a socket. An async context manager; entering does not wait for the engine.

    Args:
        path: of the engine's unix socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._catalog = Catalog()
        self._told = False
        self._listeners = Listeners()
        self._numbers = itertools.count()
        self._pending: dict[int, tuple[asyncio.Future[Any], float]] = {}
        self._outbox: list[ToEngine] = []
        self._last_request = ""
        self._transport: asyncio.Transport | None = None
        self.full = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._stay_connected()), asyncio.create_task(self._sweep())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._transport is not None:
            self._transport.close()
        self.lost()

    @property
    def catalog(self) -> Catalog:
        """The engine's state as last heard; kept while the engine restarts."""
        return self._catalog

    @property
    def connected(self) -> bool:
        """Whether an engine is there and has told its state."""
        return self._told and self._catalog.ready

    def subscribe(self, listener: Callable[[Catalog], None]) -> Callable[[], None]:
        """See `EnginePort.subscribe`."""
        return self._listeners.add(listener, self._catalog)

    async def predict(self, call: PredictCall) -> PredictAnswer:
        """See `EnginePort.predict`."""
        # The engine reads nothing: what is sent now would only wait in memory until its deadline.
        if self.full:
            raise Overloaded("The engine does not take in what it has been sent", retry_after_ms=_RETRY_AFTER_MS)
        number, outcome = self._ask(call.deadline)
        # The calls of one request, a JSON-RPC batch, stay together, so that they share a batch in the engine.
        if len(self._outbox) >= FLUSH_AT and call.request_id != self._last_request:
            self._flush()
        self._last_request = call.request_id
        self._send(CallMessage.pack(number, call))
        del call  # its columns may be megabytes
        try:
            return cast("PredictAnswer", await outcome)
        except asyncio.CancelledError:
            # Still there means that no answer has come: the engine may have to be told.
            if self._pending.pop(number, None) is not None:
                self._send(CancelMessage(number))
            raise

    async def admin(self, action: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `EnginePort.admin`; a load may take minutes, so there is no deadline."""
        encoded = msgspec.json.encode(params)
        number, outcome = self._ask(float("inf"))
        self._send(AdminMessage(number, action, encoded))
        try:
            return cast("Mapping[str, Any]", await outcome)
        finally:
            # However it ended: an answer that comes later finds nobody, and is dropped.
            self._pending.pop(number, None)

    # -- the way out ---------------------------------------------------------------------------------------------

    def _ask(self, deadline: float) -> tuple[int, asyncio.Future[Any]]:
        if self._transport is None:
            raise NotReady("The engine is starting or restarting", retry_after_ms=_RETRY_AFTER_MS)
        number = next(self._numbers)
        outcome: asyncio.Future[Any] = self._loop.create_future()
        self._pending[number] = (outcome, deadline)
        return number, outcome

    def _send(self, message: ToEngine) -> None:
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(message)

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        if outbox and self._transport is not None and not self._transport.is_closing():
            sent, unfit = frame_of_fit(outbox)
            self._transport.write(sent)
            for message in unfit:
                _log.error("call_not_sent", kind=type(message).__name__)
                self._fail(message.id, InternalError())

    # -- the way in ----------------------------------------------------------------------------------------------

    def connected_to(self, transport: asyncio.Transport) -> None:
        """The socket is open; the engine's first message is its catalog."""
        self._transport = transport

    def take(self, message: ToClient) -> None:
        """One message from the engine; what cannot be read of it costs the call that it answers, and no other."""
        if isinstance(message, CatalogMessage):
            self._catalog = message.catalog
            self._told = True
            self._listeners.tell(message.catalog)
            return
        try:
            if isinstance(message, AnswerMessage):
                self._resolve(message.id, message.unpack())
            elif isinstance(message, FailureMessage):
                self._fail(message.id, message.unpack())
            else:
                self._resolve(message.id, msgspec.json.decode(message.result))
        except Exception:  # noqa: BLE001 - the other answers of the frame must arrive
            _log.exception("answer_unreadable", kind=type(message).__name__)
            self._fail(message.id, InternalError())

    def _resolve(self, number: int, value: Any) -> None:
        found = self._pending.pop(number, None)
        if found is not None and not found[0].done():
            found[0].set_result(value)

    def _fail(self, number: int, error: HoverboardError) -> None:
        found = self._pending.pop(number, None)
        if found is not None and not found[0].done():
            found[0].set_exception(error)

    def lost(self) -> None:
        """The engine is gone: whoever waits is told at once."""
        self.full = self._told = False
        self._transport = None
        self._outbox = []
        pending, self._pending = self._pending, {}
        for outcome, _ in pending.values():
            if not outcome.done():
                outcome.set_exception(NotReady("The engine restarted", retry_after_ms=_RETRY_AFTER_MS))

    async def _stay_connected(self) -> None:
        wait = _FIRST_WAIT_S
        while True:
            ended: asyncio.Future[None] = self._loop.create_future()
            try:
                await self._loop.create_unix_connection(partial(_EngineConnection, self, ended), str(self._path))
            except OSError:
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                wait = min(_LONGEST_WAIT_S, wait * 2)
                continue
            wait = _FIRST_WAIT_S
            # Nothing else to do: what was under way was failed in `lost`, and callers may try again at once.
            await ended
            _log.warning("engine_lost", socket=self._path.name)

    async def _sweep(self) -> None:
        """Answer for an engine that hangs: nobody waits past a deadline."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            late = time.monotonic() - _GRACE_S
            for number in [number for number, (_, deadline) in self._pending.items() if deadline < late]:
                self._fail(number, DeadlineExceeded("The engine did not answer in time"))
                self._send(CancelMessage(number))


class _EngineConnection(asyncio.Protocol):
    def __init__(self, client: EngineClient, ended: asyncio.Future[None]) -> None:
        self._client = client
        self._ended = ended
        self._reader = FrameReader(decode_answers)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # Above this asyncio calls pause_writing, and calls are refused at once.
        self._transport.set_write_buffer_limits(high=_MOST_BUFFERED)
        self._client.connected_to(self._transport)

    def pause_writing(self) -> None:
        self._client.full = True

    def resume_writing(self) -> None:
        self._client.full = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._client.lost()
        if not self._ended.done():
            self._ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except msgspec.DecodeError:
            _log.exception("bad_frame")
            if self._transport is not None:
                self._transport.close()
            return
        for message in messages:
            self._client.take(message)
