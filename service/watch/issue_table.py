"""The tables of issues, as the recorder changes them: what a chunk brings, what grows old, what is erased."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID

import asyncpg
import numpy as np

from hoverboard.contract.signature import Array
from hoverboard.contract.times import micros, nearest_time, times_ms
from hoverboard.database.connect import Connection
from hoverboard.database.known import VersionKey
from hoverboard.database.statements import statements
from hoverboard.outliers.features import Matrix
from hoverboard.watch.alarm import Evidence
from hoverboard.watch.grouping import Places
from hoverboard.watch.issue_pace import IssuePace

__all__ = [
    "VISIBLE",
    "Joined",
    "ScopeKey",
    "Ungrouped",
    "age",
    "begin_issues",
    "count_rows",
    "issue_counts",
    "join",
    "regress",
    "replace_leaders",
]

VISIBLE: Final = 5
"""Members from which on an issue is listed and counted: fewer are what every detector finds now and then."""

_SQL: Final = statements(__file__)
ScopeKey = tuple[str, str]
"""Model, and the weights that features come from."""


@dataclass(frozen=True, slots=True)
class IssueScope:
    """Where outliers can be compared, as it was when it was locked.

    Attributes:
        id, model, radius, whitened: as in the table `issue_scopes`.
        rows: that ran of the model, with those of this chunk.
        now: of them those of this chunk and scope.
        revision: of its leaders.
    """

    id: int
    model: str
    radius: float | None
    whitened: bool | None
    rows: int
    now: int
    revision: int


@dataclass(frozen=True, slots=True)
class GroupedVersion:
    """A version whose outliers are grouped: its `model_versions.id`, and its number."""

    id: int
    number: int


@dataclass(frozen=True, slots=True)
class Ungrouped:
    """Outliers that are in no issue: ids `(n,)` of 16 bytes, and z float16 `(n, d)`."""

    ids: Array
    z: Array


@dataclass(frozen=True, slots=True)
class Joined:
    """Outliers of one version and the leaders that they join, in order.

    Attributes:
        version: whose features.
        ids: 16 bytes each, `(n,)`.
        fingerprints: int64 `(n,)`.
        distances: float64 `(n,)`.
    """

    version: GroupedVersion
    ids: Array
    fingerprints: Places
    distances: Matrix


def uuids_of(ids: Array) -> list[UUID]:
    """Ids `(n,)` of 16 bytes each, as asyncpg takes them."""
    return [UUID(bytes=each.tobytes()) for each in ids]


def _listed(ids: Array) -> list[str]:
    """The same as text, which asyncpg reads ten times as fast as UUIDs are made."""
    return ids.tobytes().hex(",", 16).split(",")


def _ascending(ids: Array) -> Places:
    """The order in which Postgres sorts them."""
    return np.argsort(ids.view("S16"), kind="stable")


def _span(ids: Array) -> tuple[datetime, datetime]:
    """The times of the first and the last of some samples."""
    at_ms = times_ms(ids)
    return nearest_time(int(at_ms.min()) * 1000), nearest_time(int(at_ms.max()) * 1000)


async def count_rows(
    connection: Connection, rows: Mapping[ScopeKey, tuple[int, date]], new: Sequence[ScopeKey]
) -> dict[ScopeKey, IssueScope]:
    """Count what ran, and lock the scopes of the models, in the order of their ids.

    Args:
        rows: of each scope, and the day.
        new: scopes that are made where there are none.
    """
    # One at a time, in one order: two recorders that begin the same scopes wait for each other and never in a circle.
    for key in sorted(new):
        await connection.execute(_SQL["begin_scope"], *key)
    found = await connection.fetch(
        _SQL["count_rows"],
        [model for model, _ in rows],
        [backbone for _, backbone in rows],
        [count for count, _ in rows.values()],
        [day for _, day in rows.values()],
    )
    scopes = {}
    for row in found:
        key = row["model"], row["backbone_sha256"]
        scopes[key] = IssueScope(
            *(
                row["id"],
                row["model"],
                row["radius"],
                row["whitened"],
                row["rows_of_model"],
                rows[key][0],
                row["revision"],
            )
        )
    return scopes


async def find_version(connection: Connection, key: VersionKey) -> GroupedVersion | None:
    """A version; None where it is not known."""
    found = await connection.fetchval(_SQL["find_version"], *key)
    return None if found is None else GroupedVersion(found, key[1])


async def flagged(connection: Connection, version_id: int, ids: Array) -> Places:
    """Which of these samples are outliers of that version and in no issue yet: their places, ascending, int64."""
    order = _ascending(ids)
    await connection.execute(_SQL["plan_each"])
    places = await connection.fetchval(_SQL["flagged"], _listed(ids[order]), version_id, *_span(ids))
    return np.sort(order[np.array(places, np.int64)])


async def first_flagged(connection: Connection, version_id: int, most: int) -> Ungrouped:
    """The first outliers of a version that are in no issue."""
    rows = await connection.fetch(_SQL["first_flagged"], version_id, most)
    # All as wide as the first: should a version's features ever change, the others wait.
    rows = [row for row in rows if len(row["z"]) == len(rows[0]["z"])]
    ids = np.frombuffer(b"".join([row["sample_id"].bytes for row in rows]), "V16")
    return Ungrouped(ids, np.frombuffer(b"".join([row["z"] for row in rows]), "<f2").reshape(len(ids), -1))


async def set_radius(
    connection: Connection, scope: IssueScope, radius: float, source: str, *, whitened: bool
) -> IssueScope:
    """Keep a scope's radius, for good; returns the scope with it."""
    await connection.execute(_SQL["set_radius"], scope.id, radius, source, whitened)
    return replace(scope, radius=radius, whitened=whitened)


