"""An engine in memory: each model's versions compute a linear function of their inputs, or whatever they are told to."""

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from hoverboard.contract.calls import PredictAnswer, PredictCall
from hoverboard.contract.catalog import BucketTiming, Catalog, ModelStatus, VersionStatus
from hoverboard.contract.signature import Array, Signature, TensorSpec
from hoverboard.errors import ModelNotFound, NotReady, StaleSignature, VersionNotFound
from hoverboard.journal.columns import Column, column_array

DIGITS = Signature(
    task="classification",
    inputs=(TensorSpec("pixels", "float32", (64,), min=0.0, max=16.0),),
    outputs=(TensorSpec("probabilities", "float32", (10,)),),
    labels=tuple("0123456789"),
)
PRODUCTS = Signature(
    task="classification",
    inputs=(TensorSpec("text", "string", (), max_length=1000),),
    outputs=(TensorSpec("logits", "float32", (3,)),),
    labels=("Vehicles", "Toys", "Tools"),
    head="logits",
)
DIAMONDS = Signature(
    task="regression",
    inputs=(
        TensorSpec("carat", "float32", (1,), min=0.0, max=10.0),
        TensorSpec("cut", "string", (1,), allowed=("Fair", "Good", "Ideal")),
        TensorSpec("count", "uint8", ()),
    ),
    outputs=(TensorSpec("price", "float32", (1,)),),
)
SERIES = Signature(
    task="raw",
    inputs=(TensorSpec("steps", "float32", (None, 2), max_length=8),),
    outputs=(TensorSpec("sum", "float32", (2,)), TensorSpec("name", "string", ())),
)


def live(version: int, signature: Signature) -> VersionStatus:
    """A live version with made-up timings."""
    manifest = {"name": "made in memory", "version": version, "task": signature.task}
    return VersionStatus(
        version,
        "live",
        signature=signature,
        manifest=manifest,
        executor="numpy",
        buckets=(BucketTiming(1, 0.01, 0.02),),
        memory_bytes=1024,
        load_ms=1.5,
    )


def model(name: str, *versions: VersionStatus, stable: int | None = 1) -> ModelStatus:
    """A model whose stable version is given; None for no live one."""
    return ModelStatus(name, {} if stable is None else {"stable": stable}, versions)


def default_catalog() -> Catalog:
    models = [
        model("digits", live(1, DIGITS), live(2, DIGITS)),
        model("products", live(1, PRODUCTS)),
        model("diamonds", live(1, DIAMONDS)),
        model("series", live(1, SERIES)),
        model("broken", VersionStatus(1, "refused", reason="checksum", signature=None), stable=None),
        model("sleepy", live(1, DIGITS), VersionStatus(2, "available", signature=DIGITS), VersionStatus(3, "loading")),
    ]
    return Catalog({status.name: status for status in models}, generation=1, ready=True)


