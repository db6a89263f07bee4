"""What a journal's frames hold: one msgpack struct each, arrays as raw little-endian bytes.

Plain bytes and not Arrow, because this is written before a batch is answered: the recorder, which slows nobody down, turns
many frames into Arrow at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast, get_args

import msgspec

from hoverboard.journal.columns import Column

__all__ = [
    "KINDS",
    "WHYS",
    "AlarmResetRecord",
    "BatchRecord",
    "CallPart",
    "DeploymentRecord",
    "FeatureRecord",
    "GapEntry",
    "GapRecord",
    "LabelRecord",
    "ProcessRecord",
    "Record",
    "RejectionRecord",
    "SingleRecord",
    "SupplementRecord",
    "VersionRecord",
    "WithdrawalRecord",
    "decode",
    "encode",
]

WHYS: Final = ("all", "sampled", "outlier", "error", "low_margin")
"""Why a row was kept, by its code in `BatchRecord.why`."""

Policy = Literal["all", "sampled", "hashed", "none"]


# gc=False: records are in no cycles, and the collector would walk every one of them as long as a batch lives.
class _Positional(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Fields go by their place, without names: what is added later comes last, with a default, so that old journals read."""


class _Journaled(_Positional, frozen=True):
    """A frame's record. Its `tag` is the frame's kind on disk: once given it stays."""

    @property
    def count(self) -> int:
        """Records in the frame, as readers of a damaged journal count what is lost: rows that somebody waits for."""
        return 0


class SingleRecord(_Journaled, frozen=True):
    """A frame that is one record.

    Attributes:
        at_us: microseconds since the epoch.
    """

    at_us: int

    @property
    def count(self) -> int:
        return 1


class VersionRecord(_Journaled, frozen=True, tag=1):
    """A model version that batches of this segment ran on.

    Attributes:
        model, version: as on disk.
        weights_sha256: of the artifact; with name and number it identifies a version for good.
        manifest: `Manifest.public()` as JSON: holds inputs, outputs, labels, head and task.
    """

    model: str
    version: int
    weights_sha256: str
    manifest: bytes


class CallPart(_Positional, frozen=True):
    """The kept rows of one call in a batch.

    Attributes:
        rows: how many of the batch's kept rows, in order, are this call's.
        role: it was answered in; None when asked for by number.
        request_id, traceparent: of its HTTP request.
        tags: the caller's, as a JSON object; None without.
        caller: the name of the key it came with; None without keys.
    """

    rows: int
    role: str | None
    request_id: str
    traceparent: str | None
    tags: bytes | None
    caller: str | None = None


class BatchRecord(_Journaled, frozen=True, tag=2):
    """One executed batch; arrays have one entry a kept row.

    Attributes:
        model, version, weights_sha256: what ran; a `VersionRecord` of this segment says more.
        policy: the recording policy in force; under `hashed` the inputs are one column `sha256` of 32 bytes a row.
        batch_id: 16 bytes, the UUIDv7 of the batch's first row, kept or not.
        started_us: microseconds since the epoch.
        executed: rows that ran.
        flagged: rows among them whose p-value is at most alpha, those that repeat a recent row left out.
        failed: rows among them whose callers got no prediction: an error, for this row or another one of the call, or
            nothing, since nobody waited any more.
        bucket: it ran in.
        infer_us: its execution time.
        rows: kept rows.
        sample_ids: 16 bytes each.
        failed_rows: of the kept ones; these have a sample and no prediction.
        columns: the inputs in the signature's order; empty where the policy keeps none.
        outputs: the outputs in the signature's order.
        label_index: int32, classification only.
        confidence: float32, whatever the output's dtype; classification and multi-label.
        value: float32, or float64 where the output is; regression only. Which of the two, its size says: see `float_dtype`.
        p_value: float32, with a calibrated detector only.
        outlier: bool, likewise.
        queue_us: uint32.
        incl_prob: float32, the probability with which a row like this is kept; None where all are 1.
        why: uint8 index into `WHYS`; None where all are 0.
        redacted: names of inputs that were left out of `columns`' values altogether.
        calls: whose rows, in order.
        repeats: executed rows that equal a recent one of the same version, such as a client's retries; counted with a
            calibrated detector only.
    """

    model: str
    version: int
    weights_sha256: str
    policy: Policy
    batch_id: bytes
    started_us: int
    executed: int
    flagged: int
    failed: int
    bucket: int
    infer_us: int
    rows: int
    sample_ids: bytes
    failed_rows: list[int]
    columns: list[Column]
    outputs: list[Column]
    label_index: bytes | None
    confidence: bytes | None
    value: bytes | None
    p_value: bytes | None
    outlier: bytes | None
    queue_us: bytes
    incl_prob: bytes | None
    why: bytes | None
    redacted: list[str]
    calls: list[CallPart]
    repeats: int = 0

    @property
    def count(self) -> int:
        return self.rows


class RejectionRecord(SingleRecord, frozen=True, tag=3):
    """One call that was refused, shed or timed out.

    Attributes:
        request_id, traceparent: of its HTTP request.
        method, model, version: as far as they were understood, as the caller wrote them, shortened.
        code, kind: of the JSON-RPC error, and `data.type`.
        pointer: JSON Pointer of the element at fault.
        excerpt: what stood there, shortened; None where the model's inputs are redacted, hashed or not recorded.
        tags: the caller's, as a JSON object.
    """

    request_id: str
    traceparent: str | None
    method: str
    model: str | None
    version: str | None
    code: int
    kind: str
    pointer: str | None
    excerpt: str | None
    tags: bytes | None


