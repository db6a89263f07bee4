"""What came of a batch: each caller's part of it as an answer, and all of it as a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hoverboard.contract.calls import ExecutedBatch, PredictAnswer
from hoverboard.contract.signature import Array
from hoverboard.engine.live import Executed, Reading
from hoverboard.engine.queue import Batch, Slice, Work
from hoverboard.errors import ModelFailed, NonFiniteOutput, RpcError

__all__ = ["BatchOutcome", "Strange", "joined", "part_answer", "placed", "record_of", "strange_of"]


class BatchOutcome:
    """What came of one batch."""

    __slots__ = ("executed", "ids", "ok", "refused", "started", "started_at", "strange")

    def __init__(self, executed: Executed, ids: bytes, started_at: float, started: float) -> None:
        self.executed, self.ids = executed, ids
        self.started_at, self.started = started_at, started  # on the wall clock, on the monotonic clock
        self.ok: Array | None = None  # which rows are recorded as answered
        self.refused: RpcError | None = None
        self.strange: Strange | None = None


class Strange(NamedTuple):
    """The outliers of one batch: their ids and inputs."""

    ids: bytes
    columns: list[Array]


def strange_of(executed: Executed, columns: list[Array], ids: bytes) -> Strange | None:
    """The outliers of a batch, for the other detectors to look at; None where there are none."""
    if executed.outlier is None or not executed.outlier.any():
        return None
    rows = np.flatnonzero(executed.outlier)
    chosen = np.frombuffer(ids, np.uint8).reshape(-1, 16)[rows].tobytes()
    return Strange(chosen, [column[rows] for column in columns])


def part_answer(batch: Batch, part: Slice, first: int, outcome: BatchOutcome) -> PredictAnswer:
    """One call's rows of a batch as its answer."""
    executed = outcome.executed
    rows = slice(first, first + part.rows)
    call, reading = part.work.call, executed.reading
    outputs = tuple(output[rows] for output in executed.outputs) if call.want_outputs else None
    return PredictAnswer(
        version=batch.version.source.version,
        role=call.version if isinstance(call.version, str) else None,
        sample_ids=outcome.ids[16 * first : 16 * rows.stop],
        label_index=None if reading.label_index is None else reading.label_index[rows],
        confidence=None if reading.confidence is None else reading.confidence[rows],
        value=None if reading.value is None else reading.value[rows],
        outputs=outputs,
        p_value=None if executed.p_value is None else executed.p_value[rows],
        queue_ms=max(0.0, outcome.started - part.work.arrived) * 1e3,
        infer_ms=executed.seconds * 1e3,
        batch=batch.rows,
    )


def joined(work: Work) -> PredictAnswer:
    """The answers of a call that took several batches, as one."""
    parts = [answer for _, answer in sorted(work.parts, key=lambda part: part[0])]
    last = parts[-1]

    def column(name: str) -> Array | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    outputs = [part.outputs for part in parts if part.outputs is not None]
    return PredictAnswer(
        version=last.version,
        role=last.role,
        sample_ids=b"".join(part.sample_ids for part in parts),
        label_index=column("label_index"),
        confidence=column("confidence"),
        value=column("value"),
        outputs=tuple(np.concatenate(pieces) for pieces in zip(*outputs, strict=True)) if outputs else None,
        p_value=column("p_value"),
        queue_ms=max(part.queue_ms for part in parts),
        infer_ms=sum(part.infer_ms for part in parts),
        batch=max(part.batch for part in parts),
    )


def record_of(batch: Batch, columns: list[Array], outcome: BatchOutcome) -> ExecutedBatch:
    """A batch as it is recorded; `ok` is False for the rows of callers that get no answer."""
    executed = outcome.executed
    ok = np.ones(batch.rows, dtype=bool)
    if executed.errors or any(part.work.closed for part in batch.slices):
        _leave_out(batch, executed.errors, ok)
    arrived = np.array([part.work.arrived for part in batch.slices])
    waits = np.maximum((outcome.started - arrived) * 1e6, 0.0).astype(np.uint32)
    if len(waits) != batch.rows:
        waits = np.repeat(waits, [part.rows for part in batch.slices])
    reading: Reading = executed.reading
    return ExecutedBatch(
        calls=tuple([(part.work.call, part.start, part.rows) for part in batch.slices]),
        source=batch.version.source,
        columns=tuple(columns),
        outputs=executed.outputs,
        sample_ids=outcome.ids,
        ok=ok,
        label_index=reading.label_index,
        confidence=reading.confidence,
        value=reading.value,
        p_value=executed.p_value,
        outlier=executed.outlier,
        queue_us=waits,
        infer_us=int(executed.seconds * 1e6),
        bucket=executed.bucket,
        started_at=outcome.started_at,
    )


def _leave_out(batch: Batch, errors: Mapping[int, RpcError], ok: Array) -> None:
    """Mark the rows of calls that get no answer: one of their rows failed, or nobody waits for them any more."""
    row = 0
    for part in batch.slices:
        rows = range(row, row + part.rows)
        row += part.rows
        if part.work.closed or not errors.keys().isdisjoint(rows):
            ok[rows.start : rows.stop] = False


def placed(error: RpcError, row: int) -> RpcError:
    """An error of one row, with the row's place in the call."""
    if not isinstance(error, ModelFailed | NonFiniteOutput):
        return error
    details = {**(error.details or {}), "pointer": f"/instances/{row}"}
    return type(error)(error.message, details=details, cause=error.cause)
