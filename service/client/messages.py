"""What goes between a client and its transport, and how what comes back is read: the result, or the error that it stands for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import msgspec

from hoverboard.client.retries import may_pass
from hoverboard.errors import RpcError, Unreachable

__all__ = ["Pause", "Received", "Send", "result_of"]

T = TypeVar("T")

_LONGEST_PAUSE_S: Final = 3600
"""More than any deadline: whoever asks for a later try is taken to mean that there is none."""


@dataclass(frozen=True, slots=True)
class Send:
    """A message to send.

    Attributes:
        body: JSON text.
        id: of the call in it.
        timeout_s: seconds until its answer is not waited for any more.
    """

    body: bytes
    id: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Time to let go by.

    Attributes:
        seconds: how much.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Received:
    """What came back.

    Attributes:
        body: JSON text, if all is well.
        status: of HTTP.
        retry_after: the header `Retry-After`, if any.
    """

    body: bytes
    status: int = 200
    retry_after: str | None = None


class _Response(msgspec.Struct, frozen=True):
    id: Any = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None
    jsonrpc: str = ""


_response = msgspec.json.Decoder(_Response).decode


def result_of(received: Received, number: int, url: str, read: Callable[[msgspec.Raw], T]) -> T:
    """The result of a call.

    Args:
        number: the id of the call.
        url: for what is said in errors.
        read: makes the result of its JSON text.

    Raises:
        RpcError: the server's own error, of its class.
        Unreachable: what came is no answer to that call.
    """
    try:
        response = _response(received.body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _no_answer(received, url) from error
    if response.jsonrpc != "2.0" and response.error is None:
        raise _no_answer(received, url)
    # An error without an id is of a message that the server could not read.
    if response.id != number and (response.error is None or response.id is not None):
        raise Unreachable(f"{url} answered call {response.id!r:.50} when asked for call {number}")
    if response.error is not None:
        raise RpcError.received(response.error)
    try:
        return read(response.result)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreachable(f"{url} answered as no Hoverboard that this client knows: {error}") from error


def _no_answer(received: Received, url: str) -> Unreachable:
    """Of something else than a service, such as a proxy that finds none behind it."""
    return Unreachable(
        f"{url} answered HTTP {received.status} without JSON-RPC",
        sent=received.status not in (429, 503),
        retryable=may_pass(received.status),
        retry_after_ms=_retry_after_ms(received.retry_after),
    )


def _retry_after_ms(header: str | None) -> int | None:
    """`Retry-After`, which is a number of seconds or a date; None where it is neither."""
    if header is None:
        return None
    try:
        # As a float first: a whole number of thousands of digits is refused by Python, a float of them is only infinite.
        seconds = float(header) if header.isdecimal() else parsedate_to_datetime(header).timestamp() - time.time()
    except ValueError:
        return None
    return int(min(max(seconds, 0.0), _LONGEST_PAUSE_S) * 1000)
