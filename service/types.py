"""What more than one folder speaks: frozen values and the Protocols at the seams.

Units: durations end in `_ms` or `_us`; deadlines are seconds on `time.monotonic()`, which on one machine is one
clock for every process. Arrays have their sample axis first: a column of n samples has shape `(n, *spec.shape)`.
Columns of dtype `string` are object arrays of `bytes`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Protocol

import msgspec
from numpy.typing import NDArray

__all__ = [
    "NUMERIC_DTYPES",
    "STRING",
    "Array",
    "BucketTiming",
    "Catalog",
    "Detector",
    "EnginePort",
    "ExecutedBatch",
    "Head",
    "ModelStatus",
    "PredictAnswer",
    "PredictCall",
    "RecordSink",
    "Role",
    "Signature",
    "Source",
    "Task",
    "TensorSpec",
    "VersionStatus",
]

Array = NDArray[Any]
Task = Literal["classification", "multi-label", "regression", "embedding", "raw"]
Head = Literal["softmax", "logits", "sigmoid"]
Role = Literal["stable", "pinned"]
VersionState = Literal["live", "loading", "available", "refused"]

NUMERIC_DTYPES: Final = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
STRING: Final = "string"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named input or output of a version.

    Attributes:
        name: as in the graph's signature.
        dtype: a NumPy name from `NUMERIC_DTYPES`, or `string`.
        shape: of one sample, without the batch axis; None is a variable dimension.
        finite: whether NaN and Infinity are refused (an input) or an error (an output).
        min: smallest allowed value, declared by the publisher, never inferred.
        max: largest allowed value, likewise.
        max_length: most bytes of a string (UTF-8), or most elements along each variable dimension.
        min_length: fewest elements along each variable dimension, which the graph needs or the publisher declares; a number
            for each of them, in order, where they differ. None where nobody has looked.
        allowed: the only allowed values, likewise declared.
        description: one sentence for the person who calls it.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    finite: bool = True
    min: float | None = None
    max: float | None = None
    max_length: int | None = None
    min_length: int | tuple[int, ...] | None = None
    allowed: tuple[str | int | float, ...] | None = None
    description: str = ""

    @property
    def variable(self) -> bool:
        """Whether samples may differ in shape."""
        return None in self.shape

    @property
    def least(self) -> tuple[int, ...]:
        """The fewest elements along each dimension; of a fixed one, its size."""
        given = self.min_length or 0
        each = iter(given if isinstance(given, tuple) else (given,) * len(self.shape))
        return tuple(next(each) if dim is None else dim for dim in self.shape)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a version takes and answers: the whole contract that the api checks and encodes to.

    Attributes:
        task: decides which fields a prediction has.
        inputs: in the order columns travel in.
        outputs: in the order columns travel in; the first is the one labels, values and confidences come from.
        labels: names by index of the first output's last axis, of classes of which one holds (classification), or of
            labels each of which may hold (multi-label); None for other tasks.
        head: what the first output holds. Of a classification: `softmax` probabilities, `logits`, or one `sigmoid`
            probability of the second of two labels. Of a multi-label version: a `sigmoid` probability, or a logit
            (`logits`), for each label.
        thresholds: multi-label only: from which probability on each label holds; None for 0.5 throughout.
    """

    task: Task
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] | None = None
    head: Head = "softmax"
    thresholds: tuple[float, ...] | None = None

    @property
    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 over the inputs: equal when a call encoded for one version suits another."""
        contract = [{k: v for k, v in asdict(spec).items() if k != "description"} for spec in self.inputs]
        for values, spec in zip(contract, self.inputs, strict=True):
            # A limit of 0 and one of 0.0 are the same limit, however it was read.
            values.update((k, None if values[k] is None else float(values[k])) for k in ("min", "max"))
            # What may be empty has the contract that it had before least lengths were looked for.
            if values.pop("min_length"):
                values["least"] = spec.least
        text = json.dumps(contract, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class BucketTiming:
    """Execution time of one batch bucket, measured at load: l(b).

    Attributes:
        size: samples in the bucket.
        mean_ms: mean execution time without any queueing, the slowest quarter of the runs left out.
        p99_ms: 99th percentile of all runs.
    """

    size: int
    mean_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version as the engine sees it.

    Attributes:
        version: its number.
        state: `live` (answers), `loading`, `available` (on disk, loaded on demand), `refused` (see `reason`).
        reason: why it is refused, or does not become stable, one sentence.
        signature: known once the manifest has been read.
        manifest: the manifest as JSON-ready values, without checksums; for `models.describe`.
        executor: how its graph runs, such as `tf`, `tf-direct` or `tf-xla`; None unless live.
        buckets: the kept buckets with their timings, smallest first; empty unless live.
        pinned: whether it stays in memory whatever the routing says.
        memory_bytes: what its weights take; None unless live.
        load_ms: what loading took; None unless live.
        sandbox: what kept it from reaching out while it was tried before it was loaded; None unless live.
        passing: whether it is refused only for what is wrong with the machine now: it is tried again by itself.
    """

    version: int
    state: VersionState
    reason: str | None = None
    signature: Signature | None = None
    manifest: Mapping[str, Any] | None = None
    executor: str | None = None
    buckets: tuple[BucketTiming, ...] = ()
    pinned: bool = False
    memory_bytes: int | None = None
    load_ms: float | None = None
    sandbox: str | None = None
    passing: bool = False


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model as the engine sees it.

    Attributes:
        name: its directory's name.
        roles: role -> the live version that fills it; no `stable` key means nothing answers yet.
        versions: every version on disk, highest last.
        problem: what keeps the wished-for configuration from being in force (a malformed serving.toml, a refused
            stable version), one sentence; None when all is well.
        serving: what `serving.toml` says, defaults filled in, JSON-ready.
        routed_by: who chose the present roles: `admin`, or `disk` (a new version, an edited serving.toml, a start).
        served: whether a version of it has ever been stable, also before the last restart.
    """

    name: str
    roles: Mapping[str, int]
    versions: tuple[VersionStatus, ...]
    problem: str | None = None
    serving: Mapping[str, Any] = field(default_factory=dict)
    routed_by: str = "disk"
    served: bool = False

    def version(self, number: int) -> VersionStatus | None:
        """The status of one version, or None where there is no such version."""
        return next((status for status in self.versions if status.version == number), None)


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything the engine knows about its models at one moment. Replaced whole, never changed.

    Attributes:
        models: by name.
        generation: grows with every change.
        ready: whether the first scan is over and each model has had its chance to load.
        problem: why the models directory itself cannot be looked at; what is in memory goes on.
    """

    models: Mapping[str, ModelStatus] = field(default_factory=dict)
    generation: int = 0
    ready: bool = False
    problem: str | None = None


