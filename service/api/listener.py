"""A listening socket and its connections: how many there are, and how they end without losing a call."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web

from hoverboard.api.connection import Connection, ReadingTurns
from hoverboard.api.identity import new_request_id
from hoverboard.api.replies import JSON
from hoverboard.config import resolved
from hoverboard.errors import Overloaded
from hoverboard.rpc.envelope import failure

__all__ = ["Handler", "Listener", "listening_socket"]

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# Connections that the kernel completes while the event loop is busy.
_BACKLOG = 1024
_LINGER_S = 2.0
_POLL_S = 0.02
_LAST_WORDS_S = 1.0
_UNPACED_BYTES = 16 * 1024
"""With more than twice this unread, a body waits for its turn to be read further."""
_MOST_SURPLUS = 64


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
            # aiohttp would unpack gzip without a limit of its own; `inflate` has one.
            "auto_decompress": False,
            # What a refused client still sends is read for a while: closing at once would reset the connection, and
            # the answer with it.
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
        self._turns = ReadingTurns()
        self.open = 0
        self.draining = False

    def __call__(self) -> Any:
        """A protocol for a new connection."""
        # Told 503 in place of being left in the kernel's queue: the client can try another server.
        if self.open >= self._max_connections:
            return _Full(self._surplus)
        return Connection(self, self._turns, loop=asyncio.get_running_loop(), **self._options)

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
            # One timer for all connections: one each would cost more than the calls.
            await asyncio.sleep(min(1.0, self._header_timeout_s / 4, self._write_timeout_s / 4))
            late = loop.time() - self._header_timeout_s
            for connection in self._ours():
                connection.check_reader(loop.time() - self._write_timeout_s)
                if connection.arriving is not None:
                    connection.arriving.check(loop.time())
                if not connection.busy and connection.waiting_since is not None and connection.waiting_since < late:
                    connection.force_close()


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
    family, address = resolved(host, port)
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The kernel spreads connections over the processes that share the port.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
    except BaseException:
        listening.close()
        raise
    return listening
