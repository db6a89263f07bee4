"""From one message's bytes to its answer's bytes: batches are split here, each call goes through jsonrpcserver alone."""

from __future__ import annotations

import asyncio
import sys
import time
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
import structlog
from msgspec import Raw

from hoverboard.codec.words import excerpt
from hoverboard.errors import (
    BatchTooLarge,
    Cancelled,
    InternalError,
    InvalidParams,
    InvalidRequest,
    Overloaded,
    ParseError,
    RequestTooLarge,
    ResponseTooLarge,
    RpcError,
    UnknownMethod,
)
from hoverboard.rpc.call import Call, CallLimits, Observer, Reply, RpcRequest
from hoverboard.rpc.envelope import NULL, CallBatch, Incoming, failure, is_utf8, parse, parse_item, success
from hoverboard.rpc.explain import no_utf8
from hoverboard.rpc.fastlane import FastLane
from hoverboard.rpc.fields import KEPT
from hoverboard.rpc.inflate import inflate
from hoverboard.rpc.large import RECORDED_PARAMS, SMALL_BYTES, Decoder, Message, RemoteSamples, TakenCall
from hoverboard.rpc.methods.method import Method, Methods
from hoverboard.rpc.recording import CallRecording, Rejection
from hoverboard.rpc.turns import Turns
from hoverboard.telemetry.sampling import Sampler

with warnings.catch_warnings():
    # It reads its JSON schema with an importlib.resources call that Python 3.11 deprecates (and 3.13 brought back).
    warnings.simplefilter("ignore", DeprecationWarning)
    from jsonrpcserver import Error, Success, async_dispatch_to_response
    from jsonrpcserver.response import to_serializable_one

