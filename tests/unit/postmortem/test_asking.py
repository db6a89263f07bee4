"""A planted incident is found in a real database: since when, how much, who, and what differs."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from hoverboard.config import Settings
from hoverboard.database.connect import connected
from hoverboard.errors import ConfigError
from hoverboard.postmortem.asking import postmortem
from hoverboard.postmortem.question import About, Question
from hoverboard.postmortem.reading import reading
from hoverboard.postmortem.report import Report
from tests.unit.postmortem.recorded_day import END, MODEL, ONSET, START, Planted, fill


async def filled(url: str, planted: Planted) -> None:
    async with connected(url, application="test", role=None) as connection:
        await fill(connection, planted)


async def asked(url: str, question: Question, now: datetime = END) -> Report:
    async with reading(Settings.load(database_url=url), application="test") as connection:
        return await postmortem(connection, question, now, lambda _what, _share: None)


async def test_a_customer_whose_unit_changed_is_found_without_being_told_where_to_look(database: str) -> None:
    await filled(database, Planted(customer="17"))
    report = await asked(database, Question(MODEL))
    assert report.about == "outliers"
    assert report.onset is not None
    assert report.onset.earliest <= ONSET <= report.onset.latest
    assert abs(report.onset.at - ONSET) <= timedelta(minutes=2)
    assert report.bad.rows == report.bad.low == report.bad.high
    assert 0.15 < report.bad.share < 0.25
    assert report.bad.usual_share is not None
    assert 0.005 < report.bad.usual_share < 0.02
    assert (report.who[0].field, report.who[0].value) == ("tag customer", "17")
    assert report.who[0].explained > 0.9
    # Three things are true of the same rows, and one of them comes first: each is as good an answer to what differs.
    told = {part for each in report.slices for part in each.where.items()}
    words = {(f"word {word}", "present") for word in ("two", "free", "refills")}
    assert told & {("tag customer", "17"), ("input height", "above 14"), *words}
    assert (report.causes[0].kind, report.causes[0].subject) == ("caller", "tag customer 17")
    for name in ("strangest", "typical"):
        rows = report.examples[name]
        assert len(rows) == 3
        assert all(row.tags == {"customer": "17"} for row in rows)
        assert all(len(row.neighbours) == 3 for row in rows)
        assert all(near.p_value == 0.5 for row in rows for near in row.neighbours)
    assert "--where tag.customer=17" in report.next[0]
    since = [at for at, begin in enumerate(report.timeline.at) if begin >= ONSET]
    assert sum(report.timeline.bad[at] for at in since) == pytest.approx(report.bad.rows, rel=0.02)
    assert report.timeline.at[0] >= START
    height = next(each for each in report.histograms if each.field == "input height")
    assert height.bad[height.values.index("above 14")] > 0.9
    assert height.usual[height.values.index("above 14")] < 0.1


async def test_errors_are_counted_though_they_have_no_answer(database: str) -> None:
    await filled(database, Planted(failed="18"))
    report = await asked(database, Question(MODEL))
    assert report.about == "errors"
    assert report.who[0].value == "18"
    assert (report.causes[0].kind, report.causes[0].subject) == ("caller", "tag customer 18")


async def test_totals_stand_for_what_was_not_recorded(database: str) -> None:
    await filled(database, Planted(customer="17", share=0.2))
    report = await asked(database, Question(MODEL, About("outliers")))
    assert report.onset is not None
    assert abs(report.bad.of - 25 * 240) < 600
    assert any("1 / incl_prob" in sentence for sentence in report.unknown)


async def test_a_quiet_day_is_one(database: str) -> None:
    await filled(database, Planted())
    report = await asked(database, Question(MODEL))
    assert report.onset is None
    assert report.summary.startswith("A quiet time")
    assert not report.slices
    assert not report.who
    assert [each.kind for each in report.causes] == ["none"]


async def test_an_incident_within_times_that_are_given(database: str) -> None:
    await filled(database, Planted(customer="17"))
    report = await asked(database, Question(MODEL, About("outliers"), ONSET, END))
    assert report.usual == (ONSET - (END - ONSET), ONSET)
    assert report.onset is not None
    assert abs(report.onset.at - ONSET) <= timedelta(minutes=2)


async def test_conditions_hold_for_all_figures(database: str) -> None:
    await filled(database, Planted(customer="17"))
    only = await asked(database, Question(MODEL, About("outliers"), START, END, where={"tag.customer": "17"}))
    assert only.bad.share > 0.9
    other = await asked(database, Question(MODEL, About("outliers"), START, END, where={"tag.customer": "16"}))
    assert other.onset is None
    assert other.bad.share < 0.03
    by_version = await asked(database, Question(MODEL, About("outliers"), START, END, where={"version": "1"}))
    assert by_version.bad.rows > only.bad.rows


async def test_who_asks_for_what_is_not_there_is_told_what_is(database: str) -> None:
    await filled(database, Planted())
    with pytest.raises(ConfigError, match="no model 'mugs' has been recorded; recorded models: cups"):
        await asked(database, Question("mugs"))
    with pytest.raises(ConfigError, match="there are samples from 2026-11-29 06:00 to 2026-11-29 17:59 UTC"):
        await asked(database, Question(MODEL, None, END + timedelta(days=2), END + timedelta(days=3)))


async def test_what_has_not_risen_has_no_cause_whatever_else_has_changed(database: str) -> None:
    await filled(database, Planted(customer="17"))
    report = await asked(database, Question(MODEL, About("label", "small"), ONSET, END))
    assert report.onset is None
    assert not report.slices
    assert [each.kind for each in report.causes] == ["none"]


async def test_without_labels_nobody_can_say_what_is_wrong(database: str) -> None:
    await filled(database, Planted())
    with pytest.raises(ConfigError, match="nobody has labelled samples of cups"):
        await asked(database, Question(MODEL, About("wrong"), ONSET, END))


@pytest.mark.parametrize("several", [False, True])
async def test_wrong_answers_are_those_that_their_labels_contradict(database: str, *, several: bool) -> None:
    """A label alone is the one that holds of a multi-label version, too."""
    await filled(database, Planted())
    async with connected(database, application="test", role=None) as connection:
        await connection.execute(
            "insert into labels (sample_id, labelled_at, label, source) "
            "select s.id, s.at + interval '1 hour', case when s.tags ->> 'customer' = '17' and s.at >= $1 then "
            "case p.label when 'small' then 'large' else 'small' end else p.label end, 'support' "
            "from samples s join predictions p on p.sample_id = s.id and p.at = s.at",
            ONSET,
        )
        if several:
            await connection.execute("update predictions set labels = array[label], label = null")
    report = await asked(database, Question(MODEL, About("wrong")))
    assert report.onset is not None
    assert report.onset.earliest <= ONSET <= report.onset.latest
    assert report.bad.usual_share == 0
    assert 0.15 < report.bad.share < 0.25
    assert (report.who[0].field, report.who[0].value) == ("tag customer", "17")


async def test_a_raised_alarm_is_asked_about_since_its_onset(database: str) -> None:
    now = ONSET + timedelta(minutes=30)
    async with connected(database, application="test", role=None) as connection:
        version = await fill(connection, Planted(customer="17"))
        await connection.execute(
            "insert into alarms (version_id, state, bound, rows, flagged, log10_e, recent_rows, recent_flagged, log_sums, "
            "log_products, since, raised_at, onset_at, updated_at) "
            "values ($1, 'raised', 0.02, 750, 150, 20, 750, 150, '{}', '{}', '{}', $2, $2, $2)",
            version,
            ONSET,
        )
    report = await asked(database, Question(MODEL), now)
    assert (report.start, report.end) == (ONSET, now)
    assert report.usual == (ONSET - timedelta(minutes=30), ONSET)
    assert report.onset is not None
    assert (report.causes[0].kind, report.causes[0].subject) == ("caller", "tag customer 17")


async def test_a_time_that_begins_within_a_bin_counts_its_own_rows_only(database: str) -> None:
    await filled(database, Planted(customer="17"))
    start = ONSET + timedelta(seconds=30)
    report = await asked(database, Question(MODEL, About("outliers"), start, END))
    rows = 25 * int((END - ONSET) / timedelta(minutes=1) - 1)
    assert report.bad.of <= rows
    assert not [sentence for sentence in report.unknown if "recorded" in sentence]


async def test_under_a_tag_somebody_has_sent_the_rows(database: str) -> None:
    await filled(database, Planted(customer="17"))
    report = await asked(database, Question(MODEL, About("outliers"), ONSET, END, where={"tag.customer": "17"}))
    assert not [sentence for sentence in report.unknown if "tells these rows apart" in sentence]


async def test_without_a_usual_time_nobody_says_that_it_is_quiet(database: str) -> None:
    await filled(database, Planted(usual=0.9))
    report = await asked(database, Question(MODEL, About("outliers"), START, END))
    assert "quiet" not in report.summary
    assert "--against" in report.summary
    assert report.bad.usual_share is None
    assert "nothing is recorded of the usual time" in report.causes[0].evidence


async def test_rows_whose_numbers_are_redacted_are_compared_by_the_rest(database: str) -> None:
    async with connected(database, application="test", role=None) as connection:
        await fill(connection, Planted(customer="17"))
        await connection.execute("""update samples set inputs = inputs || '{"height": null, "width": null}'""")
    report = await asked(database, Question(MODEL))
    assert report.onset is not None
    assert (report.causes[0].kind, report.causes[0].subject) == ("caller", "tag customer 17")
    assert [sentence for sentence in report.unknown if "redacted" in sentence]
