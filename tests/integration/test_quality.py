"""`hoverboard quality` and the view `quality` over a database in which it is known what was right."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result

from hoverboard.cli import main
from hoverboard.database.connect import connected
from hoverboard.postmortem.estimates import wilson
from hoverboard.telemetry import families
from hoverboard.watch.label_gauges import LabelGauges
from tests.integration.test_sql_questions import MANY, sample_id

START = datetime(2026, 3, 2, tzinfo=UTC)
END = START + timedelta(days=1)
WINDOW = ("--from", START.isoformat(), "--to", END.isoformat())
MANIFESTS = {
    "classes": {"task": "classification", "labels": ["a", "b"], "outliers": {"alpha": 0.01}},
    "numbers": {"task": "regression"},
    "several": {"task": "multi-label", "labels": ["x", "y", "z"]},
}


class Story:
    """What is put into a database, row by row."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._number = 0

    @classmethod
    async def begin(cls, connection: Any) -> Story:
        """Versions 1 and 2 of three models, and the days."""
        await connection.fetchval("select make_partitions('2026-02-20', '2026-03-04')")
        for model, manifest in MANIFESTS.items():
            for version in (1, 2):
                await connection.execute(
                    "insert into model_versions (name, version, weights_sha256, manifest, first_served_at)"
                    " values ($1, $2, $3, $4, $5)",
                    *(model, version, f"{model}{version}", json.dumps(manifest), START - timedelta(days=10)),
                )
        return cls(connection)

    async def answered(
        self,
        model: str,
        *,
        version: int = 1,
        at: datetime = START,
        incl_prob: float = 1.0,
        why: str = "all",
        p_value: float | None = 0.5,
        **answer: Any,
    ) -> UUID:
        """One sample and its answer: label, confidence, value, labels or confidences."""
        self._number += 1
        at += timedelta(milliseconds=self._number)
        sample = sample_id(at, self._number)
        await self._connection.execute(
            "insert into samples (at, id, model, incl_prob, why) values (sample_at($1), $1, $2, $3, $4)",
            *(sample, model, incl_prob, why),
        )
        row = {"label": None, "confidence": None, "value": None, "labels": None, "confidences": None} | answer
        await self._connection.execute(
            "insert into predictions (at, sample_id, version_id, predicted_at, label, confidence, value, labels, confidences,"
            " p_value, batch_id, batch_size, bucket, queue_us, infer_us) select sample_at($1), $1, id, now(), $4, $5, $6, $7,"
            " $8, $9, $1, 1, 1, 1, 1 from model_versions where name = $2 and version = $3",
            *(sample, model, version, *row.values(), p_value),
        )
        return sample

    async def described(
        self, sample: UUID, tags: dict[str, str] | None, caller: str | None, process: str | None
    ) -> None:
        """Who sent a sample, and which process answered it."""
        await self._connection.execute(
            "update samples set tags = $2::text::jsonb, caller = $3 where id = $1",
            *(sample, tags and json.dumps(tags), caller),
        )
        await self._connection.execute("update predictions set process = $2 where sample_id = $1", sample, process)

    async def said(
        self,
        sample: UUID,
        truth: str | float | Sequence[str],
        *,
        after: timedelta = timedelta(hours=1),
        source: str = "s",
    ) -> None:
        """A label of a sample, so long after it."""
        await self._connection.execute(
            "insert into labels (sample_id, labelled_at, label, value, labels, source)"
            " values ($1, sample_at($1) + $2, $3, $4, $5, $6)",
            *(sample, after, truth if isinstance(truth, str) else None, truth if isinstance(truth, float) else None),
            *(None if isinstance(truth, str | float) else list(truth), source),
        )


async def hoverboard(database: str, *words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["quality", *words, "--database-url", database])


async def asked(database: str, *words: str) -> dict[str, Any]:
    """The report, as JSON."""
    done = await hoverboard(database, *words, "--json")
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


async def view(database: str, model: str) -> list[dict[str, Any]]:
    async with connected(database, application="test", role="reader") as connection:
        rows = await connection.fetch(
            "select * from quality where model = $1 and day = $2 order by version", model, START.date()
        )
    return [dict(row) for row in rows]


@pytest.fixture
async def story(database: str) -> AsyncIterator[Story]:
    async with connected(database, application="test", role=None) as connection:
        yield await Story.begin(connection)


