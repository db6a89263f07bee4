"""What carries a client's messages; the words for what goes wrong on the way."""

from __future__ import annotations

import os
from typing import Final, Protocol

from hoverboard.client.address import Address
from hoverboard.client.messages import Received, Send
from hoverboard.errors import ResponseTooLarge

__all__ = [
    "CONNECT_S",
    "MAX_ANSWER_BYTES",
    "AsyncTransport",
    "Transport",
    "headers_of",
    "innermost",
    "reason_of",
    "too_large",
]

CONNECT_S: Final = 10.0
"""Seconds that a connection may take to come about: a machine that is gone does not even refuse."""

MAX_ANSWER_BYTES: Final = 256 << 20
"""Most bytes of an answer where nobody says otherwise: ten times what a service sends unless told otherwise (`max_response_bytes`)."""


class Transport(Protocol):
    """Carries messages, from several threads at once."""

    def exchange(self, message: Send) -> Received:
        """Send a message and wait for what comes back.

        Raises:
            Unreachable: nothing does.
            ResponseTooLarge: more does than the client takes.
        """

    def close(self) -> None:
        """Let go of connections."""


class AsyncTransport(Protocol):
    """Carries messages on an event loop."""

    async def exchange(self, message: Send) -> Received:
        """See `Transport.exchange`."""

    async def close(self) -> None:
        """See `Transport.close`."""


def headers_of(address: Address, token: str | None) -> dict[str, str]:
    """What each request says of itself. Packing pays over a network, and costs more than it saves within a machine."""
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity" if address.loopback else "gzip",
    }
    return {**headers, "Authorization": f"Bearer {token}"} if token else headers


def too_large(address: Address, limit: int) -> ResponseTooLarge:
    """The error of an answer that is not read on."""
    return ResponseTooLarge(
        f"{address.url} answers with more than the {limit} bytes that this client takes: ask for fewer samples at a time, "
        "or make the client with a larger max_answer_bytes"
    )


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in the operating system's words."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def innermost(error: BaseException) -> BaseException:
    """What the operating system said, where urllib3 has wrapped it."""
    while error.__cause__ is not None:
        error = error.__cause__
    if not isinstance(error, OSError) and error.args and isinstance(error.args[-1], OSError):
        return error.args[-1]
    return error
