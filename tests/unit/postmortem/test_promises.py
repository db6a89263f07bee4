"""What is told where no usual time tells it: by the promise of a version, and by what was done before the time that was asked about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from hoverboard.config import Settings
from hoverboard.database.connect import connected
from hoverboard.errors import ConfigError
from hoverboard.postmortem.counting import RecordedShare
from hoverboard.postmortem.drawing import draw
from hoverboard.postmortem.question import About, Question
from hoverboard.postmortem.reading import reading
from hoverboard.postmortem.recorded import recorded_versions
from hoverboard.postmortem.rendering import render_text
from hoverboard.postmortem.report import Report
from hoverboard.postmortem.window import RecordedWindow
from tests.unit.postmortem.recorded_day import END, MODEL, ONSET, START, Planted, fill
from tests.unit.postmortem.test_asking import asked
from tests.unit.postmortem.test_every_question import LABELLED

PROMISE = """update model_versions set manifest = manifest || '{"outliers": {"alpha": 0.01, "bound": 0.02}}'"""
RAISED = (
    "insert into alarms (version_id, state, bound, rows, flagged, log10_e, recent_rows, recent_flagged, log_sums, log_products, "
    "since, raised_at, onset_at, updated_at) values ($1, 'raised', 0.02, 750, 150, 20, 750, 150, '{}', '{}', '{}', $2, $2, $2)"
)


PER_MINUTE = 8


async def promised(database: str, planted: Planted, *statements: str) -> int:
    """A day whose version promises at most 2% of outliers; returns the version's id."""
    async with connected(database, application="test", role=None) as connection:
        version = await fill(connection, planted, per_minute=PER_MINUTE)
        for statement in (PROMISE, *statements):
            await connection.execute(statement)
    return version


def lines(report: Report) -> str:
    return " ".join(render_text(report).split())


async def test_where_all_that_is_on_record_is_strange_the_version_s_promise_tells(database: str) -> None:
    await promised(database, Planted(usual=1.0))
    beginning = Question(MODEL, About("outliers"), START, START + timedelta(minutes=1))
    for question, rows in ((beginning, PER_MINUTE), (Question(MODEL), 720 * PER_MINUTE)):
        report = await asked(database, question)
        assert (report.about, report.bad.rows, report.bad.of) == ("outliers", rows, rows)
        assert report.changed
        assert (
            f"{rows:,} of {rows:,} rows of cups are outliers (100.0%), though version 1 promises at most 2.00%"
            in report.summary
        )
        assert (report.bad.allowed_share, report.bad.allowed_by) == (0.02, "version 1 promises at most 2.00%")
        assert [each.kind for each in report.causes] == ["none"]
        assert "promises at most" in report.causes[0].evidence
        assert "quiet" not in lines(report)


async def test_a_usual_time_that_is_strange_itself_makes_no_quiet_time(database: str) -> None:
    await promised(
        database,
        Planted(usual=0.0),
        "insert into outliers (at, sample_id, version_id, scores, p_value) select p.at, p.sample_id, p.version_id, '{}', 0.001 "
        "from predictions p join samples s on s.id = p.sample_id and s.at = p.at where s.tags ->> 'customer' = '17'",
    )
    report = await asked(database, Question(MODEL, About("outliers"), ONSET, END))
    assert report.onset is None
    assert report.changed
    assert "in the time before), though version 1 promises at most 2.00%" in report.summary
    assert "quiet" not in lines(report)
    # The other rows of the same time tell whose they are.
    assert (report.who[0].field, report.who[0].value) == ("tag customer", "17")
    assert "--where tag.customer=17" in report.next[0]


async def test_within_the_promise_it_is_quiet_also_where_nothing_is_recorded_of_the_time_before(database: str) -> None:
    await promised(database, Planted())
    report = await asked(database, Question(MODEL, About("outliers"), START, START + timedelta(hours=1)))
    assert report.summary.startswith("A quiet time")
    assert "version 1 promises at most 2.00%" in report.summary
    assert "nothing is recorded of the usual time" in report.summary
    assert not report.changed
    later = await asked(database, Question(MODEL, About("outliers"), ONSET, END))
    assert later.bad.usual_of == "in the time before"
    assert "% in the time before)" in later.summary


async def test_a_time_when_many_calls_fail_is_never_a_quiet_one(database: str) -> None:
    await promised(database, Planted(failed="18", onset=START))
    report = await asked(database, Question(MODEL))
    assert report.about == "errors"
    assert report.changed
    assert "quiet one" in report.summary
    assert not report.summary.startswith("A quiet time")
    assert (report.who[0].field, report.who[0].value) == ("tag customer", "18")


