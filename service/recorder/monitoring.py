"""Watches versions in the transaction that moves a journal's cursor: so each batch counts once, whatever breaks."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg
import msgspec
import structlog

from hoverboard.config import Settings
from hoverboard.database.failures import doubtful, refused, sentence, transient
from hoverboard.database.statements import statements
from hoverboard.errors import VersionRefused
from hoverboard.journal.records import AlarmResetRecord, BatchRecord, GapRecord, Record
from hoverboard.outliers import rate_bound
from hoverboard.recorder import alarm_table, drift_table
from hoverboard.recorder.alarms import Alarm, Block, blocks_of
from hoverboard.recorder.drift import Finding, Reference
from hoverboard.recorder.rows.tables import KnownVersion, VersionKey, version_key
from hoverboard.telemetry import families
from hoverboard.versions import read_version
from hoverboard.versions.baseline import Baseline, read_baseline

__all__ = ["Monitoring", "Name", "Seen", "show", "tell"]

_SQL: Final = statements("monitoring.sql")
_log = structlog.get_logger(__name__)
_DRIFT_AGAIN_S: Final = 60.0  # a window may close twice a second, and drift lasts

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


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


@dataclass(frozen=True, slots=True)
class _Ran:
    """The batches of one version.

    Attributes:
        known: the version.
        batches: in order.
    """

    known: KnownVersion
    batches: Sequence[BatchRecord]


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
        self._unread: dict[int, str] = {}

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
        news = [record for record in others if isinstance(record, GapRecord | AlarmResetRecord)]
        if not (batches or news):
            return Seen()
        try:
            async with connection.transaction():
                return await self._follow(connection, _by_version(batches, versions), news)
        except Exception as error:
            # Ours would be data that Postgres or asyncpg refuses, theirs a table that is broken; recording goes on without.
            if transient(error) and not (refused(error) or doubtful(error)):
                raise
            self._watched.clear()
            families.recorder_errors.labels("monitoring").inc()
            _log.exception("not_monitored", batches=len(batches))
            return Seen()

    async def _follow(
        self, connection: Connection, ran: Mapping[int, _Ran], news: Sequence[GapRecord | AlarmResetRecord]
    ) -> Seen:
        seen = Seen()
        lost = await _lost(connection, news)
        # Always in this order, so that recorders which feed the same versions wait for each other and never in a circle.
        for version_id in sorted(ran.keys() | lost.keys()):
            here = ran.get(version_id)
            watched = await self._watch(connection, version_id, None if here is None else here.known)
            counts = [*_counts(() if here is None else here.batches), *lost.get(version_id, ())]
            await self._alarm(connection, watched, counts, seen)
            if here is not None:
                await self._drift(connection, watched, here.batches, seen)
        for record in news:
            if isinstance(record, AlarmResetRecord):
                for alarm in await alarm_table.reset(connection, record):
                    seen.alarms[Name(record.model, record.version)] = alarm
        return seen

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
            connection, watched.id, watched.reference, batches, self._settings.drift_window_rows
        )
        if full:
            seen.windows[watched.name] = full[-1]

    async def _watch(self, connection: Connection, version_id: int, known: KnownVersion | None) -> _Watched:
        """What there is to watch of a version; looked up once, and again where its signature was not known."""
        watched = self._watched.get(version_id)
        if watched is not None:
            return watched
        (row,) = await connection.fetch(_SQL["find_watched"], version_id)
        reference, settled = None, known is not None
        if known is not None:
            try:
                baseline = await self._baseline(connection, version_id, row)
                reference = None if baseline is None else Reference(baseline, known.signature)
            except VersionRefused as error:
                settled = not error.passing  # else it is looked for again with the next rows
                if self._unread.get(version_id) != error.reason:
                    self._unread[version_id] = error.reason
                    _log.warning("no_baseline", model=row["name"], version=row["version"], reason=sentence(error))
        watched = _Watched(version_id, Name(row["name"], row["version"]), _bound(row["manifest"]), reference)
        if settled:
            self._watched[version_id] = watched
        return watched

    async def _baseline(self, connection: Connection, version_id: int, row: asyncpg.Record) -> Baseline | None:
        """As it was when this version was first seen; its bins are frozen from then on."""
        kept = await drift_table.find_baseline(connection, version_id)
        if kept is None:
            found = await asyncio.to_thread(self._on_disk, row["name"], row["version"], row["weights_sha256"])
            if found is not None:
                await drift_table.insert_baseline(connection, version_id, found)
                kept = await drift_table.find_baseline(connection, version_id)
        return kept

    def _on_disk(self, model: str, version: int, weights: str) -> Baseline | None:
        directory = self._settings.models / model / str(version)
        found = read_baseline(directory)
        return found if found is not None and read_version(directory).weights_sha256 == weights else None


async def show(connection: Connection) -> None:
    """Tell the metrics what Postgres knows: after a start nothing has been counted yet."""
    for row in await alarm_table.list_alarms(connection):
        _tell_alarm(Name(row.model, row.version), row.alarm)
    findings: dict[Name, list[asyncpg.Record]] = {}
    for finding in await drift_table.latest_findings(connection):
        findings.setdefault(Name(finding["model"], finding["version"]), []).append(finding)
    for name, rows in findings.items():
        _show_drift(name, {row["feature"]: row["js"] for row in rows}, sum(row["drifted"] for row in rows))


_drift_told_at: dict[Name, float] = {}


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
        _show_drift(name, {finding.feature: finding.js for finding in findings}, len(drifted))
        now = time.monotonic()
        if drifted and now - _drift_told_at.get(name, -math.inf) >= _DRIFT_AGAIN_S:
            _drift_told_at[name] = now
            _log.info("drifted", **name._asdict(), features=drifted[:10], of=len(findings))


def _tell_alarm(name: Name, alarm: Alarm) -> None:
    families.flag_rate.labels(*name).set(alarm.rate or 0.0)
    families.flag_rate_bound.labels(*name).set(alarm.bound)
    families.alarm_log10_e_value.labels(*name).set(alarm.evidence.log10_e)
    families.alarm_raised.labels(*name).set(int(alarm.raised is not None))


def _show_drift(name: Name, divergences: Mapping[str, float], drifted: int) -> None:
    for feature, divergence in divergences.items():
        families.drift_js.labels(*name, feature).set(divergence)
    families.drifted_features.labels(*name).set(drifted)


def _by_version(batches: Iterable[BatchRecord], versions: Mapping[VersionKey, KnownVersion]) -> dict[int, _Ran]:
    """Batches by their version's id; those whose version could not be found are left out."""
    found: dict[VersionKey, list[BatchRecord]] = {}
    for batch in batches:
        found.setdefault(version_key(batch), []).append(batch)
    return {versions[key].id: _Ran(versions[key], each) for key, each in found.items() if key in versions}


def _counts(batches: Iterable[BatchRecord]) -> list[Block]:
    """What batches count for an alarm: only those that a detector looked at."""
    return [
        Block(batch.executed - batch.repeats, batch.flagged, batch.started_us, batch.repeats)
        for batch in batches
        if batch.outlier is not None
    ]


async def _lost(connection: Connection, news: Iterable[GapRecord | AlarmResetRecord]) -> dict[int, list[Block]]:
    """What ran and was not journaled, by version; how many of those rows were repeats is not known: all count.

    Versions that Postgres does not know are left out.
    """
    entries = [
        entry
        for record in news
        if isinstance(record, GapRecord)
        for entry in record.entries
        if entry.executed and entry.model is not None and entry.version is not None
    ]
    if not entries:
        return {}
    names = {(entry.model, entry.version) for entry in entries}
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
