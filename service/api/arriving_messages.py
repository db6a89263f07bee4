"""WebSocket messages on their way in: what has come of one takes its share of memory, and has its time, before it is whole."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final, cast

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WebSocketError

from hoverboard.errors import Overloaded
from hoverboard.rpc.budget import Budget, BudgetShare
from hoverboard.rpc.large_messages import SMALL_BYTES

__all__ = ["Arriving"]

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_PIECE_BYTES: Final = 64
"""What each read of an unfinished message takes beside its bytes."""


class Arriving(WebSocketDataQueue):
    """The whole messages of one socket that wait to be read, as aiohttp keeps them, and a count of the one after them.

    A message of more than 64 KB comes with the share of memory that it took on its way, as its `extra`. What cannot come
    is an error at the end of the queue.

    Args:
        connection: of the socket.
        wait_turn: lets other large messages be read before the next piece of this one.
        bodies: the budget of large messages.
        timeout_s: seconds that a client may take for a message of more than 64 KB.
    """

    def __init__(
        self, connection: web.RequestHandler, wait_turn: Callable[[], None], bodies: Budget, timeout_s: float
    ) -> None:
        self._connection = connection
        self._wait_turn = wait_turn
        self._clock = asyncio.get_running_loop()
        super().__init__(connection, SMALL_BYTES, loop=self._clock)
        # A part without a limit of its own: it only knows what this socket holds, so that `close` can give it back at
        # once.
        self._bodies = bodies.part(sys.maxsize)
        self._timeout_s = timeout_s
        self._share = self._bodies.share()
        self._since: float | None = None
        self._unfinished = 0
        self._read = 0
        self._over = False

    @property
    def wants_more(self) -> bool:
        """Whether there is room for more messages, or none is kept any more."""
        return self._over or self._size <= self._limit

    def share(self) -> BudgetShare:
        """A share of the memory for large messages, for one that took none on its way."""
        return self._bodies.share()

    def take(self, data: bytes, parse: Callable[[bytes], None]) -> None:
        """Let aiohttp parse what was read from the socket, and count what is no whole message yet."""
        if self._over:
            self._wait_turn()
            return  # the client is told by now; what it still sends is read so that it can hear
        self._read = len(data)
        self._unfinished += self._read + _PIECE_BYTES
        parse(data)
        # Small messages are never paced nor counted: nearly all are small, and together they fit a read buffer.
        if self._unfinished > SMALL_BYTES and not self._over:
            self._wait_turn()
            self._hold()

    def feed_data(self, data: Any, size: int) -> None:
        """A whole message."""
        kind = data[0]
        if kind is _TEXT or kind is _BINARY:  # control frames come between the frames of a message
            # Of heads of frames nothing is known here: they, and so little, do not count as a next message.
            left = self._unfinished - size
            self._unfinished = min(left, self._read) if left > SMALL_BYTES and self._read > SMALL_BYTES else 0
            if size > SMALL_BYTES or self._since is not None:
                data = WSMessage(kind, data[1], cast(Any, self._share))
                self._share, self._since = self._bodies.share(), None
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *options: Any) -> None:
        """What breaks the protocol ends the queue; whatever else aiohttp says, as when the connection is lost, breaks it."""
        if isinstance(exc, WebSocketError):
            self._refuse(exc.code, str(exc))
        else:
            super().set_exception(exc, *options)

    def check(self, now: float) -> None:
        """Refuse a message that takes too long; while this side does not read, its client's time stands still."""
        if self._since is None or self._over:
            return
        if self._protocol._reading_paused:  # noqa: SLF001 - the queue itself goes by it
            self._since = now
        elif self._since < now - self._timeout_s:
            words = f"a message did not arrive within {self._timeout_s:g} s"
            self._refuse(WSCloseCode.POLICY_VIOLATION, words)

    def drop(self) -> None:
        """Forget what has come of a message that was refused."""
        self._connection._payload_parser = None  # noqa: SLF001 - else aiohttp keeps it until the connection is lost
        self._buffer.clear()
        self._share.close()

    def close(self) -> None:
        """Give back what messages hold, those too that nobody will read. Nothing of the socket may be at work any more."""
        self._over = True
        self._buffer.clear()
        self._bodies.give(self._bodies.held)

    def _hold(self) -> None:
        if self._since is None:
            self._since = self._clock.time()
        try:
            self._share.grow(self._unfinished - self._share.size)
        except Overloaded as error:
            self._refuse(WSCloseCode.TRY_AGAIN_LATER, error.message)

    def _refuse(self, code: int, words: str) -> None:
        self._over = True
        # Behind the whole messages that came before: they are still answered.
        super().feed_data(WSMessage(WSMsgType.ERROR, WebSocketError(code, words), None), 0)
