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
from hoverboard.rpc.outlier_promise import promise

__all__ = ["LastFailure", "describe", "models_describe"]

Failures = Callable[[str], Awaitable[Mapping[str, "LastFailure"]]]
"""A model's name -> the last failure of each version, by its number as text."""

_LAST_FAILURE = Meta(description="Admin listener only: the last sample that failed in its graph, since it was loaded.")


class DescribeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: ModelName
    version: Annotated[VersionNumber | None, Meta(description="Only this version; all of them when left out.")] = None


class Tensor(msgspec.Struct, omit_defaults=True):
    name: Annotated[str, Meta(description="As calls and answers name it.")]
    dtype: Annotated[str, Meta(description="A NumPy name such as `float32`, or `string`.")]
    shape: Annotated[list[int | None], Meta(description="Of one sample; null is a variable dimension.")]
    finite: Annotated[bool, Meta(description="False: null is taken for a number, and stands for NaN.")]
    min: Annotated[float | None, Meta(description="Smallest number that is taken.")] = None
    max: Annotated[float | None, Meta(description="Largest number that is taken.")] = None
    max_length: Annotated[
        int | None, Meta(description="Most bytes of a text, or elements along each variable dimension.")
    ] = None
    min_length: Annotated[
        int | list[int] | None,
        Meta(description="Fewest elements along each variable dimension: one number, or one for each of them."),
    ] = None
    allowed: Annotated[list[str | float] | None, Meta(description="The only values that are taken.")] = None
    description: Annotated[str, Meta(description="The publisher's, for callers.")] = ""


class Bucket(msgspec.Struct):
    size: Annotated[int, Meta(description="Samples in the batch.")]
    mean_ms: Annotated[float, Meta(description="Mean execution time in milliseconds, the slowest quarter left out.")]
    p99_ms: Annotated[float, Meta(description="99th percentile of all runs, in milliseconds.")]


class LastFailure(msgspec.Struct):
    at: Annotated[str, Meta(description="When, in UTC.")]
    reason: Annotated[str, Meta(description="The graph's own; not shown where inputs are redacted or not recorded.")]


class VersionDescription(msgspec.Struct):
    version: Annotated[int, Meta(description="The version's number.")]
    state: Annotated[
        str,
        Meta(description="`live` (answers), `loading`, `available` (on disk, loaded on demand) or `refused`."),
    ]
    reason: Annotated[str | None, Meta(description="Why it is refused.")]
    task: Annotated[
        str | None, Meta(description="`classification`, `multi-label`, `regression`, `embedding` or `raw`.")
    ]
    inputs: Annotated[list[Tensor], Meta(description="What it takes; empty until the manifest has been read.")]
    outputs: Annotated[list[Tensor], Meta(description="What its graph answers; the first is the one labels come from.")]
    labels: Annotated[list[str] | None, Meta(description="Names of the classes, by index of the first output.")]
    executor: Annotated[str | None, Meta(description="How its graph runs; null unless live.")]
    buckets: Annotated[
        list[Bucket], Meta(description="The batch sizes that it runs in, with their measured times; empty unless live.")
    ]
    pinned: Annotated[bool, Meta(description="Whether it stays in memory whatever the routing says.")]
    memory_bytes: Annotated[int | None, Meta(description="What its weights take; null unless live.")]
    load_ms: Annotated[float | None, Meta(description="Milliseconds that loading took; null unless live.")]
    sandbox: Annotated[
        str | None,
        Meta(
            description="What confined it while it was tried in a process of its own, such as seccomp; null unless live."
        ),
    ]
    outliers: Annotated[str | None, Meta(description="What the version promises about outliers, in words.")]
    manifest: Annotated[dict[str, Any] | None, Meta(description="Its manifest.json without the checksums.")]
    last_failure: Annotated[LastFailure | None, _LAST_FAILURE] | UnsetType = UNSET


class ModelDescription(msgspec.Struct):
    name: Annotated[str, Meta(description="The model's name.")]
    ready: Annotated[bool, Meta(description="Whether a version answers in the role `stable`.")]
    roles: Annotated[dict[str, int], Meta(description="Role -> the version that fills it.")]
    problem: Annotated[str | None, Meta(description="Why the model is not as serving.toml wants it; null if it is.")]
    serving: Annotated[dict[str, Any], Meta(description="What serving.toml says, defaults filled in.")]
    versions: Annotated[list[VersionDescription], Meta(description="Ascending.")]


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
        # Only the admin face: a graph's own words may show how it is made.
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
