"""Whatever a question is about, what was planted in a real database comes first, and what is innocent is not named."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from hoverboard.database.connect import connected
from hoverboard.postmortem.question import About, Question
from hoverboard.postmortem.rendering import render_text
from hoverboard.postmortem.report import Report
from tests.unit.postmortem.recorded_day import END, MODEL, ONSET, Planted, fill
from tests.unit.postmortem.test_asking import asked, filled

ISSUES = """
    update outliers o set issue_id = case when (s.inputs ->> 'height')::float > 30 then 3 else 4 end
    from samples s where s.id = o.sample_id
"""
LABELLED = """
    insert into labels (sample_id, labelled_at, label, source)
    select s.id, s.at + case when random() < 0.5 then interval '20 minutes' else interval '3 hours' end,
        case when %s then case p.label when 'small' then 'large' else 'small' end else p.label end,
        (array['support', 'review', 'audit'])[1 + floor(random() * 3)::int]
    from samples s join predictions p on p.sample_id = s.id and p.at = s.at
"""


def named(report: Report) -> str:
    """All that a report blames or advises."""
    causes = [f"{each.subject} {each.evidence}" for each in report.causes if each.weight > 0.05]
    return "\n".join([*causes, *report.next, *(str(each.where) for each in report.slices)])


async def labelled(database: str, planted: Planted, wrong: str) -> None:
    """A day whose rows are labelled by three sources at once, of which some labels contradict the answers."""
    async with connected(database, application="test", role=None) as connection:
        await connection.execute("select setseed(0.5)")
        await fill(connection, planted, per_minute=8)
        await connection.execute(LABELLED % wrong)


async def test_refused_calls_are_told_by_place_kind_sender_and_time(database: str) -> None:
    refused = {"16": ("/instances/3/width", "nothing"), "18": ("/instances/0/height", "a string")}
    await filled(database, Planted(refused=refused, region=True))
    report = await asked(database, Question(MODEL, About("refusals")))
    assert report.onset is not None
    assert report.onset.earliest <= ONSET <= report.onset.latest
    first, second, *_ = report.causes
    assert {(each.kind, each.subject) for each in (first, second)} == {
        ("schema", "input width"),
        ("schema", "input height"),
    }
    evidence = first.evidence + second.evidence
    assert "input width is missing at /instances/width" in evidence
    assert "input height is of the wrong type (a string) at /instances/height" in evidence
    assert "100% of them are sent by tag customer 16" in evidence
    assert "100% of them are sent by tag customer 18" in evidence
    assert "the first at 2026-11-29 14:00:00 UTC" in evidence
    assert "region" not in named(report)
    told = {tuple(each.where) for each in report.slices}
    assert all("input" not in part for where in told for part in where)


@pytest.mark.parametrize("calls", [12, 240])
async def test_few_refused_calls_are_told_by_what_was_broken_and_not_by_a_tag_of_chance(
    database: str, calls: int
) -> None:
    planted = Planted(refused={"18": ("/instances/0/height", "a string")}, region=True)
    await filled(database, replace(planted, onset=ONSET + timedelta(minutes=240 - calls)))
    report = await asked(database, Question(MODEL, About("refusals")))
    assert [(each.kind, each.subject) for each in report.causes if each.weight > 0.05] == [("schema", "input height")]
    assert "region" not in named(report)


async def test_slow_answers_are_those_of_the_customer_who_waits(database: str) -> None:
    await filled(database, Planted(slow="18", region=True))
    report = await asked(database, Question(MODEL, About("slow")))
    assert report.onset is not None
    assert (report.causes[0].kind, report.causes[0].subject) == ("caller", "tag customer 18")
    assert report.slices[0].where == {"tag customer": "18"}
    assert "region" not in named(report)


async def test_a_label_that_one_customer_gets_more_often_is_that_customers(database: str) -> None:
    await filled(database, Planted(large="15", region=True))
    report = await asked(database, Question(MODEL, About("label", "large")))
    assert report.onset is not None
    assert (report.causes[0].kind, report.causes[0].subject) == ("caller", "tag customer 15")
    assert report.slices[0].where == {"tag customer": "15"}
    assert "region" not in named(report)


async def test_a_label_that_everybody_gets_more_often_is_a_shift_of_labels(database: str) -> None:
    await filled(database, Planted(large="*", region=True))
    report = await asked(database, Question(MODEL, About("label", "large")))
    assert report.onset is not None
    assert (report.causes[0].kind, report.causes[0].subject) == ("labels", "label large")
    assert "take these labels" not in report.causes[0].undo
    assert not report.slices


async def test_two_customers_whose_rows_are_strange_for_two_reasons_are_both_named_each_with_its_slice(
    database: str,
) -> None:
    await filled(database, Planted(customer="17", wide="18", region=True))
    report = await asked(database, Question(MODEL, About("outliers")))
    first, second, *_ = report.causes
    assert {(each.kind, each.subject) for each in (first, second)} == {
        ("caller", "tag customer 17"),
        ("caller", "tag customer 18"),
    }
    assert min(first.weight, second.weight) > 0.25
    for each in (first, second):
        assert each.undo.endswith(
            f"; `hoverboard export cups --where 'tag.customer!={each.subject[-2:]}' --output cups-without-customer-{each.subject[-2:]}`"
        )
    ours, other = (first, second) if first.subject.endswith("17") else (second, first)
    assert "input height is 10 times what it usually is" in ours.evidence
    assert "input width" in other.evidence
    # Words come with the heights of customer 17 alone: each is as good an answer to what differs.
    words = {(f"word {word}", "present") for word in ("two", "free", "refills")}
    of_17 = {("tag customer", "17"), ("input height", "above 14"), *words}
    of_18 = {("tag customer", "18"), ("input width", "above 14")}
    told = [set(each.where.items()) for each in report.slices[:2]]
    assert any(where & of_17 and not where & of_18 for where in told)
    assert any(where & of_18 and not where & of_17 for where in told)
    assert all(0.4 < each.explained < 0.6 for each in report.slices[:2])
    assert "region" not in named(report)


@pytest.mark.parametrize("customer", ["17", "*"])
async def test_wrong_answers_to_inputs_in_another_unit_are_no_fault_of_labels(database: str, customer: str) -> None:
    planted = Planted(customer=customer, rows=0.5)
    await labelled(database, planted, "(s.inputs ->> 'height')::float > 30 or random() < 0.03")
    report = await asked(database, Question(MODEL, About("wrong")))
    assert report.onset is not None
    cause = ("schema", "input height") if customer == "*" else ("caller", "tag customer 17")
    assert (report.causes[0].kind, report.causes[0].subject) == cause
    assert "10 times what it usually is" in report.causes[0].evidence
    assert not [each for each in report.causes if each.kind == "labels"]
    assert "take these labels" not in render_text(report)


async def test_labels_of_one_source_that_are_wrong_are_labels(database: str) -> None:
    await labelled(database, Planted(region=True), "random() < 0.03")
    async with connected(database, application="test", role=None) as connection:
        await connection.execute(
            "update labels set label = case label when 'small' then 'large' else 'small' end "
            "where source = 'audit' and labelled_at > $1::timestamptz + interval '3 hours' and random() < 0.5",
            ONSET,
        )
    report = await asked(database, Question(MODEL, About("wrong")))
    assert (report.causes[0].kind, report.causes[0].subject) == ("labels", "label source audit")
    command = "hoverboard export cups --labelled --without-label-source audit --output cups-without-labels-audit"
    assert report.causes[0].undo == f"take these labels for never said; `{command}`"


async def test_an_alarm_is_told_at_the_time_axis_and_never_as_a_beginning(database: str) -> None:
    async with connected(database, application="test", role=None) as connection:
        version = await fill(connection, Planted(customer="17"))
        await connection.execute(
            "insert into alarm_events (version_id, at, kind, rows, flagged, log10_e, onset_at, onset_rows, onset_flagged) "
            "values ($1, $2, 'raised', 50, 20, 5, $2, 50, 20)",
            version,
            ONSET + timedelta(seconds=30),
        )
    report = await asked(database, Question(MODEL, About("outliers")))
    assert report.onset is not None
    assert [(each.kind, each.belief) for each in report.onset.events] == [("alarm", None)]
    text = " ".join(render_text(report).split())
    assert "Since then: 2026-11-29 14:00:30 UTC alarm" in text
    assert "belief that it began with" not in text


async def test_under_a_filter_that_leaves_only_bad_rows_the_time_before_says_what_differs(database: str) -> None:
    await filled(database, Planted(customer="17", usual=0.0, region=True))
    report = await asked(database, Question(MODEL, About("outliers"), ONSET, END, where={"tag.customer": "17"}))
    assert report.bad.share == 1
    assert (report.causes[0].kind, report.causes[0].subject) == ("schema", "input height")
    assert "10 times what it usually is" in report.causes[0].evidence
    assert report.slices
    assert "2026-11-29 10:00 UTC to 2026-11-29 14:00 UTC, tag.customer = 17" in report.comparison
    assert report.comparison in " ".join(render_text(report).split())


@pytest.mark.parametrize("start", [ONSET, None])
async def test_where_the_time_before_has_too_few_rows_others_of_the_same_time_say_it(
    database: str, start: datetime | None
) -> None:
    async with connected(database, application="test", role=None) as connection:
        await fill(connection, Planted(customer="17", region=True))
        # A customer who was not there before.
        await connection.execute(
            "delete from predictions p using samples s where s.id = p.sample_id and s.at < $1 and s.tags ->> 'customer' = '17'",
            ONSET,
        )
        await connection.execute("delete from samples where at < $1 and tags ->> 'customer' = '17'", ONSET)
        await connection.execute(ISSUES)
    report = await asked(database, Question(MODEL, About("outliers"), start, None, where={"tag.customer": "17"}))
    assert report.onset is None
    assert "are outliers (100.0%, of the others" in report.summary
    assert "from the beginning of the time on" in report.summary
    assert report.bad.share == 1
    assert report.bad.usual_share is not None
    assert 0.005 < report.bad.usual_share < 0.02
    assert "of the same time without tag.customer=17" in report.comparison
    assert (report.causes[0].kind, report.causes[0].subject) == ("schema", "input height")
    assert "issue" not in str(report.slices[0].where)
    assert "customer" not in str([each.where for each in report.slices])


async def test_under_a_label_others_say_what_differs(database: str) -> None:
    async with connected(database, application="test", role=None) as connection:
        await fill(connection, Planted(customer="17"))
        await connection.execute(
            "update predictions p set label = 'huge' from samples s "
            "where s.id = p.sample_id and s.at = p.at and (s.inputs ->> 'height')::float > 30"
        )
        await connection.execute(ISSUES)
    report = await asked(database, Question(MODEL, About("outliers"), ONSET, END, where={"label": "huge"}))
    assert "of the same time without label=huge" in report.comparison
    assert (report.causes[0].kind, report.causes[0].subject) == ("schema", "input height")
    assert "10 times what it usually is" in report.causes[0].evidence
    assert "100% of them are sent by tag customer 17" in report.causes[0].evidence


async def test_membership_of_an_issue_is_not_all_that_is_told(database: str) -> None:
    async with connected(database, application="test", role=None) as connection:
        await fill(connection, Planted(customer="*", rows=0.1))
        await connection.execute(ISSUES)
    report = await asked(database, Question(MODEL, About("outliers")))
    assert (report.causes[0].kind, report.causes[0].subject) == ("schema", "input height")
    assert all("issue" not in each.where for each in report.slices)


@pytest.mark.parametrize("bad", [49, 20])
async def test_a_mild_change_between_two_times_is_no_quiet_day(database: str, bad: int) -> None:
    """Twelve of 225 are usual: 49 of 300 are more than chance explains, though no minute says when it began; 20 are not."""
    await filled(database, Planted(usual=0.0))
    async with connected(database, application="test", role=None) as connection:
        await connection.execute(
            # By what was sent: the ids are new in each run, and so would be the minutes that have more of them.
            "insert into outliers (at, sample_id, version_id, scores, p_value) "
            "select at, sample_id, version_id, '{}', 0.001 from (select p.*, row_number() over "
            "(partition by p.at >= $1::timestamptz order by md5(s.inputs::text)) as number "
            "from predictions p join samples s on s.id = p.sample_id and s.at = p.at "
            "where p.at >= $1::timestamptz - interval '9 minutes' and p.at < $1::timestamptz + interval '12 minutes') p "
            "where number <= case when at >= $1 then $2::int else 12 end",
            ONSET,
            bad,
        )
    times = (ONSET, ONSET + timedelta(minutes=12), (ONSET - timedelta(minutes=9), ONSET))
    report = await asked(database, Question(MODEL, About("outliers"), *times))
    assert (report.bad.rows, report.bad.of) == (bad, 300)
    assert report.onset is None
    assert report.causes[0].kind == "none", report.causes
    assert ("quiet" in report.summary) == ("quiet day" in report.causes[0].evidence) == (bad == 20)


async def test_what_was_over_before_the_time_that_is_asked_about_is_neither_told_nor_usual(database: str) -> None:
    again = END - timedelta(minutes=30)
    async with connected(database, application="test", role=None) as connection:
        await fill(connection, Planted(customer="17"))
        # The rows themselves stay as odd as they are, and are not called strange between the two times.
        calm = "delete from outliers where at >= $1 and at < $2"
        await connection.execute(calm, ONSET + timedelta(hours=1), again)
    report = await asked(database, Question(MODEL, About("outliers"), again - timedelta(minutes=135), END))
    assert report.onset is not None
    assert report.onset.earliest <= again <= report.onset.latest
    assert "without those of an earlier incident" in report.comparison
    assert report.bad.usual_share is not None
    assert report.bad.usual_share < 0.02
    calm_report = await asked(database, Question(MODEL, About("outliers"), again - timedelta(minutes=135), again))
    assert calm_report.onset is None
    assert not calm_report.changed


async def test_load_makes_no_answer_wrong(database: str) -> None:
    async with connected(database, application="test", role=None) as connection:
        await connection.execute("select setseed(0.5)")
        await fill(connection, Planted(), per_minute=8)
        await connection.execute(LABELLED % "p.at >= '2026-11-29 14:00+0' and random() < 0.3")
        await connection.execute("update predictions set queue_us = queue_us * 100, bucket = 64 where at >= $1", ONSET)
    report = await asked(database, Question(MODEL, About("wrong")))
    assert report.onset is not None
    assert "load" not in {each.kind for each in report.causes}


async def test_of_several_raised_alarms_the_first_says_since_when(database: str) -> None:
    async with connected(database, application="test", role=None) as connection:
        version = await fill(connection, Planted(customer="17"))
        later = await connection.fetchval(
            "insert into model_versions (name, version, weights_sha256, manifest, first_served_at) "
            "select name, version + 1, repeat('f', 64), manifest, $2 from model_versions where id = $1 returning id",
            *(version, ONSET + timedelta(hours=3)),
        )
        for raised, since in ((version, ONSET), (later, ONSET + timedelta(hours=3))):
            await connection.execute(
                "insert into alarms (version_id, state, bound, rows, flagged, log10_e, recent_rows, recent_flagged, log_sums, "
                "log_products, since, raised_at, onset_at, updated_at) "
                "values ($1, 'raised', 0.02, 750, 150, 20, 750, 150, '{}', '{}', '{}', $2, $2, $2)",
                raised,
                since,
            )
    report = await asked(database, Question(MODEL))
    assert report.onset is not None
    assert report.onset.earliest <= ONSET <= report.onset.latest


async def test_wrong_answers_of_a_sample_of_the_rows_are_as_certain_as_they_are(database: str) -> None:
    # Of the wrong ones nearly all were kept for sure, of the others one in ten.
    await labelled(database, Planted(customer="17", share=0.1), "(s.inputs ->> 'height')::float > 30")
    report = await asked(database, Question(MODEL, About("wrong"), ONSET, END))
    async with connected(database, application="test", role=None) as connection:
        row = await connection.fetchrow(
            "select count(*) as recorded, sum(1 / s.incl_prob) as total, "
            "sum((1 - s.incl_prob) / (s.incl_prob * s.incl_prob))::float8 as variance "
            "from samples s where (s.inputs ->> 'height')::float > 30 and s.at >= $1 and s.at < $2",
            *(ONSET, END),
        )
    assert row is not None and row["recorded"] > 100
    assert report.bad.rows == pytest.approx(row["total"], rel=0.02)
    assert report.bad.high - report.bad.rows == pytest.approx(1.96 * row["variance"] ** 0.5, rel=0.05, abs=1e-6)
    assert report.bad.low >= min(row["recorded"], report.bad.rows) - 5
    assert any(sentence.startswith("Not every labelled row was recorded") for sentence in report.unknown)
