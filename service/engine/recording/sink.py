"""Journals executed batches and what serves: the engine's `RecordSink`."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import structlog

from hoverboard.contract.calls import ExecutedBatch, PredictCall, Source
from hoverboard.contract.catalog import Catalog, ModelStatus
from hoverboard.contract.signature import Array
from hoverboard.engine.recording.policy import Kept, RowPolicy
from hoverboard.engine.recording.seen import Seen
from hoverboard.errors import Overloaded
from hoverboard.files import put_file
from hoverboard.journal.columns import pack_column
from hoverboard.journal.records import (
    KINDS,
    BatchRecord,
    CallPart,
    DeploymentRecord,
    FeatureRecord,
    GapEntry,
    Record,
    SupplementRecord,
    VersionRecord,
    WithdrawalRecord,
    encode,
)
from hoverboard.journal.writer import JournalFull, JournalWriter, NotOnDisk
from hoverboard.outliers.features import half
from hoverboard.telemetry import families
from hoverboard.versions import Recording

__all__ = ["JournalSink", "hashing_key"]

_KEY_FILE: Final = "hashing.key"
_WITHDRAWN_AT_ONCE: Final = 16 * 65536  # bytes of sample ids in one record
_UNSAFE: Final = "redact"
_OVER_BUDGET: Final = "journal budget"
_CANNOT_WRITE: Final = "journal cannot be written"

_EVERYTHING: Final = Recording()

_log = structlog.get_logger(__name__)
_json = msgspec.json.Encoder().encode


def hashing_key(data_dir: Path) -> bytes:
    """The key of the policy `hashed`; made at its first use, mode 0600. Raises OSError."""
    path = data_dir / _KEY_FILE
    try:
        return path.read_bytes()
    except FileNotFoundError:
        fresh = path.with_name(f".{_KEY_FILE}.{secrets.token_hex(4)}")
        put_file(fresh, secrets.token_bytes(32))
        try:
            with suppress(FileExistsError):
                os.link(fresh, path)  # unlike a rename it leaves the key that another engine has made meanwhile
        finally:
            fresh.unlink(missing_ok=True)
        return path.read_bytes()


class _Counts(NamedTuple):
    """Of one batch: outliers that are no repeats, and repeats."""

    flagged: int
    repeats: int


_NO_COUNTS: Final = _Counts(0, 0)


class JournalSink:
    """Writes each batch, by its model's policy, with one write.

    Args:
        writer: this process's journal.
        key: for the hashes of the policy `hashed`.
    """

    def __init__(self, writer: JournalWriter, key: bytes) -> None:
        self._writer = writer
        self._key = key
        self._recordings: Mapping[str, Recording] = {}
        self._unread: Mapping[str, str] = {}
        self._policies: dict[tuple[str, int], tuple[Recording, RowPolicy]] = {}
        self._needs: dict[tuple[str, int], tuple[Source, dict[str, bytes]]] = {}
        self._roles: dict[tuple[str, str], int] = {}
        self._seen: dict[tuple[str, int], Seen] = {}

    # -- on the event loop ---------------------------------------------------------------------------------------

    def follow(self, catalog: Catalog) -> None:
        """Take over the models' policies, and journal which versions answer from now on."""
        self._recordings = {
            name: msgspec.convert(status.serving["recording"], Recording)
            for name, status in catalog.models.items()
            if "recording" in status.serving
        }
        self._forget(
            {(name, each.version) for name, s in catalog.models.items() for each in s.versions if each.state == "live"}
        )
        self._unread = {name: s.problem or "" for name, s in catalog.models.items() if s.serving.get("unread")}
        # While versions are being loaded roles are not final: deployments would be journaled that never were.
        if not catalog.ready:
            return
        now = {
            (name, role): (number, status)
            for name, status in catalog.models.items()
            for role, number in status.roles.items()
        }
        for place, (number, status) in now.items():
            if self._roles.get(place) != number:
                self._deploy(place, number, status)
        for place in self._roles.keys() - now.keys():
            self._deploy(place, None, None)
        self._roles = {place: number for place, (number, _) in now.items()}

    def _forget(self, live: set[tuple[str, int]]) -> None:
        """Let go of what is remembered of versions that answer no more; a batch that still runs makes it anew."""
        for remembered in (self._policies, self._needs, self._seen):
            for place in [each for each in list(remembered) if each not in live]:
                remembered.pop(place, None)

    def _deploy(self, place: tuple[str, str], number: int | None, status: ModelStatus | None) -> None:
        version = status.version(number) if status is not None and number is not None else None
        manifest = version.manifest if version is not None and version.manifest is not None else {}
        asked = status is not None and status.serving.get("stable") == number
        record = DeploymentRecord(
            at_us=int(time.time() * 1e6),
            model=place[0],
            role=place[1],
            version=number,
            weights_sha256=str(manifest.get("weights_sha256", "")),
            share=1.0 if number is not None else 0.0,
            reason=_reason(number, asked=asked),
            actor="disk" if status is None else status.routed_by,
        )
        try:
            self._write(record, _deployed(record, manifest))
        except (JournalFull, NotOnDisk):
            _log.error("deployment_not_journaled", model=record.model, role=record.role, version=number)

    # -- on the thread that executes, which is the event loop's for short batches ------------------------------------

    def append(self, batch: ExecutedBatch) -> Array | None:
        """See `RecordSink.append`."""
        source = batch.source
        policy = self._policy(source)
        kept = policy.select(batch)
        executed = len(batch.ok)
        counts = self._count(batch)
        if self._unsafe(source, policy):
            self._shed(
                _gap(batch, _UNSAFE, executed if kept.rows is None else len(kept.rows), executed, counts.flagged)
            )
            return None
        # Of `none` nothing is written but counts, which are small and still wanted.
        if self._writer.over_budget and policy.policy != "none":
            special = self._shed_ordinary(batch, policy, kept, counts)
            if special is None:
                return None
            kept = special
        record = _record(batch, policy, kept, counts)
        try:
            self._write(record, self._version(source))
        except NotOnDisk as unsure:
            # Whoever reads the journal finds the batch, or counts it as missing: to count it here would be twice.
            _log.error("batch_not_on_disk", model=source.model, version=source.version, reason=str(unsure))
            raise _refusal() from unsure
        except JournalFull:
            self._shed(_gap(batch, _CANNOT_WRITE, record.rows, executed, record.flagged))
            return None
        return None if self._writer.short_of_room else policy.glanced(batch, kept)

    def withdraw(self, source: Source, sample_ids: bytes) -> None:
        """See `RecordSink.withdraw`."""
        for start in range(0, len(sample_ids), _WITHDRAWN_AT_ONCE):
            part = sample_ids[start : start + _WITHDRAWN_AT_ONCE]
            record = WithdrawalRecord(source.model, source.version, source.weights_sha256, part)
            try:
                self._write(record, self._version(source))
            except (JournalFull, NotOnDisk):
                _log.error("withdrawal_not_journaled", model=source.model, samples=len(part) // 16)

    def supplement(self, source: Source, detector: str, sample_ids: bytes, scores: Mapping[str, Array]) -> None:
        """See `RecordSink.supplement`."""
        if self._unsafe(source, self._policy(source)):
            return
        packed = {name: values.astype(np.float32).tobytes() for name, values in scores.items()}
        record = SupplementRecord(source.model, source.version, detector, sample_ids, packed)
        with suppress(JournalFull, NotOnDisk):  # the outliers themselves are recorded, or counted as missing
            self._write(record, self._version(source))

    def features(self, source: Source, sample_ids: bytes, z: Array) -> None:
        """See `RecordSink.features`."""
        policy = self._policy(source)
        # Before ordinary samples are shed, features are.
        if self._unsafe(source, policy) or policy.hides or self._writer.short_of_room:
            return
        record = FeatureRecord(source.model, source.version, source.weights_sha256, sample_ids, half(z).tobytes())
        with suppress(JournalFull, NotOnDisk):  # the samples themselves are recorded, or counted as missing
            self._write(record, self._version(source))

    def _write(self, record: Record, needs: Mapping[str, bytes]) -> None:
        self._writer.append(KINDS[type(record)], encode(record), count=record.count, needs=needs)

    def _count(self, batch: ExecutedBatch) -> _Counts:
        """Outliers and repeats; without a detector nobody asks for either."""
        if batch.outlier is None:
            return _NO_COUNTS
        place = (batch.source.model, batch.source.version)
        seen = self._seen.get(place) or self._seen.setdefault(place, Seen())
        fresh = seen.fresh(batch.columns)
        return _Counts(int((batch.outlier & fresh).sum()), int(len(fresh) - fresh.sum()))

    def _shed_ordinary(self, batch: ExecutedBatch, policy: RowPolicy, kept: Kept, counts: _Counts) -> Kept | None:
        """With the disk budget used up: count what is ordinary as missing; returns the rest, None where it is nothing."""
        special = policy.special(batch)
        wanted = len(batch.ok) if kept.rows is None else len(kept.rows)
        rest = 0 if special.rows is None else len(special.rows)
        # Nothing is journaled of a batch without a special row, not even its counts: the gap has them.
        executed = 0 if rest else len(batch.ok)
        flagged = 0 if rest else counts.flagged
        self._shed(_gap(batch, _OVER_BUDGET, wanted - rest, executed, flagged))
        return special if rest else None

    def _shed(self, entry: GapEntry) -> None:
        try:
            self._writer.shed([entry])
        except JournalFull as full:
            _log.error("not_even_a_gap", reason=str(full))
            raise _refusal() from full
        families.shed.labels(entry.model or "", entry.reason).inc(entry.records)

    def _policy(self, source: Source) -> RowPolicy:
        place = (source.model, source.version)
        recording = self._recordings.get(source.model) or _EVERYTHING
        known = self._policies.get(place)
        if known is None or known[0] is not recording:
            known = self._policies[place] = (recording, RowPolicy(recording, source.signature, self._key))
            problem = self._unread.get(source.model) or known[1].problem
            if problem is not None:
                _log.error(
                    "nothing_recorded",
                    model=source.model,
                    version=source.version,
                    reason=problem,
                    then="samples are answered and counted as missing until serving.toml is right",
                )
        return known[1]

    def _unsafe(self, source: Source, policy: RowPolicy) -> bool:
        """Whether nothing of a version may be written down: nobody can say what somebody wanted left out."""
        return policy.problem is not None or source.model in self._unread

    def _version(self, source: Source) -> dict[str, bytes]:
        place = (source.model, source.version)
        # Encoded once: the writer puts it into a segment where it is missing, and compares keys only.
        known = self._needs.get(place)
        if known is None or known[0] is not source:
            record = VersionRecord(source.model, source.version, source.weights_sha256, _json(source.manifest))
            known = self._needs[place] = (source, {_key(record): encode(record)})
        return known[1]


def _refusal() -> Overloaded:
    return Overloaded("Answers cannot be recorded now", retry_after_ms=1000)


def _reason(number: int | None, *, asked: bool) -> str:
    if number is None:
        return "the model is gone"
    return "serving.toml names it" if asked else "the highest version that can serve"


def _key(record: VersionRecord) -> str:
    return f"{record.model}/{record.version}/{record.weights_sha256}"


def _deployed(deployment: DeploymentRecord, manifest: Mapping[str, object]) -> dict[str, bytes]:
    if deployment.version is None or not manifest:
        return {}
    record = VersionRecord(deployment.model, deployment.version, deployment.weights_sha256, _json(manifest))
    return {_key(record): encode(record)}


def _record(batch: ExecutedBatch, policy: RowPolicy, kept: Kept, counts: _Counts) -> BatchRecord:
    rows = kept.rows
    executed = len(batch.ok)
    count = executed if rows is None else len(rows)
    failed = 0 if batch.ok.all() else int(executed - batch.ok.sum())
    return BatchRecord(
        batch.source.model,
        batch.source.version,
        batch.source.weights_sha256,
        policy.policy,
        batch.sample_ids[:16],
        int(batch.started_at * 1e6),
        executed,
        counts.flagged,
        failed,
        batch.bucket,
        batch.infer_us,
        count,
        batch.sample_ids if rows is None else _ids(batch.sample_ids, rows),
        _failed_rows(batch.ok, rows) if failed else [],
        policy.columns(batch, rows) if count else [],
        [pack_column(column if rows is None else column[rows]) for column in batch.outputs] if count else [],
        _bytes(batch.label_index, rows),
        _bytes(batch.confidence, rows),
        _bytes(_floats(batch.value), rows),
        _bytes(batch.p_value, rows),
        _bytes(batch.outlier, rows),
        (batch.queue_us if rows is None else batch.queue_us[rows]).tobytes(),
        None if kept.incl_prob is None else kept.incl_prob.tobytes(),
        None if kept.why is None else kept.why.tobytes(),
        policy.redacted,
        _calls(batch, rows),
        counts.repeats,
    )


def _floats(values: Array | None) -> Array | None:
    """Values as they are journaled: float32 where that holds each of their dtype, else float64."""
    if values is None or values.dtype == np.float32:
        return values
    return values.astype(np.float32 if np.can_cast(values.dtype, np.float32) else np.float64, copy=False)


def _bytes(values: Array | None, rows: Array | None) -> bytes | None:
    if values is None:
        return None
    return values.tobytes() if rows is None else values[rows].tobytes()


def _ids(sample_ids: bytes, rows: Array) -> bytes:
    return np.frombuffer(sample_ids, np.uint8).reshape(-1, 16)[rows].tobytes()


def _failed_rows(ok: Array, rows: Array | None) -> list[int]:
    failed: list[int] = np.flatnonzero(~(ok if rows is None else ok[rows])).tolist()
    return failed


def _calls(batch: ExecutedBatch, rows: Array | None) -> list[CallPart]:
    if rows is None:
        return [_part(call, count) for call, _, count in batch.calls]
    ends = np.cumsum([count for _, _, count in batch.calls])
    kept = np.diff(np.searchsorted(rows, ends), prepend=0).tolist()
    return [_part(call, count) for (call, _, _), count in zip(batch.calls, kept, strict=True) if count]


def _part(call: PredictCall, rows: int) -> CallPart:
    role = call.version if isinstance(call.version, str) else None
    tags = None if not call.tags else _json(call.tags)
    return CallPart(rows, role, call.request_id, call.traceparent, tags)


def _gap(batch: ExecutedBatch, reason: str, records: int, executed: int, flagged: int) -> GapEntry:
    now = int(batch.started_at * 1e6)
    return GapEntry(batch.source.model, batch.source.version, reason, records, executed, flagged, now, now)