async def test_rows_weigh_what_they_stand_for_and_kinds_what_they_are_of_all(database: str, story: Story) -> None:
    """Of 40 ordinary rows at 1 in 10, 30 have labels; of 20 outliers, which are all recorded, all have."""
    for number in range(40):
        sample = await story.answered("classes", label="a", confidence=0.9, incl_prob=0.1, why="sampled")
        if number < 30:
            await story.said(sample, "a" if number < 27 else "b")
    for number in range(20):
        sample = await story.answered("classes", label="a", confidence=0.6, p_value=0.001)
        await story.said(sample, "a" if number < 5 else "b")
    (found,) = (await asked(database, "classes", *WINDOW))["versions"]
    assert (found["version"], found["rows"], found["labelled"]) == (1, 60, 50)
    assert found["traffic"] == pytest.approx(420)
    ordinary, outliers = wilson(0.9, 30), wilson(0.25, 20)
    assert found["accuracy"]["value"] == pytest.approx((400 * 0.9 + 20 * 0.25) / 420)
    assert found["labelled_accuracy"]["value"] == pytest.approx((300 * 0.9 + 20 * 0.25) / 320)
    rights = {kind["kind"]: kind["right"] for kind in found["kinds"]}
    for kind, expected in (("ordinary", ordinary), ("outlier", outliers)):
        assert [rights[kind][name] for name in ("value", "low", "high")] == pytest.approx(
            [expected.value, expected.low, expected.high]
        )
    (row,) = await view(database, "classes")
    assert (row["version"], row["rows"], row["labelled"]) == (1, 60, 50)
    for column, name in (("accuracy", "value"), ("accuracy_low", "low"), ("accuracy_high", "high")):
        assert row[column] == pytest.approx(found["accuracy"][name], abs=1e-4)
    assert row["mean_confidence"] == pytest.approx((400 * 0.9 + 20 * 0.6) / 420)
    assert found["confidence"]["mean"] == pytest.approx(row["mean_confidence"])


async def test_it_says_where_labels_are_of_what_looked_strange(database: str, story: Story) -> None:
    for number in range(200):
        sample = await story.answered("classes", label="a", confidence=0.9, p_value=0.001 if number < 20 else 0.5)
        if number < 20 or number % 9 == 0:
            await story.said(sample, "a")
    report = await asked(database, "classes", *WINDOW)
    (note,) = (note for note in report["notes"] if "random sample" in note)
    assert note.startswith("Version 1: labelled answers are no random sample: 50.0% of them are outliers, and of all ")
    assert "answers 10.0% are" in note


async def test_of_labels_at_random_it_says_nothing_of_the_kind(database: str, story: Story) -> None:
    for number in range(200):
        sample = await story.answered("classes", label="a", confidence=0.9, p_value=0.001 if number % 10 == 0 else 0.5)
        if number % 3 == 0:
            await story.said(sample, "a")
    report = await asked(database, "classes", *WINDOW)
    assert not [note for note in report["notes"] if "random sample" in note]


async def test_the_latest_label_holds_and_a_source_can_be_asked_alone(database: str, story: Story) -> None:
    first = await story.answered("classes", label="a", confidence=0.9)
    await story.said(first, "a", after=timedelta(hours=2), source="support")
    await story.said(first, "b", after=timedelta(hours=3), source="relabelling")
    second = await story.answered("classes", label="a", confidence=0.9)
    await story.said(second, "b", after=timedelta(hours=2), source="support")
    await story.said(second, "a", after=timedelta(hours=3), source="support")
    report = await asked(database, "classes", *WINDOW)
    (found,) = report["versions"]
    assert found["accuracy"]["value"] == 0.5
    assert found["sources"] == [
        {"source": "relabelling", "labelled": 1, "right": 0.0},
        {"source": "support", "labelled": 1, "right": 1.0},
    ]
    assert "1 samples have labels of several sources, and 1 of them" in " ".join(report["notes"])
    (found,) = (await asked(database, "classes", *WINDOW, "--source", "support"))["versions"]
    assert (found["labelled"], found["accuracy"]["value"]) == (2, 1.0)


