"""One client's connection: how fast it is read, how long it is waited for, and what it holds until its answer is sent."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import structlog
from aiohttp import web

from hoverboard.api.arriving_messages import Arriving
from hoverboard.api.identity import new_request_id
from hoverboard.api.replies import HttpRefusal, PlainAnswer, refusal
from hoverboard.errors import InternalError
from hoverboard.rpc.budget import BudgetShare
from hoverboard.rpc.large_messages import SMALL_BYTES
from hoverboard.telemetry.sampling import Sampler

__all__ = ["Connection", "ReadingTurns"]

log = structlog.get_logger(__name__)

_LEAST_READ_BYTES = 1 << 20
_SERVER = "hoverboard"
_ANSWERS_S = 3.0
"""Seconds in which a client that sends nothing more gets its answers: more likely it has gone, and nobody can tell."""

_lines = Sampler(5)


class ReadingTurns:
    """Lets one large body go on in each turn of the event loop: a quarter of a megabyte, so that turns stay short.

    Without it, a turn would read a piece of every large body that is on its way, and small calls would wait for them all.
    """

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
        "_turns",
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

    def __init__(self, server: web.Server, turns: ReadingTurns, **options: Any) -> None:
        super().__init__(server, **options)
        self.ahead = 0
        self.arriving: Arriving | None = None
        self.busy = False
        self.heard = False
        self.waiting_since: float | None = None
        self.unread_since: tuple[float, int] | None = None
        self.held: BudgetShare | None = None
        self.ended: asyncio.TimerHandle | None = None
        self.resuming = False
        self._turns = turns

    @property
    def idle(self) -> bool:
        """Whether no part of a request is here."""
        return not self.busy and (self.waiting_since is None or not self.heard)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A client that connects and says nothing is late from here on.
        self.waiting_since = self._loop.time()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self.busy and data:
            self.heard = True
            if self.waiting_since is None:
                self.waiting_since = self._loop.time()
        # A WebSocket's bytes are counted before aiohttp keeps them as messages.
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
        # With half a request here, no answer is due: the client has gone.
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

    # The transport calls this once more waits for the client than it keeps by itself.
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
            self._turns.add(partial(self._resume, partial(super().resume_reading, *options, **named)))

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
                # Past aiohttp's writer: it would look at headers that are not there.
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
