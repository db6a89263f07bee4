"""What came of a batch: told to each of its callers, and all of it as a record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec
import numpy as np
import structlog

from hoverboard.contract.calls import ExecutedBatch, PredictAnswer
from hoverboard.contract.signature import Array
from hoverboard.engine.live import HIDDEN, Executed, LiveVersion
from hoverboard.engine.work import Batch, Slice, Work
from hoverboard.errors import Cause, HoverboardError, InternalError, ModelFailed, NonFiniteOutput, RpcError

__all__ = ["Answers", "BatchOutcome", "Picked", "picked", "record_of", "strange_of"]

_log = structlog.get_logger(__name__)
_LOG_AGAIN_S: Final = 5.0


class BatchOutcome:
    """What came of one batch."""

    __slots__ = ("columns", "executed", "glanced", "ids", "ok", "refused", "started", "started_at", "strange")

    def __init__(self, executed: Executed, ids: bytes, started_at: float, started: float) -> None:
        self.executed, self.ids = executed, ids
        self.started_at, self.started = started_at, started  # on the wall clock, on the monotonic clock
        self.ok: Array | None = None  # which rows are recorded as answered
        self.refused: RpcError | None = None
        self.strange: Picked | None = None
        self.columns: list[Array] = []
        self.glanced: Array | None = None  # indexes of ordinary rows whose features are wanted, too


class Picked(NamedTuple):
    """Some rows of one or more batches: their ids and inputs."""

    ids: bytes
    columns: list[Array]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.ids) // 16

    @property
    def bytes(self) -> int:
        """Of their inputs, about."""
        return sum(column.nbytes for column in self.columns)


def picked(columns: list[Array], ids: bytes, rows: Array) -> Picked:
    """The rows of a batch with these indexes."""
    return Picked(np.frombuffer(ids, "V16")[rows].tobytes(), [column[rows] for column in columns])


def strange_of(executed: Executed, columns: list[Array], ids: bytes) -> Picked | None:
    """The outliers of a batch, for the other detectors to look at; None where there are none."""
    if executed.outlier is None or not executed.outlier.any():
        return None
    return picked(columns, ids, np.flatnonzero(executed.outlier))


class Answers:
    """Tells callers what came of their rows; on the event loop.

    Args:
        refuse: answers a call with an error and takes back what still waits of it.
        withdraw: takes back what is recorded of predictions that nobody gets, by the version and their ids.
        hides: whether what callers send to a model must not be logged.
    """

    def __init__(
        self,
        refuse: Callable[[Work, HoverboardError], None],
        withdraw: Callable[[LiveVersion, bytes], None],
        hides: Callable[[str], bool],
    ) -> None:
        self._refuse = refuse
        self._withdraw = withdraw
        self._hides = hides

    def give(self, batch: Batch, outcome: BatchOutcome) -> None:
        """Answer everybody who has rows in a batch; one that cannot be answered costs no other."""
        row = 0
        for part in batch.slices:
            first, row = row, row + part.rows
            try:
                self._answer_part(batch, part, first, outcome)
            except Exception:  # noqa: BLE001 - the loop must live
                _log.exception("call_not_answered", model=batch.version.key[0], version=batch.version.key[1])
                self._refuse(part.work, InternalError())

    def _answer_part(self, batch: Batch, part: Slice, first: int, outcome: BatchOutcome) -> None:
        """Answer one call with its rows of a batch, from `first` on, or keep them until the rest of it has run."""
        work, executed = part.work, outcome.executed
        if work.closed or work.version is not batch.version:
            if outcome.ok is not None and outcome.ok[first]:  # it ended after the record was written
                self._withdraw(batch.version, outcome.ids[16 * first : 16 * (first + part.rows)])
            return
        if outcome.refused is not None:
            self._refuse(work, outcome.refused)
            return
        if executed.errors:
            rows = range(first, first + part.rows)
            failed = next((row for row in rows if row in executed.errors), None)
            if failed is not None:
                error = executed.errors[failed]
                self._log_cause(batch.version, error.cause)
                self._refuse(work, _placed(error, part.start + failed - first))
                return
        answer = _part_answer(batch, part, first, outcome)
        work.answered += part.rows
        if part.rows != work.call.n:
            work.parts.append((part.start, answer))
            if work.answered != work.call.n:
                return
            answer = _joined(work)
        work.closed = True
        work.done(answer)

    def _log_cause(self, version: LiveVersion, cause: Cause | None) -> None:
        """Log why a sample failed, now and then: others may fail as often as there are calls."""
        now = time.monotonic()
        if cause is None or now - version.logged_at < _LOG_AGAIN_S:
            return
        version.logged_at = now
        model, number = version.key
        # The graph's reason may quote what the model hides.
        reason = HIDDEN if self._hides(model) else cause.reason
        _log.warning("sample_failed", model=model, version=number, reason=reason)


def _part_answer(batch: Batch, part: Slice, first: int, outcome: BatchOutcome) -> PredictAnswer:
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


def _joined(work: Work) -> PredictAnswer:
    """The answers of a call that took several batches, as one."""
    # With two batches in flight the second part may end first.
    parts = [answer for _, answer in sorted(work.parts, key=lambda part: part[0])]

    def column(name: str) -> Array | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    outputs = [part.outputs for part in parts if part.outputs is not None]
    return msgspec.structs.replace(
        parts[-1],
        sample_ids=b"".join(part.sample_ids for part in parts),
        **{name: column(name) for name in ("label_index", "confidence", "value", "p_value")},
        outputs=tuple(np.concatenate(pieces) for pieces in zip(*outputs, strict=True)) if outputs else None,
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
    if len(waits) != batch.rows:  # else each call has one row, as most have
        waits = np.repeat(waits, [part.rows for part in batch.slices])
    reading = executed.reading
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


def _placed(error: RpcError, row: int) -> RpcError:
    """An error of one row, with the row's place in the call."""
    if not isinstance(error, ModelFailed | NonFiniteOutput):
        return error
    details = {**(error.details or {}), "pointer": f"/instances/{row}"}
    return type(error)(error.message, details=details, cause=error.cause)
