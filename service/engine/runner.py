"""Runs a batch and records it, on whichever thread is its turn; and what is recorded of it later."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

import structlog

from hoverboard.contract.calls import RecordSink
from hoverboard.contract.signature import Array
from hoverboard.engine.answers import BatchOutcome, Picked, picked, record_of, strange_of
from hoverboard.engine.buckets import followed
from hoverboard.engine.glances import Glances
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.engine.slots import EXECUTION, Slots
from hoverboard.engine.work import Batch, Work
from hoverboard.engine.worker import Worker
from hoverboard.errors import Overloaded

__all__ = ["Runner"]

_log = structlog.get_logger(__name__)
_MOST_SUPPLEMENTS: Final = 8  # batches whose outliers wait to be looked at by the other detectors
_HANGS: Final = 20.0  # times its measured execution time
_UNMEASURED: Final = 4.0  # times `batch_deadline_s`, where nothing was measured that would tell


class Runner:
    """Runs batches, and records them before anybody is answered.

    Args:
        sink: where batches are recorded; None records nothing, as in offline scoring.
        slots: where it is noted what runs, for a supervisor that ends the process when that hangs.
        worker: the execution thread, which may wait for the disk.
        hang_s: least time after which a batch is taken to hang, seconds.
    """

    def __init__(self, sink: RecordSink | None, slots: Slots, worker: Worker, hang_s: float) -> None:
        self._sink = sink
        self._slots = slots
        self._worker = worker
        self._hang_s = hang_s
        self._supplements = 0
        self._glances = Glances(self._glance, worker)

    @property
    def unmeasured_s(self) -> float:
        """Seconds after which a run is taken to hang of which nothing was measured that would tell."""
        return _UNMEASURED * self._hang_s

    def run(self, batch: Batch, columns: list[Array], slot: int) -> BatchOutcome:
        """Run a batch, then record it, so that no answer leaves before its record.

        Args:
            batch: what to run.
            columns: its inputs.
            slot: of this thread.
        """
        started_at, started = time.time(), time.monotonic()
        self._slots.begin(slot, batch.version.key, self._patience(batch))
        try:
            executed = batch.version.execute(columns, batch.rows, batch.bucket)
        finally:
            self._slots.end(slot)
        ids = sample_ids(batch.rows, started_at)
        outcome = BatchOutcome(executed, ids, started_at, started)
        if self._sink is not None:
            # Looked for first: nothing that may fail stands between a record and its answers.
            strange = strange_of(executed, columns, ids)
            try:
                record = record_of(batch, columns, outcome)
                wanted = self._sink.append(record)
            except Overloaded as error:
                outcome.refused = error
            else:
                outcome.ok, outcome.strange = record.ok, strange
                outcome.columns, outcome.glanced = columns, wanted
        batch.version.run_s = followed(batch.version.run_s, time.monotonic() - started)
        return outcome

    def _patience(self, batch: Batch) -> float:
        """Seconds after which a batch is taken to hang: far more than any that ends ever took."""
        patience = max(self._hang_s, _HANGS * batch.version.costs.seconds(batch.bucket))
        if batch.version.sized_by_caller:  # what was timed says little: give it what its callers give it, within reason
            latest = max(part.work.call.deadline for part in batch.slices) - time.monotonic()
            patience = max(patience, min(latest, self.unmeasured_s))
        return patience

    def withdraw_parts(self, work: Work) -> None:
        """Take back what is recorded of the parts of a call that have run, where the rest of it fails."""
        if work.version is not None:
            self.withdraw(work.version, b"".join([answer.sample_ids for _, answer in work.parts]))

    def withdraw(self, version: LiveVersion, sample_ids: bytes) -> None:
        """Take back what is recorded of predictions that nobody gets; on the thread that may wait for the disk.

        Not before the refusal: an engine that dies in between leaves no more behind than one that dies with the whole call in
        flight, whose records are written before any answer and which nobody can take back. Such predictions are real ones of
        real samples, and the callers were told of a failure.
        """
        if self._sink is not None:
            job = partial(self._sink.withdraw, version.source, sample_ids)
            self._worker.submit(job, partial(_log_failure, "withdrawal_not_journaled", version))

    def follow(self, version: LiveVersion, outcome: BatchOutcome) -> None:
        """What is left to do once a batch is answered: look at its outliers, and at a few of its other rows."""
        if outcome.strange is not None:
            self._supplement(version, outcome.strange)
        if outcome.glanced is not None and version.extract is not None:
            self._glances.add(version, picked(outcome.columns, outcome.ids, outcome.glanced))

    def finish(self) -> None:
        """Do what waits for its turn; no batch comes any more."""
        self._glances.finish()

    def _glance(self, version: LiveVersion, rows: Picked) -> None:
        """On the execution thread: record the features of ordinary rows."""
        if self._sink is None or version.extract is None:
            return
        self._slots.begin(EXECUTION, version.key, self.unmeasured_s)
        try:
            z = version.extract(rows.columns).z
        finally:
            self._slots.end(EXECUTION)
        if z is not None:
            self._sink.features(version.source, rows.ids, z)

    def _supplement(self, version: LiveVersion, strange: Picked) -> None:
        """Have the other detectors look at outliers, between the batches; a flood of them is not worth the time."""
        sink, outliers = self._sink, version.outliers
        if sink is None or outliers is None or self._supplements >= _MOST_SUPPLEMENTS:
            return
        self._supplements += 1

        def look() -> None:
            self._slots.begin(EXECUTION, version.key, self.unmeasured_s)
            try:
                looked = version.look(strange.columns)
            finally:
                self._slots.end(EXECUTION)
            if looked is None:
                return
            if looked.z is not None:
                sink.features(version.source, strange.ids, looked.z)
            for decided, rows in looked.by_reason(outliers.chosen).items():
                ids = b"".join(strange.ids[16 * row : 16 * row + 16] for row in rows)
                sink.supplement(
                    version.source, decided, ids, {name: all_[rows] for name, all_ in looked.scores.items()}
                )

        def looked(_: None, error: BaseException | None) -> None:
            self._supplements -= 1
            _log_failure("outliers_not_looked_at", version, None, error)

        self._worker.submit(look, looked)


def _log_failure(event: str, version: LiveVersion, _: None, error: BaseException | None) -> None:
    """Log that a job of a version failed; nobody waits for it."""
    if error is not None:
        _log.error(event, model=version.key[0], version=version.key[1], exc_info=error)
