"""JSON-RPC over HTTP: `POST /` and `POST /rpc`."""

from __future__ import annotations

import asyncio
import time
import zlib
from typing import cast

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from hoverboard.api.admin import TokenGuard
from hoverboard.api.body import Intake, accept_content, body_at_hand, read_body
from hoverboard.api.connection import Connection
from hoverboard.api.identity import request_id_of, traceparent_of
from hoverboard.api.replies import JSON, HttpRefusal, PlainAnswer, error_headers, refusal
from hoverboard.errors import RpcError, Unauthorized
from hoverboard.rpc.budget import BudgetShare
from hoverboard.rpc.call import Reply, RpcRequest
from hoverboard.rpc.dispatch import Dispatcher
from hoverboard.rpc.large_messages import SMALL_BYTES
from hoverboard.telemetry import logs

__all__ = ["RpcHandler"]

# About one packet: packing less saves no round trip.
_GZIP_FROM = 1400
# From here on packing takes about a millisecond or more; zlib lets go of Python's lock meanwhile.
_GZIP_OFF_LOOP_FROM = 64 * 1024
# The quickest: a client waits for it.
_GZIP_LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS


class RpcHandler:
    """Answers POSTed messages with one dispatcher.

    Args:
        intake: see there; while it drains, answers end their connections.
        authorize: refuses requests that may not even be read.
    """

    def __init__(self, dispatcher: Dispatcher, intake: Intake, authorize: TokenGuard | None = None) -> None:
        self._dispatcher = dispatcher
        self._intake = intake
        self._authorize = authorize

    async def post(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one POST."""
        received_at = time.monotonic()
        request_id = request_id_of(request)
        logs.request_id.set(request_id)
        arrived = RpcRequest(
            request_id, received_at, traceparent_of(request), None, id(request.protocol), self._held(request)
        )
        try:
            # Before anything else is read: who has no token learns nothing, and costs nothing.
            if self._authorize is not None:
                self._authorize(request)
            accept_content(request.headers.get(hdrs.CONTENT_TYPE))
            body = body_at_hand(request, self._intake.max_body_bytes)
            if body is None or len(body) > SMALL_BYTES:
                reply = await self._large(request, body, arrived)
            else:
                reply = await self._dispatcher.handle(body, arrived)
        except HttpRefusal as reason:
            response = await self._refused(reason, arrived)
        except RpcError as error:
            response = await self._refused(HttpRefusal(error.http_status, error), arrived)
            if isinstance(error, Unauthorized) and self._authorize is not None:
                await self._authorize.slow_down()
        else:
            if self._is_plain(request, reply):
                return PlainAnswer(cast(bytes, reply.body), request_id)
            response = await self._response(request, reply, request_id)
        if self._intake.draining():
            response.force_close()
        return response

    def _held(self, request: web.BaseRequest) -> BudgetShare:
        """What the answers of this request hold; its connection lets go of it once they are sent, or it is lost."""
        share = self._intake.answers.share()
        cast(Connection, request.protocol).held = share
        return share

    async def _large(self, request: web.BaseRequest, body: bytes | None, arrived: RpcRequest) -> Reply:
        """The answer to a body that is large, packed, or not here yet."""
        packed = False
        with self._intake.bodies.share() as share:
            if body is None:
                limit, timeout_s = self._intake.max_body_bytes, self._intake.body_timeout_s
                body, packed = await read_body(request, limit=limit, timeout_s=timeout_s, share=share)
            else:
                share.grow(len(body))
            return await self._dispatcher.handle(body, arrived, packed=packed)

    async def _refused(self, reason: HttpRefusal, arrived: RpcRequest) -> web.Response:
        await self._dispatcher.note_refused(reason.error, arrived)
        return refusal(reason, arrived.request_id)

    def _is_plain(self, request: web.BaseRequest, reply: Reply) -> bool:
        """Whether the answer is of the common kind: a small 200 on a connection that stays open."""
        return (
            reply.error is None
            and reply.body is not None
            and len(reply.body) < _GZIP_FROM
            and request.keep_alive
            and request.version == HttpVersion11
            and not self._intake.draining()
        )

    async def _response(self, request: web.BaseRequest, reply: Reply, request_id: str) -> web.Response:
        if reply.body is None:
            return web.Response(status=204, headers={"X-Request-ID": request_id})
        headers = {"Content-Type": JSON, "X-Request-ID": request_id}
        body, status = reply.body, 200
        if reply.error is not None:
            status = reply.error.http_status
            headers.update(error_headers(reply.error))
        elif len(body) >= _GZIP_FROM:
            headers["Vary"] = "Accept-Encoding"
            if _takes_gzip(request.headers.get("Accept-Encoding")):
                headers["Content-Encoding"] = "gzip"
                body = await _gzipped(body)
        return web.Response(body=body, status=status, headers=headers)


async def _gzipped(body: bytes) -> bytes:
    if len(body) < _GZIP_OFF_LOOP_FROM:
        return zlib.compress(body, _GZIP_LEVEL, _GZIP)
    return await asyncio.to_thread(zlib.compress, body, _GZIP_LEVEL, _GZIP)


def _takes_gzip(accepted: str | None) -> bool:
    """Whether `Accept-Encoding` lets gzip in; an exact mention outweighs `*`."""
    qualities: dict[str, bool] = {}
    for part in (accepted or "").lower().split(","):
        coding, *params = [piece.strip() for piece in part.split(";")]
        qualities[coding] = not any(param.replace(" ", "").startswith("q=0") and _is_zero(param) for param in params)
    return qualities.get("gzip", qualities.get("*", False))


def _is_zero(param: str) -> bool:
    return param.replace(" ", "").removeprefix("q=").strip("0.") == ""