__all__ = ["Dispatcher"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

_lines = Sampler(5)

_BUSY_RETRY_MS = 1000
_COUNTED_BYTES = 4096
"""Results beyond this are counted until they are sent."""
_BEGUN_AT_ONCE = 128
"""Items of a batch that begin in one turn of the event loop; more than share a batch in an engine. What one batch has
beyond them waits for its turn, of which there is one for all."""


class _Answer(NamedTuple):
    """A batch item's answer; `id` is raw JSON."""

    call: Call
    id: bytes
    reply: Reply


class _Room:
    """What the answers of one batch may still take, in bytes."""

    def __init__(self, left: int) -> None:
        self._left = left

    def fits(self, size: int) -> bool:
        """Whether one more fits; once one does not, none does."""
        self._left -= size
        return self._left >= 0


class Dispatcher:
    """Answers JSON-RPC messages with one table of methods.

    Args:
        methods: by name.
        limits: see `CallLimits`.
        observer: told of every finished call.
        lane: skips jsonrpcserver for one well-formed call of the hot path; None sends everything through it.
        recording: where every refused call is written down before it is answered; None for nowhere.
        decoder: takes large messages apart; without one they are taken apart here.
    """

    def __init__(
        self,
        methods: Methods,
        limits: CallLimits,
        observer: Observer,
        *,
        lane: FastLane[Any] | None = None,
        recording: CallRecording | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        self._methods = methods
        self._limits = limits
        self._observer = observer
        self._lane = lane
        self._recording = recording
        self._decoder = decoder
        self._adapted = {name: _adapted(method) for name, method in methods.items()}
        self._notes: set[asyncio.Future[None]] = set()
        self._params = {
            name: f"{method.params.__module__}:{method.params.__name__}" for name, method in methods.items()
        }
        self._turns = Turns(1)
        self.in_flight = 0
        self._in_flight_of: dict[int, int] = {}  # by connection

    @property
    def names(self) -> tuple[str, ...]:
        """The methods' names."""
        return tuple(self._methods)

    def handle(self, body: bytes, request: RpcRequest, *, packed: bool = False) -> Coroutine[Any, Any, Reply]:
        """Answer one message, perhaps packed with gzip; awaiting it raises nothing but `CancelledError`."""
        if packed or len(body) > SMALL_BYTES:
            return self._handled_large(body, request, packed=packed)
        return self._handled(body, request)

    async def _handled_large(self, body: bytes, request: RpcRequest, *, packed: bool) -> Reply:
        try:
            return await self._decoded(body, request, packed=packed)
        except Exception as bug:  # noqa: BLE001 - whatever it is, the client gets an answer
            return self.refused(_unforeseen(Call(request, ""), bug), request)

    async def _decoded(self, body: bytes, request: RpcRequest, *, packed: bool) -> Reply:
        try:
            if packed and len(body) <= SMALL_BYTES:
                with suppress(RequestTooLarge):
                    return await self._handled(inflate(body, SMALL_BYTES), request)
            if self._decoder is None:
                return await self._handled(inflate(body, sys.maxsize - 1) if packed else body, request)
            most = self._limits.max_batch_items
            message = await self._decoder.take(body, self._params, packed=packed, most=most)
        except RpcError as error:
            return await self._whole(error, NULL, request)
        try:
            return await self._taken(message, request)
        finally:
            message.close()

    async def _taken(self, message: Message, request: RpcRequest) -> Reply:
        taken = message.taken
        first = taken.parts[0] if taken.parts else None
        if taken.batch:
            refused = await self._refused_batch(taken.count, None if first is None else first.id, request)
            parts = range(len(taken.parts))
            return refused or await self._together((self._part(message, index, request) for index in parts), request)
        answer = await self._part(message, 0, request)
        return Reply(None) if answer is None else answer.reply

    async def _part(self, message: Message, index: int, request: RpcRequest) -> _Answer | None:
        """One call of a large message; None for a notification."""
        part = message.taken.parts[index]
        if part.fault is not None and not part.method:
            call_id = part.id or NULL
            return _Answer(Call(request, ""), call_id, await self._whole(part.fault.error, call_id, request))
        said = {name: Raw(msgspec.json.encode(value)) for name, value in part.said.items()}
        call = Call(request, part.method, said, kept=RemoteSamples(message, index) if part.samples else None)
        outcome = await self._carried_out(call, self._run_part, part)
        return None if part.id is None else _Answer(call, part.id, _reply(part.id, outcome, request))

    async def _run_part(self, call: Call, part: TakenCall) -> bytes:
        method = self._methods.get(part.method)
        if method is None:
            raise UnknownMethod
        if part.fault is not None:
            raise part.fault.error
        call.given = msgspec.convert({**(part.params or {}), **dict.fromkeys(part.samples, KEPT)}, method.params)
        try:
            return await method.run(call, call.given)
        except InvalidParams as error:
            raise method.binder.repoint(error) if part.positional else error from None

    async def _handled(self, body: bytes, request: RpcRequest) -> Reply:
        try:
            if not is_utf8(body):
                return await self._whole(no_utf8(body), NULL, request)
            fast = None if self._lane is None else self._lane.parse(body)
            if fast is None or self._lane is None:
                return await self._parsed(body, request)
            call = Call(request, self._lane.method.name, fast.params)
            return _reply(fast.id, await self._carried_out(call, self._lane.method.run, fast.params), request)
        except Exception as bug:  # noqa: BLE001 - whatever it is, the client gets an answer
            return self.refused(_unforeseen(Call(request, ""), bug), request)

    async def _parsed(self, body: bytes, request: RpcRequest) -> Reply:
        """The answer to a small message that is no plain call."""
        try:
            incoming = parse(body)
        except ParseError as error:
            return await self._whole(error, NULL, request)
        if isinstance(incoming, CallBatch):
            return await self._batch(incoming.items, request)
        if incoming.fault is not None:
            return await self._whole(incoming.fault, incoming.id or NULL, request)
        return _reply(incoming.id, await self._one(_call(incoming, request), incoming), request)

    def refused(self, error: RpcError, request: RpcRequest, call_id: bytes = NULL) -> Reply:
        """The answer to a message that is not even looked into."""
        return Reply(failure(call_id, error, request.request_id), error)

    async def note_refused(self, error: RpcError, request: RpcRequest) -> None:
        """Write down and count a message that was refused before it came here."""
        await self._reject(Call(request, ""), error)
        self._observer.finished(Call(request, ""), error, time.monotonic() - request.received_at)

    async def _batch(self, items: list[Raw], request: RpcRequest) -> Reply:
        first = parse_item(items[0]).id if items else None
        refused = await self._refused_batch(len(items), first, request)
        return refused or await self._together((self._item(raw, request) for raw in items), request)

    async def _refused_batch(self, count: int, first: bytes | None, request: RpcRequest) -> Reply | None:
        """The answer to a batch of no calls, or of too many; `first` is the id of the first of them."""
        if not count:
            return await self._whole(InvalidRequest("Invalid Request: an empty batch"), NULL, request)
        most = self._limits.max_batch_items
        if count <= most:
            return None
        too_large = BatchTooLarge(f"At most {most} calls in one batch", details={"limit": most, "got": count})
        answer = await self._whole(too_large, first or NULL, request)
        return Reply(b"[" + cast(bytes, answer.body) + b"]")

    async def _together(self, items: Iterator[Coroutine[Any, Any, _Answer | None]], request: RpcRequest) -> Reply:
        """The answers of a batch's items, which run at once; begun some at a time, for the sake of other connections."""
        room = _Room(self._limits.max_response_bytes)
        parts: list[bytes | None] = []
        async with asyncio.TaskGroup() as running:
            tasks: deque[asyncio.Task[_Answer | None]] = deque()
            for number, item in enumerate(items, 1):
                tasks.append(running.create_task(self._guarded(item, request)))
                if number % _BEGUN_AT_ONCE == 0:
                    await self._turns.take()
                    while tasks and tasks[0].done():
                        parts.append(await self._fitted(tasks.popleft().result(), room))
            while tasks:
                parts.append(await self._fitted(await tasks.popleft(), room))
        bodies = [body for body in parts if body is not None]
        return Reply(b"[" + b",".join(bodies) + b"]" if bodies else None)

    async def _guarded(self, item: Coroutine[Any, Any, _Answer | None], request: RpcRequest) -> _Answer | None:
        """An item's answer; a defect that one item meets costs its neighbours nothing."""
        try:
            return await item
        except Exception as bug:  # noqa: BLE001 - whatever it is, the client gets an answer
            error = _unforeseen(Call(request, ""), bug)
            return _Answer(Call(request, ""), NULL, self.refused(error, request))

    async def _fitted(self, answer: _Answer | None, room: _Room) -> bytes | None:
        """An item's response, or an error in place of one past the size limit."""
        body = None if answer is None else answer.reply.body
        if answer is None or body is None or room.fits(len(body) + 1):
            return body
        error = self._too_large()
        if answer.reply.error is None:
            await self._reject(answer.call, error)
        return failure(answer.id, error, answer.call.request.request_id)

    async def _item(self, raw: Raw, request: RpcRequest) -> _Answer | None:
        """One batch item's answer; None for a notification."""
        fast = None if self._lane is None else self._lane.parse(raw)
        if fast is not None and self._lane is not None:
            call = Call(request, self._lane.method.name, fast.params)
            outcome = await self._carried_out(call, self._lane.method.run, fast.params)
            return _Answer(call, fast.id, _reply(fast.id, outcome, request))
        incoming = parse_item(raw)
        if incoming.fault is not None:
            call_id = incoming.id or NULL
            return _Answer(Call(request, ""), call_id, await self._whole(incoming.fault, call_id, request))
        call = _call(incoming, request)
        outcome = await self._one(call, incoming)
        return None if incoming.id is None else _Answer(call, incoming.id, _reply(incoming.id, outcome, request))

    async def _one(self, call: Call, incoming: Incoming) -> bytes | RpcError:
        return await self._carried_out(call, self._through_jsonrpcserver, incoming)

    async def _carried_out(self, call: Call, run: Callable[[Call, T], Awaitable[bytes]], given: T) -> bytes | RpcError:
        """Run one call under the concurrency limit, and tell the observer how it went."""
        error: RpcError | None = None
        source, counts = call.request.source, self._in_flight_of
        self.in_flight += 1
        counts[source] = counts.get(source, 0) + 1
        try:
            if self.in_flight > self._limits.max_concurrency:
                self._check_share(source)
            if call.request.refusal is not None:
                raise call.request.refusal
            result = await run(call, given)
            if len(result) > self._limits.max_response_bytes:
                raise self._too_large()
            if len(result) > _COUNTED_BYTES and call.request.answers is not None:
                call.request.answers.grow(len(result))
        except RpcError as raised:
            # Its traceback holds this frame, which holds it, and so may those of the exceptions that it came from: the
            # call's body would wait for garbage collection.
            error = raised.with_traceback(None)
            error.__cause__ = error.__context__ = None
            await self._reject(call, error)
            return error
        except asyncio.CancelledError:
            error = Cancelled()
            self._note_later(call, error)
            raise
        except Exception as bug:  # noqa: BLE001 - whatever it is, the client gets an answer
            error = _unforeseen(call, bug)
            await self._reject(call, error)
            return error
        else:
            return result
        finally:
            self.in_flight -= 1
            counts[source] -= 1
            if not counts[source]:
                del counts[source]
            self._observer.finished(call, error, time.monotonic() - call.request.received_at)

    def _check_share(self, source: int) -> None:
        """With more calls in flight than there may be, refuse those of the connections that have more than their share.

        Raises:
            Overloaded: this one has.
        """
        if self._in_flight_of[source] * len(self._in_flight_of) > self._limits.max_concurrency:
            raise Overloaded(retry_after_ms=_BUSY_RETRY_MS)

    async def _through_jsonrpcserver(self, call: Call, incoming: Incoming) -> bytes:
        item = {"method": incoming.method, "id": 0}
        if incoming.params is not None:
            item["params"] = incoming.params
        response = await async_dispatch_to_response(
            cast(str, item),
            self._adapted,
            context=call,
            deserializer=_as_is,
            validator=_as_is,
            post_process=to_serializable_one,
        )
        return _outcome(response)

    async def _whole(self, error: RpcError, call_id: bytes, request: RpcRequest) -> Reply:
        await self.note_refused(error, request)
        return self.refused(error, request, call_id)

    async def _reject(self, call: Call, error: RpcError) -> None:
        """Write a refused call down, with what could be understood of it; never in the way of its answer."""
        if self._recording is None:
            return
        try:
            await self._recording.reject(self._rejection(call, error))
        except Exception as bug:  # noqa: BLE001 - the client gets the answer that it was about to get
            _unforeseen(call, bug)

    def _note_later(self, call: Call, error: RpcError) -> None:
        """Write down a call that nobody waits for any more: this task ends now."""
        if self._recording is not None:
            task = asyncio.ensure_future(self._reject(call, error))
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)

    def _rejection(self, call: Call, error: RpcError) -> Rejection:
        method = self._methods.get(call.method)
        said = {} if method is None else method.binder.understood(call.given, RECORDED_PARAMS)
        tags = said.get("tags")
        if tags is not None and any("\0" in text for pair in tags.items() for text in pair):
            tags = None  # that is why it was refused
        return Rejection(call.request, error, call.method, said.get("model"), said.get("version"), tags)

    def _too_large(self) -> ResponseTooLarge:
        most = self._limits.max_response_bytes
        words = f"The response is larger than {most} bytes: ask for fewer samples or calls at once, or raise max_response_bytes"
        return ResponseTooLarge(words, details={"limit": most})


def _call(incoming: Incoming, request: RpcRequest) -> Call:
    return Call(request, incoming.method, incoming.params)


def _reply(call_id: bytes | None, result: bytes | RpcError, request: RpcRequest) -> Reply:
    if call_id is None:
        return Reply(None)
    if isinstance(result, RpcError):
        return Reply(failure(call_id, result, request.request_id), result)
    return Reply(success(call_id, result))


def _unforeseen(call: Call, bug: Exception) -> InternalError:
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


def _as_is(item: Any) -> Any:
    return item


def _adapted(method: Method[Any]) -> Callable[..., Awaitable[Any]]:
    """A method in the shape jsonrpcserver calls; no exception but a cancellation leaves it."""

    async def run(call: Call, /, *positional: Raw, **named: Raw) -> Any:
        try:
            return Success(await method.run(call, method.binder.bind(positional, named)))
        except InvalidParams as error:
            return _error(method.binder.repoint(error) if positional else error)
        except RpcError as error:
            return _error(error)
        except Exception as bug:  # noqa: BLE001 - whatever it is, the client gets an answer
            return _error(_unforeseen(call, bug))

    return run


def _error(error: RpcError) -> Any:
    return Error(error.code, error.message, data=error)


def _outcome(response: Any) -> bytes:
    """The result in jsonrpcserver's response, or the error it stands for; its own texts are dropped."""
    error = response.get("error")
    if error is None:
        return cast(bytes, response["result"])
    if isinstance(error.get("data"), RpcError):
        raise error["data"]
    raise UnknownMethod if error["code"] == UnknownMethod.code else InternalError
