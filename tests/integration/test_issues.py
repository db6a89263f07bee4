"""Outliers through real journals into issues: grouped once, by a recorder that may die at any moment."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from hoverboard.config import Settings
from hoverboard.journal.records import KINDS, BatchRecord, FeatureRecord, VersionRecord, encode
from hoverboard.outliers import OUTLIERS_FILE, load_package
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.erasure.erase import ErasureRequest, erase
from hoverboard.recorder.process import open_database
from hoverboard.versions import read_version
from hoverboard.watch import issue_table
from tests.integration.grouped import (
    DIRECTIONS,
    GROUPS,
    START,
    Connection,
    Typed,
    begun,
    drained,
    features,
    groups,
    rounds,
    strange,
    wide,
)
from tests.integration.running import ROOT
from tests.journaled import MODEL, SIGNATURE, batch, ids_of, open_journal, write


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(alarm_run_length=1000)


async def test_outliers_that_are_alike_are_one_issue_and_usual_rows_are_none(
    database: str, settings: Settings, sql: Connection
) -> None:
    journal = open_journal(settings.data_dir)
    records = rounds(10, usual=2)
    write(journal, *records)
    await drained(settings, database)
    batches = [record for record in records if isinstance(record, BatchRecord)]
    every = [ids_of(each) for each in batches]
    found = {ids for _, ids in await groups(sql)}
    assert found == {tuple(sorted(str(ids[kind]) for ids in every)) for kind in range(GROUPS)}
    issues = await sql.fetch("select * from issues order by id")
    assert [row["members"] for row in issues] == [10] * GROUPS
    assert {(row["state"], row["substate"], row["first_version"]) for row in issues} == {("unresolved", "new", 1)}
    (scope,) = await sql.fetch("select * from issue_scopes")
    assert (scope["rows"], scope["ungrouped"]) == (10 * (GROUPS + 2), 0)
    assert "first 32 outliers" in scope["radius_from"]
    leaders = await sql.fetch("select * from issue_fingerprints order by id")
    assert [row["id"] for row in leaders] == [row["id"] for row in issues]
    assert {row["sample_id"] for row in leaders} == set(every[0][:GROUPS])
    assert await sql.fetchval("select sum(members) from issue_days") == 10 * GROUPS


async def test_wherever_a_chunk_ends_and_whoever_goes_on_the_groups_are_the_same(
    database: str, settings: Settings, sql: Connection
) -> None:
    journal = open_journal(settings.data_dir)
    everything = [*rounds(10, usual=1), *[record for seed in range(10, 22) for record in wide(seed)]]
    for record in everything:
        write(journal, record)
        await drained(settings, database)
    piecemeal = await groups(sql)
    assert [len(ids) for _, ids in piecemeal] == [10] * GROUPS + [12 * 4]
    tables = (
        "issues, issue_fingerprints, issue_scopes, issue_days, issue_scope_days, issue_events, issue_never, issue_links"
    )
    await sql.execute(
        f"truncate {tables}, recorder_cursor, samples, predictions, outliers, features; alter sequence issue_numbers restart"
    )
    await drained(settings, database)
    assert await groups(sql) == piecemeal


async def test_one_thing_that_is_wider_than_the_radius_becomes_one_issue_and_says_why(
    database: str, settings: Settings, sql: Connection
) -> None:
    journal = await begun(sql, settings, database)
    for seed in range(10, 22):
        write(journal, *wide(seed))
    await drained(settings, database)
    leaders = await sql.fetchval("select count(*) from issue_fingerprints")
    assert leaders > GROUPS + 1
    assert [len(ids) for _, ids in await groups(sql)] == [10] * GROUPS + [12 * 4]
    merged = await sql.fetch("select id, merged_into from issues where state = 'merged'")
    assert {row["merged_into"] for row in merged} == {GROUPS + 1}
    assert len(merged) == leaders - GROUPS - 1
    events = await sql.fetch("select * from issue_events where issue_id = any ($1)", [row["id"] for row in merged])
    assert {(row["kind"], row["actor"]) for row in events} == {("merged", "hoverboard")}
    assert all(
        re.fullmatch(r"into issue \d+: \d+ outliers lie within the radius of both", row["reason"]) for row in events
    )
    axis = await sql.fetch("select * from events where kind like 'issue%' and model = $1 order by at", MODEL)
    found = {(row["kind"], row["subject"], row["version"]) for row in axis}
    assert found >= {("issue_new", f"issue {number}", 1) for number in range(1, GROUPS + 2)}
    assert ("issue_merged", f"issue {merged[0]['id']}", None) in found
    assert len(axis) == GROUPS + 1 + 2 * len(merged)


def at_angle(angle: float, rows: int, seconds: int) -> tuple[BatchRecord, FeatureRecord]:
    """Outliers of one direction between two others, without noise: just as far from them as it is said."""
    one = batch(rows, at=START + timedelta(seconds=seconds, milliseconds=500), outlier=[True] * rows)
    direction = np.cos(angle) * DIRECTIONS[8] + np.sin(angle) * DIRECTIONS[9]
    return one, features(one, np.tile(5 * direction, (rows, 1)))


async def angle_apart(sql: Connection) -> float:
    """Of two leaders, neither in reach of the other, and what lies half way in reach of both."""
    return 2 * float(np.arcsin(0.75 * await sql.fetchval("select radius from issue_scopes")))


async def test_what_lies_between_two_things_is_added_up_over_chunks(
    database: str, settings: Settings, sql: Connection
) -> None:
    journal = await begun(sql, settings, database)
    apart = await angle_apart(sql)
    for second, (angle, rows) in enumerate(((0.0, 5), (apart, 5), (apart / 2, 1)), start=20):
        write(journal, *at_angle(angle, rows, second))
        await drained(settings, database)
    assert sorted(len(ids) for number, ids in await groups(sql) if number > GROUPS) == [5, 6]
    write(journal, *at_angle(apart / 2, 1, 23))
    await drained(settings, database)
    assert [len(ids) for number, ids in await groups(sql) if number > GROUPS] == [12]


@pytest.mark.parametrize("at_once", [True, False])
async def test_two_things_that_are_well_known_stay_two_though_some_lie_between_wherever_a_chunk_ends(
    database: str, settings: Settings, sql: Connection, *, at_once: bool
) -> None:
    journal = await begun(sql, settings, database)
    apart = await angle_apart(sql)
    for second, (angle, rows) in enumerate(((0.0, 60), (apart, 60), (apart / 2, 8)), start=20):
        write(journal, *at_angle(angle, rows, second))
        if not at_once:
            await drained(settings, database)
    await drained(settings, database)
    assert sum(len(ids) for number, ids in await groups(sql) if number > GROUPS) == 128
    assert len([number for number, _ in await groups(sql) if number > GROUPS]) == 2


@pytest.mark.parametrize("decided", ["took apart", "ignored", "archived"])
async def test_what_somebody_decided_is_not_merged_by_itself(
    decided: str, database: str, settings: Settings, sql: Connection
) -> None:
    journal = await begun(sql, settings, database)
    typed = Typed(database)
    for seed in range(10, 22):
        write(journal, *wide(seed))
    await drained(settings, database)
    part = await sql.fetchval(
        "select i.id from issues i join issue_links l on i.id in (l.one, l.other) where i.state = 'merged' order by l.rows desc"
    )
    await typed("unmerge", part)
    state = "unresolved"
    if decided != "took apart":
        await sql.execute("delete from issue_never")
        state = (await typed({"ignored": "ignore", "archived": "archive"}[decided], part)) and decided
    links = "select max(rows) from issue_links where $1 in (one, other)"
    before = await sql.fetchval(links, part)
    for seed in range(22, 28):
        write(journal, *wide(seed))
    await drained(settings, database)
    assert await sql.fetchval(links, part) > before
    assert await sql.fetchval("select state from issues where id = $1", part) == state


async def test_a_transaction_that_is_rolled_back_leaves_no_group_behind(
    database: str, settings: Settings, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await begun(sql, settings, database)
    before = await groups(sql)
    write(journal, *strange([0, 5, 6]))
    joined = issue_table.join
    seen: list[Any] = []

    async def lost_once(connection: Connection, *arguments: Any) -> None:
        await joined(connection, *arguments)
        if not seen:
            # Once: a journal that breaks connections again and again is put off for half a minute.
            seen.append(await groups(sql))
            connection.terminate()

    monkeypatch.setattr(issue_table, "join", lost_once)
    drain = Drain(settings, lambda: open_database(settings, database))
    await drain.empty(10)
    drain.close()
    assert seen == [before]
    # The same recorder went on: what it remembers of leaders must not be of the transaction that was lost.
    assert sorted(len(ids) for _, ids in await groups(sql)) == [1, 1, 10, 10, 10, 11]


async def test_an_erased_leader_hands_over_to_the_oldest_member_and_without_one_keeps_nothing(
    database: str, settings: Settings, sql: Connection
) -> None:
    journal = await begun(sql, settings, database)
    first = await sql.fetchval("select sample_id from features order by sample_id limit 1")
    number, ids = next((number, ids) for number, ids in await groups(sql) if str(first) in ids)
    leader = await sql.fetchval("select sample_id from issue_fingerprints where id = $1", number)
    assert str(leader) == ids[0]
    recorder = await open_database(settings, database)
    now = datetime.now(UTC)
    await erase(recorder, ErasureRequest(sample_id=leader, actor="ann", reason="asked"), now=now)
    (row,) = await sql.fetch("select * from issue_fingerprints where id = $1", number)
    assert str(row["sample_id"]) == ids[1]
    assert row["z"] == await sql.fetchval("select z from features where sample_id = $1", row["sample_id"])
    write(journal, *strange(range(GROUPS), seed=99))
    await drained(settings, database)
    assert [len(ids) for _, ids in await groups(sql)] == [10 if each == number else 11 for each in range(1, GROUPS + 1)]
    await erase(recorder, ErasureRequest(before=now + timedelta(minutes=1), actor="ann", reason="asked"), now=now)
    await recorder.close()
    rows = await sql.fetch("select sample_id, version_id, z, members from issue_fingerprints order by id")
    assert [tuple(row)[:3] for row in rows] == [(None, None, None)] * GROUPS
    assert [row["members"] for row in rows] == [11] * GROUPS


async def test_two_recorders_feed_one_scope(
    database: str, make_settings: Callable[..., Settings], sql: Connection, tmp_path: Any
) -> None:
    every = []
    for index in range(2):
        data = tmp_path / f"data-{index}"
        data.mkdir()
        every.append(make_settings(data_dir=data))
        write(open_journal(data), *rounds(20, usual=1))
    await asyncio.gather(*(drained(each, database) for each in every))
    assert [len(ids) for _, ids in await groups(sql)] == [40] * GROUPS
    assert await sql.fetchval("select rows from issue_scopes") == 2 * 20 * (GROUPS + 1)


async def test_a_published_version_is_grouped_under_its_covariance_within_its_own_radius(
    database: str, make_settings: Callable[..., Settings], sql: Connection
) -> None:
    settings = make_settings(models=ROOT / "models")
    directory = ROOT / "models" / "digits" / "3"
    manifest, package = read_version(directory), load_package(directory / OUTLIERS_FILE)
    width = len(package.detectors["knn"].parameters.centre)
    z = 3 * np.abs(np.random.default_rng(1).normal(size=(2, 1, width))) + np.random.default_rng(2).normal(
        scale=0.01, size=(2, 8, width)
    )
    one = msgspec.structs.replace(
        batch(16, number=manifest.version, outlier=[True] * 16), model="digits", weights_sha256=manifest.weights_sha256
    )
    journal = open_journal(settings.data_dir)
    described = {"name": one.model, "version": one.version, "parent": None, **asdict(SIGNATURE)}
    version = VersionRecord(one.model, one.version, one.weights_sha256, msgspec.json.encode(described))
    needs = {"v": encode(version)}
    z16 = z.reshape(16, width).astype("<f2")
    for record in (one, FeatureRecord(one.model, one.version, one.weights_sha256, one.sample_ids, z16.tobytes())):
        journal.append(KINDS[type(record)], encode(record), count=record.count, needs=needs)
    await drained(settings, database)
    (scope,) = await sql.fetch("select * from issue_scopes")
    assert scope["whitened"] is True
    assert scope["radius"] > 0
    assert re.search("fitted on|calibration samples", scope["radius_from"])
    assert sorted(len(ids) for _, ids in await groups(sql)) == [8, 8]
