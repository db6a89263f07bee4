"""JSON-RPC over a WebSocket: `GET /ws`. Each message is answered as a POSTed one would be, in whatever order they finish."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import suppress
from typing import Final, cast

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from hoverboard.api.body import Intake
from hoverboard.api.connection import Connection
from hoverboard.api.hosts import authority
from hoverboard.api.identity import request_id_of, traceparent_of
from hoverboard.api.message_socket import MessageSocket
from hoverboard.api.replies import HttpRefusal, refusal
from hoverboard.errors import Overloaded
from hoverboard.rpc.budget import Budget, BudgetShare
from hoverboard.rpc.call import RpcRequest
from hoverboard.rpc.dispatch import Dispatcher
from hoverboard.rpc.large_messages import SMALL_BYTES
from hoverboard.rpc.loop_turns import Turns
from hoverboard.telemetry import logs

__all__ = ["WebSockets"]

# Below the minute after which most proxies and routers forget an idle connection.
_HEARTBEAT_S = 30.0
_CLOSE_S = 2.0
_DRAIN_POLL_S = 0.01
_RETRY_MS = 100
_UNITS_A_TURN: Final = 16
"""Of all sockets: a millisecond or two, after which calls that come by HTTP have their turn."""
_UNIT_BYTES: Final = 4096
_CONTROL: Final = (WSMsgType.PING, WSMsgType.PONG)


class WebSockets:
    """Answers WebSocket messages with one dispatcher.

    A message that is too long closes its socket with 1009, one that takes too long with 1008, one that does not fit the
    budget with 1013.

    Args:
        intake: see there.
        max_inflight: messages of one socket worked on at once; above it they are refused with -32005.
        max_unsent_bytes: of answers of one socket; beyond it they are refused with -32005.
    """

    def __init__(self, dispatcher: Dispatcher, intake: Intake, *, max_inflight: int, max_unsent_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._intake = intake
        self.max_unsent_bytes = max_unsent_bytes
        self.max_inflight = max_inflight
        self._sessions: set[_Session] = set()
        self.turns = Turns(_UNITS_A_TURN)

    async def get(self, request: web.BaseRequest) -> web.StreamResponse:
        """Hold one WebSocket until either side closes it."""
        socket = MessageSocket(
            self._intake,
            timeout=_CLOSE_S,
            heartbeat=_HEARTBEAT_S,
            autoping=False,  # aiohttp would answer a thousand of them in one go
        )
        reason = self._reason_against(request, socket)
        if reason is not None:
            return refusal(reason, request_id_of(request))
        socket.headers["Server"] = "hoverboard"
        session = _Session(socket, self._dispatcher, request, self, self._intake.answers)
        try:
            await socket.prepare(request)
            self._sessions.add(session)
            await session.run()
        finally:
            self._sessions.discard(session)
            socket.let_go()
        return socket

    async def drain(self) -> None:
        """Let every message that arrived be answered, then close with 1001."""
        await asyncio.gather(*(session.drain() for session in list(self._sessions)))

    def _reason_against(self, request: web.BaseRequest, socket: MessageSocket) -> HttpRefusal | None:
        if self._intake.draining():
            return HttpRefusal(503, Overloaded("This process is stopping", retry_after_ms=1000), close=True)
        host = request.headers.get("Host") or None
        if any(authority(origin) != host for origin in request.headers.getall("Origin", ())):
            # Browsers let any page open a WebSocket anywhere: CORS does not guard it, so this does.
            return HttpRefusal.invalid(403, "a page of another origin may not connect")
        if not socket.can_prepare(request):
            return HttpRefusal.invalid(426, "this is a WebSocket", {"Upgrade": "websocket"})
        return None


class _Session:
    def __init__(
        self,
        socket: MessageSocket,
        dispatcher: Dispatcher,
        request: web.BaseRequest,
        limits: WebSockets,
        answers: Budget,
    ) -> None:
        self._limits = limits
        self._unsent = answers.part(limits.max_unsent_bytes + SMALL_BYTES)
        self._sending = asyncio.Lock()
        self._socket = socket
        self._dispatcher = dispatcher
        self._name = request_id_of(request)
        self._traceparent = traceparent_of(request)
        self._numbers = itertools.count(1)
        self._connection = cast(Connection, request.protocol)
        self._taking = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        try:
            with suppress(ConnectionError):
                async for message in self._socket:
                    if message.type is WSMsgType.ERROR:
                        await self._socket.refuse(message.data)
                        break
                    # Between reading a message and starting its task `drain` must not take the session for idle.
                    self._taking = True
                    await self._connection.read_by_client()
                    await self._limits.turns.take(1 + len(message.data) // _UNIT_BYTES)
                    if self._connection.is_ending:
                        break
                    if message.type in _CONTROL:
                        await self._control(message)
                    else:
                        await self._take(
                            message.data, cast(BudgetShare, message.extra or self._socket.arriving.share())
                        )
                    self._taking = False
        finally:
            self._taking = False
            # The client is gone, or wants nothing more: what it had waiting is taken back.
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drain(self) -> None:
        while self._tasks or self._taking:
            await (asyncio.wait(self._tasks) if self._tasks else asyncio.sleep(_DRAIN_POLL_S))
        await self._socket.close(code=WSCloseCode.GOING_AWAY, message=b"the service is stopping")

    async def _control(self, message: WSMessage) -> None:
        if message.type is WSMsgType.PING and not self._socket.closed:
            await self._socket.pong(message.data)

    async def _take(self, body: bytes, share: BudgetShare) -> None:
        most = self._limits.max_inflight
        full = len(self._in_flight) >= most
        refused = Overloaded(f"More than {most} messages in flight", retry_after_ms=_RETRY_MS) if full else None
        number, answers = next(self._numbers), self._unsent.share()
        arrived = RpcRequest(
            f"{self._name}/{number}", time.monotonic(), self._traceparent, refused, id(self), answers, self._read
        )
        if full:
            # Answered in line, so that a client that does not read its answers is not read either.
            await self._answer(body, arrived, share)
            return
        task = asyncio.create_task(self._answer(body, arrived, share))
        for tasks in (self._tasks, self._in_flight):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _answer(self, body: bytes, arrived: RpcRequest, share: BudgetShare) -> None:
        logs.request_id.set(arrived.request_id)
        with cast(BudgetShare, arrived.answers) as answers:
            with share:
                try:
                    share.grow((len(body) if len(body) > SMALL_BYTES else 0) - share.size)
                    reply = await self._dispatcher.handle(body, arrived)
                except Overloaded as error:
                    reply = await self._dispatcher.refuse(error, arrived)
            try:
                answers.grow(max(0, len(reply.body or b"") - answers.size))
            except Overloaded as error:
                answers.close()
                reply = await self._dispatcher.refuse(error, arrived)
            await self._send(reply.body)

    async def _read(self) -> None:
        """Wait until the client has read what it was sent, but for a little; if it has gone, its tasks end in a moment."""
        with suppress(ConnectionError):
            await self._connection.read_by_client()

    async def _send(self, text: bytes | None) -> None:
        if text is None:
            return
        # One at a time: aiohttp hands over what it is given before it looks at how much waits already.
        async with self._sending:
            # Before the client has its answer, and not when this task ends: by then its next message may have come, which a client
            # that keeps to the limit would be refused.
            self._in_flight.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            if not self._socket.closed:
                with suppress(ConnectionError):
                    await self._socket.send_frame(text, WSMsgType.TEXT)
