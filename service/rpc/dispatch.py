"""From one message's bytes to its answer's bytes: which way a message takes, and how its calls are told apart."""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from hoverboard.errors import InvalidParams, ParseError, RequestTooLarge, RpcError
from hoverboard.rpc.batches import BatchRunner, ItemAnswer
from hoverboard.rpc.bridge import Bridge
from hoverboard.rpc.call import Call, CallLimits, Observer, Reply, RpcRequest
from hoverboard.rpc.envelope import NULL, CallBatch, Incoming, is_utf8, parse, parse_item
from hoverboard.rpc.explain import no_utf8
from hoverboard.rpc.fastlane import FastLane
from hoverboard.rpc.fields import KEPT
from hoverboard.rpc.inflate import inflate
from hoverboard.rpc.large_messages import SMALL_BYTES, Decoder, Message, RemoteSamples, TakenCall
from hoverboard.rpc.methods.method import Methods
from hoverboard.rpc.recording import CallRecording
from hoverboard.rpc.running import CallRunner, error_reply, reply_to, unforeseen

__all__ = ["Dispatcher"]


class Dispatcher:
    """Answers JSON-RPC messages with one table of methods.

    Args:
        methods: by name.
        limits: see `CallLimits`.
        observer: told of every finished call.
        lane: skips jsonrpcserver for one well-formed call of the hot path; None sends everything through it.
        recording: where every refused call is written down before it is answered; None for nowhere.
        decoder: takes large messages apart; without one they are taken apart here.
        absent: methods that a caller may look for here -> why they are not, in words that follow the name; a call of one is told so.
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
        absent: Mapping[str, str] | None = None,
    ) -> None:
        self._methods = methods
        self._most_items = limits.max_batch_items
        self._lane = lane
        self._decoder = decoder
        self._runner = CallRunner(methods, limits, observer, recording)
        self._batches = BatchRunner(limits, self._runner)
        self._bridge = Bridge(methods, absent or {})
        # Where another process finds the params' classes: it cannot be sent a class.
        self._params = {
            name: f"{method.params.__module__}:{method.params.__name__}" for name, method in methods.items()
        }
        self.refuse = self._runner.refuse
        self.note_refused = self._runner.note_refused

    @property
    def names(self) -> tuple[str, ...]:
        """The methods' names."""
        return tuple(self._methods)

    @property
    def in_flight(self) -> int:
        """Calls at work."""
        return self._runner.in_flight

    def handle(self, body: bytes, request: RpcRequest, *, packed: bool = False) -> Coroutine[Any, Any, Reply]:
        """Answer one message, perhaps packed with gzip; awaiting it raises nothing but `CancelledError`."""
        if packed or len(body) > SMALL_BYTES:
            return self._handled_large(body, request, packed=packed)
        return self._handled(body, request)

    async def _handled(self, body: bytes, request: RpcRequest) -> Reply:
        try:
            # msgspec looks into strings only where it decodes them; JSON that is no UTF-8 would pass where it is
            # skipped.
            if not is_utf8(body):
                return await self._runner.refuse(no_utf8(body), request)
            # Tried first, since nearly every call takes it.
            fast = None if self._lane is None else self._lane.parse(body)
            if fast is None or self._lane is None:
                return await self._parsed(body, request)
            call = Call(request, self._lane.method.name, fast.params)
            return reply_to(fast.id, await self._runner.run(call, self._lane.method.run, fast.params), request)
        except Exception as bug:  # noqa: BLE001 - whatever it is, the client gets an answer
            return error_reply(unforeseen(Call(request, ""), bug), request)

    async def _parsed(self, body: bytes, request: RpcRequest) -> Reply:
        """The answer to a small message that is no plain call."""
        try:
            incoming = parse(body)
        except ParseError as error:
            return await self._runner.refuse(error, request)
        if isinstance(incoming, CallBatch):
            first = parse_item(incoming.items[0]).id if incoming.items else None
            refused = await self._batches.refused(len(incoming.items), first, request)
            return refused or await self._batches.together(incoming.items, self._item, request)
        answer = await self._incoming(incoming, request)
        return Reply(None) if answer is None else answer.reply

    async def _item(self, raw: Raw, request: RpcRequest) -> ItemAnswer | None:
        """One batch item's answer; None for a notification."""
        # Items are told apart and run here, not in jsonrpcserver, which would decode every sample into Python values.
        fast = None if self._lane is None else self._lane.parse(raw)
        if fast is None or self._lane is None:
            return await self._incoming(parse_item(raw), request)
        call = Call(request, self._lane.method.name, fast.params)
        outcome = await self._runner.run(call, self._lane.method.run, fast.params)
        return ItemAnswer(call, fast.id, reply_to(fast.id, outcome, request))

    async def _incoming(self, incoming: Incoming, request: RpcRequest) -> ItemAnswer | None:
        """One parsed call's answer; None for a notification."""
        if incoming.fault is not None:
            call_id = incoming.id or NULL
            return ItemAnswer(Call(request, ""), call_id, await self._runner.refuse(incoming.fault, request, call_id))
        call = Call(request, incoming.method, incoming.params)
        outcome = await self._runner.run(call, self._bridge.run, incoming)
        return None if incoming.id is None else ItemAnswer(call, incoming.id, reply_to(incoming.id, outcome, request))

    async def _handled_large(self, body: bytes, request: RpcRequest, *, packed: bool) -> Reply:
        try:
            return await self._decoded(body, request, packed=packed)
        except Exception as bug:  # noqa: BLE001 - whatever it is, the client gets an answer
            return error_reply(unforeseen(Call(request, ""), bug), request)

    async def _decoded(self, body: bytes, request: RpcRequest, *, packed: bool) -> Reply:
        try:
            if packed and len(body) <= SMALL_BYTES:
                # Most small gzip bodies unpack to small messages, for which the other process would cost more.
                with suppress(RequestTooLarge):
                    return await self._handled(inflate(body, SMALL_BYTES), request)
            if self._decoder is None:
                return await self._handled(inflate(body, sys.maxsize - 1) if packed else body, request)
            message = await self._decoder.take(body, self._params, packed=packed, most=self._most_items)
        except RpcError as error:
            return await self._runner.refuse(error, request)
        try:
            return await self._taken(message, request)
        finally:
            # The other process keeps the samples until then, also when a call fails.
            message.close()

    async def _taken(self, message: Message, request: RpcRequest) -> Reply:
        taken = message.taken
        if taken.batch:
            first = taken.parts[0].id if taken.parts else None
            refused = await self._batches.refused(taken.count, first, request)
            calls, begin = range(len(taken.parts)), partial(self._part, message)
            return refused or await self._batches.together(calls, begin, request)
        answer = await self._part(message, 0, request)
        return Reply(None) if answer is None else answer.reply

    async def _part(self, message: Message, index: int, request: RpcRequest) -> ItemAnswer | None:
        """One call of a large message; None for a notification."""
        part = message.taken.parts[index]
        if part.fault is not None and not part.method:
            call_id = part.id or NULL
            return ItemAnswer(Call(request, ""), call_id, await self._runner.refuse(part.fault.error, request, call_id))
        readable = {name: Raw(msgspec.json.encode(value)) for name, value in part.readable.items()}
        samples = RemoteSamples(message, index) if part.samples else None
        call = Call(request, part.method, readable, kept=samples)
        outcome = await self._runner.run(call, self._run_part, part)
        return None if part.id is None else ItemAnswer(call, part.id, reply_to(part.id, outcome, request))

    async def _run_part(self, call: Call, part: TakenCall) -> bytes:
        # Not by way of jsonrpcserver: the params of a large call come as Python values, bound and checked already.
        method = self._methods.get(part.method)
        if method is None:
            raise self._bridge.unknown(part.method)
        if part.fault is not None:
            raise part.fault.error
        call.given = msgspec.convert({**(part.params or {}), **dict.fromkeys(part.samples, KEPT)}, method.params)
        try:
            return await method.run(call, call.given)
        except InvalidParams as error:
            raise method.binder.repoint(error) if part.positional else error from None
