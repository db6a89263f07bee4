"""The method `predict`: from checked params to the encoded result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, UnsetType

from hoverboard.codec.arrays import Codec
from hoverboard.codec.error_words import token
from hoverboard.codec.json_fast import Columns, NotPlain
from hoverboard.contract.calls import EnginePort, PredictAnswer, PredictCall
from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.errors import (
    DeadlineExceeded,
    InvalidParams,
    ModelFailed,
    ModelNotFound,
    NonFiniteOutput,
    NotReady,
    Overloaded,
    ResponseTooLarge,
    StaleSignature,
    VersionNotFound,
)
from hoverboard.rpc.call import Call, CallLimits
from hoverboard.rpc.codecs import CodecBook, Route
from hoverboard.rpc.examples import SHOWN_ID, Example, Shown, example_instance
from hoverboard.rpc.fields import ABSENT, ModelName, Tags, VersionOrRole, refuse_nul
from hoverboard.rpc.large_messages import Decoder
from hoverboard.rpc.methods.method import Method

__all__ = ["PredictParams", "PredictResult", "predict"]

_ATTEMPTS = 2
_SMALL_BYTES = 16 * 1024
"""Samples up to this are decoded here even if that has to go the exact way: some milliseconds."""
_AT_ONCE = 1024
"""Predictions, or sixteens of output elements, that are encoded in one go: some milliseconds."""
_CATALOG_WAIT_S = 0.5

_DEADLINE = Meta(
    description="Milliseconds from arrival after which no answer is wanted; the setting `default_deadline_ms` when left out. "
    "A call that cannot make it is refused at once.",
    ge=1,
)
_INSTANCES = Meta(
    description="Samples in row form: each the bare value of a one-input model, or an object by input name. "
    '`{"b64": ...}` stands for bytes, `{"b64": ..., "dtype": ..., "shape": [...]}` for a little-endian tensor; '
    "null for a number that is not there (NaN), where an input's `finite` is false. Either this or `inputs`.",
    extra_json_schema={"type": "array", "items": {}, "minItems": 1},
)
_INPUTS = Meta(
    description="The same in column form: an object of arrays by input name, all equally long. Either this or `instances`.",
    extra_json_schema={"type": "object", "additionalProperties": {}, "minProperties": 1},
)
_LABEL = Meta(description="Classification: the most probable class.")
_CONFIDENCE = Meta(description="Classification: that class's probability.", ge=0, le=1)
_TOP = Meta(description="Classification and multi-label: the `top_k` most probable ones, most probable first.")
_LABELS = Meta(description="Multi-label: every label at or above its threshold, most probable first; empty for none.")
_VALUE = Meta(description="Regression: the predicted value.")
_P_VALUE = Meta(description="Conformal p-value: how usual the sample is. Null for a version without calibration.")
_NEAREST = Meta(
    description="The most probable label, where `label` is `Uncategorized`, or `labels` empty, because the sample is too strange."
)
_OUTPUTS = Meta(description="The model's outputs by name: when asked for, and always for embedding and raw tasks.")


class PredictParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: ModelName
    instances: Annotated[Raw, _INSTANCES] = ABSENT
    inputs: Annotated[Raw, _INPUTS] = ABSENT
    version: VersionOrRole = "stable"
    deadline_ms: Annotated[float, _DEADLINE] | None = None
    top_k: Annotated[int, Meta(description="How many classes `top` lists, most probable first.", ge=1, le=10_000)] = 1
    outputs: Annotated[bool, Meta(description="Whether predictions carry the model's whole outputs.")] = False
    tags: Tags | None = None


class TopClass(msgspec.Struct):
    label: Annotated[str, Meta(description="The class, or one of several labels.")]
    confidence: Annotated[float, Meta(description="Its probability.", ge=0, le=1)]


class Prediction(msgspec.Struct, kw_only=True):
    sample_id: Annotated[str, Meta(description="UUIDv7 under which the sample is remembered.")]
    label: Annotated[str, _LABEL] | UnsetType = UNSET
    confidence: Annotated[float, _CONFIDENCE] | UnsetType = UNSET
    labels: Annotated[list[TopClass], _LABELS] | UnsetType = UNSET
    top: Annotated[list[TopClass], _TOP] | UnsetType = UNSET
    value: Annotated[float, _VALUE] | UnsetType = UNSET
    p_value: Annotated[float | None, _P_VALUE]
    outlier: Annotated[bool | None, Meta(description="Whether `p_value` is at most alpha. Null without calibration.")]
    nearest: Annotated[str, _NEAREST] | UnsetType = UNSET
    outputs: Annotated[dict[str, Any], _OUTPUTS] | UnsetType = UNSET


class Timing(msgspec.Struct):
    queue_ms: Annotated[float, Meta(description="Longest wait of the call's samples, in milliseconds.", ge=0)]
    infer_ms: Annotated[float, Meta(description="Execution time of the batch, in milliseconds.", ge=0)]
    batch: Annotated[int, Meta(description="Samples that shared the batch.", ge=1)]


class PredictResult(msgspec.Struct):
    model: Annotated[str, Meta(description="The model that answered.")]
    version: Annotated[int, Meta(description="The version that answered.")]
    predictions: Annotated[list[Prediction], Meta(description="One per sample, in the samples' order.")]
    timing: Annotated[Timing, Meta(description="How long it took.")]


def predict(engine: EnginePort, book: CodecBook, limits: CallLimits, decoder: Decoder | None) -> Method[PredictParams]:
    """The method."""
    return Method(
        "predict",
        PredictParams,
        _Predictor(engine, book, limits, decoder).__call__,
        "What a model says about some samples.",
        PredictResult,
        _example,
        (
            ModelNotFound,
            VersionNotFound,
            NotReady,
            Overloaded,
            DeadlineExceeded,
            ModelFailed,
            NonFiniteOutput,
            ResponseTooLarge,
        ),
    )


class _Predictor:
    """Carries out `predict` calls on an engine."""

    def __init__(self, engine: EnginePort, book: CodecBook, limits: CallLimits, decoder: Decoder | None = None) -> None:
        self._engine = engine
        self._book = book
        self._limits = limits
        self._decoder = decoder

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
            answer = await self._engine.predict(await self._encoded(call, params, route.codec, deadline))
        except StaleSignature:
            route, answer = await self._again(call, params, route, deadline)
        codec = route.codec
        # The role moved on while the call waited; its inputs are the same, or it would be stale.
        if answer.version != route.version:
            codec = self._book.answering(params.model, answer.version)
        call.version, call.role = answer.version, answer.role
        # Nearly every answer: a task switch would cost more than encoding it.
        if _weight(answer) <= _AT_ONCE:
            return _result(params, answer, codec.encode_text(answer, top_k=params.top_k, outputs=params.outputs))
        return _result(params, answer, await self._encoded_text(codec, params, answer))

    def _deadline(self, call: Call, params: PredictParams) -> float:
        longest = self._limits.max_deadline_ms
        deadline_ms = self._limits.default_deadline_ms if params.deadline_ms is None else params.deadline_ms
        if deadline_ms > longest:
            raise InvalidParams("/deadline_ms", f"a number from 1 to {longest:g}", f"{deadline_ms:g}")
        return call.request.received_at + deadline_ms / 1000

    async def _encoded(self, call: Call, params: PredictParams, codec: Codec, deadline: float) -> PredictCall:
        """The call for the engine; samples that take long to decode are decoded elsewhere."""
        if call.kept is not None:
            _refuse_late(deadline)
            name = "instances" if params.inputs is ABSENT else "inputs"
            packed, n = await call.kept.message.columns(call.kept.index, codec.signature, name)
            return _call(call, params, codec, deadline, n, packed=packed)
        try:
            columns, n = _plain(codec, params)
        except NotPlain as stopped:
            rows = params.inputs is ABSENT
            raw, decode = (params.instances, codec.exact_instances) if rows else (params.inputs, codec.exact_inputs)
            # The exact way takes seconds for megabytes, the fast one milliseconds: only the exact one goes to the
            # other process.
            if self._decoder is not None and len(bytes(raw)) > _SMALL_BYTES:
                name = "instances" if rows else "inputs"
                packed, n = await self._decoder.columns(bytes(raw), codec.signature, name)
                return _call(call, params, codec, deadline, n, packed=packed)
            columns, n = decode(raw, stopped)
        return _call(call, params, codec, deadline, n, columns)

    async def _encoded_text(self, codec: Codec, params: PredictParams, answer: PredictAnswer) -> bytes:
        """The predictions of a long answer, encoded in pieces: other calls have their turns between them."""
        n, parts, size = len(answer.sample_ids) // 16, [], 0
        step = max(1, n * _AT_ONCE // _weight(answer))
        for start in range(0, n, step):
            piece = _rows(answer, start, start + step)
            parts.append(codec.encode_text(piece, top_k=params.top_k, outputs=params.outputs)[1:-1])
            size += len(parts[-1])
            if size > self._limits.max_response_bytes:
                break  # it is refused: no need for the rest
            await asyncio.sleep(0)
        return b"[%b]" % b",".join(parts)

    def _route(self, call: Call, params: PredictParams) -> Route:
        route = self._book.route(params.model, params.version)
        call.version = route.version
        call.role = params.version if isinstance(params.version, str) else None
        return route

    async def _again(
        self, call: Call, params: PredictParams, stale: Route, deadline: float
    ) -> tuple[Route, PredictAnswer]:
        """The answer to a call whose version changed its inputs under way: it is encoded anew."""
        # Few: inputs that change faster than a call travels are somebody's mistake.
        for _ in range(_ATTEMPTS):
            # The engine knew of the change before this process did: its catalog is on the way.
            if self._book.route(params.model, params.version).codec is stale.codec:
                await self._book.changed(_CATALOG_WAIT_S)
            route = self._route(call, params)
            try:
                return route, await self._engine.predict(await self._encoded(call, params, route.codec, deadline))
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


def _weight(answer: PredictAnswer) -> int:
    """How long an answer takes to encode, in predictions."""
    n = len(answer.sample_ids) // 16
    return n if answer.outputs is None else max(n, sum(column.size for column in answer.outputs) // 16)


def _rows(answer: PredictAnswer, start: int, stop: int) -> PredictAnswer:
    """Some samples' part of an answer."""
    parts: dict[str, Any] = {"sample_ids": answer.sample_ids[16 * start : 16 * stop]}
    for name, value in msgspec.structs.asdict(answer).items():
        if isinstance(value, np.ndarray):
            parts[name] = value[start:stop]
        elif isinstance(value, tuple):
            parts[name] = tuple(column[start:stop] for column in value)
    return msgspec.structs.replace(answer, **parts)


