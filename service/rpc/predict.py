"""The method `predict`: from checked params to the encoded result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from service.errors import InvalidParams, NotReady, StaleSignature
from service.rpc.arrays import Codec
from service.rpc.call import Call, Limits
from service.rpc.codecs import CodecBook, Route
from service.rpc.fastdecode import Columns, NotPlain
from service.rpc.params import ABSENT, PredictParams, refuse_nul
from service.rpc.words import token
from service.types import EnginePort, PredictAnswer, PredictCall

__all__ = ["Predictor"]

_ATTEMPTS = 2
_SMALL_BYTES = 64 * 1024
_CATALOG_WAIT_S = 0.5


class Predictor:
    """Carries out `predict` calls on an engine."""

    def __init__(self, engine: EnginePort, book: CodecBook, limits: Limits) -> None:
        self._engine = engine
        self._book = book
        self._limits = limits
        self._long_decode = asyncio.Semaphore(1)

    async def __call__(self, call: Call, params: PredictParams) -> bytes:
        """The result as JSON text.

        Raises:
            RpcError: InvalidParams, NotFound, or whatever the engine refuses the call with.
        """
        deadline = self._deadline(call, params)
        if (params.instances is ABSENT) == (params.inputs is ABSENT):
            raise InvalidParams("", "either instances or inputs", "both" if params.inputs is not ABSENT else "neither")
        if params.tags is not None:
            _check_tags(params.tags)
        call.model = params.model
        route = self._route(call, params)
        try:
            columns = _plain(route.codec, params)
        except NotPlain as stopped:
            columns = await self._exact(route.codec, params, stopped)
        try:
            answer = await self._engine.predict(_encoded(call, params, route.codec, columns, deadline))
        except StaleSignature:
            route, answer = await self._again(call, params, route, deadline)
        codec = route.codec
        if answer.version != route.version:
            codec = self._book.answering(params.model, answer.version)
        call.version, call.role = answer.version, answer.role
        return _result(params, codec, answer)

    def _deadline(self, call: Call, params: PredictParams) -> float:
        longest = self._limits.max_deadline_ms
        wanted = self._limits.default_deadline_ms if params.deadline_ms is None else params.deadline_ms
        if wanted > longest:
            raise InvalidParams("/deadline_ms", f"a number from 1 to {longest:g}", f"{wanted:g}")
        return call.request.received_at + wanted / 1000

    async def _exact(self, codec: Codec, params: PredictParams, stopped: NotPlain) -> Columns:
        """Columns by the exact way; off the event loop where that takes long, and one such call at a time."""
        rows = params.instances is not ABSENT
        raw, decode = (params.instances, codec.exact_instances) if rows else (params.inputs, codec.exact_inputs)
        if len(bytes(raw)) <= _SMALL_BYTES:
            return decode(raw, stopped)
        async with self._long_decode:
            return await asyncio.to_thread(decode, raw, stopped)

    def _route(self, call: Call, params: PredictParams) -> Route:
        route = self._book.route(params.model, params.version)
        call.version = route.version
        call.role = params.version if isinstance(params.version, str) else None
        return route

    async def _again(
        self, call: Call, params: PredictParams, stale: Route, deadline: float
    ) -> tuple[Route, PredictAnswer]:
        """The answer to a call whose version changed its inputs under way: it is encoded anew."""
        for _ in range(_ATTEMPTS):
            if self._book.route(params.model, params.version).codec is stale.codec:
                await self._book.changed(_CATALOG_WAIT_S)
            route = self._route(call, params)
            columns = await self._exact(route.codec, params, NotPlain())
            try:
                return route, await self._engine.predict(_encoded(call, params, route.codec, columns, deadline))
            except StaleSignature:
                stale = route
        raise NotReady("The model's inputs are changing", retry_after_ms=1000)


def _check_tags(tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        if "\0" in name or "\0" in value:
            place = f"/tags/{token(name)}"
            refuse_nul(place, name)
            refuse_nul(place, value)


def _plain(codec: Codec, params: PredictParams) -> Columns:
    return codec.plain_inputs(params.inputs) if params.instances is ABSENT else codec.plain_instances(params.instances)


def _encoded(call: Call, params: PredictParams, codec: Codec, decoded: Columns, deadline: float) -> PredictCall:
    columns, n = decoded
    return PredictCall(
        model=params.model,
        version=params.version,
        fingerprint=codec.fingerprint,
        columns=columns,
        n=n,
        deadline=deadline,
        want_outputs=codec.wants_outputs(top_k=params.top_k, outputs=params.outputs),
        request_id=call.request.request_id,
        traceparent=call.request.traceparent,
        tags=params.tags,
    )


def _result(params: PredictParams, codec: Codec, answer: PredictAnswer) -> bytes:
    head = f'{{"model":"{params.model}","version":{answer.version},"predictions":'  # an existing model's name is plain
    timing = f'"queue_ms":{answer.queue_ms:.3f},"infer_ms":{answer.infer_ms:.3f},"batch":{answer.batch}'
    predictions = codec.encode_text(answer, top_k=params.top_k, outputs=params.outputs)
    return b'%b%b,"timing":{%b}}' % (head.encode(), predictions, timing.encode())
