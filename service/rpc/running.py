"""One call carried out: under the limit of calls in flight, written down where it is refused, counted however it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from hoverboard.codec.error_words import excerpt
from hoverboard.errors import Cancelled, InternalError, Overloaded, ResponseTooLarge, RpcError
from hoverboard.rpc.call import Call, CallLimits, Observer, Reply, RpcRequest
from hoverboard.rpc.envelope import NULL, failure, success
from hoverboard.rpc.large_messages import RECORDED_PARAMS
from hoverboard.rpc.methods.method import Methods
from hoverboard.rpc.recording import CallRecording, Rejection
from hoverboard.telemetry.sampling import Sampler

__all__ = ["CallRunner", "error_reply", "reply_to", "unforeseen"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

_lines = Sampler(5)

_BUSY_RETRY_MS = 1000
_COUNTED_BYTES = 4096
"""Results beyond this are counted until they are sent: of smaller ones even `max_concurrency` take little memory."""


class CallRunner:
    """Carries out calls of one face.

    Args:
        methods: by name.
        limits: see `CallLimits`.
        observer: told of every finished call.
        recording: where every refused call is written down before it is answered; None for nowhere.
    """

    def __init__(
        self, methods: Methods, limits: CallLimits, observer: Observer, recording: CallRecording | None
    ) -> None:
        self._methods = methods
        self._limits = limits
        self._observer = observer
        self._recording = recording
        self._notes: set[asyncio.Future[None]] = set()
        self.in_flight = 0
        self._in_flight_of: dict[int, int] = {}  # by connection

    async def run(self, call: Call, method: Callable[[Call, T], Awaitable[bytes]], params: T) -> bytes | RpcError:
        """The result as JSON text, or the error that the call is answered with."""
        error: RpcError | None = None
        source, counts = call.request.source, self._in_flight_of
        # Counted here rather than at the door: a batch of a thousand calls is a thousand.
        self.in_flight += 1
        counts[source] = counts.get(source, 0) + 1
        try:
            if self.in_flight > self._limits.max_concurrency:
                self._check_share(source)
            if call.request.refusal is not None:
                raise call.request.refusal
            result = await method(call, params)
            if len(result) > self._limits.max_response_bytes:
                raise self.too_large()
            if len(result) > _COUNTED_BYTES and call.request.answers is not None:
                call.request.answers.grow(len(result))
        except RpcError as raised:
            # Its traceback holds this frame, which holds it, and so may those of the exceptions that it came from: the
            # call's body would wait for garbage collection.
            error = raised.with_traceback(None)
            error.__cause__ = error.__context__ = None
            await self.record(call, error)
            return error
        except asyncio.CancelledError:
            error = Cancelled()
            self._record_later(call, error)
            raise
        except Exception as bug:  # noqa: BLE001 - whatever it is, the client gets an answer
            error = unforeseen(call, bug)
            await self.record(call, error)
            return error
        else:
            return result
        finally:
            self.in_flight -= 1
            counts[source] -= 1
            if not counts[source]:
                del counts[source]
            self._observer.finished(call, error, time.monotonic() - call.request.received_at)

    async def refuse(self, error: RpcError, request: RpcRequest, call_id: bytes = NULL) -> Reply:
        """The answer to a message, or an item of one, that is no call; written down and counted first."""
        await self.note_refused(error, request)
        return error_reply(error, request, call_id)

    async def note_refused(self, error: RpcError, request: RpcRequest) -> None:
        """Write down and count what was refused before it was a call."""
        call = Call(request, "")
        await self.record(call, error)
        self._observer.finished(call, error, time.monotonic() - request.received_at)

    async def record(self, call: Call, error: RpcError) -> None:
        """Write a refused call down, with what could be understood of it; never in the way of its answer."""
        if self._recording is None:
            return
        try:
            await self._recording.reject(self._rejection(call, error))
        except Exception as bug:  # noqa: BLE001 - the client gets the answer that it was about to get
            unforeseen(call, bug)

    def too_large(self) -> ResponseTooLarge:
        """The error in place of an answer beyond the limit of its size."""
        most = self._limits.max_response_bytes
        words = f"The response is larger than {most} bytes: ask for fewer samples or calls at once, or raise max_response_bytes"
        return ResponseTooLarge(words, details={"limit": most})

    def _check_share(self, source: int) -> None:
        """With more calls in flight than there may be, refuse those of the connections that have more than their share.

        Raises:
            Overloaded: this one has.
        """
        if self._in_flight_of[source] * len(self._in_flight_of) > self._limits.max_concurrency:
            raise Overloaded(retry_after_ms=_BUSY_RETRY_MS)

    def _record_later(self, call: Call, error: RpcError) -> None:
        """Write down a call that nobody waits for any more: its task ends now, and so cannot wait for the journal."""
        if self._recording is not None:
            task = asyncio.ensure_future(self.record(call, error))
            # The event loop keeps only weak references to tasks: unreferenced, this one could vanish half done.
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)

    def _rejection(self, call: Call, error: RpcError) -> Rejection:
        method = self._methods.get(call.method)
        known = {} if method is None else method.binder.understood(call.given, RECORDED_PARAMS)
        tags = known.get("tags")
        if tags is not None and any("\0" in text for pair in tags.items() for text in pair):
            tags = None  # that is why it was refused
        return Rejection(call.request, error, call.method, known.get("model"), known.get("version"), tags)


def reply_to(call_id: bytes | None, outcome: bytes | RpcError, request: RpcRequest) -> Reply:
    """The response to a call with its outcome; to a notification (no id) an empty one."""
    if call_id is None:
        return Reply(None)
    if isinstance(outcome, RpcError):
        return error_reply(outcome, request, call_id)
    return Reply(success(call_id, outcome))


def error_reply(error: RpcError, request: RpcRequest, call_id: bytes = NULL) -> Reply:
    """The response that says why there is no result."""
    return Reply(failure(call_id, error, request.request_id), error)


def unforeseen(call: Call, bug: Exception) -> InternalError:
    """What a client is told of an exception that nobody foresaw; its text goes to the log only."""
    left_out = _lines.next()
    if left_out is None:
        return InternalError()
    log.error(
        "call_failed",
        left_out=left_out,
        request_id=call.request.request_id,
        method=excerpt(call.method),
        model=call.model,
        exc_info=bug,
    )
    return InternalError()