class PredictCall(msgspec.Struct, frozen=True, eq=False):
    """One client's predict call, checked and encoded. A struct, since one is made per call, twice: 0.3 against 1.6 us.

    Attributes:
        model: a model's name.
        version: a number, or a role such as `stable`.
        fingerprint: `Signature.fingerprint` of the signature the columns were encoded for.
        columns: one array per input, in the signature's order, each `(n, *shape)`.
        n: samples, at least 1.
        deadline: seconds on `time.monotonic()`.
        want_outputs: whether the answer carries whole output columns.
        request_id: the HTTP request's id, for logs and records.
        traceparent: W3C trace context, as it came.
        tags: the caller's own key-value pairs, recorded with the sample.
        packed: the columns as they travel over the engine's socket, in place of `columns`, which is empty then: made in
            another process, and only passed on.
        source: which connection it came by: callers share the engine by it. 0 where there is but one.
    """

    model: str
    version: int | str
    fingerprint: str
    columns: tuple[Array, ...]
    n: int
    deadline: float
    want_outputs: bool = False
    request_id: str = ""
    traceparent: str | None = None
    tags: Mapping[str, str] | None = None
    source: int = 0
    packed: bytes | None = None


class PredictAnswer(msgspec.Struct, frozen=True, eq=False):
    """What the engine answers to one call; all arrays have n rows. A struct for the reason `PredictCall` is one.

    Attributes:
        version: the number of the version that answered.
        role: the role it answered in; None when asked for by number.
        sample_ids: n UUIDv7, 16 bytes each, concatenated.
        label_index: int32, the most probable class or label (classification and multi-label only).
        confidence: float32, its probability, likewise.
        value: `(n,)` in the output's dtype (regression only).
        outputs: one column per output, in the signature's order, where the call wanted them.
        p_value: float32 conformal p-values; None without calibration.
        queue_ms: longest wait of its samples, from arrival to execution.
        infer_ms: execution time of the batch (the sum over batches for a call that needed several).
        batch: samples that shared its (largest) batch.
    """

    version: int
    role: str | None
    sample_ids: bytes
    label_index: Array | None
    confidence: Array | None
    value: Array | None
    outputs: tuple[Array, ...] | None
    p_value: Array | None
    queue_ms: float
    infer_ms: float
    batch: int


