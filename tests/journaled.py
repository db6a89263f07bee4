"""Journals for the recorder to drain: real ones, of a model that nobody needs to run."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.journal.columns import pack_column
from hoverboard.journal.records import (
    KINDS,
    BatchRecord,
    CallPart,
    DeploymentRecord,
    FeatureRecord,
    GapRecord,
    LabelRecord,
    ProcessRecord,
    RejectionRecord,
    VersionRecord,
    encode,
)
from hoverboard.journal.writer import JournalWriter

MODEL = "shapes"
WEIGHTS = "ab" * 32
SIGNATURE = Signature(
    "classification",
    inputs=(TensorSpec("pixels", "float32", (4,)), TensorSpec("note", "string", ())),
    outputs=(TensorSpec("probabilities", "float32", (3,)),),
    labels=("red", "green", "blue"),
)
Journaled = BatchRecord | RejectionRecord | LabelRecord | DeploymentRecord | GapRecord | FeatureRecord | ProcessRecord


def version(number: int = 1) -> VersionRecord:
    manifest = {"name": MODEL, "version": number, "parent": number - 1 or None, **asdict(SIGNATURE)}
    return VersionRecord(MODEL, number, WEIGHTS, msgspec.json.encode(manifest))


def batch(
    rows: int = 4,
    *,
    at: datetime | None = None,
    number: int = 1,
    executed: int | None = None,
    notes: Sequence[bytes] | None = None,
    tags: Mapping[str, str] | None = None,
    confidence: Sequence[float] | None = None,
    outlier: Sequence[bool] | None = None,
) -> BatchRecord:
    """A batch of one call whose rows say which they are."""
    now = (datetime.now(UTC) if at is None else at).timestamp()
    ids = sample_ids(rows, now)
    texts = np.empty(rows, dtype=object)
    texts[:] = [f"row {i}".encode() for i in range(rows)] if notes is None else list(notes)
    flags = None if outlier is None else np.array(outlier)
    return BatchRecord(
        model=MODEL,
        version=number,
        weights_sha256=WEIGHTS,
        policy="all",
        batch_id=ids[:16] if rows else sample_ids(1, now),
        started_us=int(now * 1e6),
        executed=rows if executed is None else executed,
        flagged=0 if flags is None else int(flags.sum()),
        failed=0,
        bucket=8,
        infer_us=700,
        rows=rows,
        sample_ids=ids,
        failed_rows=[],
        columns=[pack_column(np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)), pack_column(texts)]
        if rows
        else [],
        outputs=[pack_column(np.tile(np.array([0.9, 0.08, 0.02], np.float32), (rows, 1)))] if rows else [],
        label_index=np.zeros(rows, np.int32).tobytes(),
        confidence=np.array([0.9] * rows if confidence is None else confidence, np.float32).tobytes(),
        value=None,
        p_value=None if flags is None else np.where(flags, 0.001, 0.5).astype(np.float32).tobytes(),
        outlier=None if flags is None else flags.tobytes(),
        queue_us=np.arange(rows, dtype=np.uint32).tobytes(),
        incl_prob=None,
        why=None,
        redacted=[],
        calls=[CallPart(rows, "stable", "r-1", None, None if tags is None else msgspec.json.encode(tags))],
    )


def ids_of(record: BatchRecord) -> list[uuid.UUID]:
    """The sample ids that the client was told."""
    return [uuid.UUID(bytes=record.sample_ids[i : i + 16]) for i in range(0, len(record.sample_ids), 16)]


def features(record: BatchRecord, *, width: int = 3) -> FeatureRecord:
    """Of all rows of a batch: row i has i, i + 1, ..."""
    z = np.arange(record.rows)[:, None] + np.arange(width)
    return FeatureRecord(MODEL, record.version, WEIGHTS, record.sample_ids, z.astype("<f2").tobytes())


def label(sample: uuid.UUID, *, at: datetime | None = None) -> LabelRecord:
    now = (datetime.now(UTC) if at is None else at).timestamp()
    return LabelRecord(int(now * 1e6), sample.bytes, "green", None, "support", "ann", "r-2")


def rejection(*, at: datetime | None = None, tags: Mapping[str, str] | None = None) -> RejectionRecord:
    now = (datetime.now(UTC) if at is None else at).timestamp()
    data = None if tags is None else msgspec.json.encode(tags)
    return RejectionRecord(
        int(now * 1e6), "r-3", None, "predict", MODEL, None, -32602, "invalid_params", "/instances/0", "x", data
    )


def deployment(number: int = 1) -> DeploymentRecord:
    now = int(datetime.now(UTC).timestamp() * 1e6)
    return DeploymentRecord(now, MODEL, "stable", number, WEIGHTS, 1.0, "the highest version that can serve", "disk")


def open_journal(data_dir: Path, *, process: str = "engine-0", segment_bytes: int = 1 << 26) -> JournalWriter:
    """A journal of `process`, below a data directory."""
    return JournalWriter(
        data_dir / "journal", process=process, segment_bytes=segment_bytes, budget_bytes=1 << 32, fsync=False
    )


def write(journal: JournalWriter, *records: Journaled) -> None:
    """Append records as their processes do."""
    for record in records:
        needs: dict[str, bytes] = {}
        if isinstance(record, (BatchRecord, DeploymentRecord, FeatureRecord)) and record.version is not None:
            needs = {f"v{record.version}": encode(version(record.version))}
        journal.append(KINDS[type(record)], encode(record), count=record.count, needs=needs)
