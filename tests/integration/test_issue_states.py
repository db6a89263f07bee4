"""What becomes of issues: by versions and samples, by time, by how often they come, by what people say."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from hoverboard.config import Settings
from hoverboard.watch import issue_table
from tests.integration.grouped import GROUPS, Connection, begun, drained, strange
from tests.journaled import open_journal, write


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(alarm_run_length=1000)


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