@dataclass(frozen=True, slots=True)
class Source:
    """A version as records name it.

    Attributes:
        model, version: as on disk.
        weights_sha256: of its artifact.
        signature: its contract.
        manifest: JSON-ready, without checksums.
    """

    model: str
    version: int
    weights_sha256: str
    signature: Signature
    manifest: Mapping[str, Any]


class ExecutedBatch(msgspec.Struct, frozen=True, eq=False):
    """One executed batch, whole: what a `RecordSink` is given before any of its answers leaves.

    Attributes:
        calls: the calls with a part in it, with that part's rows: `(call, first row in call, rows)`.
        source: what ran.
        columns: the inputs, `(rows, ...)` each, padding already cut off.
        outputs: the outputs, likewise.
        sample_ids: 16 bytes a row.
        ok: bool `(rows,)`; False where its caller gets no prediction: the row failed, or another one of its call, or
            nobody waits for it any more.
        label_index, confidence, value, p_value: as in `PredictAnswer`, one entry a row.
        outlier: bool `(rows,)`, whether the p-value is at most the detector's alpha; None without calibration.
        queue_us: uint32 `(rows,)`.
        infer_us: execution time of this batch.
        bucket: the bucket it ran in.
        started_at: seconds since the epoch.
    """

    calls: tuple[tuple[PredictCall, int, int], ...]
    source: Source
    columns: tuple[Array, ...]
    outputs: tuple[Array, ...]
    sample_ids: bytes
    ok: Array
    label_index: Array | None
    confidence: Array | None
    value: Array | None
    p_value: Array | None
    outlier: Array | None
    queue_us: Array
    infer_us: int
    bucket: int
    started_at: float


class RecordSink(Protocol):
    """Where executed batches are recorded before their answers leave."""

    def append(self, batch: ExecutedBatch) -> None:
        """Record one batch; synchronous and quick, one write at most.

        Raises:
            Overloaded: neither a record nor a gap could be written; the batch's calls are refused with it.
        """

    def withdraw(self, source: Source, sample_ids: bytes) -> None:
        """Take back predictions that `append` was given and that no caller got after all; never raises.

        Args:
            source: the version.
            sample_ids: 16 bytes each.
        """

    def supplement(self, source: Source, detector: str, sample_ids: bytes, scores: Mapping[str, Array]) -> None:
        """Record what all of a version's detectors say of outliers, after they were answered; never raises.

        Args:
            source: the version.
            detector: the chosen one.
            sample_ids: 16 bytes each, of rows that `append` was given.
            scores: detector -> float32 `(rows,)`.
        """


class Detector(Protocol):
    """A version's calibrated outlier detector."""

    @property
    def alpha(self) -> float:
        """The share of normal samples that may be called outliers: those whose p-value is at most this."""

    def p_values(self, columns: Sequence[Array], outputs: Sequence[Array], scores: Array | None) -> Array:
        """Conformal p-values, float32 `(rows,)` in (0, 1], of the rows of one batch.

        Args:
            columns: the inputs.
            outputs: the outputs.
            scores: float32 `(rows,)`, of the detector in the graph; None where the graph has none.
        """


class EnginePort(Protocol):
    """What the api, offline scoring and tests see of an engine, in this process or behind a socket."""

    @property
    def catalog(self) -> Catalog:
        """The engine's state as last known here."""

    @property
    def connected(self) -> bool:
        """Whether calls can be taken now."""

    def subscribe(self, listener: Callable[[Catalog], None]) -> Callable[[], None]:
        """Call `listener` with each new catalog, at once with the present one; returns the way to stop it."""

    async def predict(self, call: PredictCall) -> PredictAnswer:
        """Answer one call; cancelling it takes back what still waits.

        Raises:
            RpcError: ModelNotFound, VersionNotFound, NotReady, Overloaded, DeadlineExceeded, ModelFailed,
                NonFiniteOutput or InternalError.
            StaleSignature: encode again from `catalog` and call again.
        """

    async def admin(self, action: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out one admin action: `load`, `unload`, `route`, `pin`, `unpin` or `scan`; or say the last `failures` of a
        model's versions, by number: `at`, and the graph's own `reason`.

        Returns JSON-ready values once the action holds; raises RpcError.
        """
