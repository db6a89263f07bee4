"""Outliers through real journals into issues: grouped once, by a recorder that may die at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import numpy as np
import pytest

from hoverboard.config import Settings
from hoverboard.contract.signature import Array
from hoverboard.database.connect import connect
from hoverboard.journal.records import BatchRecord, FeatureRecord
from hoverboard.journal.writer import JournalWriter
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.erasure.erase import ErasureRequest, erase
from hoverboard.recorder.process import open_database
from hoverboard.watch import issue_table
from tests.journaled import MODEL, WEIGHTS, batch, ids_of, open_journal, write

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
    for record in rounds(14, usual=1):
        write(journal, record)
        await drained(settings, database)
    piecemeal = await groups(sql)
    assert len(piecemeal) == GROUPS
    tables = "issues, issue_fingerprints, issue_scopes, issue_days, issue_scope_days, issue_events, issue_never"
    await sql.execute(
        f"truncate {tables}, recorder_cursor, samples, predictions, outliers, features; alter sequence issue_numbers restart"
    )
    await drained(settings, database)
    assert await groups(sql) == piecemeal


async def test_a_transaction_that_is_rolled_back_leaves_no_group_behind(
    database: str, settings: Settings, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await begun(sql, settings, database)
    before = await groups(sql)
    write(journal, *strange([0, 5, 6]))
    joined = issue_table.join

    async def then_lost(connection: Connection, *arguments: Any) -> None:
        await joined(connection, *arguments)
        connection.terminate()

    drain = Drain(settings, lambda: open_database(settings, database))
    with monkeypatch.context() as patch:
        patch.setattr(issue_table, "join", then_lost)
        with pytest.raises(Exception, match="connection"):
            await drain.empty(0.5)
    assert await groups(sql) == before
    # The recorder lives on: what it remembers of leaders must not be of the transaction that was lost.
    await drain.empty(10)
    drain.close()
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