async def read_leaders(connection: Connection, scope_id: int, width: int) -> tuple[Places, Array]:
    """The leaders of a scope: ids int64 `(k,)` and z float16 `(k, width)`."""
    rows = [row for row in await connection.fetch(_SQL["leaders"], scope_id) if len(row["z"]) == 2 * width]
    z = np.frombuffer(b"".join([row["z"] for row in rows]), "<f2").reshape(len(rows), width)
    return np.array([row["id"] for row in rows], np.int64), z


async def begin_issues(
    connection: Connection, scope: IssueScope, version: GroupedVersion, ids: Array, z: Array
) -> Places:
    """Make each of these outliers a leader with an issue of its own; returns their numbers `(n,)`."""
    # By the sample and not by the order of the rows: `returning` promises none.
    samples = uuids_of(ids)
    rows = await connection.fetch(
        _SQL["begin_issues"],
        *(scope.id, version.id, samples, [each.tobytes() for each in z], version.number, scope.rows),
    )
    by_sample = {row["sample_id"]: row["id"] for row in rows}
    return np.array([by_sample[each] for each in samples], np.int64)


async def change_leaders(connection: Connection, scope: IssueScope) -> IssueScope:
    """Note that leaders came; returns the scope with its new revision."""
    # At random: one of a transaction that was rolled back is no other's.
    changed = replace(scope, revision=secrets.randbits(62))
    await connection.execute(_SQL["change_leaders"], scope.id, changed.revision)
    return changed


async def count_ungrouped(connection: Connection, scope: IssueScope, count: int) -> None:
    """Count outliers that join nothing."""
    await connection.execute(_SQL["count_ungrouped"], scope.id, count)


async def join(connection: Connection, scope: IssueScope, joined: Joined, run_length: int) -> None:
    """Count members, mark their rows, and decide which issues have regressed or escalate.

    Args:
        run_length: rows between two false alarms on one issue, on average, at least.
    """
    numbers, where, counts = np.unique(joined.fingerprints, return_inverse=True, return_counts=True)
    # By the samples' own times, and not by now: a journal may come days late.
    at_ms = times_ms(joined.ids)
    first, last = np.full(len(numbers), np.iinfo(np.int64).max), np.zeros(len(numbers), np.int64)
    np.minimum.at(first, where, at_ms)
    np.maximum.at(last, where, at_ms)
    sums = np.bincount(where, joined.distances)
    first_at, last_at = ([nearest_time(int(each) * 1000) for each in times] for times in (first, last))
    keys, members = numbers.tolist(), counts.tolist()
    led = await connection.fetch(_SQL["join_fingerprints"], keys, members, sums.tolist(), last_at)
    issues = await connection.fetch(_SQL["join_issues"], keys, members, first_at, last_at, joined.version.number)
    days = at_ms // 86_400_000
    pairs, per_day = np.unique(np.stack([joined.fingerprints, days]), axis=1, return_counts=True)
    dates = [nearest_time(int(day) * 86_400_000_000).date() for day in pairs[1]]
    await connection.execute(_SQL["join_days"], pairs[0].tolist(), dates, per_day.tolist())
    await _mark(connection, joined, {row["id"]: row["issue_id"] for row in led})
    await _regress(connection, issues, joined.version.number)
    await _pace(connection, scope, issues, run_length)


