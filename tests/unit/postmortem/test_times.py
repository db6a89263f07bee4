"""When a change is told to have begun: within the time that was asked about, and where there are rows."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from hoverboard.database.connect import connected
from hoverboard.postmortem.page import render_html
from hoverboard.postmortem.question import About, Question
from hoverboard.postmortem.report import Report
from hoverboard.postmortem.window import RecordedWindow
from hoverboard.postmortem.wording import moment
from tests.unit.postmortem.recorded_day import END, MODEL, ONSET, START, Planted
from tests.unit.postmortem.test_asking import asked
from tests.unit.postmortem.test_promises import lines, promised

OUTLIERS = About("outliers")


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def pause(start: datetime, end: datetime) -> list[str]:
    """Statements that leave no rows of a time."""
    time = f"at >= '{start.isoformat()}' and at < '{end.isoformat()}'"
    return [f"delete from {table} where {time}" for table in ("samples", "predictions", "outliers")]


async def counted(database: str, *times: tuple[datetime, datetime]) -> tuple[int, int]:
    """Rows and outliers of some times, by SQL."""
    where = " or ".join(f"s.at >= '{start.isoformat()}' and s.at < '{end.isoformat()}'" for start, end in times)
    async with connected(database, application="test", role=None) as connection:
        row = await connection.fetchrow(
            "select count(*), count(o.sample_id) from samples s left join outliers o on o.sample_id = s.id and o.at = s.at "
            f"where {where}"
        )
    assert row is not None
    return row[0], row[1]


async def same_by_sql(database: str, report: Report) -> None:
    """What is left out of the usual rows, and the share of the rest, by what the report says alone."""
    assert report.usual is not None
    assert report.onset is not None
    (left,) = report.set_aside
    assert (left.rows, left.bad) == await counted(database, (left.start, left.end))
    assert left.rows
    rest = await counted(database, (report.usual[0], left.start), (left.end, report.onset.at))
    assert (report.bad.usual_rows, report.bad.usual_bad) == rest
    assert report.bad.usual_share == rest[1] / rest[0]
    told = f"Not counted as usual: {left.rows:,.0f} rows, {left.bad:,.0f} of them bad, {moment(left.start)} to {moment(left.end)}"
    usual = f"The usual share is that of {rest[1]:,} bad rows of {rest[0]:,}: of the usual time without those"
    for text in (lines(report), render_html(report)):
        assert told in text
        assert usual in text
    assert msgspec.json.decode(msgspec.json.encode(report))["set_aside"][0]["why"] == left.why


async def test_beside_a_usual_time_that_lies_apart_it_begins_within_the_window(database: str) -> None:
    usual = (START, START + timedelta(hours=2))
    gone = [*pause(usual[1] - minutes(10), usual[1]), *pause(ONSET, ONSET + minutes(5))]
    await promised(database, Planted(customer="17"), *gone)
    report = await asked(database, Question(MODEL, OUTLIERS, ONSET, END, against=usual))
    assert report.onset is not None
    assert report.onset.at == ONSET + minutes(5)
    assert ONSET <= report.onset.earliest <= report.onset.at <= report.onset.latest <= END
    assert report.summary.startswith("Since 2026-11-29 14:05 UTC")
    assert "--from 2026-11-29T14:05:00Z" in report.next[0]
    assert (report.bad.of, report.bad.rows) == await counted(database, (report.onset.at, END))
    rows, bad = await counted(database, usual)
    assert report.bad.usual_share == pytest.approx(bad / rows)


async def test_after_a_pause_it_begins_with_the_first_row(database: str) -> None:
    version = await promised(database, Planted(customer="17"), *pause(ONSET - minutes(20), ONSET))
    async with connected(database, application="test", role=None) as connection:
        await connection.execute(
            "insert into alarm_events (version_id, at, kind, rows, flagged, log10_e, onset_at, onset_rows, onset_flagged) "
            "values ($1, $2, 'raised', 50, 20, 5, $2, 50, 20)",
            *(version, ONSET - minutes(10)),
        )
    report = await asked(database, Question(MODEL, OUTLIERS, START, END))
    assert report.onset is not None
    assert report.onset.at == ONSET
    assert report.onset.earliest < ONSET - minutes(10)
    # What was raised before it began has not come of it.
    assert "Since then" not in lines(report)


async def test_no_time_is_told_before_the_one_that_somebody_named(database: str) -> None:
    await promised(database, Planted(customer="17"))
    late = ONSET + minutes(30)
    report = await asked(database, Question(MODEL, OUTLIERS, late, END))
    assert report.onset is not None
    assert report.onset.at == report.onset.earliest == late
    assert (report.bad.of, report.bad.rows) == await counted(database, (late, END))
    assert report.bad.usual_share is not None
    # The first half hour is not usual.
    assert report.bad.usual_share < 0.02
    await same_by_sql(database, report)
    assert "the change seems to have begun by then" in lines(report)


def test_years_have_four_digits() -> None:
    first = datetime(1, 1, 1, 6, 30, tzinfo=UTC)
    assert moment(first) == "0001-01-01 06:30 UTC"
    assert moment(first + timedelta(seconds=5)) == "0001-01-01 06:30:05 UTC"
    window = RecordedWindow("cups", first, first + timedelta(hours=1, microseconds=1))
    assert str(window) == "cups, 0001-01-01 06:30 UTC to 0001-01-01 07:30:00 UTC"


def strange(start: datetime, end: datetime, share: float = 1.0) -> str:
    """A statement that makes outliers of a customer's rows of a time, a fifth of all, or of a share of them."""
    return (
        "insert into outliers (at, sample_id, version_id, scores, p_value) select p.at, p.sample_id, p.version_id, '{}', 0.001 "
        "from predictions p join samples s on s.id = p.sample_id and s.at = p.at where s.tags ->> 'customer' = '16' "
        f"and s.at >= '{start.isoformat()}' and s.at < '{end.isoformat()}' and random() < {share} "
        "and not exists (select from outliers o where o.sample_id = p.sample_id)"
    )


