"""One WebSocket that many calls share: answers come in the order they are done, and find their calls by id."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final, Literal

import aiohttp
import msgspec

from hoverboard.client.address import Address
from hoverboard.client.bound_loop import BoundLoop
from hoverboard.client.messages import Received, Send
from hoverboard.client.retries import may_pass
from hoverboard.client.transport import CONNECT_S, headers_of, reason_of, too_large
from hoverboard.errors import DeadlineExceeded, Unreachable

__all__ = ["SocketTransport"]

_GOODBYE_S: Final = 1.0
"""Seconds that a server has to answer that the socket is closed."""


class _Answer(msgspec.Struct, frozen=True):
    id: int | None = None


_answer = msgspec.json.Decoder(_Answer).decode


@dataclass(slots=True)
class _Channel:
    """One open WebSocket.

    Attributes:
        turns: free places among the messages that may be on the way at once.
        waiting: who waits for which answer. A call that is given up stays until its answer comes: until then the server
            works on it, and counts it.
        ended: why no more answers come by it; None while they do.
    """

    socket: aiohttp.ClientWebSocketResponse[Literal[False]]
    turns: asyncio.Semaphore
    waiting: dict[int, asyncio.Future[Received]] = field(default_factory=dict)
    ended: str | None = None


class SocketTransport:
    """An `AsyncTransport` by a WebSocket at `/ws`; opened by the first call, and by the first one after it broke.

    Args:
        max_in_flight: most messages on the way at once; calls beyond it wait here, since the server would refuse them.
        max_answer_bytes: most bytes of an answer; a larger one ends the WebSocket, since it can only be read whole.
    """

    def __init__(self, address: Address, token: str | None, max_in_flight: int, max_answer_bytes: int) -> None:
        self._address = address
        self._max_answer_bytes = max_answer_bytes
        self._max_in_flight = max_in_flight
        self._headers = headers_of(address, token)
        self._session: aiohttp.ClientSession | None = None
        self._channel: _Channel | None = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._bound = BoundLoop(address.url)

    async def exchange(self, message: Send) -> Received:
        """See `AsyncTransport.exchange`."""
        self._bound.require()
        answer: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        sent, channel = False, None
        try:
            async with asyncio.timeout(message.timeout_s):
                while True:
                    channel = await self._opened()
                    await channel.turns.acquire()
                    if channel.ended is None:
                        break
                    channel.turns.release()  # it broke meanwhile; the next one has places of its own
                # Before it is sent: the answer may be read before this task has its turn again.
                channel.waiting[message.id] = answer
                sent = True
                await channel.socket.send_frame(message.body, aiohttp.WSMsgType.TEXT)
                return await answer
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            if isinstance(error, TimeoutError) and channel is not None and not sent:
                raise DeadlineExceeded(
                    f"the call was not sent to {self._address.url} within its time: {self._max_in_flight} others were on "
                    "the way (max_in_flight)"
                ) from error
            if isinstance(error, aiohttp.WSServerHandshakeError):
                reason = f"it answered HTTP {error.status} when asked for a WebSocket"
                raise self._broken(reason, sent=False, retryable=may_pass(error.status)) from error
            raise self._broken(reason_of(error), sent=sent) from error
        finally:
            # Sending may fail or be cut short before the answer is waited for: asyncio would log an error that nobody then looks at.
            if not answer.cancel() and not answer.cancelled():
                answer.exception()

    async def close(self) -> None:
        """See `AsyncTransport.close`."""
        if not self._bound.here():
            return
        try:
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.wait([self._reading])
        finally:
            if self._session is not None:
                await self._session.close()
            self._session = None
            self._bound.leave()

    async def _opened(self) -> _Channel:
        async with self._opening:  # one of many first calls opens it, the others wait for that
            if self._channel is None or self._channel.ended is not None:
                if self._session is None:
                    self._session = aiohttp.ClientSession(headers=self._headers, trust_env=False)
                async with asyncio.timeout(CONNECT_S):
                    socket = await self._session.ws_connect(
                        f"{self._address.origin}{self._address.path.rstrip('/')}/ws",
                        proxy=self._address.proxy,
                        max_msg_size=self._max_answer_bytes,
                        decode_text=False,  # the JSON decoder takes bytes, and checks them
                        timeout=aiohttp.ClientWSTimeout(ws_close=_GOODBYE_S),
                    )
                # Those who wait are of one socket: when it breaks, who waits for the next one is not told so.
                self._channel = _Channel(socket, asyncio.Semaphore(self._max_in_flight))
                self._reading = asyncio.create_task(self._read(self._channel))
            return self._channel

    async def _read(self, channel: _Channel) -> None:
        """Hand answers to those who wait for them; whatever ends that, all who still wait are told."""
        reason, oversized = "the WebSocket broke", False
        try:
            async for frame in channel.socket:
                if frame.type is aiohttp.WSMsgType.ERROR:
                    reason = f"the WebSocket broke: {frame.data}"
                    oversized = getattr(frame.data, "code", None) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
                    break
                number = _answer(frame.data).id
                answer = None if number is None else channel.waiting.pop(number, None)
                if answer is not None:
                    channel.turns.release()
                    if not answer.done():
                        answer.set_result(Received(frame.data))
            else:
                if channel.socket.close_code:
                    reason = f"the WebSocket was closed with {channel.socket.close_code}"
        except asyncio.CancelledError:
            reason = "the client was closed"
        except (msgspec.DecodeError, RecursionError) as error:
            # Whose answer it was is not to be learnt, so that none by this socket can be relied on any more.
            reason = f"what came by the WebSocket is no answer: {error}"
        finally:
            # In one go, without an `await`: who has its turn after this finds the channel ended.
            channel.ended = reason
            # Of several nobody knows whose answer was too large: they try again, until whoever it was is alone.
            oversized = oversized and len(channel.waiting) == 1
            for answer in channel.waiting.values():
                channel.turns.release()
                if not answer.done():
                    answer.set_exception(
                        too_large(self._address, self._max_answer_bytes)
                        if oversized
                        else self._broken(reason, sent=True)
                    )
            channel.waiting.clear()
            await channel.socket.close()

    def _broken(self, reason: str, *, sent: bool, retryable: bool = True) -> Unreachable:
        return Unreachable(f"no server answers at {self._address.url} ({reason})", sent=sent, retryable=retryable)
