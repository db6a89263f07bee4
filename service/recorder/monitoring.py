"""Watches versions in the transaction that moves a journal's cursor: so each batch counts once, whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec
import structlog

from service.config import Settings
from service.errors import VersionRefused
from service.journal.records import AlarmResetRecord, BatchRecord, GapEntry, GapRecord, Record
from service.outliers import rate_bound
from service.recorder import alarm_table, drift_table
from service.recorder.alarms import Alarm, Block, blocks_of
from service.recorder.drift import Finding, Reference
from service.recorder.refusals import sentence, transient
from service.recorder.rows import KnownVersion, VersionKey, version_key
from service.recorder.statements import statements
from service.telemetry import metrics
from service.versions import read_version
from service.versions.baseline import Baseline, read_baseline

__all__ = ["Monitoring", "Name", "Seen", "show", "tell"]

_SQL: Final = statements("monitoring.sql")
_log = structlog.get_logger(__name__)

Connection = asyncpg.Connection[asyncpg.Record]


class Name(NamedTuple):
    """A version as metrics and logs name it."""

    model: str
    version: int


@dataclass(slots=True)
class Seen:
    """What a step found out; to be told once it is committed.

    Attributes:
        alarms: of the versions that were counted or reset.
        raised: those of them whose alarm was raised just now.
        windows: the last full window of versions that have a new one.
    """

    alarms: dict[Name, Alarm] = field(default_factory=dict)
    raised: list[Name] = field(default_factory=list)
    windows: dict[Name, Sequence[Finding]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Watched:
    """What there is to watch of a version.

    Attributes:
        id: its `model_versions.id`.
        name: what it is called.
        bound: of its alarm; None for a version without calibration.
        reference: for drift; None for a version without baseline.
    """

    id: int
    name: Name
    bound: float | None
    reference: Reference | None


class _Outliers(msgspec.Struct):
    """What a manifest says of its detector."""

    alpha: float
    bound: float | None = None
    calibration_points: int | None = None


class _Contract(msgspec.Struct):
    """What of a manifest is looked at here."""

    outliers: _Outliers | None = None


class Monitoring:
    """Counts for the alarms, and for drift, what one connection's journals bring.

    Args:
        settings: the service's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._watched: dict[int, _Watched] = {}

    async def follow(
        self,
        connection: Connection,
        batches: Sequence[BatchRecord],
        others: Iterable[Record],
        versions: Mapping[VersionKey, KnownVersion],
    ) -> Seen:
        """Count a chunk, in the connection's transaction; a failure of ours leaves nothing behind and stops nobody.

        Args:
            batches: of the chunk, in order.
            others: its gaps and resets among them.
            versions: those that could be found.

        Raises:
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: the connection or the server fails.
        """
        found = list(others)
        gaps = [entry for record in found if isinstance(record, GapRecord) for entry in record.entries]
        resets = [record for record in found if isinstance(record, AlarmResetRecord)]
        seen = Seen()
        if not (batches or gaps or resets):
            return seen
        try:
            async with connection.transaction():
                await self._follow(connection, batches, gaps, resets, versions, seen)
        except Exception as error:
            if transient(error):
                raise
            metrics.count_recorder_error("monitoring")
            _log.exception("not_monitored", batches=len(batches))
            return Seen()
        return seen

    async def _follow(
        self,
        connection: Connection,
        batches: Sequence[BatchRecord],
        gaps: Sequence[GapEntry],
        resets: Sequence[AlarmResetRecord],
        versions: Mapping[VersionKey, KnownVersion],
        seen: Seen,
    ) -> None:
        ran: dict[int, list[BatchRecord]] = {}
        signatures = {known.id: known for known in versions.values()}
        for batch in batches:
            known = versions.get(version_key(batch))
            if known is not None:
                ran.setdefault(known.id, []).append(batch)
        lost = await _by_id(connection, [entry for entry in gaps if entry.executed and entry.model is not None])
        # Always in this order, so that recorders which feed the same versions wait for each other and never in a circle.
        for version_id in sorted(ran.keys() | lost.keys()):
            watched = await self._watch(connection, version_id, signatures.get(version_id))
            counts = [*_counts(ran.get(version_id, ())), *lost.get(version_id, ())]
            await self._alarm(connection, watched, counts, seen)
            await self._drift(connection, watched, ran.get(version_id, ()), seen)
        for record in resets:
            for alarm in await alarm_table.reset(connection, record):
                seen.alarms[Name(record.model, record.version)] = alarm

    async def _alarm(self, connection: Connection, watched: _Watched, counts: Sequence[Block], seen: Seen) -> None:
        blocks = blocks_of(counts)
        if watched.bound is None or not blocks:
            return
        alarm, raised = await alarm_table.follow(
            connection, watched.id, watched.bound, blocks, self._settings.alarm_run_length
        )
        seen.alarms[watched.name] = alarm
        if raised:
            seen.raised.append(watched.name)

    async def _drift(
        self, connection: Connection, watched: _Watched, batches: Sequence[BatchRecord], seen: Seen
    ) -> None:
        if watched.reference is None or not any(batch.rows for batch in batches):
            return
        full = await drift_table.follow(
            connection,
            watched.id,
            watched.reference,
            batches,
            size=self._settings.drift_window_rows,
            now=datetime.now(UTC),
        )
        if full:
            seen.windows[watched.name] = full[-1]

    async def _watch(self, connection: Connection, version_id: int, known: KnownVersion | None) -> _Watched:
        """What there is to watch of a version; looked up once, and again where its signature was not known."""
        watched = self._watched.get(version_id)
        if watched is not None:
            return watched
        (row,) = await connection.fetch(_SQL["find_watched"], [version_id])
        reference = None
        if known is not None:
            baseline = await self._baseline(connection, row)
            reference = None if baseline is None else Reference(baseline, known.signature)
        watched = _Watched(version_id, Name(row["name"], row["version"]), _bound(row["manifest"]), reference)
        if known is not None:
            self._watched[version_id] = watched
        return watched

    async def _baseline(self, connection: Connection, row: asyncpg.Record) -> Baseline | None:
        """As it was when this version was first seen; its bins are frozen from then on."""
        kept = await drift_table.find_baseline(connection, row["id"])
        if kept is None:
            found = await asyncio.to_thread(self._on_disk, row["name"], row["version"], row["weights_sha256"])
            if found is not None:
                await drift_table.insert_baseline(connection, row["id"], found)
                kept = await drift_table.find_baseline(connection, row["id"])
        return kept

    def _on_disk(self, model: str, version: int, weights: str) -> Baseline | None:
        directory = self._settings.models / model / str(version)
        try:
            return read_baseline(directory) if read_version(directory).weights_sha256 == weights else None
        except VersionRefused as error:
            _log.warning("no_baseline", model=model, version=version, reason=sentence(error))
            return None


