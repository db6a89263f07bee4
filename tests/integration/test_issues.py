"""Outliers through real journals into issues: grouped once, by a recorder that may die at any moment."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import asyncpg
import hypothesis
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import strategies as st

from hoverboard.cli import main
from hoverboard.config import Settings
from hoverboard.contract.signature import Array
from hoverboard.database.connect import connect
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.journal.records import KINDS, BatchRecord, FeatureRecord, VersionRecord, encode
from hoverboard.journal.writer import JournalWriter
from hoverboard.outliers import OUTLIERS_FILE, load_package
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.erasure.erase import ErasureRequest, erase
from hoverboard.recorder.process import open_database
from hoverboard.telemetry import metrics
from hoverboard.versions import read_version
from hoverboard.watch import issue_changes, issue_table
from tests.integration.running import ROOT
from tests.journaled import MODEL, SIGNATURE, WEIGHTS, batch, ids_of, open_journal, write

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
WIDTH = 32
START = datetime.now(UTC) - timedelta(hours=1)
DIRECTIONS = np.eye(WIDTH)
GROUPS = 4


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(alarm_run_length=1000)


@pytest.fixture
async def sql(database: str) -> AsyncIterator[Connection]:
    connection = await connect(database, application="test", role=None)
    yield connection
    await connection.close()


async def drained(settings: Settings, database: str) -> None:
    """Drain with a recorder that has just started."""
    drain = Drain(settings, lambda: open_database(settings, database))
    try:
        await drain.empty(10)
    finally:
        drain.close()
        await asyncio.sleep(0)


def strange(
    kinds: Sequence[int], *, at: datetime | None = None, number: int = 1, usual: int = 0, seed: int = 0
) -> tuple[BatchRecord, FeatureRecord]:
    """A batch with an outlier of each of these kinds and some usual rows, and the features of all of its rows."""
    generator = np.random.default_rng([seed, *kinds])
    of = [*kinds, *[WIDTH - 1] * usual]
    z = 5 * DIRECTIONS[of] + generator.normal(scale=0.1, size=(len(of), WIDTH))
    one = batch(len(of), at=at, number=number, outlier=[True] * len(kinds) + [False] * usual)
    return one, features(one, z)


def features(one: BatchRecord, z: Array) -> FeatureRecord:
    return FeatureRecord(MODEL, one.version, WEIGHTS, one.sample_ids, z.astype("<f2").tobytes())


def rounds(count: int, **more: Any) -> list[BatchRecord | FeatureRecord]:
    """Outliers of each kind, a second apart."""
    return [
        record
        for seed in range(count)
        for record in strange(range(GROUPS), seed=seed, at=START + timedelta(seconds=seed), **more)
    ]


def wide(seed: int, *, rows: int = 4) -> tuple[BatchRecord, FeatureRecord]:
    """Outliers of one thing that is wider than the radius: anywhere between two directions."""
    generator = np.random.default_rng([7, seed])
    angles = generator.uniform(0, np.pi / 3, rows)
    z = 5 * (np.cos(angles)[:, None] * DIRECTIONS[8] + np.sin(angles)[:, None] * DIRECTIONS[9])
    one = batch(rows, at=START + timedelta(seconds=seed, milliseconds=500), outlier=[True] * rows)
    return one, features(one, z + generator.normal(scale=0.1, size=(rows, WIDTH)))


async def groups(sql: Connection) -> list[tuple[int, tuple[str, ...]]]:
    """Members of each issue, in the order in which they began."""
    rows = await sql.fetch(
        "select issue_id, array_agg(sample_id::text order by sample_id) as ids from outliers where issue_id is not null"
        " group by 1 order by 1"
    )
    return [(row["issue_id"], tuple(row["ids"])) for row in rows]


async def begun(sql: Connection, settings: Settings, database: str, *, members: int = 10) -> JournalWriter:
    """A journal of which that many outliers of each kind have been grouped."""
    journal = open_journal(settings.data_dir)
    write(journal, *rounds(members))
    await drained(settings, database)
    return journal


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


# -- states ---------------------------------------------------------------------------------------------------------------


async def made_issue(connection: Connection) -> int:
    """An issue of five members, all found by version 1."""
    await connection.execute(
        "with s as (insert into issue_scopes (model, backbone_sha256) values ('m', 'w') returning id), i as ("
        " insert into issues (id, scope_id, state, substate, state_at, why, members, first_seen, last_seen, first_version,"
        " last_version) select 1, id, 'unresolved', 'new', now(), '', 5, now(), now(), 1, 1 from s)"
        " insert into issue_fingerprints (id, scope_id, issue_id, members, distances, last_seen)"
        " select 1, id, 1, 5, 0, now() from s"
    )
    return int(await connection.fetchval("select id from issue_scopes"))


async def found_again(connection: Connection, scope_id: int, version: int, at: datetime) -> None:
    scope = issue_table.IssueScope(scope_id, "m", 1.0, False, 100, 10, 0)
    ids = np.frombuffer(sample_ids(1, at.timestamp()), "V16")
    joined = issue_table.Joined(issue_table.GroupedVersion(1, version), ids, np.array([1]), np.array([0.5]))
    await issue_table.join(connection, scope, joined, 1000)


async def the_states_of(connection: Connection, actions: Sequence[tuple[str, int, int]]) -> None:
    """Act, and hold the issue against the rule as it is said."""
    scope_id = await made_issue(connection)
    somebody = issue_changes.IssueActor("ann", "a reason")
    expected, resolved_in, resolved_at = ("unresolved", "new"), 0, datetime.now(UTC)
    for action, version, seconds in actions:
        if action == "resolve":
            await issue_changes.resolve(connection, 1, somebody, version)
            resolved_at = await connection.fetchval("select resolved_at from issues")
            expected, resolved_in = ("resolved", ""), version
        elif action == "reopen":
            await issue_changes.reopen(connection, 1, somebody)
            expected = "unresolved", "ongoing"
        elif action == "archive":
            await issue_changes.archive(connection, 1, somebody, until_escalating=bool(version % 2))
            expected = "archived", "until_escalating" if version % 2 else "forever"
        elif action == "ignore":
            await issue_changes.ignore(connection, 1, somebody)
            expected = "ignored", ""
        else:
            at = resolved_at + timedelta(seconds=seconds)
            await found_again(connection, scope_id, version, at)
            # Not by what came when: by the version, and by the sample's own time.
            if expected[0] == "resolved" and version >= resolved_in and seconds > 0:
                expected = "unresolved", "regressed"
        row = await connection.fetchrow("select state, substate from issues")
        assert tuple(row or ()) == expected, (action, version, seconds)
    changes = await connection.fetchval(
        "select count(*) from issue_events where actor = 'ann' and reason like '%a reason'"
    )
    assert changes == sum(action != "found" for action, _, _ in actions)


ACTIONS = st.tuples(
    st.sampled_from(["resolve", "resolve", "found", "found", "found", "reopen", "archive", "ignore"]),
    st.integers(1, 5),
    st.integers(-3, 3).map(lambda each: each * 100),
)


def test_only_a_later_sample_that_a_covered_version_does_not_explain_regresses(database: str) -> None:
    with asyncio.Runner() as runner:
        connection = runner.run(connect(database, application="test", role=None))

        async def rolled_back(actions: Sequence[tuple[str, int, int]]) -> None:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await the_states_of(connection, actions)
            finally:
                await transaction.rollback()

        @hypothesis.settings(max_examples=60)
        @hypothesis.given(st.lists(ACTIONS, max_size=12))
        def check(actions: Sequence[tuple[str, int, int]]) -> None:
            runner.run(rolled_back(actions))

        check()
        runner.run(connection.close())


async def test_what_is_new_is_ongoing_after_seven_days(database: str, settings: Settings, sql: Connection) -> None:
    await begun(sql, settings, database)
    now = datetime.now(UTC)
    await issue_table.age(sql, now + timedelta(days=6), now - timedelta(days=30))
    assert await sql.fetchval("select count(*) from issues where substate = 'new'") == GROUPS
    await issue_table.age(sql, now + timedelta(days=8), now - timedelta(days=30))
    assert {tuple(row) for row in await sql.fetch("select substate, why from issues")} == {
        ("ongoing", "new for 7 days")
    }
    assert await sql.fetchval("select count(*) from issue_events where kind = 'ongoing'") == GROUPS


async def test_leaders_that_stayed_alone_for_a_month_make_room(
    database: str, settings: Settings, sql: Connection
) -> None:
    journal = await begun(sql, settings, database)
    write(journal, *strange([9]))
    await drained(settings, database)
    now = datetime.now(UTC)
    await issue_table.age(sql, now + timedelta(days=29), now - timedelta(days=30))
    assert await sql.fetchval("select count(*) from issues") == GROUPS + 1
    await issue_table.age(sql, now + timedelta(days=31), now - timedelta(days=30))
    assert await sql.fetchval("select count(*) from issues") == await sql.fetchval(
        "select count(*) from issue_fingerprints"
    )
    assert await sql.fetchval("select count(distinct issue_id) from outliers") == GROUPS


async def test_an_issue_escalates_against_its_own_rate_and_says_why(
    database: str, make_settings: Callable[..., Settings], sql: Connection
) -> None:
    settings = make_settings(alarm_run_length=100_000)
    journal = open_journal(settings.data_dir)
    for day in (3, 2):
        for seed in range(15):
            at = datetime.now(UTC) - timedelta(days=day, seconds=-seed)
            write(journal, *strange(range(GROUPS), usual=96, at=at, seed=seed))
    await drained(settings, database)
    await sql.execute("update issues set substate = 'ongoing'")
    for seed in range(20):
        write(journal, *strange([0] * 8 + [1, 2, 3], usual=89, seed=seed))
        await drained(settings, database)
    issues = await sql.fetch("select * from issues order by members")
    assert [(row["substate"], row["members"]) for row in issues] == [("ongoing", 50)] * 3 + [("escalating", 190)]
    assert re.search(
        r"of .* samples on .* on the days before, at most 7, 30 of 3,000 \(1.000%\), .* times as often",
        issues[3]["why"],
    )
    (event,) = await sql.fetch("select * from issue_events")
    assert (event["kind"], event["issue_id"], event["actor"]) == ("escalating", issues[3]["id"], "recorder")


# -- the command ----------------------------------------------------------------------------------------------------------


class Typed:
    """What somebody types."""

    def __init__(self, database: str) -> None:
        self._database = database

    async def __call__(self, *words: object, fails: bool = False) -> Any:
        result = await asyncio.to_thread(
            CliRunner().invoke, main, ["issues", *map(str, words), "--database-url", self._database]
        )
        assert (result.exit_code != 0) == fails, result.output
        return result.stderr if fails else json.loads(result.stdout)


async def test_merges_hold_for_what_comes_later_and_unmerges_too(
    database: str, settings: Settings, sql: Connection
) -> None:
    journal = await begun(sql, settings, database)
    typed = Typed(database)
    before = dict(await groups(sql))
    await typed("merge", 1, 2, "--reason", "the same camera")
    await typed("merge", 3, 1)
    assert {row["id"]: row["members"] for row in (await typed("list"))["issues"]} == {3: 30, 4: 10}
    write(journal, *strange(range(GROUPS), seed=50))
    await drained(settings, database)
    merged = await groups(sql)
    assert [(number, len(ids)) for number, ids in merged] == [(3, 33), (4, 11)]
    assert "part of issue 3" in await typed("ignore", 2, fails=True)
    await typed("unmerge", 2, "--reason", "no")
    write(journal, *strange(range(GROUPS), seed=51))
    await drained(settings, database)
    after = dict(await groups(sql))
    assert {number: len(ids) for number, ids in after.items()} == {2: 12, 3: 24, 4: 12}
    assert set(before[2]) < set(after[2])
    assert {row["id"]: row["members"] for row in (await typed())["issues"]} == {2: 12, 3: 24, 4: 12}
    assert "--again" in await typed("merge", 3, 2, fails=True)
    await typed("merge", 3, 2, "--again")
    assert [number for number, _ in await groups(sql)] == [3, 4]
    history = (await typed("show", 2))["events"]
    assert [(each["kind"], each["reason"]) for each in history] == [
        ("merged", "into issue 1: the same camera"),
        ("unmerged", "from issue 3: no"),
        ("merged", "into issue 3"),
    ]


async def test_a_resolved_issue_comes_back_by_itself(database: str, settings: Settings, sql: Connection) -> None:
    metrics.init("test", None)
    journal = await begun(sql, settings, database)
    typed = Typed(database)
    done = await typed("resolve", 1)
    assert done == {"issue": 1, "done": "Issue 1 is resolved in version 2."}
    write(journal, *strange(range(GROUPS), seed=60))
    await drained(settings, database)
    assert sorted(row["id"] for row in (await typed())["issues"]) == [2, 3, 4]
    await typed("resolve", 1, "--in", 1)
    write(journal, *strange(range(GROUPS), seed=61))
    await drained(settings, database)
    detail = await typed("show", 1)
    assert (detail["issue"]["state"], detail["issue"]["substate"]) == ("unresolved", "regressed")
    assert detail["issue"]["why"].startswith("version 1 found it again at ")
    assert [each["kind"] for each in detail["events"]] == ["resolved", "resolved", "regressed"]
    assert (await typed())["issues"][0]["id"] == 1
    exposed = metrics.exposition().decode()
    assert 'hoverboard_issues{model="shapes",state="regressed"} 1.0' in exposed
    assert 'hoverboard_issues{model="shapes",state="open"} 4.0' in exposed


async def test_what_needs_somebody_is_first_and_then_what_came_most(
    database: str, settings: Settings, sql: Connection
) -> None:
    journal = await begun(sql, settings, database)
    more = strange([3] * 5, seed=70), strange([1], seed=71, at=datetime.now(UTC) - timedelta(days=3))
    write(journal, *more[0], *more[1])
    await drained(settings, database)
    # Which number a kind has is chance: those of one millisecond have no order.
    whose = "select issue_id from outliers where sample_id = $1"
    most, older = [await sql.fetchval(whose, ids_of(one)[0]) for one, _ in more]
    first, second = sorted({1, 2, 3, 4} - {most, older})
    for number, substate in ((first, "ongoing"), (older, "new"), (second, "regressed"), (most, "ongoing")):
        await sql.execute("update issues set substate = $2 where id = $1", number, substate)
    typed = Typed(database)
    assert [row["id"] for row in (await typed())["issues"]] == [second, older, most, first]
    await sql.execute("update issues set substate = 'escalating' where id = $1", first)
    rows = (await typed())["issues"]
    assert [row["id"] for row in rows] == [first, second, older, most]
    assert [(row["members"], row["members_1_day"]) for row in rows] == [(10, 10), (10, 10), (11, 10), (15, 15)]
    days = [0] * 14
    for at, members in ((START, 10), (datetime.now(UTC) - timedelta(days=3), 1)):
        days[13 - (datetime.now(UTC).date() - at.date()).days] += members
    assert rows[2]["last_14_days"] == days
    drawn = await asyncio.to_thread(CliRunner().invoke, main, ["issues", "--pretty", "--database-url", database])
    assert f"Issue {first} escalates: " in drawn.output
    assert re.search("▂  ?█", drawn.output)


async def test_an_issue_shows_whose_it_is_and_its_samples_as_they_were_recorded(
    database: str, settings: Settings, sql: Connection
) -> None:
    await begun(sql, settings, database)
    leader = await sql.fetchval("select sample_id from issue_fingerprints where id = 2")
    await sql.execute(
        "update samples set inputs = $2::jsonb, vector = null, tags = $3::jsonb, caller = 'shop' where id = $1",
        *(leader, '{"secret": null, "word": "[/]odd"}', '{"customer": "acme"}'),
    )
    await sql.execute("insert into issue_links values (1, 2, 1)")
    detail = await Typed(database)("show", 2)
    (example,) = detail["examples"]
    assert (example["sample_id"], json.loads(example["inputs"])) == (str(leader), {"secret": None, "word": "[/]odd"})
    shares = {(each["kind"], each["value"]): each["rows"] for each in detail["shares"]}
    assert shares[("version", "1")] == 10
    assert shares[("tag customer", "acme")] == shares[("caller", "shop")] == 1
    assert [(each["id"], each["rows"]) for each in detail["beside"]] == [(1, 1)]
    drawn = await asyncio.to_thread(
        CliRunner().invoke, main, ["issues", "show", "2", "--pretty", "--database-url", database]
    )
    assert drawn.exit_code == 0, drawn.output
    for words in ("Tag customer: acme (10%)", "Perhaps the same as issue 1 (new)", '"[/]odd"', "Version: 1 (100%)"):
        assert words in " ".join(drawn.output.split()), words


async def test_who_may_only_read_changes_nothing_and_a_wrong_name_is_told(
    database: str, settings: Settings, sql: Connection
) -> None:
    await begun(sql, settings, database)
    typed = Typed(database)
    assert "there is no issue 77" in await typed("show", 77, fails=True)
    assert "there is no issue 77" in await typed("note", 77, "text", fails=True)
    assert "'wings'" in await typed("list", "wings", fails=True)
    await sql.execute("drop role if exists looker; create role looker login password 'x'; grant reader to looker")
    place = urlsplit(database)
    url = database.replace(place.netloc.rpartition("@")[0], "looker:x")
    assert len((await Typed(url)())["issues"]) == GROUPS
    assert "recorder" in await Typed(url)("ignore", 1, fails=True)
    await sql.execute("drop role looker")
    assert await sql.fetchval("select count(*) from issues where state = 'ignored'") == 0