async def test_a_rise_within_the_window_is_told_though_the_time_before_was_as_bad(database: str) -> None:
    start = START + timedelta(hours=6)
    await promised(database, Planted(customer="17", usual=0.0), strange(START, start))
    report = await asked(database, Question(MODEL, OUTLIERS, start, END))
    assert report.onset is not None
    assert report.onset.at == ONSET
    assert (report.causes[0].kind, report.causes[0].subject) == ("caller", "tag customer 17")
    assert report.bad.usual_share == 0
    assert "The usual time was an incident itself" in lines(report)
    assert "and not with cups, 2026-11-29 06:00 UTC to 2026-11-29 12:00 UTC" in report.comparison
    assert "--against 2026-11-29T12:00:00Z..2026-11-29T14:00:00Z" in report.next[0]


async def test_beside_a_usual_time_that_was_an_incident_another_one_is_proposed(database: str) -> None:
    began = START + timedelta(hours=4)
    await promised(database, Planted(usual=0.0), strange(began, END))
    report = await asked(database, Question(MODEL, OUTLIERS, ONSET, END))
    assert report.onset is None
    assert report.changed
    assert "The usual time was an incident itself" in lines(report)
    assert "--against 2026-11-29T06:00:00Z..2026-11-29T10:00:00Z" in report.next[0]


async def test_where_the_time_before_has_no_rows_the_last_one_with_rows_is_usual(database: str) -> None:
    await promised(database, Planted(customer="17"), *pause(START + timedelta(hours=3), ONSET))
    report = await asked(database, Question(MODEL, OUTLIERS, ONSET, END))
    last = START + timedelta(hours=3) - minutes(1)
    assert report.usual == (last - timedelta(hours=4, seconds=-1), last + timedelta(seconds=1))
    assert report.onset is not None
    assert report.onset.at == ONSET
    rows, bad = await counted(database, (START, ONSET))
    assert report.bad.usual_share == pytest.approx(bad / rows)
    assert "in the last time with rows before" in report.summary


async def test_which_rows_of_an_earlier_incident_are_not_usual_is_told(database: str) -> None:
    over = ONSET - minutes(90)
    await promised(database, Planted(customer="17"), strange(over - minutes(60), over))
    report = await asked(database, Question(MODEL, OUTLIERS, ONSET - minutes(30), END))
    await same_by_sql(database, report)
    assert "without those, and of 2026-11-29 13:30 UTC to 2026-11-29 14:00 UTC." in lines(report)
    assert abs(report.set_aside[0].end - over) <= minutes(2)
    assert "as of an earlier incident that was over" in lines(report)


async def test_as_many_bad_rows_are_told_to_be_usual_of_a_caller_as_it_had(database: str) -> None:
    await promised(database, Planted(customer="16", usual=0.0), "select setseed(0.5)", strange(START, ONSET, 0.15))
    report = await asked(database, Question(MODEL, OUTLIERS, ONSET, END))
    cause = report.causes[0]
    assert (cause.kind, cause.subject) == ("caller", "tag customer 16")
    _, had = await counted(database, (ONSET - (END - ONSET), ONSET))
    told = re.search(r"are of tag customer 16, which would usually have (\d+), nearly all of them with", cause.evidence)
    assert told is not None
    assert int(told[1]) == pytest.approx(had, rel=0.3)