@dataclass
class LinearEngine:
    """An `EnginePort` in this process.

    Attributes:
        failure: raised by every predict, when set.
        gate: calls wait here while it is unset.
        calls: every call that arrived.
        batches: how many calls arrived in the same turn of the event loop, turn by turn.
    """

    catalog: Catalog = field(default_factory=default_catalog)
    connected: bool = True
    failure: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[PredictCall] = field(default_factory=list)
    admin_calls: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    cancelled: int = 0
    p_value: float | None = None

    def __post_init__(self) -> None:
        self.gate.set()
        self._listeners: list[Callable[[Catalog], None]] = []
        self._ids = itertools.count(1)

    def subscribe(self, listener: Callable[[Catalog], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        listener(self.catalog)
        return lambda: self._listeners.remove(listener)

    def publish(self, *models: ModelStatus, ready: bool = True) -> None:
        """Replace some models and tell everybody."""
        merged = {**self.catalog.models, **{status.name: status for status in models}}
        self.catalog = Catalog(merged, self.catalog.generation + 1, ready)
        for listener in self._listeners:
            listener(self.catalog)

    async def predict(self, call: PredictCall) -> PredictAnswer:
        self._count_tick()
        self.calls.append(call)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        status, role = self._resolve(call)
        signature = status.signature
        assert signature is not None
        if signature.fingerprint != call.fingerprint:
            raise StaleSignature
        return self._answer(call, status.version, role, signature)

    async def admin(self, action: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        self.admin_calls.append((action, dict(params)))
        if self.failure is not None:
            raise self.failure
        return {"action": action, "params": dict(params)}

    def _count_tick(self) -> None:
        if not self.ticks or self.ticks[-1] == 0:
            self.ticks.append(0)
            asyncio.get_running_loop().call_soon(self.ticks.append, 0)
        self.ticks[-1] += 1

    def _resolve(self, call: PredictCall) -> tuple[VersionStatus, str | None]:
        status = self.catalog.models.get(call.model)
        if status is None:
            raise ModelNotFound
        role = call.version if isinstance(call.version, str) else None
        number = status.roles.get(call.version) if isinstance(call.version, str) else call.version
        version = None if number is None else status.version(number)
        if version is None:
            raise VersionNotFound
        if version.state != "live":
            raise NotReady(retry_after_ms=1000)
        return version, role

    def _answer(self, call: PredictCall, version: int, role: str | None, signature: Signature) -> PredictAnswer:
        packed = [] if call.packed is None else msgspec.msgpack.decode(call.packed, type=list[Column])
        columns = call.columns or [column_array(column) for column in packed]
        score = np.sum([_numbers(column) for column in columns], axis=0)
        ids = b"".join(next(self._ids).to_bytes(16, "big") for _ in range(call.n))
        outputs = tuple(_output(spec, score * version) for spec in signature.outputs)
        first = outputs[0].reshape(call.n, -1)
        classes = signature.task == "classification"
        return PredictAnswer(
            version=version,
            role=role,
            sample_ids=ids,
            label_index=first.argmax(axis=1).astype(np.int32) if classes else None,
            confidence=_confidence(first, signature) if classes else None,
            value=first[:, 0].astype(np.float32) if signature.task == "regression" else None,
            outputs=outputs if call.want_outputs else None,
            p_value=None if self.p_value is None else np.full(call.n, self.p_value, np.float32),
            queue_ms=0.125,
            infer_ms=0.5,
            batch=call.n,
        )


def _numbers(column: Array) -> Array:
    """One number a sample, whatever the dtype; strings count by a digest."""
    numbers: Array
    if column.dtype == object:
        digests = [hashlib.sha256(data).digest()[0] for data in column.reshape(len(column))]
        numbers = np.array(digests, dtype=np.float64)
    else:
        numbers = column.reshape(len(column), -1).sum(axis=1, dtype=np.float64)
    return numbers


def _output(spec: TensorSpec, score: Array) -> Array:
    if spec.dtype == "string":
        return np.array([f"{value:g}".encode() for value in score], dtype=object)
    width = int(np.prod([dim or 1 for dim in spec.shape]))
    weights = np.arange(1, width + 1)
    raw = np.outer(score, weights)
    if spec.name == "probabilities":
        raw = np.abs(np.sin(raw + weights)) + 1e-3
        raw = raw / raw.sum(axis=1, keepdims=True)
    elif spec.name == "logits":
        raw = np.sin(raw + weights)
    return raw.reshape(len(score), *spec.shape).astype(spec.dtype)


def _confidence(first: Array, signature: Signature) -> Array:
    if signature.head == "logits":
        shifted = np.exp(first.astype(np.float64) - first.max(axis=1, keepdims=True))
        first = shifted / shifted.sum(axis=1, keepdims=True)
    best: Array = first.max(axis=1).astype(np.float32)
    return best


def with_signature(status: ModelStatus, number: int, signature: Signature) -> ModelStatus:
    """The same model, one version of it with another signature."""
    versions = tuple(
        replace(version, signature=signature) if version.version == number else version for version in status.versions
    )
    return replace(status, versions=versions)


__all__ = [
    "DIAMONDS",
    "DIGITS",
    "PRODUCTS",
    "SERIES",
    "LinearEngine",
    "default_catalog",
    "live",
    "model",
    "with_signature",
]
