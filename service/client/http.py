"""The transport of plain code: HTTP with urllib3, which takes half of httpx's time a call, measured side by side."""

from __future__ import annotations

import http.client
import io
import math
import os
import socket
import time
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError, SSLError

from hoverboard.client.address import Address
from hoverboard.client.messages import Received, Send
from hoverboard.client.transport import CONNECT_S, headers_of, innermost, reason_of, too_large
from hoverboard.errors import Unreachable

__all__ = ["HttpTransport"]

_CONNECTIONS: Final = 16
_PIECE: Final = 1 << 20
"""Bytes that are read at a time: what is held beyond the largest answer that is taken."""
_LEAST_S: Final = 1e-3
"""To a socket 0 seconds mean that it never waits, which ends in another error than a timeout."""


class HttpTransport:
    """A `Transport` by HTTP: a pool of connections that stay open.

    Args:
        max_answer_bytes: most bytes of an answer.
    """

    def __init__(self, address: Address, token: str | None, max_answer_bytes: int) -> None:
        self._address = address
        self._headers = headers_of(address, token)
        self._max_answer_bytes = max_answer_bytes
        self._pools = [self._opened()]
        self._process = os.getpid()

    def _opened(self) -> urllib3.PoolManager:
        # urllib3's own retries know neither the deadline nor which calls may be repeated.
        options: dict[str, Any] = {"maxsize": _CONNECTIONS, "retries": False}
        proxy = self._address.proxy
        pool = urllib3.PoolManager(**options) if proxy is None else urllib3.ProxyManager(proxy, **options)
        pool.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return pool

    def _pool(self) -> urllib3.PoolManager:
        """The connections of this process.

        A process that was forked off shares the open sockets of its parent, and would read the parent's answers from them. It
        opens its own, and leaves those alone: a thread of the parent may have held their locks, which nobody opens here.
        """
        if self._process != os.getpid():
            self._pools.append(self._opened())
            self._process = os.getpid()
        return self._pools[-1]

    def exchange(self, message: Send) -> Received:
        """See `Transport.exchange`."""
        try:
            response = self._pool().request(
                "POST",
                self._address.origin + self._address.path,
                body=message.body,
                headers=self._headers,
                timeout=urllib3.Timeout(total=message.timeout_s),
                redirect=False,  # a POST that is sent elsewhere would take the token along
                preload_content=False,
            )
            try:
                body = self._read(response)
            except BaseException:
                response.close()  # what is left of the answer would be read as the next one's
                raise
            response.release_conn()
        except HTTPError as error:
            # These come before a byte of the call has left; of all others nobody knows how far it got.
            sent = not isinstance(error, NewConnectionError | ConnectTimeoutError | ProxyError | SSLError)
            reason = reason_of(innermost(error))
            raise Unreachable(f"no server answers at {self._address.url} ({reason})", sent=sent) from error
        return Received(body, response.status, response.headers.get("Retry-After"))

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        length = response.length_remaining
        if (
            length is not None
            and length <= min(_PIECE, self._max_answer_bytes)
            and "Content-Encoding" not in response.headers
        ):
            return response.read()  # nearly all answers; what follows takes some microseconds more
        body = io.BytesIO()  # whose `getvalue` copies nothing, as joining pieces would
        while piece := response.read(_PIECE):
            if body.tell() + len(piece) > self._max_answer_bytes:
                raise too_large(self._address, self._max_answer_bytes)
            body.write(piece)
        return body.getvalue()

    def close(self) -> None:
        """See `Transport.close`."""
        self._pool().clear()


class _TimedBytes(io.RawIOBase):
    """What comes by a socket until a time: a timeout of the socket itself begins anew with every byte."""

    def __init__(self, source: io.RawIOBase, connection: socket.socket) -> None:
        self._source = source
        self._connection = connection
        self._until = time.monotonic() + (connection.gettimeout() or CONNECT_S)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            # A server that always has something to say, such as `100 Continue` again and again, never lets a read wait for its timeout.
            raise TimeoutError("timed out")
        self._connection.settimeout(max(left, _LEAST_S))
        count: int | None = self._source.readinto(buffer)
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_TimedBytes(self.fp.detach(), sock))


class _Timed:
    """A connection whose `timeout` is what is left of its call's time, from looking for the server to the last byte."""

    response_class: Any = _TimedResponse
    _until = math.inf

    @property
    def timeout(self) -> float:
        return max(self._until - time.monotonic(), _LEAST_S)

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._until = math.inf if seconds is None else time.monotonic() + seconds

    def connect(self) -> None:
        until = self._until
        self.timeout = min(CONNECT_S, self.timeout)
        super().connect()  # type: ignore[misc]
        self._until = until

    def send(self, data: Any) -> None:
        sock: socket.socket | None = getattr(self, "sock", None)
        if sock is not None:  # its timeout is still of the call before
            sock.settimeout(self.timeout)
        super().send(data)  # type: ignore[misc]


class _HttpConnection(_Timed, HTTPConnection):  # type: ignore[misc]  # there `timeout` is no property
    pass


class _HttpsConnection(_Timed, HTTPSConnection):  # type: ignore[misc]
    pass


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection
