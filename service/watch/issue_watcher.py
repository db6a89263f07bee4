"""Watches which outliers are alike, and what becomes of each kind."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Final

import asyncpg
import numpy as np
import structlog

from hoverboard.config import Settings
from hoverboard.contract.signature import Array
from hoverboard.contract.times import nearest_time, times_ms
from hoverboard.database.connect import Connection
from hoverboard.database.known import VersionKey, version_key
from hoverboard.errors import HoverboardError, VersionRefused
from hoverboard.journal.records import FeatureRecord, Record
from hoverboard.outliers import OUTLIERS_FILE, CalibrationFeatures, OutlierPackage, load_features, load_package
from hoverboard.outliers.features import Matrix
from hoverboard.telemetry import families
from hoverboard.versions import read_version
from hoverboard.watch import issue_table
from hoverboard.watch.grouping import (
    LEAST_FOR_RADIUS,
    Places,
    Whitening,
    calibrated_radius,
    estimated_radius,
    group,
    published_radius,
    whitening_of,
)
from hoverboard.watch.issue_links import link
from hoverboard.watch.issue_table import GroupedVersion, IssueScope, Joined, ScopeKey, Ungrouped
from hoverboard.watch.watcher import News, Ran

__all__ = ["Issues", "show_issue_counts"]

MOST_LEADERS: Final = 2000
"""Of a scope. What was seen a few times only, and not for a month, makes room."""
MOST_ROWS: Final = 8192
"""Outliers of a version that are grouped in one chunk."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Leaders:
    """The leaders of a scope as they were at a revision: numbers `(k,)` and whitened rows `(k, d)`."""

    revision: int
    numbers: Places
    rows: Matrix


class Issues:
    """Groups outliers whose features are recorded.

    Args:
        settings: the service's.
    """

    kinds: Collection[type[Record]] = (FeatureRecord,)

    def __init__(self, settings: Settings) -> None:
        self._models = settings.models
        self._run_length = settings.alarm_run_length
        self._versions: dict[VersionKey, GroupedVersion] = {}
        self._packages: dict[VersionKey, OutlierPackage | None] = {}
        self._leaders: dict[tuple[int, int], _Leaders] = {}

    async def show(self, connection: Connection) -> None:
        await show_issue_counts(connection)

    async def follow(self, connection: Connection, ran: Sequence[Ran], others: Sequence[Record]) -> Sequence[News]:
        features = [record for record in others if isinstance(record, FeatureRecord)]
        rows = _ran(ran, features)
        if not rows:
            return ()
        new = {_scope_of(version_key(record)) for record in features}
        scopes = await issue_table.count_rows(connection, rows, sorted(new))
        by_scope: defaultdict[ScopeKey, list[FeatureRecord]] = defaultdict(list)
        for record in features:
            by_scope[_scope_of(version_key(record))].append(record)
        left_out: Counter[tuple[str, str]] = Counter()
        # In the order of the scopes' ids, as they were locked.
        for scope_key in sorted(by_scope, key=lambda each: scopes[each].id):
            scope = scopes[scope_key]
            for of_version in _by_version(by_scope[scope_key]):
                scope, why = await self._group(connection, scope, of_version)
                left_out.update({(scope.model, reason): count for reason, count in why.items() if count})
        news: list[News] = [partial(_count, left_out)] if left_out else []
        if by_scope:
            news.append(partial(_show, await issue_table.issue_counts(connection)))
        return news

    async def expire(self, connection: Connection, before: datetime) -> None:
        await issue_table.age(connection, datetime.now(UTC), before)

    async def _group(
        self, connection: Connection, scope: IssueScope, records: Sequence[FeatureRecord]
    ) -> tuple[IssueScope, Mapping[str, int]]:
        """Group what is new of one version; returns the scope as it is now, and how many were left out, by reason."""
        key = version_key(records[0])
        version = await self._version(connection, key)
        if version is None:
            return scope, {}
        given = _rows_of(records)
        strange = await issue_table.flagged(connection, version.id, given.ids)
        given = Ungrouped(given.ids[strange], given.z[strange])
        if not len(given.ids):
            return scope, {}
        # What the version says of itself decides what is alike; without its files only directions are compared.
        package = await self._package(key)
        whitening = whitening_of(package, given.z.shape[1])
        if scope.radius is None:
            # These are among those that wait in their tables until there are enough to tell a radius.
            waiting = await issue_table.first_flagged(connection, version.id, MOST_ROWS)
            found = await asyncio.to_thread(_radius, self._directory(key), package, whitening, waiting.z)
            if found is None:
                return scope, {}
            scope = await issue_table.set_radius(connection, scope, *found, whitened=package is not None)
            given = waiting
        left_out = {"too many at once": max(len(given.ids) - MOST_ROWS, 0)}
        if scope.whitened == (package is not None):
            scope, more = await self._join(
                connection, scope, version, whitening, Ungrouped(given.ids[:MOST_ROWS], given.z[:MOST_ROWS])
            )
            left_out |= more
        else:
            # Distances of another kind would make groups of another kind.
            left_out = {"the version cannot be read": len(given.ids)}
        if any(left_out.values()):
            await issue_table.count_ungrouped(connection, scope, sum(left_out.values()))
        return scope, left_out

    async def _join(
        self, connection: Connection, scope: IssueScope, version: GroupedVersion, whitening: Whitening, given: Ungrouped
    ) -> tuple[IssueScope, Mapping[str, int]]:
        ids, z = given.ids, given.z
        leaders = await self._read_leaders(connection, scope, version, whitening, z.shape[1])
        rows = await asyncio.to_thread(whitening.apply, z)
        # What finds no leader and no room is counted and not kept back: the chunk's cursor goes on without it.
        room = max(0, MOST_LEADERS - len(leaders.numbers))
        grouping = await asyncio.to_thread(group, rows, leaders.rows, scope.radius or 0.0, room, whitening.stretch)
        founders = grouping.founders
        if len(founders):
            begun = await issue_table.begin_issues(connection, scope, version, ids[founders], z[founders])
            scope = await issue_table.change_leaders(connection, scope)
            leaders = _Leaders(
                scope.revision, np.append(leaders.numbers, begun), np.concatenate([leaders.rows, rows[founders]])
            )
        # Of this transaction. Should it be rolled back, the revision in the table is another one, and they are read again.
        self._leaders[scope.id, version.id] = leaders
        await link(connection, grouping, leaders.numbers, version.number, times_ms(ids))
        joins = np.flatnonzero(grouping.places >= 0)
        if len(joins):
            numbers = leaders.numbers[grouping.places[joins]]
            joined = Joined(version, ids[joins], numbers, grouping.distances[joins])
            await issue_table.join(connection, scope, joined, self._run_length)
        apart = grouping.places < 0
        finite = np.isfinite(rows).all(axis=1)
        return scope, {"not finite": int((apart & ~finite).sum()), "no room": int((apart & finite).sum())}

    async def _read_leaders(
        self, connection: Connection, scope: IssueScope, version: GroupedVersion, whitening: Whitening, width: int
    ) -> _Leaders:
        held = self._leaders.get((scope.id, version.id))
        if held is not None and held.revision == scope.revision and held.rows.shape[1] == width:
            return held
        numbers, z = await issue_table.read_leaders(connection, scope.id, width)
        return _Leaders(scope.revision, numbers, whitening.apply(z))

    async def _version(self, connection: Connection, key: VersionKey) -> GroupedVersion | None:
        if key not in self._versions:
            found = await issue_table.find_version(connection, key)
            if found is None:
                return None
            self._versions[key] = found
        return self._versions[key]

    def _directory(self, key: VersionKey) -> Path:
        return self._models / key[0] / str(key[1])

    async def _package(self, key: VersionKey) -> OutlierPackage | None:
        """What the version was published with; None where this machine has not got it."""
        if key not in self._packages:
            self._packages[key] = await asyncio.to_thread(_on_disk, self._directory(key), key)
        return self._packages[key]


def _radius(
    directory: Path, package: OutlierPackage | None, whitening: Whitening, z: Array
) -> tuple[float, str] | None:
    """A scope's radius and where it is from; None while there are too few outliers `(n, d)` to tell."""
    kept = None if package is None else _kept(directory, z.shape[1])
    if kept is not None and (calibrated := calibrated_radius(kept, whitening)) is not None:
        return (
            calibrated,
            "its calibration samples: the 99% quantile of the distances to the nearest other of the class",
        )
    if package is not None and (published := published_radius(package, whitening)) is not None:
        return (
            published,
            "rows that the version was fitted on: the 99% quantile of the distances to their nearest others",
        )
    if len(z) < LEAST_FOR_RADIUS:
        return None
    source = f"its first {LEAST_FOR_RADIUS} outliers: twice the median of the distances to their nearest others"
    return estimated_radius(z[:LEAST_FOR_RADIUS], whitening), source


def _rows_of(records: Sequence[FeatureRecord]) -> Ungrouped:
    """The samples of records of one width: record by record, and in each by their ids.

    As `first_flagged` has them, so that who leads does not depend on the chunk in which the radius becomes known.
    """
    ids = np.frombuffer(b"".join([record.sample_ids for record in records]), "V16")
    z = np.frombuffer(b"".join([record.z for record in records]), "<f2").reshape(len(ids), -1)
    whose = np.repeat(np.arange(len(records)), [len(record.sample_ids) // 16 for record in records])
    order = np.lexsort((ids.view("S16"), whose))
    return Ungrouped(ids[order], z[order])


def _scope_of(key: VersionKey) -> ScopeKey:
    """Where the outliers of a version are compared: nothing tells yet which part of the weights its features come from."""
    model, _, weights_sha256 = key
    return model, weights_sha256


def _ran(ran: Iterable[Ran], features: Iterable[FeatureRecord]) -> dict[ScopeKey, tuple[int, date]]:
    """Rows that ran in each scope, without those that repeat a recent one, and the day of the first."""
    rows: dict[ScopeKey, tuple[int, date]] = {}
    for each in ran:
        watched = [batch for batch in each.batches if batch.outlier is not None]
        if watched:
            key = _scope_of(each.known.key)
            before, day = rows.get(key, (0, nearest_time(watched[0].started_us).date()))
            rows[key] = before + sum(max(batch.executed - batch.repeats, 0) for batch in watched), day
    for record in features:
        rows.setdefault(_scope_of(version_key(record)), (0, datetime.now(UTC).date()))
    return rows


def _by_version(records: Iterable[FeatureRecord]) -> list[list[FeatureRecord]]:
    """By version and width, in the order in which they came."""
    found: dict[tuple[VersionKey, int], list[FeatureRecord]] = {}
    for record in records:
        if record.sample_ids:
            width = len(record.z) // (len(record.sample_ids) // 16)
            found.setdefault((version_key(record), width), []).append(record)
    return list(found.values())


def _on_disk(directory: Path, key: VersionKey) -> OutlierPackage | None:
    model, version, weights_sha256 = key
    try:
        # No other version that was put in its place: its features would be other ones.
        same = read_version(directory).weights_sha256 == weights_sha256
        return load_package(directory / OUTLIERS_FILE) if same else None
    except (HoverboardError, OSError) as error:
        _log.info("no_detector_to_group_by", model=model, version=version, reason=str(error))
        return None


def _kept(directory: Path, width: int) -> CalibrationFeatures | None:
    """The features that a version keeps of its calibration samples."""
    try:
        kept = load_features(directory)
    except VersionRefused as error:
        _log.info("no_calibration_to_group_by", version=str(directory), reason=str(error))
        return None
    return kept if kept is not None and kept.z.shape[1] == width else None


async def show_issue_counts(connection: Connection) -> None:
    """Tell the metrics how many issues are open: also where nothing came, since people change them and tell nobody here."""
    _show(await issue_table.issue_counts(connection))


def _show(counts: Sequence[asyncpg.Record]) -> None:
    for row in counts:
        for state in ("open", "new", "escalating", "regressed"):
            families.issues.labels(row["model"], state).set(row[state])


def _count(left_out: Mapping[tuple[str, str], int]) -> None:
    for (model, reason), count in left_out.items():
        families.ungrouped.labels(model, reason).inc(count)
        _log.warning("not_grouped", model=model, outliers=count, reason=reason)
