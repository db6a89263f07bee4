"""What is asked of one day reads that day: the plan of every statement, as Postgres makes it for the values that come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from hoverboard.cli.postmortem import _asked as asked_by_command
from hoverboard.config import Settings
from hoverboard.database.connect import Connection, connected
from hoverboard.postmortem.asking import postmortem
from hoverboard.postmortem.quality import QualityQuestion, read_quality
from hoverboard.postmortem.question import About, Question
from hoverboard.postmortem.reading import reading
from hoverboard.postmortem.recorded import read_samples, recorded_versions, rows_by_version
from hoverboard.postmortem.window import RecordedWindow, RowChoice
from hoverboard.watch.issue_reading import list_issues, read_issue, ungrouped
from tests.postgres import Server
from tests.unit.postmortem.recorded_day import END, MODEL, ONSET, START, Planted, fill

Asked = list[tuple[str, tuple[Any, ...]]]
LARGE = ("samples", "predictions", "outliers", "features", "rejections", "labels")
DAY = f"{START:%Y_%m_%d}"
BOUND = re.compile(r"\b(at|id|sample_id|issue_id)\b\)? (=|>=|<)")
"""A condition on time or on ids, as a plan has it."""
FIRST_AND_LAST = re.compile(r"order by s.id( desc)? limit 1;$")


@pytest.fixture(scope="module")
def days(postgres: Server, migrated_template: str) -> Iterator[str]:
    """A day, the same rows on the days around it, and labels of a part."""
    with postgres.database(migrated_template) as url:
        with ThreadPoolExecutor(1) as thread:  # pytest-asyncio keeps a loop of its own in this one
            thread.submit(asyncio.run, filled(url)).result()
        yield url


async def filled(url: str) -> None:
    async with connected(url, application="test", role=None) as connection:
        await fill(connection, Planted(customer="17"), per_minute=5)
        await connection.execute(
            "select make_partitions($1, $2)", *((START + timedelta(days=day)).date() for day in (-2, 2))
        )
        await connection.execute(
            "update outliers set issue_id = 1 where sample_id in (select sample_id from outliers limit 20)"
        )
        for table, key in (("samples", "id"), ("predictions", "sample_id"), ("outliers", "sample_id")):
            columns = await connection.fetchval(
                "select string_agg(quote_ident(attname), ', ') from pg_attribute "
                "where attrelid = $1::text::regclass and attnum > 0 and attname not in ('at', $2)",
                *(table, key),
            )
            for day in (-2, -1, 1, 2):
                await connection.execute(
                    f"insert into {table} (at, {key}, {columns}) select sample_at(moved), moved, {columns} from {table} "
                    f"cross join lateral (select (left(first_id(at + $1)::text, 13) || right({key}::text, 23))::uuid as moved) m "
                    "where at >= $2 and at < $3",
                    *(timedelta(days=day), START, END),
                )
        await connection.execute(
            "insert into labels (sample_id, labelled_at, label, source) "
            "select sample_id, at + interval '1 hour', 'small', 'review' from predictions where get_byte(uuid_send(sample_id), 11) < 50"
        )
        await connection.execute(
            "with scope as (insert into issue_scopes (model, backbone_sha256) values ($1, '') returning id) "
            "insert into issues (id, scope_id, state, substate, state_at, why, members, first_seen, last_seen, first_version, "
            "last_version) overriding system value select 1, id, 'unresolved', 'new', $2, '', 20, $2, $2, 1, 1 from scope",
            *(MODEL, END),
        )
        await connection.execute("vacuum analyze")


@asynccontextmanager
async def heard(url: str, patch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Connection, Asked]]:
    """A connection as commands have it, and what is asked of it."""
    asked: Asked = []
    async with reading(Settings.load(database_url=url), application="test") as connection:
        with patch.context() as patched:
            for name in ("fetch", "fetchval", "fetchrow", "cursor"):
                patched.setattr(asyncpg.Connection, name, _noting(getattr(asyncpg.Connection, name), asked))
            yield connection, asked


def _noting(ask: Any, asked: Asked) -> Any:
    def noted(connection: Connection, sql: str, *values: Any, **more: Any) -> Any:
        asked.append((sql, values))
        return ask(connection, sql, *values, **more)

    return noted


async def scans(connection: Connection, asked: Asked) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Every scan of a large table that is planned for what was asked, with its statement."""
    assert asked
    for sql, values in {repr(each): each for each in asked}.values():
        if not sql.startswith("explain"):
            (plan,) = msgspec.json.decode(await connection.fetchval(f"explain (format json) {sql}", *values))
            for node in _nodes(plan["Plan"]):
                if node.get("Relation Name", "").startswith(LARGE):
                    yield sql, node


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        # A scan of a bitmap names its conditions below itself.
        child["of the bitmap"] = [each.get("Index Cond", "") for each in child.get("Plans", ())]
        yield from _nodes(child)


def bounded(node: dict[str, Any]) -> bool:
    """Whether a scan is held to a time or to ids."""
    conditions = (node.get(name, "") for name in ("Filter", "Index Cond", "Recheck Cond"))
    return any(BOUND.search(each) for each in conditions)


