"""What accompanies one call on its way: where it came from, and what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from hoverboard.errors import RpcError
from hoverboard.rpc.budget import BudgetShare
from hoverboard.rpc.large_messages import RemoteSamples

__all__ = ["OK", "Call", "CallLimits", "Observer", "Reply", "RpcRequest"]

OK = 0
"""The code under which a successful call is counted."""


class RpcRequest(msgspec.Struct, frozen=True, eq=False):
    """One message as it arrived: an HTTP request or a WebSocket message. A struct for the reason `PredictCall` is one.

    Attributes:
        request_id: echoed to the client and put into logs, errors and records.
        received_at: seconds on `time.monotonic()`; deadlines count from here.
        traceparent: W3C trace context, as it came.
        refusal: answered to every call instead of carrying it out.
        source: tells the connection that it came by from others: callers share by it what there is.
        answers: what its answers hold until they are sent; None where nobody counts.
        read: waits until the client has read what it was sent before; None where nothing else is sent meanwhile.
    """

    request_id: str
    received_at: float
    traceparent: str | None = None
    refusal: RpcError | None = None
    source: int = 0
    answers: BudgetShare | None = None
    read: Callable[[], Awaitable[None]] | None = None


class Call(msgspec.Struct, eq=False):
    """One call of a request; its handler notes here which model answered, for metrics and logs.

    Attributes:
        request: it came with.
        method: as the client wrote it.
        given: its params: the method's struct, or still raw JSON, by name or by position; None where there are none.
        model, version, role: that answered.
        kept: where its samples are, in place of its params: in the decoder.
    """

    request: RpcRequest
    method: str
    given: Any = None
    model: str | None = None
    version: int | None = None
    role: str | None = None
    kept: RemoteSamples | None = None


class Reply(msgspec.Struct, frozen=True, eq=False):
    """What goes back for one message.

    Attributes:
        body: JSON text; None where only notifications came.
        error: the error of a message that was one call, or no call at all; None for batches.
    """

    body: bytes | None
    error: RpcError | None = None


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds on what one api process takes on.

    Attributes:
        max_batch_items: calls in one batch array.
        max_response_bytes: JSON bytes of one message's answer.
        max_concurrency: calls in flight; above it calls are refused at once.
        default_deadline_ms, max_deadline_ms: milliseconds from arrival.
    """

    max_batch_items: int = 1000
    max_response_bytes: int = 25_000_000
    max_concurrency: int = 1024
    default_deadline_ms: float = 10_000
    max_deadline_ms: float = 600_000


class Observer(Protocol):
    """Who is told of every finished call."""

    def finished(self, call: Call, error: RpcError | None, seconds: float) -> None:
        """Count and log one call; must not raise."""
