"""HTTP responses around JSON-RPC answers, and refusals that never become calls."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import formatdate

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from hoverboard.errors import InvalidRequest, RpcError, Unauthorized
from hoverboard.rpc.envelope import failure

__all__ = ["JSON", "HttpRefusal", "PlainAnswer", "as_json", "error_headers", "refusal"]

JSON = "application/json"


class PlainAnswer(web.StreamResponse):
    """A 200 with a JSON body on an HTTP/1.1 connection that stays open, written in one piece.

    aiohttp's own response takes several times as long over headers that are always the same. This one has none, nor
    anything else of its base class: it is of that class only because handlers return one.

    Args:
        body: JSON text.
        request_id: printable ASCII, echoed.

    Attributes:
        message: head and body.
    """

    def __init__(self, body: bytes, request_id: str) -> None:  # the base class's own would make headers
        self.message = f"{_head()}{len(body)}\r\nX-Request-ID: {request_id}\r\n\r\n".encode("ascii") + body

    @property
    def keep_alive(self) -> bool:
        """Always: it is only used where the connection stays open."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write head and body."""
        await request.writer.write(self.message)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


_dated: tuple[int, str] = (0, "")


def _head() -> str:
    """Up to the body's length; made once a second."""
    global _dated  # noqa: PLW0603 - a cache of one entry
    now = int(time.time())
    if _dated[0] != now:
        date = formatdate(now, usegmt=True)
        _dated = (now, f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nDate: {date}\r\nContent-Length: ")
    return _dated[1]


class HttpRefusal(Exception):
    """A request that is answered with an error before it is a call.

    Args:
        status: of the HTTP response.
        error: what the JSON-RPC body says.
        headers: beside the usual ones.
        close: whether the connection ends with it.
    """

    def __init__(
        self, status: int, error: RpcError, headers: Mapping[str, str] | None = None, *, close: bool = False
    ) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.headers = dict(headers or {})
        self.close = close

    @classmethod
    def invalid(
        cls, status: int, message: str, headers: Mapping[str, str] | None = None, *, close: bool = False
    ) -> HttpRefusal:
        """A refusal for which JSON-RPC has no better word than Invalid Request."""
        return cls(status, InvalidRequest(f"Invalid Request: {message}"), headers, close=close)


def refusal(reason: HttpRefusal, request_id: str) -> web.Response:
    """The response to a refused request; its body is JSON-RPC, since many clients look at nothing else."""
    headers = {"Content-Type": JSON, "X-Request-ID": request_id, **error_headers(reason.error), **reason.headers}
    response = web.Response(status=reason.status, body=failure(None, reason.error, request_id), headers=headers)
    if reason.close:
        response.force_close()
    return response


def error_headers(error: RpcError) -> dict[str, str]:
    """The headers that an error's HTTP status calls for."""
    if error.http_status == 503:
        seconds = 1 if error.retry_after_ms is None else max(1, math.ceil(error.retry_after_ms / 1000))
        return {"Retry-After": str(seconds)}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}


def as_json(value: object, *, status: int = 200) -> web.Response:
    """A response around a JSON-ready value."""
    return web.Response(status=status, body=orjson.dumps(value), headers={"Content-Type": JSON})