def _refuse_late(deadline: float) -> None:
    """Pass a call that can still be in time; decoding megabytes for one that cannot helps nobody."""
    if time.monotonic() > deadline:
        raise DeadlineExceeded


def _call(  # noqa: PLR0917 - on the way of every call; positional arguments are quicker
    call: Call,
    params: PredictParams,
    codec: Codec,
    deadline: float,
    n: int,
    columns: tuple[Array, ...] = (),
    packed: bytes | None = None,
) -> PredictCall:
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
        packed=packed,
        source=call.request.source,
    )


def _result(params: PredictParams, answer: PredictAnswer, predictions: bytes) -> bytes:
    head = f'{{"model":"{params.model}","version":{answer.version},"predictions":'  # an existing model's name is plain
    timing = f'"queue_ms":{answer.queue_ms:.3f},"infer_ms":{answer.infer_ms:.3f},"batch":{answer.batch}'
    return b'%b%b,"timing":{%b}}' % (head.encode(), predictions, timing.encode())


def _example(shown: Shown) -> Example:
    signature = shown.signature
    if signature is None or shown.version is None:
        return Example({"model": shown.name, "instances": [0.0]}, {})
    golden = (shown.version.manifest or {}).get("example_instance")
    instance = example_instance(signature) if golden is None else golden
    result = {
        "model": shown.name,
        "version": shown.number,
        "predictions": Codec(signature).encode(_answer(shown.number, signature)),
        "timing": {"queue_ms": 0.05, "infer_ms": 0.4, "batch": 1},
    }
    return Example({"model": shown.name, "instances": [instance]}, result)


def _answer(version: int, signature: Signature) -> PredictAnswer:
    """What an answer of this signature looks like."""
    return PredictAnswer(
        version=version,
        role="stable",
        sample_ids=SHOWN_ID,
        label_index=np.zeros(1, np.int32),
        confidence=np.ones(1, np.float32),
        value=np.zeros(1, np.float32),
        outputs=tuple(_zeros(spec) for spec in signature.outputs),
        p_value=None,
        queue_ms=0.05,
        infer_ms=0.4,
        batch=1,
    )


def _zeros(spec: TensorSpec) -> Array:
    shape = (1, *(dim or 1 for dim in spec.shape))
    return np.full(shape, b"", dtype=object) if spec.dtype == STRING else np.zeros(shape, spec.dtype)
