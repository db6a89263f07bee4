"""A listening socket and its connections: how many, how slow, and how they end without losing a call."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import structlog
from aiohttp import web

from hoverboard.api.identity import new_request_id
from hoverboard.api.replies import JSON, HttpRefusal, PlainAnswer, refusal
from hoverboard.errors import InternalError, Overloaded
from hoverboard.rpc.budget import BudgetShare
from hoverboard.rpc.envelope import failure
from hoverboard.rpc.large import SMALL_BYTES
from hoverboard.telemetry.sampling import Sampler

if TYPE_CHECKING:
    from hoverboard.api.arriving import Arriving

__all__ = ["Connection", "Handler", "Listener", "listening_socket"]

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

log = structlog.get_logger(__name__)

_BACKLOG = 1024
_LINGER_S = 2.0
_POLL_S = 0.02
_LAST_WORDS_S = 1.0
_UNPACED_BYTES = 16 * 1024
"""With more than twice this unread, a body waits for its turn to be read further."""
_LEAST_READ_BYTES = 1 << 20
_SERVER = "hoverboard"
_ANSWERS_S = 3.0
"""Seconds in which a client that sends nothing more gets its answers: more likely it has gone, and nobody can tell."""

_lines = Sampler(5)
_MOST_SURPLUS = 64


class Connection(web.RequestHandler):
    """One client's connection, which knows whether it is idle, and since when it waits for the rest of a head or for its
    client to read.

    Attributes:
        arriving: of a WebSocket, the messages on their way in.
        ahead: bytes that have come since the request at work began, where they are its own or of those behind it.
        held: what the answer that is being sent holds of a budget.
        resuming: whether its turn to be read from again is near.
    """

    __slots__ = (
        "_pace",
        "ahead",
        "arriving",
        "busy",
        "ended",
        "heard",
        "held",
        "resuming",
        "unread_since",
        "waiting_since",
    )

    def __init__(self, listener: Listener, **options: Any) -> None:
        super().__init__(listener, **options)
        self.ahead = 0
        self.arriving: Arriving | None = None
        self.busy = False
        self.heard = False
        self.waiting_since: float | None = None
        self.unread_since: tuple[float, int] | None = None
        self.held: BudgetShare | None = None
        self.ended: asyncio.TimerHandle | None = None
        self.resuming = False
        self._pace = listener.pace

    @property
    def idle(self) -> bool:
        """Whether no part of a request is here."""
        return not self.busy and (self.waiting_since is None or not self.heard)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.waiting_since = self._loop.time()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self.busy and data:
            self.heard = True
            if self.waiting_since is None:
                self.waiting_since = self._loop.time()
        if self.arriving is not None:
            self.arriving.take(data, super().data_received)
            return
        super().data_received(data)
        if self.busy:
            self.ahead += len(data)
            if self.ahead > SMALL_BYTES and self._messages and not self._buffer_paused:
                # Whole requests wait behind the one at work, up to 32 as aiohttp has it: until the next begins, no more.
                self._pause_reading_for_buffer()

    async def start(self) -> None:
        """Answer requests until the connection ends; aiohttp's, which where it is cut short refers to its own task."""
        try:
            await super().start()
        except asyncio.CancelledError as ended:
            _forget_frames(ended)
            raise

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends nothing more: either it has gone, or it only waits for its answers, as `nc -N` does."""
        waiting = self.busy or bool(self._messages)
        if self.transport is None or self._upgraded or not waiting or self._is_incomplete():
            return None
        self.ended = self._loop.call_later(_ANSWERS_S, self.transport.abort)
        return True

    def _is_incomplete(self) -> bool:
        return self._current_request is not None and not self._current_request.content.is_eof()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._let_go()
        if self.ended is not None:
            self.ended.cancel()
        super().connection_lost(exc)
        # Each of these refers back to here, and would be kept, with what it holds, until garbage is collected.
        for message, _ in self._messages:
            _forget_frames(getattr(message, "exc", None))
        self._messages.clear()
        self.arriving = self._data_received_cb = None

    def pause_writing(self) -> None:
        self.unread_since = self._loop.time(), sys.maxsize
        super().pause_writing()

    def resume_writing(self) -> None:
        self.unread_since = None
        super().resume_writing()

    def check_reader(self, late: float) -> None:
        """Cut a client that does not read: of what waits for it, less than a megabyte has left since `late`."""
        if self.unread_since is None or self.transport is None:
            return
        since, size = self.unread_since
        left = self.transport.get_write_buffer_size()
        if left <= size - _LEAST_READ_BYTES:
            self.unread_since = self._loop.time(), left
        elif since < late:
            self.transport.abort()

    @property
    def is_ending(self) -> bool:
        """Whether the client is gone, or cut off."""
        return self.transport is None or self.transport.is_closing()

    async def read_by_client(self) -> None:
        """Wait until the client has read what it was sent, but for a little.

        Raises:
            ConnectionError: it is gone, or cut off.
        """
        if self._paused:
            await self._drain_helper()

    def _let_go(self) -> None:
        if self.held is not None:
            self.held.close()
            self.held = None

    def resume_reading(self, *options: Any, **named: Any) -> None:
        # aiohttp asks for this after every read of a body, paused or not, and then parses nothing once more.
        if not self.resuming and (self._reading_paused or self._buffer_paused):
            self.resuming = True
            self._pace.add(partial(self._resume, partial(super().resume_reading, *options, **named)))

    def _resume(self, resume: Callable[[], None]) -> None:
        self.resuming = False
        if self.transport is not None and (self.arriving is None or self.arriving.wants_more):
            resume()

    def wait_turn(self) -> None:
        """Read on when its turn has come, after other large bodies and messages."""
        if not self._reading_paused:
            self.pause_reading()
            self.resume_reading()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        try:
            if isinstance(resp, PlainAnswer) and not self._upgraded:
                if self.is_ending:
                    return resp, True
                cast(asyncio.Transport, self.transport).write(resp.message)
                finished: tuple[web.StreamResponse, bool] = resp, False
            else:
                if not isinstance(resp, PlainAnswer) and not resp.prepared:
                    resp.headers["Server"] = _SERVER  # else aiohttp names its version and Python's
                finished = await super().finish_response(request, resp, start_time)
            if self._paused:
                await self._drain_helper()  # nothing more is done for a client that does not read
        except ConnectionError:
            return resp, True
        else:
            return finished
        finally:
            if self.held is not None:
                self._let_go()
            self.busy = False
            self.waiting_since = None
            if self.ended is not None and not self._messages:
                self.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's words, which may repeat what the client sent
    ) -> web.StreamResponse:
        """The response to what is no HTTP, and to bugs; in place of aiohttp's, which says more than clients need."""
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun")
        request_id = new_request_id()
        if status < 500:
            _forget_frames(exc)
            return refusal(HttpRefusal.invalid(status, "this is no well-formed HTTP request", close=True), request_id)
        left_out = _lines.next()
        if left_out is not None:
            log.error("request_failed", exc_info=exc, left_out=left_out, request_id=request_id)
        return refusal(HttpRefusal(500, InternalError(), close=True), request_id)