async def test_without_times_it_takes_the_alarm_of_the_version_that_is_asked_about(database: str) -> None:
    version = await promised(database, Planted(customer="17"))
    second = ONSET + timedelta(hours=3)
    async with connected(database, application="test", role=None) as connection:
        later = await connection.fetchval(
            "insert into model_versions (name, version, weights_sha256, manifest, first_served_at) "
            "select name, 2, repeat('f', 64), manifest, $2 from model_versions where id = $1 returning id",
            *(version, second),
        )
        for table in ("predictions", "outliers"):
            await connection.execute(f"update {table} set version_id = $1 where at >= $2", later, second)
        await connection.execute(RAISED, version, ONSET)
        await connection.execute(RAISED, later, second)
    for where, start in (({}, ONSET), ({"version": "1"}, ONSET), ({"version": "2"}, second)):
        assert (await asked(database, Question(MODEL, where=where))).start == start


async def test_a_deployment_just_before_the_time_that_was_asked_about_is_told(database: str) -> None:
    version = await promised(database, Planted(customer="17"))
    async with connected(database, application="test", role=None) as connection:
        await connection.execute(
            "insert into deployments (at, model, role, version_id, share, reason, actor, process) "
            "values ($1, $2, 'stable', $3, 1, 'a word', 'admin', 'engine-0')",
            *(ONSET - timedelta(seconds=20), MODEL, version),
        )
    report = await asked(database, Question(MODEL, About("outliers"), ONSET, END))
    assert report.onset is not None
    assert [(each.kind, each.subject) for each in report.onset.events] == [("deployment", "1")]
    assert "belief that it began with: 2026-11-29 13:59:40 UTC deployment 1" in lines(report)


async def test_that_it_goes_on_is_not_said_after_the_last_row(database: str) -> None:
    last = ONSET + timedelta(hours=1)
    gone = [f"delete from {table} where at > '{last.isoformat()}'" for table in ("samples", "predictions", "outliers")]
    await promised(database, Planted(customer="17"), *gone)
    report = await asked(database, Question(MODEL, About("outliers"), START, END))
    assert report.onset is not None
    assert (report.onset.end, report.onset.last) == (None, last)
    assert "The last row came at 2026-11-29 15:00 UTC, and none has come since" in lines(report)
    assert "goes on." not in lines(report).replace("whether it goes on.", "")
    assert report.summary.startswith("From 2026-11-29 14:00 UTC to 2026-11-29 15:00 UTC")
    on = await asked(database, Question(MODEL, About("outliers"), START, last))
    assert on.onset is not None
    assert on.onset.last is None
    assert "It goes on." in lines(on)


async def test_after_a_quiet_time_no_longer_one_is_proposed_than_is_on_record(database: str) -> None:
    await promised(database, Planted())
    some = await asked(database, Question(MODEL, About("outliers"), ONSET, END))
    assert "--from 2026-11-29T06:00:00Z" in some.next[0]
    whole = await asked(database, Question(MODEL, About("outliers"), START - timedelta(days=3), END))
    assert whole.next[0] == "hoverboard alarms"


async def test_an_alarm_s_share_stands_beside_the_reason_why_it_is_another_one(database: str) -> None:
    version = await promised(database, Planted(customer="17"))
    async with connected(database, application="test", role=None) as connection:
        await connection.execute(
            "insert into alarm_events (version_id, at, kind, rows, flagged, log10_e, onset_at, onset_rows, onset_flagged) "
            "values ($1, $2, 'raised', 50, 20, 5, $2, 50, 20)",
            *(version, ONSET + timedelta(minutes=2)),
        )
    report = await asked(database, Question(MODEL, About("outliers"), START, END))
    assert "20 outliers among 50 samples" in lines(report)
    assert "The share of an alarm is another one" in lines(report)


UNLESS: list[tuple[Mapping[str, tuple[str, ...]], str, str]] = [
    (
        {"tag.customer": ("17", "15")},
        "s.tags ->> 'customer' not in ('17', '15')",
        "r.tags ->> 'customer' not in ('17', '15')",
    ),
    ({"caller": ("17", "of nobody")}, "s.caller <> '17'", ""),
    ({"label": ("small",)}, "p.label <> 'small'", ""),
    ({"process": ("engine-0",)}, "s.tags ->> 'customer' = '16'", ""),
    ({"version": ("2", "7")}, "s.tags ->> 'customer' <> '18'", ""),
]