async def check(connection: Connection, asked: Asked, days: str = DAY) -> None:
    """Hold every scan to the day, or to those that a pattern names."""
    seen = set()
    async for sql, node in scans(connection, asked):
        name = node["Relation Name"]
        seen.add(name)
        if "from samples_default\n" in sql:
            continue  # how far rows of implausible clocks reach, which are few
        if FIRST_AND_LAST.search(sql):
            assert node["Node Type"] == "Index Scan", sql
            continue
        assert bounded(node), (name, node, sql)
        day = name.partition("_")[2] or DAY  # all labels are in one table
        assert re.fullmatch(days, day), (name, sql)
    assert f"samples_{DAY}" in seen


WHERE: dict[str, dict[str, str]] = {"outliers": {"tag.customer": "17"}, "slow": {"label": "small"}}


@pytest.mark.parametrize("about", ["outliers", "errors", "refusals", "slow", "wrong", "label=small"])
async def test_a_postmortem_reads_the_days_that_it_is_about(
    days: str, monkeypatch: pytest.MonkeyPatch, about: str
) -> None:
    async with heard(days, monkeypatch) as (connection, asked):
        for where in [{}, WHERE[about]] if about in WHERE else [{}]:
            question = Question(MODEL, About.of(about), ONSET, END, where=where)
            await postmortem(connection, question, END, lambda _what, _share: None)
        await check(connection, asked)


async def test_quality_reads_the_days_that_it_is_about(days: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with heard(days, monkeypatch) as (connection, asked):
        await read_quality(connection, QualityQuestion(MODEL, START, END, END + timedelta(days=1)))
        # What a confidence is worth is learned from the labels of a month.
        await check(connection, asked, r"2026_11_2[789]|default")


@pytest.mark.parametrize(
    "choice", [RowChoice(), RowChoice(labelled=True), RowChoice(issue=1), RowChoice(without_outliers=True)]
)
async def test_an_export_and_a_replay_read_the_days_that_they_are_about(
    days: str, monkeypatch: pytest.MonkeyPatch, choice: RowChoice
) -> None:
    async with heard(days, monkeypatch) as (connection, asked):
        window = RecordedWindow(MODEL, START, END)
        versions = await recorded_versions(connection, MODEL)
        await rows_by_version(connection, window, versions)
        ids = [version.id for version in versions]
        blocks = read_samples(connection, versions[0].signature, window, ids, choice=choice, block_rows=500)
        rows = [len(block) async for block in blocks]
        assert sum(rows) > 0
        await check(connection, asked)


async def test_a_page_begins_where_the_one_before_ended(days: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with heard(days, monkeypatch) as (connection, asked):
        (version,) = await recorded_versions(connection, MODEL)
        window = RecordedWindow(MODEL, START, END)
        blocks = read_samples(connection, version.signature, window, [version.id], block_rows=500)
        rows = sum([len(block) async for block in blocks])
        pages = [(sql, values) for sql, values in asked if "order by id limit" in sql]
        first = [values[3] for _, values in pages]
        assert len(first) > rows / 500 and first == sorted(set(first))
        # These tables are small: by themselves they would be read as a whole.
        await connection.execute("set local enable_seqscan = off; set local enable_bitmapscan = off")
        conditions = [node.get("Index Cond", "") async for _, node in scans(connection, pages)]
        assert conditions and all(re.search(r"\bid >= ", each) for each in conditions)


async def test_a_question_has_one_connection_that_only_reads_and_no_statement_keeps_it(
    days: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, found = [], set()
    connect, fetch = asyncpg.connect, asyncpg.Connection.fetch

    async def connecting(*values: Any, **more: Any) -> Any:
        opened.append(await connect(*values, **more))
        return opened[-1]

    async def fetching(connection: Connection, sql: str, *values: Any, **more: Any) -> Any:
        # What holds while it is asked, and not what was set at some time.
        names = ("role", "transaction_read_only", "transaction_isolation", "statement_timeout", "lock_timeout")
        held = await fetch(connection, "select current_setting(name) from unnest($1::text[]) name", names)
        found.add(tuple(each[0] for each in held))
        return await fetch(connection, sql, *values, **more)

    monkeypatch.setattr(asyncpg, "connect", connecting)
    monkeypatch.setattr(asyncpg.Connection, "fetch", fetching)
    settings, question = Settings.load(database_url=days), Question(MODEL, None, ONSET, END)
    report = await asked_by_command(settings, question, END, replay=False)
    assert report.bad.rows
    assert len(opened) == 1
    assert ("reader", "on", "repeatable read", "30s", "2s") in found
    found.discard(("reader", "off", "read committed", "0", "0"))  # is the schema current?
    assert len(found) == 1


async def test_issues_are_found_by_indexes_whatever_is_recorded(days: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with heard(days, monkeypatch) as (connection, asked):
        await list_issues(connection, MODEL, every=True)
        await ungrouped(connection, MODEL)
        await read_issue(connection, 1)
        await connection.execute("set local enable_seqscan = off")  # these tables are small
        found = [node async for _, node in scans(connection, asked)]
        assert found
        assert all(node["Node Type"] != "Seq Scan" and bounded(node) for node in found)