async def show(connection: Connection) -> None:
    """Tell the metrics what Postgres knows: after a start nothing has been counted yet."""
    for row in await alarm_table.list_alarms(connection):
        _tell_alarm(Name(row.model, row.version), row.alarm)
    findings: dict[Name, list[asyncpg.Record]] = {}
    for row in await drift_table.latest_findings(connection):
        findings.setdefault(Name(row["model"], row["version"]), []).append(row)
    for name, rows in findings.items():
        metrics.set_drift(*name, {row["feature"]: row["js"] for row in rows}, sum(row["drifted"] for row in rows))


def tell(seen: Seen) -> None:
    """Tell the metrics and the log what a committed step has found."""
    for name, alarm in seen.alarms.items():
        _tell_alarm(name, alarm)
    for name in seen.raised:
        raised = seen.alarms[name].raised
        if raised is not None:
            _log.warning(
                "alarm_raised",
                **name._asdict(),
                onset=alarm_table.moment(raised.onset_us).isoformat(timespec="seconds"),
                flagged=raised.flagged,
                rows=raised.rows,
                bound=seen.alarms[name].bound,
            )
    for name, findings in seen.windows.items():
        drifted = [finding.feature for finding in findings if finding.drifted]
        metrics.set_drift(*name, {finding.feature: finding.js for finding in findings}, len(drifted))
        if drifted:
            _log.info("drifted", **name._asdict(), features=drifted[:10], of=len(findings))


def _tell_alarm(name: Name, alarm: Alarm) -> None:
    metrics.set_alarm(
        *name,
        rate=alarm.rate or 0.0,
        bound=alarm.bound,
        log10_e=alarm.evidence.log10_e,
        raised=alarm.raised is not None,
    )


def _counts(batches: Iterable[BatchRecord]) -> list[Block]:
    """What batches count for an alarm: only those that a detector looked at."""
    return [
        Block(batch.executed - batch.repeats, batch.flagged, batch.started_us)
        for batch in batches
        if batch.outlier is not None
    ]


async def _by_id(connection: Connection, entries: Sequence[GapEntry]) -> dict[int, list[Block]]:
    """What was lost of versions that Postgres knows. How many of the lost rows were repeats is not known: they count."""
    if not entries:
        return {}
    names = {(entry.model, entry.version) for entry in entries if entry.version is not None}
    rows = await connection.fetch(
        _SQL["find_numbered"], [model for model, _ in names], [version for _, version in names]
    )
    ids: dict[Any, int] = {(row["name"], row["version"]): row["id"] for row in rows}
    found: dict[int, list[Block]] = {}
    for entry in entries:
        version_id = ids.get((entry.model, entry.version))
        if version_id is not None:
            found.setdefault(version_id, []).append(Block(entry.executed, entry.flagged, entry.first_us))
    return found


def _bound(manifest: str) -> float | None:
    """The bound that a version's alarm tests against; None for a version without calibration."""
    try:
        outliers = msgspec.json.decode(manifest, type=_Contract).outliers
    except msgspec.DecodeError:
        return None
    if outliers is None:
        return None
    bound = outliers.bound
    if bound is None and outliers.calibration_points:
        bound = rate_bound(outliers.calibration_points, outliers.alpha)
    return bound if bound is not None and 0 < bound < 1 else None
