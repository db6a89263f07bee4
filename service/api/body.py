"""Request bodies: read whole, within limits of size, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11
from aiohttp.web_protocol import RequestPayloadError

from hoverboard.api.replies import HttpRefusal
from hoverboard.errors import ParseError, RequestTooLarge
from hoverboard.rpc.budget import Budget, BudgetShare
from hoverboard.rpc.large_messages import SMALL_BYTES

__all__ = ["Intake", "accept_content", "body_at_hand", "read_body"]

_PLAIN_TYPES = frozenset({"application/json", "application/json-rpc", "application/jsonrequest"})
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})


@dataclass(frozen=True, slots=True)
class Intake:
    """What both ways into a face, POST and WebSocket, share: how large and slow a message may be, and the memory for all.

    Attributes:
        max_body_bytes: of one message, before and after decompression.
        body_timeout_s: seconds a client may take to send a large one.
        bodies: the budget of large messages, of those too that are still arriving.
        answers: the budget of answers that are not sent yet.
        draining: whether this process is about to end, and takes nothing new.
    """

    max_body_bytes: int
    body_timeout_s: float
    bodies: Budget
    answers: Budget
    draining: Callable[[], bool]


def accept_content(content_type: str | None) -> None:
    """Pass JSON's content types.

    Raises:
        HttpRefusal: 415, for anything else.
    """
    if content_type in _PLAIN_TYPES:
        return
    kind, *params = [part.strip().lower() for part in (content_type or "").split(";")]
    charsets = [param.removeprefix("charset=").strip('"') for param in params if param.startswith("charset=")]
    if kind not in _PLAIN_TYPES or any(charset not in _UTF8 for charset in charsets):
        raise HttpRefusal.invalid(
            415, "Content-Type must be application/json, in UTF-8", {"Accept": "application/json"}
        )


def body_at_hand(request: web.BaseRequest, limit: int) -> bytes | None:
    """The body, where it arrived whole and uncompressed together with its head, as most do: no waiting, no timer."""
    if not request.content.is_eof() or hdrs.CONTENT_ENCODING in request.headers:
        return None
    body = request.content.read_nowait()
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def read_body(
    request: web.BaseRequest, *, limit: int, timeout_s: float, share: BudgetShare
) -> tuple[bytes, bool]:
    """The whole body as it came, and whether it is packed with gzip.

    Args:
        limit: most bytes.
        timeout_s: seconds the client may take to send it.
        share: of the budget of large bodies; it grows as the body arrives.

    Raises:
        HttpRefusal: 408 too slow, 415 an unknown encoding, 417 an unknown expectation.
        RequestTooLarge: it is longer than `limit`.
        Overloaded: it does not fit the budget.
        ParseError: a broken transfer.
    """
    packed = _is_packed(request.headers.get(hdrs.CONTENT_ENCODING))
    try:
        return await _arriving(request, limit, timeout_s, share), packed
    except RequestPayloadError:
        raise ParseError("Parse error: the body's transfer encoding is broken") from None


async def _arriving(request: web.BaseRequest, limit: int, timeout_s: float, share: BudgetShare) -> bytes:
    # A length that is too large is refused before a byte is read; without one (chunked) the count below decides.
    length = request.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    await _continue(request)
    # Grown in place: joining pieces in the end would need the memory twice.
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
                # Small bodies are not counted: `max_connections` of them take less memory than one large body may.
                if len(body) > SMALL_BYTES:
                    share.grow(len(body) - share.size)
    except TimeoutError:
        raise HttpRefusal.invalid(408, f"the body did not arrive within {timeout_s:g} s", close=True) from None
    # A copy of megabytes takes as long as many small calls; whoever decodes takes either.
    return bytes(body) if len(body) <= SMALL_BYTES else cast(bytes, body)


async def _continue(request: web.BaseRequest) -> None:
    """Tell a client that asks first to send its body."""
    expectation = request.headers.get("Expect")
    if expectation is None or request.version != HttpVersion11:
        return
    if expectation.lower() != "100-continue":
        raise HttpRefusal.invalid(417, "only 100-continue can be expected", close=True)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response itself has not begun


def _is_packed(encoding: str | None) -> bool:
    coding = (encoding or "identity").strip().lower()
    if coding in ("", "identity"):
        return False
    if coding not in ("gzip", "x-gzip"):
        raise HttpRefusal.invalid(415, "Content-Encoding must be gzip or identity", {"Accept-Encoding": "gzip"})
    return True


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"The body is larger than {limit} bytes", details={"limit": limit})