def _forget_frames(error: BaseException | None) -> None:
    """Let go of the frames that an error came through, with all that was read there; one of them refers to the error."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


class Listener(web.Server):
    """Serves HTTP on one listening socket.

    Args:
        handler: answers requests; an exception that leaves it becomes a 500.
        max_connections: above it, connections are answered 503 and closed.
        header_timeout_s: seconds from a connection, or a request's first byte, to the end of its head.
        keepalive_timeout_s: seconds an idle connection stays open.
        write_timeout_s: seconds a client may take to read a megabyte of its answers, or what is left of them.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        max_connections: int,
        header_timeout_s: float,
        keepalive_timeout_s: float,
        write_timeout_s: float,
    ) -> None:
        self._options: dict[str, Any] = {
            "keepalive_timeout": keepalive_timeout_s,
            "access_log": None,
            "auto_decompress": False,
            "lingering_time": _LINGER_S,
            "read_bufsize": _UNPACED_BYTES,
        }
        super().__init__(cast(Any, handler), request_factory=self._request, handler_cancellation=True, **self._options)
        self._max_connections = max_connections
        self._header_timeout_s = header_timeout_s
        self._write_timeout_s = write_timeout_s
        self._server: asyncio.Server | None = None
        self._spare: socket.socket | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._surplus: set[_Full] = set()
        self.pace = _Pace()
        self.open = 0
        self.draining = False

    def __call__(self) -> Any:
        """A protocol for a new connection."""
        if self.open >= self._max_connections:
            return _Full(self._surplus)
        return Connection(self, loop=asyncio.get_running_loop(), **self._options)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self.open += 1
        super().connection_made(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self.open -= 1
        super().connection_lost(handler, exc)

    async def start(self, listening: socket.socket) -> None:
        """Accept connections from a bound socket, which is closed in the end."""
        listening.setblocking(False)
        self._spare = listening.dup()
        self._spare.setblocking(False)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self, sock=listening, backlog=_BACKLOG)
        self._sweeping = asyncio.create_task(self._sweep())

    async def stop_accepting(self) -> None:
        """Close the listening socket, after taking on every connection that the kernel has already completed.

        A second descriptor keeps the queue of completed connections alive while the event loop lets go of the first:
        closing the only one would reset them.
        """
        self.draining = True
        if self._server is None or self._spare is None:
            return
        self._server.close()
        loop = asyncio.get_running_loop()
        queued = []
        while True:
            try:
                queued.append(self._spare.accept()[0])
            except (BlockingIOError, ConnectionAbortedError):
                break
        self._spare.close()
        self._server = self._spare = None
        for connection in queued:
            connection.setblocking(False)
            await loop.connect_accepted_socket(self, connection)

    async def finish(self, *, idle_grace_s: float, timeout_s: float) -> bool:
        """Let connections end: busy ones after their answer, idle ones after a grace. Call `stop_accepting` first.

        Args:
            idle_grace_s: seconds in which a client may still send what it had begun to send.
            timeout_s: seconds for all of it.

        Returns:
            Whether everything that had begun was answered.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        while self.open and loop.time() - start < timeout_s:
            if loop.time() - start >= idle_grace_s:
                for connection in self._ours():
                    if connection.idle:
                        connection.force_close()
            await asyncio.sleep(_POLL_S)
        return not self.open

    async def close(self) -> None:
        """Cut whatever is left."""
        await self.stop_accepting()
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self.shutdown(0)

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        if isinstance(protocol, Connection):
            protocol.busy = True
            protocol.ahead = 0
            protocol.waiting_since = None
        return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())

    def _ours(self) -> list[Connection]:
        return [connection for connection in self.connections if isinstance(connection, Connection)]

    async def _sweep(self) -> None:
        """Close connections whose next head or message takes too long, or whose client does not read."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self._header_timeout_s / 4, self._write_timeout_s / 4))
            late = loop.time() - self._header_timeout_s
            for connection in self._ours():
                connection.check_reader(loop.time() - self._write_timeout_s)
                if connection.arriving is not None:
                    connection.arriving.check(loop.time())
                if not connection.busy and connection.waiting_since is not None and connection.waiting_since < late:
                    connection.force_close()


class _Pace:
    """Lets one large body go on in each turn of the event loop: a quarter of a megabyte, so that turns stay short."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, resume: Callable[[], None]) -> None:
        """Let a body wait for its turn."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        self._waiting.append(resume)

    def _next(self) -> None:
        resume = self._waiting.popleft()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        resume()


class _Full(asyncio.Protocol):
    """A connection beyond the limit: told so once it has asked something, then closed.

    Args:
        others: those that are open now. Each takes an open file, so of a crowd the rest is closed unheard.
    """

    def __init__(self, others: set[_Full]) -> None:
        self._others = others
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._others) >= _MOST_SURPLUS:
            self._transport.abort()
            return
        self._others.add(self)
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ended
        self._others.discard(self)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - whatever was asked, the answer is the same
        if self._transport is None or self._transport.is_closing():
            return
        request_id = new_request_id()
        body = failure(None, Overloaded("Too many connections", retry_after_ms=1000), request_id)
        head = (
            f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
            f"X-Request-ID: {request_id}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        self._transport.close()


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket that shares its port with the other api processes.

    Raises:
        OSError: the address cannot be had.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
    except BaseException:
        listening.close()
        raise
    return listening
