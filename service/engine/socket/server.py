"""The engine's unix socket: frames in, calls to the engine, answers of one tick out as one frame."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Self, cast

import msgspec
import structlog

from hoverboard.contract.calls import PredictAnswer
from hoverboard.contract.catalog import Catalog
from hoverboard.engine.engine import Engine
from hoverboard.engine.socket.wire import (
    FLUSH_AT,
    AdminMessage,
    AnswerMessage,
    CallMessage,
    CancelMessage,
    CatalogMessage,
    DoneMessage,
    FailureMessage,
    FrameReader,
    ToClient,
    ToEngine,
    decode_calls,
    frame_of_fit,
)
from hoverboard.engine.work import Work
from hoverboard.errors import HoverboardError, InternalError

__all__ = ["EngineServer"]

_log = structlog.get_logger(__name__)
_SOURCE_BITS: Final = 64  # an api process tells its connections apart by their addresses


class _ApiConnection(asyncio.Protocol):
    """One api process."""

    def __init__(self, engine: Engine, first_source: int, gone: Callable[[_ApiConnection], None]) -> None:
        self._engine = engine
        self._first_source = first_source
        self._gone = gone
        self._reader = FrameReader(decode_calls)
        self._outbox: list[ToClient] = []
        self._works: dict[int, Work] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsubscribe: Callable[[], None] = lambda: None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = self._engine.subscribe(self._tell_catalog)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._unsubscribe()
        # Nobody is there to answer: what still waits would take the place of others' calls.
        for work in list(self._works.values()):
            self._engine.cancel(work)
        for task in self._tasks:
            task.cancel()
        self._gone(self)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except msgspec.DecodeError:
            _log.exception("bad_frame")
            self.transport.close()
            return
        for message in messages:
            try:
                self._take(message)
            except Exception:  # noqa: BLE001 - the other calls of the frame must be heard
                _log.exception("call_unreadable", kind=type(message).__name__)
                self._send(FailureMessage.pack(message.id, InternalError()))

    def _take(self, message: ToEngine) -> None:
        if isinstance(message, CallMessage):
            number = message.id
            work = self._engine.submit(message.unpack(self._first_source), partial(self._answer, number))
            # It may have been answered, or refused, before `submit` returned.
            if work is not None and not work.closed:
                self._works[number] = work
        elif isinstance(message, CancelMessage):
            taken = self._works.pop(message.id, None)
            if taken is not None:
                self._engine.cancel(taken)
        else:
            task = self._loop.create_task(self._administer(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _answer(self, number: int, answer: PredictAnswer | HoverboardError) -> None:
        self._works.pop(number, None)
        if isinstance(answer, HoverboardError):
            self._send(FailureMessage.pack(number, answer))
        else:
            self._send(AnswerMessage.pack(number, answer))

    async def _administer(self, message: AdminMessage) -> None:
        try:
            result = await self._engine.admin(message.action, msgspec.json.decode(message.params))
        except HoverboardError as error:
            self._send(FailureMessage.pack(message.id, error))
        except Exception:  # noqa: BLE001 - the caller is told, the log has the rest
            _log.exception("admin_failed", action=message.action)
            self._send(FailureMessage.pack(message.id, InternalError()))
        else:
            self._send(DoneMessage(message.id, msgspec.json.encode(result)))

    def _tell_catalog(self, catalog: Catalog) -> None:
        # Before any answer that follows from it: the api must know a version's labels by then.
        self._send(CatalogMessage.pack(catalog))

    def _send(self, message: ToClient) -> None:
        if not self._outbox:
            self._loop.call_soon(self.flush)
        self._outbox.append(message)
        if len(self._outbox) >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Send what has gathered in this tick."""
        outbox, self._outbox = self._outbox, []
        if not outbox or self.transport.is_closing():
            return
        sent, unfit = frame_of_fit(outbox)
        self.transport.write(sent)
        for message in unfit:
            _log.error("answer_not_sent", kind=type(message).__name__)
            if not isinstance(message, CatalogMessage):
                self._send(FailureMessage.pack(message.id, InternalError()))


class EngineServer:
    """Serves an engine on a unix socket. An async context manager.

    Args:
        engine: entered already.
        path: of the socket.
    """

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        self._path = path
        self._connections: set[_ApiConnection] = set()
        self._numbers = itertools.count()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        with suppress(FileNotFoundError):
            # Left by an engine that was killed; the supervisor runs one at a time.
            self._path.unlink()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._connect, str(self._path))
        # Calls come without a key here: the api has checked them.
        self._path.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        # No new connections come; those that are there get the answers to what they have sent.
        await self._engine.drain()
        await asyncio.sleep(0)  # the last answers gather until the next tick
        for connection in list(self._connections):
            connection.flush()
            connection.transport.close()
        self._path.unlink(missing_ok=True)

    def _connect(self) -> _ApiConnection:
        first_source = next(self._numbers) << _SOURCE_BITS
        connection = _ApiConnection(self._engine, first_source, self._connections.discard)
        self._connections.add(connection)
        return connection
