"""Batch records as an engine journals them, of any signature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hoverboard.contract.signature import Array, Signature, Task, TensorSpec
from hoverboard.database.known import KnownVersion, VersionKey
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.journal.columns import pack_column
from hoverboard.journal.records import BatchRecord, CallPart

NOW = 1_790_000_000.25
VERSION_ID = 7
KEY: VersionKey = ("shapes", 2, "ab" * 32)


def signature(*inputs: TensorSpec, outputs: Sequence[TensorSpec] = (), task: Task = "raw", **fields: Any) -> Signature:
    return Signature(task, inputs, tuple(outputs) or (TensorSpec("scores", "float32", (2,)),), **fields)


def versions(known: Signature) -> dict[VersionKey, KnownVersion]:
    return {KEY: KnownVersion(VERSION_ID, KEY, known)}


def texts(*values: Any) -> Array:
    """A string column of these values, bytes or nested lists of bytes."""
    shape = np.shape(np.array([[0] * len(v) if isinstance(v, list) else 0 for v in values]))
    column = np.empty(shape, dtype=object)
    for row, value in enumerate(values):
        column[row] = value
    return column


def record(*columns: Array, outputs: Sequence[Array] = (), **fields: Any) -> BatchRecord:
    """One batch with these inputs, a call for all its rows; `fields` replaces what it would say otherwise."""
    rows = len(columns[0]) if columns else len(outputs[0])
    ids = fields.pop("sample_ids", sample_ids(rows, NOW))
    given: dict[str, Any] = {
        "policy": "all",
        "batch_id": ids[:16],
        "started_us": int(NOW * 1e6) + 123,
        "executed": rows,
        "flagged": 0,
        "failed": 0,
        "bucket": 8,
        "infer_us": 700,
        "rows": rows,
        "sample_ids": ids,
        "failed_rows": [],
        "columns": [pack_column(column) for column in columns],
        "outputs": [pack_column(column) for column in outputs or [np.zeros((rows, 2), np.float32)]],
        "label_index": None,
        "confidence": None,
        "value": None,
        "p_value": None,
        "outlier": None,
        "queue_us": np.arange(rows, dtype=np.uint32).tobytes(),
        "incl_prob": None,
        "why": None,
        "redacted": [],
        "calls": [CallPart(rows, "stable", "r-1", None, None)],
    }
    return BatchRecord(*KEY, **given | fields)