async def _mark(connection: Connection, joined: Joined, issue_of: Mapping[int, int]) -> None:
    order = _ascending(joined.ids)
    numbers = joined.fingerprints[order].tolist()
    issues = [issue_of[each] for each in numbers]
    ids = _listed(joined.ids[order])
    await connection.execute(_SQL["mark_outliers"], ids, numbers, issues, joined.version.id, *_span(joined.ids))


async def _regress(connection: Connection, issues: Sequence[asyncpg.Record], version: int) -> None:
    resolved = [row for row in issues if row["state"] == "resolved"]
    if resolved:
        await regress(connection, [row["id"] for row in resolved], [row["joined_at"] for row in resolved], version)


async def regress(connection: Connection, issues: Sequence[int], times: Sequence[datetime], version: int) -> None:
    """Open those of some issues again that were resolved and that a version, with samples of these times, finds all the same."""
    await _told(connection, "regressed", await connection.fetch(_SQL["regress"], issues, times, version))


async def _pace(connection: Connection, scope: IssueScope, issues: Sequence[asyncpg.Record], run_length: int) -> None:
    """Bring the evidence of issues that may escalate up to date."""
    may = [
        row
        for row in issues
        if row["members"] >= VISIBLE
        and (row["state"], row["substate"]) in {("unresolved", "ongoing"), ("archived", "until_escalating")}
    ]
    if not may:
        return
    days = {row["id"]: row["joined_at"].astimezone(UTC).date() for row in may}
    # A sample of an earlier day that comes late counts for the day that is counted now: the rate is taken once a day.
    fresh = {row["id"]: days[row["id"]] for row in may if row["rate_day"] is None or row["rate_day"] < days[row["id"]]}
    found = await connection.fetch(_SQL["rates"], list(fresh), list(fresh.values())) if fresh else []
    rates = {row["id"]: (row["rows"] or 0, row["members"] or 0) for row in found}
    written = []
    for row in may:
        number, pace = row["id"], _pace_of(row)
        seen = row["rows_seen"]
        if number in rates:
            pace, seen = pace.on(fresh[number], *rates[number]), scope.rows - scope.now
        since = scope.rows - seen
        now = min(scope.now, since)
        pace = pace.after(since - now, now, row["joined"], micros(row["joined_at"]))
        counted = pace.evidence
        written.append(
            (
                *(number, scope.rows, pace.day, pace.bound, pace.before_rows, pace.before_members),
                *(list(counted.log_sums), counted.rows, counted.flagged),
            )
        )
        if pace.escalates(run_length):
            why = pace.words()
            if await connection.fetchval(_SQL["escalate"], number, why) is not None:
                await connection.execute(_SQL["insert_events"], [number], "escalating", [why])
    await connection.executemany(_SQL["write_pace"], written)


def _pace_of(row: asyncpg.Record) -> IssuePace:
    evidence = Evidence()
    if row["log_sums"] is not None:
        evidence = Evidence(row["evidence_rows"], row["evidence_members"], tuple(row["log_sums"]))
    return IssuePace(row["rate_day"], row["rate_bound"], row["rate_rows"], row["rate_members"], evidence)


async def _told(connection: Connection, kind: str, changed: Sequence[asyncpg.Record]) -> None:
    if changed:
        ids, reasons = [row["id"] for row in changed], [row["why"] for row in changed]
        await connection.execute(_SQL["insert_events"], ids, kind, reasons)


async def issue_counts(connection: Connection) -> list[asyncpg.Record]:
    """For each model with outliers: `model`, `open`, and of the open ones `new`, `escalating`, `regressed`."""
    return await connection.fetch(_SQL["counts"], VISIBLE)


async def replace_leaders(connection: Connection) -> None:
    """Let go of the features of leaders whose sample was erased or has expired, in the connection's transaction.

    The oldest member whose features are on record leads from then on. Without one nothing joins that leader again: like
    samples begin an issue of their own.
    """
    await connection.execute(_SQL["replace_leaders"])


async def age(connection: Connection, now: datetime, before: datetime) -> None:
    """What time does: states that last seven days, leaders without samples, what never grew, days past retention."""
    async with connection.transaction():
        await connection.fetch(_SQL["lock_scopes"])
        await connection.execute(_SQL["age"], now, VISIBLE)
        await replace_leaders(connection)
        await connection.execute(_SQL["forget_few"], VISIBLE, now)
        await connection.execute(_SQL["delete_forgotten"])
        await connection.execute(_SQL["expire_days"], before)