async def test_conditions_may_say_what_must_not_be(database: str) -> None:
    """Rows that are counted and rows that are read are those that SQL finds by other words."""
    planted = Planted(customer="17", slow="16", refused=dict.fromkeys(("15", "18"), ("/instances/0/width", "nothing")))
    version = await promised(
        database,
        planted,
        LABELLED % "random() < 0.1",
        "update samples set caller = tags ->> 'customer' where tags ->> 'customer' <> '15'",
        "update predictions p set process = 'engine-1' from samples s where s.id = p.sample_id and s.tags ->> 'customer' = '16'",
    )
    async with connected(database, application="test", role=None) as connection:
        later = await connection.fetchval(
            "insert into model_versions (name, version, weights_sha256, manifest, first_served_at) "
            "select name, 2, repeat('f', 64), manifest, first_served_at from model_versions where id = $1 returning id",
            version,
        )
        for table in ("predictions", "outliers"):
            await connection.execute(
                f"update {table} t set version_id = $1 from samples s where s.id = t.sample_id and s.tags ->> 'customer' = '18'",
                later,
            )
        for kind in ("outliers", "wrong", "slow", "label=large", "refusals"):
            await hold_against_sql(database, kind)
        await connection.execute(
            "delete from predictions p using samples s where s.id = p.sample_id and s.tags ->> 'customer' in ('15', '18')"
        )
        await hold_against_sql(database, "errors")


async def hold_against_sql(database: str, kind: str) -> None:
    async with reading(Settings.load(database_url=database), application="test") as connection:
        versions = await recorded_versions(connection, MODEL)
        recording = RecordedShare(connection, MODEL, versions, lambda _what, _share: None)
        about = await recording.limited(About.of(kind), RecordedWindow(MODEL, START, END))
        assert about is not None
        for unless, condition, of_refused in UNLESS:
            if about.unknown_of(unless):
                continue
            window = RecordedWindow(MODEL, START, END, {}, unless)
            counts = (await recording.count(about, window, timedelta(minutes=1))).counts
            drawn = await draw(recording, about, None, None, (window, counts))
            assert drawn is not None
            samples = "samples s left join predictions p on p.sample_id = s.id and p.at = s.at"
            rows = await connection.fetchval(f"select count(*) from {samples} where ({condition}) is not false")
            if kind == "refusals":
                rows += await connection.fetchval(f"select count(*) from rejections r where {of_refused or 'true'}")
            assert (counts.rows.sum(), len(drawn.table)) == (rows, rows)
            assert counts.bad.sum() == drawn.table.bad.sum() > 0


async def test_what_must_not_be_is_told_and_proposed_again(database: str) -> None:
    await promised(database, Planted(customer="17", wide="18"))
    report = await asked(database, Question(MODEL, About("outliers"), START, END, unless={"tag.customer": ("17",)}))
    assert (report.causes[0].kind, report.causes[0].subject) == ("caller", "tag customer 18")
    assert dict(report.unless) == {"tag.customer": ("17",)}
    assert "of cups with tag.customer!=17 are outliers" in report.summary
    assert "tag.customer != 17" in lines(report)
    assert "17" not in {each.value for each in report.who}
    assert "--where 'tag.customer!=17'" in report.next[0]
    with pytest.raises(ConfigError, match="--where label: of errors that is not recorded"):
        await asked(database, Question(MODEL, About("errors"), START, END, unless={"label": ("large",)}))


@pytest.mark.parametrize("where", [{}, {"label": "small"}])
async def test_that_an_answer_and_its_label_differ_is_no_reason_for_being_wrong(
    database: str, where: Mapping[str, str]
) -> None:
    """Answers `small` become wrong alone: what they are labelled as instead is what wrong means."""
    wrong = "p.label = 'small' and s.at >= '2026-11-29 14:00+0' and random() < 0.4"
    await promised(database, Planted(), "select setseed(0.5)", LABELLED % wrong)
    report = await asked(database, Question(MODEL, About("wrong"), START, END, where=where))
    assert report.onset is not None
    for each in report.slices:
        assert not {"label", "label given"} <= each.where.keys()
        assert not (where and {"label", "label given"} & each.where.keys())
    if where:
        assert not [each for each in report.causes if each.subject.startswith(("label small", "label given"))]


@pytest.mark.parametrize("about", ["outliers", "wrong"])
async def test_what_an_answer_depends_on_is_no_novelty_where_it_was_asked_about(database: str, about: str) -> None:
    """Wide cups are called huge, and nothing else is."""
    huge = (
        "update predictions p set label = 'huge' from samples s "
        "where s.id = p.sample_id and s.at = p.at and (s.inputs ->> 'width')::float > 30"
    )
    labels = LABELLED % "p.label = 'huge' and random() < 0.7"
    await promised(database, Planted(wide="17"), huge, "select setseed(0.5)", labels)
    report = await asked(database, Question(MODEL, About(about), ONSET, END, where={"label": "huge"}))
    assert "of the same time without label=huge" in report.comparison
    assert (report.causes[0].kind, report.causes[0].subject) == ("caller", "tag customer 17")
    assert "width" not in f"{report.summary} {[each.where for each in report.slices]}"
    assert sum(each.weight for each in report.causes) == pytest.approx(1)
