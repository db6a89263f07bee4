"""Halving of records that hold rows, to find the one that Postgres refuses."""

from __future__ import annotations

from typing import Any

import msgspec

from hoverboard.journal.columns import Column
from hoverboard.journal.records import BatchRecord, CallPart, FeatureRecord

__all__ = ["split", "split_features"]

_PER_ROW = ("sample_ids", "label_index", "confidence", "value", "p_value", "outlier", "queue_us", "incl_prob", "why")


def split(record: BatchRecord) -> tuple[BatchRecord, BatchRecord]:
    """Two records with one half of the rows each; what is said of the whole batch (`executed`, `flagged`) stays on both.

    Raises:
        ValueError: fewer than two rows.
    """
    if record.rows < 2:
        raise ValueError(f"{record.rows} rows cannot be halved")
    middle = record.rows // 2
    return _part(record, 0, middle), _part(record, middle, record.rows)


def split_features(record: FeatureRecord) -> tuple[FeatureRecord, FeatureRecord]:
    """The same for the features of at least two samples."""
    samples = len(record.sample_ids) // 16
    middle = samples // 2
    width = len(record.z) // samples
    ids, z = record.sample_ids, record.z
    return (
        msgspec.structs.replace(record, sample_ids=ids[: 16 * middle], z=z[: width * middle]),
        msgspec.structs.replace(record, sample_ids=ids[16 * middle :], z=z[width * middle :]),
    )


def _part(record: BatchRecord, start: int, stop: int) -> BatchRecord:
    values = {name: getattr(record, name) for name in _PER_ROW}
    return msgspec.structs.replace(
        record,
        rows=stop - start,
        failed_rows=[row - start for row in record.failed_rows if start <= row < stop],
        columns=[_column(column, start, stop) for column in record.columns],
        outputs=[_column(column, start, stop) for column in record.outputs],
        calls=_calls(record.calls, start, stop),
        **{name: data and _cut(data, record.rows, start, stop) for name, data in values.items()},
    )


def _column(column: Column, start: int, stop: int) -> Column:
    dtype, (rows, *shape), data = column
    return dtype, [stop - start, *shape], _cut(data, rows, start, stop)


def _cut(data: Any, rows: int, start: int, stop: int) -> Any:
    each = len(data) // rows
    return data[start * each : stop * each]


def _calls(calls: list[CallPart], start: int, stop: int) -> list[CallPart]:
    parts = []
    first = 0
    for call in calls:
        # A call whose rows lie in both halves is in both of them.
        rows = min(stop, first + call.rows) - max(start, first)
        if rows > 0:
            parts.append(msgspec.structs.replace(call, rows=rows))
        first += call.rows
    return parts
