"""Errors that a client sees, by code and `data.type`, and how they survive the way there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Self

from hoverboard.errors.local import HoverboardError

Violation = Literal[
    "missing_input",
    "unknown_input",
    "type",
    "shape",
    "range",
    "not_finite",
    "not_allowed",
    "too_long",
    "too_short",
    "encoding",
]
"""How a sample breaks its model's contract."""

VIOLATIONS: Final[Mapping[Violation, str]] = {
    "missing_input": "one of the model's inputs is not there",
    "unknown_input": "there is an input that the model does not have",
    "type": "the value, or the sample itself, is something else: a text for a number, 1.5 for an integer, another dtype",
    "shape": "arrays are too long, too short or nested otherwise, or two inputs do not have equally many samples",
    "range": "a number is outside the input's limits, or does not fit its dtype",
    "not_finite": "NaN or Infinity, in a tensor object",
    "not_allowed": "the value is not among the allowed ones",
    "too_long": "more bytes of text, or elements along a variable dimension, than `max_length`",
    "too_short": "fewer elements along a variable dimension than `min_length`",
    "encoding": "bytes, a tensor object or a text does not decode, or the bytes do not fill the shape",
}
"""What came, for each of them."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What the operator may know of an error, and the caller may not.

    Attributes:
        version: number of the version that failed.
        reason: its graph's own, one line without traces; may quote what the caller sent.
    """

    version: int
    reason: str


class RpcError(HoverboardError):
    """Base of the errors a client sees.

    Args:
        message: one sentence for the client; the class's own when left out. Never an exception's text.
        details: `data.details`, JSON-ready.
        retry_after_ms: when trying again is worth it, in milliseconds.
        cause: never told to a client.

    Attributes:
        code: of JSON-RPC.
        kind: `data.type`, finer than the code.
        retryable: whether trying again may help.
        request_id: under which the server logs and records the call; None where it was not a server that refused it.
    """

    # Attributes of the class, but for an error that a newer server made up: see `received`.
    code: int = -32603
    retryable: bool = False
    kind: str = "internal_error"
    http_status: ClassVar[int] = 200
    default: ClassVar[str] = "Internal error"
    request_id: str | None = None

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after_ms: int | None = None,
        cause: Cause | None = None,
    ) -> None:
        self.message = message if message is not None else self.default
        self.cause = cause
        self.details = dict(details) if details else None
        self.retry_after_ms = retry_after_ms
        super().__init__(self.message)

    @classmethod
    def restored(
        cls,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after_ms: int | None = None,
        cause: Cause | None = None,
    ) -> Self:
        """An error that was raised in another process, of its own class.

        Past the arguments of the leaf: what became of them is in the message and the details.
        """
        error = cls.__new__(cls)
        RpcError.__init__(error, message, details=details, retry_after_ms=retry_after_ms, cause=cause)
        return error

    @classmethod
    def received(cls, error: Mapping[str, Any]) -> RpcError:
        """The error that a server answered with, of its own class; its text names code and type.

        What this version has no class for is of the nearest that it has: by `data.type`, by code, or `RpcError` itself.

        Args:
            error: the `error` member of a JSON-RPC response.
        """
        code, said = error.get("code"), error.get("data")
        data: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
        kind = str(data.get("type", ""))
        nearest = BY_KIND.get(kind) or next((each for each in BY_KIND.values() if each.code == code), RpcError)
        after, details = data.get("retry_after_ms"), data.get("details")
        found = nearest.restored(
            str(error.get("message", "")),
            details=details if isinstance(details, Mapping) else None,
            retry_after_ms=int(after) if isinstance(after, int | float) else None,
        )
        found.code = code if isinstance(code, int) else 0
        found.kind, found.retryable = kind, data.get("retryable") is True
        found.request_id = data.get("request_id")
        found.args = (f"{found.message} ({found.code} {kind}".rstrip() + ")",)
        return found


class ParseError(RpcError):
    """The body is not JSON; `details` has the `offset` in bytes and the `reason`.

    What to do: correct what writes the request; the same bytes fail again.
    """

    code, kind, default = -32700, "parse_error", "Parse error"


class InvalidRequest(RpcError):
    """The body is JSON, but no JSON-RPC 2.0 request.

    What to do: send `jsonrpc`, `method` and, for an answer, `id`.
    """

    code, kind, default = -32600, "invalid_request", "Invalid Request"


class UnknownMethod(RpcError):
    """This listener has no such method. `label` is missing, too, where `recording` is `off`.

    What to do: `rpc.discover` lists the methods; those that change what is served are on the admin listener.
    """

    code, kind, default = -32601, "method_not_found", "Method not found"


