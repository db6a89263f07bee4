"""`hoverboard issues`: what people say of issues holds, and what they see is so."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from hoverboard.cli import main
from hoverboard.config import Settings
from hoverboard.recorder import housekeeping
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.process import open_database
from hoverboard.telemetry import metrics
from tests.integration.grouped import GROUPS, START, Connection, Typed, begun, drained, groups, strange
from tests.journaled import ids_of, write


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(alarm_run_length=1000)


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


async def test_the_metric_follows_what_people_say_while_nothing_comes(
    database: str, settings: Settings, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics.init("test", None)
    monkeypatch.setattr(housekeeping, "_ISSUES_S", 0.0)
    await begun(sql, settings, database)
    drain = Drain(settings, lambda: open_database(settings, database))
    await drain.empty(10)
    assert 'hoverboard_issues{model="shapes",state="open"} 4.0' in metrics.exposition().decode()
    await Typed(database)("resolve", 1)
    await drain.empty(10)
    assert 'hoverboard_issues{model="shapes",state="open"} 3.0' in metrics.exposition().decode()
    await Typed(database)("reopen", 1)
    await drain.empty(10)
    assert 'hoverboard_issues{model="shapes",state="open"} 4.0' in metrics.exposition().decode()
    drain.close()


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