async def test_versions_of_other_maturity_are_not_compared_without_a_word(database: str, story: Story) -> None:
    """Nine in ten wrong answers are told at once, right ones after two days: version 2 is an hour old and looks worse."""
    now = datetime.now(UTC)
    async with connected(database, application="test", role=None) as connection:
        await connection.fetchval("select make_partitions($1, $2)", (now - timedelta(6)).date(), now.date())
    for version, age in ((1, timedelta(days=5)), (2, timedelta(hours=3))):
        for number in range(100):
            sample = await story.answered("classes", version=version, at=now - age, label="a", confidence=0.9)
            delay = timedelta(hours=1) if number % 10 == 0 else timedelta(days=2)
            if delay < age:
                await story.said(sample, "b" if number % 10 == 0 else "a", after=delay)
    report = await asked(database, "classes")
    first, second = report["versions"]
    assert (first["accuracy"]["value"], second["accuracy"]["value"]) == (pytest.approx(0.9), 0.0)
    assert [(row["age"], row["rows"], row["labelled"]) for row in first["ages"]] == [("3 d to 7 d", 100, 100)]
    assert [(row["age"], row["rows"], row["labelled"]) for row in second["ages"]] == [("1 h to 1 d", 100, 10)]
    (gap,) = report["differences"]
    assert (gap["version"], gap["against"], gap["comparable"]) == (2, 1, False)
    (note,) = (note for note in report["notes"] if "do not compare" in note)
    assert "100.0% and 10.0% of their answers have labels" in note
    assert report["next"][0] == "hoverboard quality classes --within 2d"
    fair = await asked(database, "classes", "--within", "2h")
    assert [version["accuracy"]["value"] for version in fair["versions"]] == [0.0, 0.0]
    assert [version["labelled"] for version in fair["versions"]] == [10, 10]
    assert fair["differences"][0]["comparable"]
    (old_enough,) = (await asked(database, "classes", "--within", "3d"))["versions"]
    assert (old_enough["version"], old_enough["accuracy"]["value"]) == (1, pytest.approx(0.9))


async def test_without_labels_its_own_confidence_is_shown_and_said_to_be_no_more(database: str, story: Story) -> None:
    for number in range(10):
        await story.answered("classes", label="a", confidence=0.7 + 0.02 * number)
    report = await asked(database, "classes", *WINDOW)
    (found,) = report["versions"]
    assert (found["accuracy"], found["confidence"]["method"], found["confidence"]["ece"]) == (None, "published", None)
    assert found["confidence"]["estimate"]["value"] == pytest.approx(0.79)
    assert report["notes"] == [
        "Version 1: none of its 10 answers has a label yet. What is shown is its own mean confidence, which nobody has checked."
    ]
    shown = (await hoverboard(database, "classes", *WINDOW, "--pretty")).stdout
    assert "79.0% published" in shown


async def test_what_confidences_are_worth_is_learned_from_labels_of_before(database: str, story: Story) -> None:
    """A version that says 0.9 and is right in 60 of 100, and 0.6 where it is right in 20: labelled a week ago, asked today."""
    for number in range(200):
        sure, hit = number % 2 == 0, number // 2 < (60 if number % 2 == 0 else 20)
        sample = await story.answered(
            "classes", at=START - timedelta(days=7), label="a", confidence=0.9 if sure else 0.6
        )
        await story.said(sample, "a" if hit else "b")
    for number in range(100):
        await story.answered("classes", label="a", confidence=0.9 if number < 75 else 0.6)
    report = await asked(database, "classes", *WINDOW)
    (found,) = report["versions"]
    assert (found["labelled"], found["confidence"]["fitted_rows"], found["confidence"]["method"]) == (
        0,
        200,
        "logistic",
    )
    estimate = found["confidence"]["estimate"]
    assert estimate["value"] == pytest.approx(0.75 * 0.6 + 0.25 * 0.2, abs=0.01)
    assert estimate["low"] < 0.46 and estimate["high"] > 0.54
    assert found["confidence"]["mean"] == pytest.approx(0.825)
    assert found["confidence"]["ece"] == pytest.approx(0.35, abs=1e-6)
    bins = [(one["low"], one["rows"], one["right"]["value"]) for one in found["confidence"]["reliability"]]
    assert bins == [(0.6, 100, pytest.approx(0.2)), (0.9, 100, pytest.approx(0.6))]
    assert report["notes"][0].endswith("Its confidences were calibrated on 200 labelled answers from before.")


