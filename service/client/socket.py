"""One WebSocket that many calls share: answers come in the order they are done, and find their calls by id."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp
import msgspec

from hoverboard.client.address import Address
from hoverboard.client.core import Received, Send
from hoverboard.client.transport import CONNECT_S, headers_of, reason_of
from hoverboard.errors import Unreachable

__all__ = ["SocketTransport"]


class _Answer(msgspec.Struct, frozen=True):
    id: int | None = None


_answer = msgspec.json.Decoder(_Answer).decode


class SocketTransport:
    """An `AsyncTransport` by a WebSocket at `/ws`; opened by the first call, and by the first one after it broke."""

    def __init__(self, address: Address, token: str | None) -> None:
        self._address = address
        self._headers = headers_of(address, token)
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[Received]] = {}

    async def exchange(self, message: Send) -> Received:
        """See `AsyncTransport.exchange`."""
        answer: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        sent, waiting = False, self._waiting
        try:
            async with asyncio.timeout(message.timeout_s):
                socket = await self._opened()
                # Before it is sent: the answer may be read before this task has its turn again.
                waiting = self._waiting
                waiting[message.id] = answer
                sent = True
                await socket.send_frame(message.body, aiohttp.WSMsgType.TEXT)
                return await answer
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise self._broken(reason_of(error), sent=sent) from error
        finally:
            waiting.pop(message.id, None)

    async def close(self) -> None:
        """See `AsyncTransport.close`."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        if self._session is not None:
            await self._session.close()

    async def _opened(self) -> aiohttp.ClientWebSocketResponse:
        async with self._opening:  # one of many first calls opens it, the others wait for that
            if self._socket is None or self._socket.closed:
                if self._session is None:
                    self._session = aiohttp.ClientSession(headers=self._headers, trust_env=False)
                async with asyncio.timeout(CONNECT_S):
                    # Answers are as large as the server lets them be; it is the one that is trusted here.
                    self._socket = await self._session.ws_connect(
                        f"{self._address.origin}{self._address.path.rstrip('/')}/ws",
                        proxy=self._address.proxy,
                        max_msg_size=0,
                    )
                # Those who wait are of one socket: when it breaks, who waits for the next one is not told so.
                self._waiting = {}
                self._reading = asyncio.create_task(self._read(self._socket, self._waiting))
            return self._socket

    async def _read(
        self, socket: aiohttp.ClientWebSocketResponse, waiting: dict[int, asyncio.Future[Received]]
    ) -> None:
        """Hand answers to those who wait for them; when the socket ends, so do all of them."""
        async for frame in socket:
            body = frame.data.encode() if isinstance(frame.data, str) else frame.data
            with suppress(
                msgspec.DecodeError
            ):  # an answer that nobody can read has no call either: that one runs into its deadline
                number = _answer(body).id
                answer = None if number is None else waiting.get(number)
                if answer is not None and not answer.done():
                    answer.set_result(Received(body))
        reason = socket.close_code and f"the WebSocket was closed with {socket.close_code}"
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(self._broken(str(reason or "the WebSocket broke"), sent=True))

    def _broken(self, reason: str, *, sent: bool) -> Unreachable:
        return Unreachable(f"no server answers at {self._address.url} ({reason})", sent=sent)
