"""The method `models.describe`: one model, with what its versions take, answer and cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hoverboard.contract.catalog import BucketTiming, ModelStatus, VersionStatus
from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import ModelNotFound, NotReady, VersionNotFound
from hoverboard.rpc.call import Call
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.examples import Example, Shown
from hoverboard.rpc.fields import ModelName, VersionNumber
from hoverboard.rpc.methods.method import Method
from hoverboard.rpc.promise import promise

__all__ = ["LastFailure", "describe", "models_describe"]

Failures = Callable[[str], Awaitable[Mapping[str, "LastFailure"]]]
"""A model's name -> the last failure of each version, by its number as text."""

_LAST_FAILURE = Meta(description="Admin listener only: the last sample that failed in its graph, since it was loaded.")


class DescribeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: ModelName
    version: Annotated[VersionNumber | None, Meta(description="Only this version; all of them when left out.")] = None


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


def models_describe(book: CodecBook, failures: Failures | None = None) -> Method[DescribeParams]:
    """The method.

    Args:
        failures: where the last failures are asked for; None does not tell them.
    """

    async def run(call: Call, params: DescribeParams) -> bytes:
        model = book.catalog.models.get(params.model)
        if model is None:
            raise book.missing(params.model)
        call.model = params.model
        if params.version is not None and model.version(params.version) is None:
            raise book.missing(params.model, params.version)
        described = describe(model, params.version)
        if failures is not None:
            last = await failures(params.model)
            for version in described.versions:
                version.last_failure = last.get(str(version.version))
        return msgspec.json.encode(described)

    return Method(
        "models.describe",
        DescribeParams,
        run,
        "One model: what its versions take, answer and cost.",
        ModelDescription,
        _example,
        (ModelNotFound, VersionNotFound, NotReady),
    )


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


def _example(shown: Shown) -> Example:
    return Example(
        {"model": shown.name}, {} if shown.model is None else msgspec.to_builtins(describe(shown.model, None))
    )