async def test_a_regression_has_errors_with_intervals(database: str, story: Story) -> None:
    errors = [1.0, -2.0, 3.0, -4.0] * 10
    for error in errors:
        sample = await story.answered("numbers", value=100.0 + error)
        await story.said(sample, 100.0)
    (found,) = (await asked(database, "numbers", *WINDOW))["versions"]
    error = found["error"]
    assert found["accuracy"] is None and found["confidence"] is None
    assert [error[name]["value"] for name in ("absolute", "squared", "root_squared", "bias")] == pytest.approx(
        [2.5, 7.5, 7.5**0.5, -0.5]
    )
    # Student's t of 39 degrees of freedom, of a mean with a standard deviation of 2.7275 (n - 1).
    assert error["bias"]["high"] - error["bias"]["value"] == pytest.approx(2.0227 * 2.7275 / 40**0.5, rel=1e-3)
    assert 0 < error["absolute"]["low"] < 2.5 < error["absolute"]["high"]
    (row,) = await view(database, "numbers")
    assert (row["accuracy"], row["absolute_error"]) == (None, pytest.approx(2.5))
    assert row["root_mean_squared_error"] == pytest.approx(7.5**0.5)
    shown = (await hoverboard(database, "numbers", *WINDOW, "--pretty")).stdout
    assert "absolute error" in shown and "2.5 (" in shown


async def test_several_labels_are_right_together_and_each_by_itself(database: str, story: Story) -> None:
    said_and_true = [(["x", "y"], ["y", "x"]), (["x"], ["x", "y"]), ([], []), (["z"], ["x"]), (["x"], "x")]
    for said, truth in said_and_true:
        sample = await story.answered("several", labels=said, confidences=[0.9] * len(said), p_value=None)
        await story.said(sample, truth)
    wrong_kind = await story.answered("several", labels=["x"], confidences=[0.9])
    await story.said(wrong_kind, 1.0)
    report = await asked(database, "several", *WINDOW)
    (found,) = report["versions"]
    assert (found["labelled"], found["accuracy"]["value"], found["left_out"]) == (5, pytest.approx(0.6), 1)
    each = {one["label"]: one for one in found["labels"]}
    assert (each["x"]["said"], each["x"]["held"], each["x"]["precision"]["value"]) == (3, 4, 1.0)
    assert each["x"]["recall"]["value"] == pytest.approx(0.75)
    assert (each["y"]["precision"]["value"], each["y"]["recall"]["value"]) == (1.0, 0.5)
    assert (each["z"]["precision"]["value"], each["z"]["recall"]) == (0.0, None)
    # No probability of a whole set is recorded, so without enough labels there is none to show.
    assert found["confidence"]["estimate"] is None and found["confidence"]["mean"] is None
    assert any("1 labels cannot be compared" in note for note in report["notes"])


async def test_a_class_that_the_version_does_not_have_counts_as_wrong_and_is_told(database: str, story: Story) -> None:
    for truth in ("a", "hoverboard"):
        await story.said(await story.answered("classes", label="a", confidence=0.9), truth)
    report = await asked(database, "classes", *WINDOW)
    assert report["versions"][0]["accuracy"]["value"] == 0.5
    assert any("classes that it does not have, such as 'hoverboard'" in note for note in report["notes"])


async def test_a_sample_at_either_edge_of_the_window_counts_once(database: str, story: Story) -> None:
    for at in (START - timedelta(milliseconds=2), START, END - timedelta(seconds=1), END):
        await story.said(await story.answered("classes", at=at, label="a", confidence=0.9), "a")
    (found,) = (await asked(database, "classes", *WINDOW))["versions"]
    # The story adds as many milliseconds as there were rows before.
    assert (found["rows"], found["labelled"]) == (2, 2)


def gauge(family: Any, version: int = 1, model: str = "classes") -> float:
    return float(family.labels(model, version)._value.get())