class LabelRecord(SingleRecord, frozen=True, tag=4):
    """What a sample truly was, as somebody says.

    Attributes:
        sample_id: 16 bytes.
        label: for a classification, or for a multi-label version the one that holds.
        value: for a regression.
        source: who says so, such as `support` or `relabelling-2026-03`; one label a sample and source holds.
        author: the person, where known.
        request_id: of the HTTP request.
        labels: all that hold, sorted, where they were given as a list; one of `label`, `value` and this is not None.
    """

    sample_id: bytes
    label: str | None
    value: float | None
    source: str
    author: str | None
    request_id: str
    labels: list[str] | None = None


class DeploymentRecord(SingleRecord, frozen=True, tag=5):
    """What answers in a role changed.

    Attributes:
        model, role: what.
        version: that answers from now on; None where nothing does.
        weights_sha256: its; empty where nothing does.
        share: of the traffic, 0 to 1.
        reason: one sentence.
        actor: `admin`, or `disk` for a change of the models directory or of serving.toml.
    """

    model: str
    role: str
    version: int | None
    weights_sha256: str
    share: float
    reason: str
    actor: str


class GapEntry(_Positional, frozen=True):
    """Records that were not written, counted.

    Attributes:
        model, version: whose; None where unknown.
        reason: `budget`, `disk full`, ...
        records: how many.
        executed: rows that ran in batches of which nothing was written.
        flagged: outliers among the executed ones, repeats left out.
        first_us, last_us: microseconds since the epoch, of the first and the last.
    """

    model: str | None
    version: int | None
    reason: str
    records: int
    executed: int
    flagged: int
    first_us: int
    last_us: int

    def plus(self, other: GapEntry) -> GapEntry:
        """With what another one of the same model, version and reason counts."""
        return GapEntry(
            self.model,
            self.version,
            self.reason,
            self.records + other.records,
            self.executed + other.executed,
            self.flagged + other.flagged,
            min(self.first_us, other.first_us),
            max(self.last_us, other.last_us),
        )


class GapRecord(_Journaled, frozen=True, tag=6):
    """What is missing from the journal.

    Attributes:
        generation: counts the gaps of a journal from 1, so that one that is found twice counts once.
        entries: one for each model, version and reason.
    """

    generation: int
    entries: list[GapEntry]


class AlarmResetRecord(SingleRecord, frozen=True, tag=7):
    """Somebody has looked at a version's alarm: it counts anew from now on.

    Attributes:
        model, version: whose alarm.
        reason: why, as the caller put it; None without.
        actor: `admin`.
        request_id: of the HTTP request.
    """

    model: str
    version: int
    reason: str | None
    actor: str
    request_id: str


class SupplementRecord(_Journaled, frozen=True, tag=8):
    """What the other detectors say of outliers that a `BatchRecord` holds.

    Attributes:
        model, version: whose detectors.
        detector: the chosen one.
        sample_ids: 16 bytes each.
        scores: detector -> float32 scores, one a sample; higher is stranger.
    """

    model: str
    version: int
    detector: str
    sample_ids: bytes
    scores: dict[str, bytes]


class WithdrawalRecord(_Journaled, frozen=True, tag=9):
    """Samples whose predictions no caller got after all: a later part of their call failed, or it was cancelled.

    Their batches were recorded before that was known.

    Attributes:
        model, version, weights_sha256: what they ran on.
        sample_ids: 16 bytes each; those that the policy did not keep are among them.
    """

    model: str
    version: int
    weights_sha256: str
    sample_ids: bytes


class FeatureRecord(_Journaled, frozen=True, tag=10):
    """Features of samples that `BatchRecord`s hold: of outliers, and of some others.

    Attributes:
        model, version, weights_sha256: whose features; the width of another version's may differ.
        sample_ids: 16 bytes each.
        z: float16 `(samples, width)`.
    """

    model: str
    version: int
    weights_sha256: str
    sample_ids: bytes
    z: bytes


class ProcessRecord(SingleRecord, frozen=True, tag=11):
    """A process of the service began or ended.

    Attributes:
        process: such as `engine-0`; `supervisor` for all of them.
        kind: `stop` where it was asked to end.
        detail: how it ended, in words; None for nothing to add.
    """

    process: str
    kind: Literal["start", "stop", "death"]
    detail: str | None = None


Record = (
    VersionRecord
    | BatchRecord
    | RejectionRecord
    | LabelRecord
    | DeploymentRecord
    | GapRecord
    | AlarmResetRecord
    | SupplementRecord
    | WithdrawalRecord
    | FeatureRecord
    | ProcessRecord
)

KINDS: Final[Mapping[type[Record], int]] = {
    record: cast(int, record.__struct_config__.tag) for record in get_args(Record)
}
"""What the frames of each type of record are marked with."""

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    """A frame's payload."""
    return _encoder.encode(record)


def decode(payload: bytes | memoryview) -> Record:
    """A frame's record.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decoder.decode(payload)
