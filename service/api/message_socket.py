"""A WebSocket of bytes whose messages take their shares of memory as they arrive."""

from __future__ import annotations

from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http import WebSocketError, WebSocketReader

from hoverboard.api.arriving_messages import Arriving
from hoverboard.api.body import Intake
from hoverboard.api.connection import Connection

__all__ = ["MessageSocket"]

_LONGEST_WORDS: Final = 123
"""Bytes that a close frame has room for."""


class MessageSocket(web.WebSocketResponse[Any]):
    """A WebSocket of bytes whose large messages take their shares of memory as they arrive.

    Args:
        intake: limits of its messages, and the memory for them; a longer message closes it with 1009.
        options: of aiohttp's.

    Attributes:
        arriving: its messages, once it is prepared.
    """

    arriving: Arriving

    def __init__(self, intake: Intake, **options: Any) -> None:
        # Bytes, since the dispatcher takes bytes; and no compression, which costs more than a local network gains.
        super().__init__(max_msg_size=intake.max_body_bytes, compress=False, decode_text=False, **options)
        self._intake = intake

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        # As aiohttp does it, with our queue in place of its own.
        self._ws_protocol = protocol
        self._writer = writer
        self._reset_heartbeat()
        connection = cast(Connection, request.protocol)
        self._reader = self.arriving = Arriving(
            connection, connection.wait_turn, self._intake.bodies, self._intake.body_timeout_s
        )
        self._parser = parser = WebSocketReader(self.arriving, self._max_msg_size, compress=False, decode_text=False)
        early = connection._message_tail  # noqa: SLF001 - sent before the answer to the handshake
        self.arriving.take(early, lambda _: connection.set_parser(parser, self._on_data_received))
        connection.arriving = self.arriving
        connection.keep_alive(False)

    async def refuse(self, error: BaseException | None) -> None:
        """Close for what the client did, in words; it has a little to hear them while it still sends."""
        if isinstance(error, WebSocketError):
            self._parser = None
            self.arriving.drop()
            await self.close(code=error.code, message=str(error).encode()[:_LONGEST_WORDS])

    def let_go(self) -> None:
        """Forget what has arrived. Nothing of the socket may be at work any more."""
        self._cancel_heartbeat()  # of a connection that is lost aiohttp's timer keeps everything for half a minute
        self._parser = None
        if self._reader is not None:
            self.arriving.close()