async def test_metrics_tell_what_the_labels_of_the_last_day_say(database: str, story: Story) -> None:
    now = datetime.now(UTC)
    long_ago = now - timedelta(days=3)
    for number in range(
        4
    ):  # each of two: the label comes today, of a sample of days ago; one in four rows stands for ten
        tenth = number == 3
        sample = await story.answered("classes", at=START, label="a", confidence=0.9, incl_prob=0.1 if tenth else 1)
        await story.said(sample, "b", after=now - START - timedelta(hours=2))
        await story.said(sample, "b" if tenth else "a", after=now - START - timedelta(hours=1))
    stale = await story.answered("classes", version=2, at=START, label="a", confidence=0.9)
    await story.said(stale, "a", after=long_ago - START)
    number_off = await story.answered("numbers", at=START, value=5.0)
    await story.said(number_off, 3.0, after=now - START - timedelta(hours=1))
    gauges = LabelGauges()
    async with connected(database, application="test") as connection:
        await gauges.refresh(connection)
        assert gauge(families.judged_rows) == 4
        assert gauge(families.accuracy) == pytest.approx(3 / 13)
        assert gauge(families.judged_rows, 2) == 0
        assert gauge(families.absolute_error, model="numbers") == 2.0
        async with connected(database, application="test", role=None) as owner:
            await owner.execute("delete from labels")
        await gauges.refresh(connection)
    assert gauge(families.judged_rows) == 0
    assert math.isnan(gauge(families.accuracy)) and math.isnan(gauge(families.absolute_error, model="numbers"))


async def test_a_label_beyond_all_measure_takes_no_figures_away(database: str, story: Story) -> None:
    far = [await story.answered("numbers", at=START, value=5.0) for _ in range(3)]
    for sample, truth in zip(far, (1.7e308, -1.7e308, 3.0), strict=True):
        await story.said(sample, truth, after=datetime.now(UTC) - START - timedelta(hours=1))
    right = await story.answered("classes", at=START, label="a", confidence=0.9)
    await story.said(right, "a", after=datetime.now(UTC) - START - timedelta(hours=1))
    gauges = LabelGauges()
    async with connected(database, application="test") as connection:
        await gauges.refresh(connection)
    assert gauge(families.accuracy) == 1.0
    assert gauge(families.absolute_error, model="numbers") == pytest.approx(2e70 / 3)
    (of_classes,), (of_numbers,) = await view(database, "classes"), await view(database, "numbers")
    assert (of_classes["accuracy"], of_numbers["absolute_error"]) == (1.0, pytest.approx(2e70 / 3))


async def test_metrics_never_hold_the_recorder_up(database: str, story: Story) -> None:
    """Labels that cannot be read in two seconds leave the figures as they are, and the connection ready."""
    sample = await story.answered("classes", label="a", confidence=0.9)
    await story.said(sample, "a", after=datetime.now(UTC) - START - timedelta(hours=1))
    gauges = LabelGauges()
    async with (
        connected(database, application="test", role=None) as owner,
        connected(database, application="test") as connection,
    ):
        await gauges.refresh(connection)
        async with owner.transaction():
            await owner.execute("lock table labels in access exclusive mode")
            began = time.monotonic()
            await gauges.refresh(connection)
            assert 1.9 < time.monotonic() - began < 10
        assert (gauge(families.judged_rows), gauge(families.accuracy)) == (1, 1.0)
        assert await connection.fetchval("show statement_timeout") == "0"
        assert not connection.is_in_transaction()


async def test_what_cannot_be_asked_is_refused_in_words(database: str, story: Story) -> None:
    unknown = await hoverboard(database, "produkts")
    assert unknown.exit_code == 1
    assert "no answer of a model 'produkts' is recorded: recorded are classes, numbers, several" in unknown.stderr
    for words, sentence in (
        (("--from", "yesterday"), "is no time"),
        (("--from", "1h", "--to", "2h"), "before it starts"),
        (("--within", "now"), "how soon labels must have come"),
    ):
        refused = await hoverboard(database, "classes", *words)
        assert refused.exit_code == 2 and sentence in refused.stderr, refused.output
    report = await asked(database, "classes", *WINDOW)
    assert report["versions"] == []
    assert report["notes"][0].startswith("Nothing was answered in this window")


async def test_a_day_is_read_alone_and_many_rows_in_seconds(database: str) -> None:
    """Fifty thousand samples in two days, every third with a label: the plan of each statement leaves other days alone."""
    async with connected(database, application="test", role=None) as owner:
        await owner.execute(MANY + "analyze")
    began = time.monotonic()
    report = await asked(database, "products", "--from", "2026-03-03", "--to", "2026-03-04")
    assert time.monotonic() - began < 8
    assert sum(version["rows"] for version in report["versions"]) == 28_799
    async with connected(database, application="test", role="reader") as connection:
        await connection.execute("set statement_timeout to '8s'")
        plan = await connection.fetch("explain analyze select * from quality where day = '2026-03-03'")
        text = "\n".join(row[0] for row in plan)
        touched = [line for line in text.splitlines() if "2026_03_04" in line and "never executed" not in line]
        assert touched == []
