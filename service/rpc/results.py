"""The results of every method as msgspec structs: what the OpenRPC document is built from, and what fills them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.rpc.promise import promise
from service.types import BucketTiming, Catalog, ModelStatus, Signature, TensorSpec, VersionStatus

__all__ = [
    "AlarmResetResult",
    "Bucket",
    "LabelResult",
    "LastFailure",
    "ModelDescription",
    "ModelList",
    "ModelSummary",
    "PredictResult",
    "Prediction",
    "Tensor",
    "Timing",
    "TopClass",
    "VersionDescription",
    "describe",
    "summaries",
]


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


_LAST_FAILURE = Meta(description="Admin listener only: the last sample that failed in its graph, since it was loaded.")


class TopClass(msgspec.Struct):
    label: str
    confidence: Annotated[float, Meta(ge=0, le=1)]


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
    model: str
    version: Annotated[int, Meta(description="The version that answered.")]
    predictions: Annotated[list[Prediction], Meta(description="One per sample, in the samples' order.")]
    timing: Timing


class LabelResult(msgspec.Struct):
    accepted: Annotated[int, Meta(description="Labels that were written down.", ge=1)]


class AlarmResetResult(msgspec.Struct):
    model: str
    version: int
    accepted: Annotated[bool, Meta(description="It is written down; the recorder resets the alarm when it reads it.")]


class ModelSummary(msgspec.Struct):
    name: str
    ready: Annotated[bool, Meta(description="Whether a version answers in the role `stable`.")]
    roles: Annotated[dict[str, int], Meta(description="Role -> the version that fills it.")]
    versions: Annotated[list[int], Meta(description="Every version on disk.")]
    task: Annotated[str | None, Meta(description="The stable version's task.")]
    problem: Annotated[str | None, Meta(description="What keeps the wished-for configuration from being in force.")]


class ModelList(msgspec.Struct):
    models: list[ModelSummary]


class Tensor(msgspec.Struct, omit_defaults=True):
    name: str
    dtype: str
    shape: Annotated[list[int | None], Meta(description="Of one sample; null is a variable dimension.")]
    finite: Annotated[bool, Meta(description="False: null is taken for a number, and stands for NaN.")]
    min: float | None = None
    max: float | None = None
    max_length: int | None = None
    min_length: Annotated[
        int | list[int] | None, Meta(description="One number, or one for each variable dimension.")
    ] = None
    allowed: list[str | float] | None = None
    description: str = ""


class Bucket(msgspec.Struct):
    size: int
    mean_ms: float
    p99_ms: float


class LastFailure(msgspec.Struct):
    at: Annotated[str, Meta(description="When, in UTC.")]
    reason: Annotated[str, Meta(description="The graph's own; not shown where inputs are redacted or not recorded.")]


class VersionDescription(msgspec.Struct):
    version: int
    state: Annotated[str, Meta(description="live, loading, available or refused.")]
    reason: Annotated[str | None, Meta(description="Why it is refused.")]
    task: str | None
    inputs: Annotated[list[Tensor], Meta(description="Empty until the manifest has been read.")]
    outputs: list[Tensor]
    labels: list[str] | None
    executor: Annotated[str | None, Meta(description="How its graph runs; null unless live.")]
    buckets: Annotated[list[Bucket], Meta(description="Batch buckets with their timings, l(b); empty unless live.")]
    pinned: bool
    memory_bytes: int | None
    load_ms: float | None
    sandbox: Annotated[
        str | None,
        Meta(
            description="What kept it from reaching out while it was tried in a process of its own; null unless live."
        ),
    ]
    outliers: Annotated[str | None, Meta(description="What the version promises about outliers, in words.")]
    manifest: dict[str, Any] | None
    last_failure: Annotated[LastFailure | None, _LAST_FAILURE] | UnsetType = UNSET


class ModelDescription(msgspec.Struct):
    name: str
    ready: bool
    roles: dict[str, int]
    problem: str | None
    serving: Annotated[dict[str, Any], Meta(description="What serving.toml says, defaults filled in.")]
    versions: list[VersionDescription]


def summaries(catalog: Catalog) -> ModelList:
    """Every model in brief, by name."""
    return ModelList([_summary(model) for _, model in sorted(catalog.models.items())])


def describe(model: ModelStatus, version: int | None) -> ModelDescription:
    """One model, with one of its versions or all of them."""
    chosen = [status for status in model.versions if version in (None, status.version)]
    return ModelDescription(
        name=model.name,
        ready="stable" in model.roles,
        roles=dict(model.roles),
        problem=model.problem,
        serving=dict(model.serving),
        versions=[_version(status) for status in chosen],
    )


def _summary(model: ModelStatus) -> ModelSummary:
    stable = model.version(model.roles["stable"]) if "stable" in model.roles else None
    signature = None if stable is None else stable.signature
    return ModelSummary(
        name=model.name,
        ready="stable" in model.roles,
        roles=dict(model.roles),
        versions=[status.version for status in model.versions],
        task=None if signature is None else signature.task,
        problem=model.problem,
    )


def _version(status: VersionStatus) -> VersionDescription:
    signature: Signature | None = status.signature
    return VersionDescription(
        version=status.version,
        state=status.state,
        reason=status.reason,
        task=None if signature is None else signature.task,
        inputs=[] if signature is None else [_tensor(spec) for spec in signature.inputs],
        outputs=[] if signature is None else [_tensor(spec) for spec in signature.outputs],
        labels=None if signature is None or signature.labels is None else list(signature.labels),
        executor=status.executor,
        buckets=[_bucket(timing) for timing in status.buckets],
        pinned=status.pinned,
        memory_bytes=status.memory_bytes,
        load_ms=status.load_ms,
        sandbox=status.sandbox,
        outliers=promise(status.manifest),
        manifest=None if status.manifest is None else dict(status.manifest),
    )


def _tensor(spec: TensorSpec) -> Tensor:
    return Tensor(
        name=spec.name,
        dtype=spec.dtype,
        shape=list(spec.shape),
        finite=spec.finite,
        min=spec.min,
        max=spec.max,
        max_length=spec.max_length,
        min_length=list(spec.min_length) if isinstance(spec.min_length, tuple) else spec.min_length,
        allowed=None if spec.allowed is None else list(spec.allowed),
        description=spec.description,
    )


def _bucket(timing: BucketTiming) -> Bucket:
    return Bucket(timing.size, round(timing.mean_ms, 4), round(timing.p99_ms, 4))
