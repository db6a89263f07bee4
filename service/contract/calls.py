"""A predict call on its way to an engine and back, and the seams it crosses.

Units: durations end in `_ms` or `_us`; deadlines are seconds on `time.monotonic()`, which on one machine is one clock for
every process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from hoverboard.contract.catalog import Catalog
from hoverboard.contract.signature import Array, Signature

__all__ = ["EnginePort", "ExecutedBatch", "PredictAnswer", "PredictCall", "RecordSink", "Source"]


class PredictCall(msgspec.Struct, frozen=True, eq=False, array_like=True):
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
    """Where executed batches are recorded before their answers leave.

    The seam towards the journal: what runs batches need not know how, or whether, they are written down.
    """

    def append(self, batch: ExecutedBatch) -> Array | None:
        """Record one batch; synchronous and quick, one write at most.

        Returns:
            The ordinary rows whose features are wanted later, int `(k,)`, beside those of outliers; None for none.

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

    def features(self, source: Source, sample_ids: bytes, z: Array) -> None:
        """Record what a version's detectors see of some rows, after they were answered; never raises.

        Args:
            source: the version.
            sample_ids: 16 bytes each, of rows that `append` was given.
            z: float32 `(rows, d)`.
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