class InvalidParams(RpcError):
    """A param breaks the contract; `details` points at it, and says what was expected there and what came.

    What to do: correct that element; the same params fail again.

    Args:
        pointer: JSON Pointer into params, such as `/instances/3/17`; empty for params as a whole.
        expected: what the contract asks for, in words.
        got: what came, in words, never the payload itself beyond a short excerpt.
        violation: how a sample breaks its model's contract; None for params that are no sample.
        input_name: the input at fault, where it is one of the model's.
    """

    code, kind, default = -32602, "invalid_params", "Invalid params"
    violation: Violation | None = None
    input_name: str | None = None

    def __init__(
        self,
        pointer: str,
        expected: str,
        got: str,
        *,
        violation: Violation | None = None,
        input_name: str | None = None,
    ) -> None:
        self.violation = violation
        self.input_name = input_name
        place = pointer or "params"
        super().__init__(
            f"Invalid params: {place}: expected {expected}, got {got}",
            details={"pointer": pointer, "expected": expected, "got": got},
        )


class InternalError(RpcError):
    """A defect of the service. What to do: look for the `request_id` in the service's log, and report it."""

    code, kind, default = -32603, "internal_error", "Internal error"


class ModelFailed(InternalError):
    """The graph failed on this input. `details.reason` says why where that is about the input, such as what the
    model's author asserts of it.

    What to do: correct the input; if it looks right, the operator finds the graph's own reason in the log and the
    table `rejections`.
    """

    kind, default = "model_failed", "The model failed on this input"


class NonFiniteOutput(InternalError):
    """The graph answered NaN or Infinity, which JSON cannot hold.

    What to do: look at the input for extreme numbers, and at the model.
    """

    kind, default = "non_finite_output", "The model answered NaN or Infinity"


class NotFound(RpcError):
    """What was named is not there. What to do: see `models.list`."""

    code, kind, default = -32001, "not_found", "Not found"


class ModelNotFound(NotFound):
    """There is no such model.

    What to do: see `models.list`.
    """

    kind, default = "model_not_found", "Model not found"


class VersionNotFound(NotFound):
    """There is no such version, it was refused, or the model has none that can go live; the message says which.

    What to do: see `models.describe`.
    """

    kind, default = "version_not_found", "Model version not found"


class NotReady(RpcError):
    """The engine starts again, the version is still being loaded, or the machine lacks something for now, such as
    room on its disk.

    What to do: try again after `retry_after_ms`.
    """

    code, http_status, retryable, kind, default = -32002, 503, True, "not_ready", "Not ready yet, try again"


class Overloaded(RpcError):
    """The call was refused at once, since it would have had to wait too long or a limit on memory or calls in
    flight is reached.

    What to do: try again after `retry_after_ms`, with jitter; if it lasts, send less or add machines.
    """

    code, http_status, retryable, kind, default = -32005, 503, True, "overloaded", "Overloaded, try again later"


class RequestTooLarge(RpcError):
    """The body is larger than `max_body_bytes`, or needs more memory to decode than there is.

    What to do: send fewer samples in a call.
    """

    code, http_status, kind, default = -32007, 413, "request_too_large", "Request too large"


class ResponseTooLarge(RpcError):
    """The answer would be larger than `max_response_bytes`, or is larger than a client takes (`max_answer_bytes`).

    What to do: ask for fewer samples at a time, or without `outputs`.
    """

    code, kind, default = -32008, "response_too_large", "Response too large"


class BatchTooLarge(RpcError):
    """A JSON-RPC batch holds more calls than `max_batch_items`.

    What to do: send several batches, or several samples in one call.
    """

    code, kind, default = -32010, "batch_too_large", "Too many calls in one batch"


class DeadlineExceeded(RpcError):
    """The call's deadline passed, or its predicted time is beyond it: then it is refused on arrival.

    What to do: allow more with `deadline_ms`, or try again when the queue is shorter.
    """

    code, retryable, kind, default = -32012, True, "deadline_exceeded", "Deadline exceeded, or it cannot be met"


class Unauthorized(RpcError):
    """The admin listener did not get its bearer token.

    What to do: send `Authorization: Bearer` and what `admin.token` in the data directory holds.
    """

    code, http_status, kind, default = -32013, 401, "unauthorized", "Unauthorized"


class Cancelled(RpcError):
    """The caller has gone before its answer: its connection closed, say. The code is the Language Server Protocol's."""

    code, kind, default = -32800, "cancelled", "The caller has gone"


def _leaves(cls: type[RpcError]) -> list[type[RpcError]]:
    return [cls, *(leaf for sub in cls.__subclasses__() for leaf in _leaves(sub))]


BY_KIND: Mapping[str, type[RpcError]] = {cls.kind: cls for cls in _leaves(RpcError) if cls is not Cancelled}
"""`data.type` -> class, so that an error survives the way from the engine to the api; of those that are ever sent."""
