"""Executed batches as an engine hands them to its sink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hoverboard.contract.calls import ExecutedBatch, PredictCall, Source
from hoverboard.contract.signature import Array, Signature, TensorSpec
from hoverboard.engine.sample_ids import sample_ids

CLASSIFIER = Signature(
    "classification",
    inputs=(TensorSpec("pixels", "float32", (4,)), TensorSpec("note", "string", ()), TensorSpec("size", "int32", ())),
    outputs=(TensorSpec("probabilities", "float32", (3,)),),
    labels=("red", "green", "blue"),
)
MANIFEST: Mapping[str, Any] = {"name": "shapes", "version": 2, "task": "classification"}
SOURCE = Source("shapes", 2, "ab" * 32, CLASSIFIER, MANIFEST)
NOW = 1_790_000_000.25


def call(rows: int, **fields: Any) -> PredictCall:
    given: dict[str, Any] = {"version": "stable", "request_id": "r-1", **fields}
    return PredictCall(model="shapes", fingerprint="f", columns=(), n=rows, deadline=0.0, **given)


def batch(
    rows: int = 4,
    *,
    calls: tuple[tuple[PredictCall, int, int], ...] | None = None,
    probabilities: Array | None = None,
    ok: Array | None = None,
    outlier: Array | None = None,
) -> ExecutedBatch:
    """A batch of `rows` rows whose inputs tell which row they are."""
    notes = np.empty(rows, dtype=object)
    notes[:] = [f"row {i}".encode() for i in range(rows)]
    pixels = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    outputs = np.tile(np.array([0.9, 0.08, 0.02], np.float32), (rows, 1)) if probabilities is None else probabilities
    return ExecutedBatch(
        calls=calls or ((call(rows), 0, rows),),
        source=SOURCE,
        columns=(pixels, notes, np.arange(rows, dtype=np.int32)),
        outputs=(outputs,),
        sample_ids=sample_ids(rows, NOW),
        ok=np.ones(rows, bool) if ok is None else ok,
        label_index=outputs.argmax(axis=1).astype(np.int32),
        confidence=outputs.max(axis=1),
        value=None,
        p_value=None if outlier is None else np.where(outlier, 0.001, 0.5).astype(np.float32),
        outlier=outlier,
        queue_us=np.arange(rows, dtype=np.uint32),
        infer_us=700,
        bucket=8,
        started_at=NOW,
    )
