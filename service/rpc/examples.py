"""An example for every method, made from the models that are live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
import numpy as np

from service.rpc.arrays import Codec
from service.rpc.bounds import bounds_of
from service.rpc.results import describe, summaries
from service.types import STRING, Array, Catalog, ModelStatus, PredictAnswer, Signature, TensorSpec, VersionStatus

__all__ = ["Example", "example_instance", "example_of"]

_SAMPLE_ID = bytes.fromhex("0198c2f47b6a7cc0a1d25c3be4f60718")
"""A UUIDv7, for show."""


@dataclass(frozen=True, slots=True)
class Example:
    """One call and what it answers, both JSON-ready for orjson with NumPy."""

    params: Mapping[str, Any]
    result: Any


def example_of(method: str, catalog: Catalog) -> Example:
    """The example of one method; of no particular model while none is known."""
    model, version = _shown(catalog)
    name = "digits" if model is None else model.name
    number = 1 if version is None else version.version
    if method == "predict":
        return _predict(name, version)
    if method == "label":
        return _label(version)
    if method == "alarms.reset":
        params = {"model": name, "version": number, "reason": "a new kind of camera"}
        return Example(params, {"model": name, "version": number, "accepted": True})
    if method == "models.list":
        return Example({}, msgspec.to_builtins(summaries(catalog)))
    if method == "models.describe":
        return Example({"model": name}, {} if model is None else msgspec.to_builtins(describe(model, None)))
    if method == "models.route":
        return Example({"model": name, "stable": number}, {"model": name, "stable": number})
    if method == "models.scan" or not method.startswith("models."):
        return Example({}, {})
    return Example({"model": name, "version": number}, {"model": name, "version": number})


def example_instance(signature: Signature) -> Any:
    """A sample that keeps to the contract, in row form; as small and as near to zero as it allows."""
    values = {spec.name: _value(spec) for spec in signature.inputs}
    return next(iter(values.values())) if len(values) == 1 else values


def _shown(catalog: Catalog) -> tuple[ModelStatus | None, VersionStatus | None]:
    """The first model that answers, by name, with its stable version."""
    for _, model in sorted(catalog.models.items()):
        version = model.version(model.roles["stable"]) if "stable" in model.roles else None
        if version is not None and version.signature is not None:
            return model, version
    return next(iter(catalog.models.values()), None), None


def _predict(model: str, version: VersionStatus | None) -> Example:
    if version is None or version.signature is None:
        return Example({"model": model, "instances": [0.0]}, {})
    given = (version.manifest or {}).get("example_instance")
    instance = example_instance(version.signature) if given is None else given
    result = {
        "model": model,
        "version": version.version,
        "predictions": Codec(version.signature).encode(_answer(version.version, version.signature)),
        "timing": {"queue_ms": 0.05, "infer_ms": 0.4, "batch": 1},
    }
    return Example({"model": model, "instances": [instance]}, result)


def _label(version: VersionStatus | None) -> Example:
    signature = None if version is None else version.signature
    labels = (signature and signature.labels) or ("chair",)
    several = signature is not None and signature.task == "multi-label"
    params = {"sample_id": str(UUID(bytes=_SAMPLE_ID)), "label": list(labels[:2]) if several else labels[0]}
    return Example(params, {"accepted": 1})


def _answer(version: int, signature: Signature) -> PredictAnswer:
    """What an answer of this signature looks like."""
    return PredictAnswer(
        version=version,
        role="stable",
        sample_ids=_SAMPLE_ID,
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


def _value(spec: TensorSpec) -> Any:
    value = _element(spec)
    if spec.shape == (1,):
        return value
    for least in reversed(spec.least):
        value = [value] * max(1, least)
    return value


def _element(spec: TensorSpec) -> Any:
    if spec.allowed is not None:
        return spec.allowed[0]
    if spec.dtype == STRING:
        return "example"[: spec.max_length]
    if spec.dtype == "bool":
        return False
    bounds = bounds_of(spec)
    nearest = min(max(0.0, bounds.low), bounds.high)
    return int(nearest) if bounds.integral else nearest
