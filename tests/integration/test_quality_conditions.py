"""`hoverboard quality --where`: the figures are those of the samples that are meant, counted here once more in Python."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.test_quality import START, WINDOW, Story, asked, hoverboard
from tests.integration.test_quality import story as story  # noqa: PLC0414 - a fixture

Row = dict[str, Any]

CASES: list[tuple[tuple[str, ...], Callable[[Row], bool]]] = [
    ((), lambda _: True),
    (("tag.customer=17",), lambda row: row["tags"] == {"customer": "17"}),
    (("tag.customer!=17",), lambda row: row["tags"] != {"customer": "17"}),
    (("tag.customer!=17", "tag.customer!=18"), lambda row: row["tags"] is None),
    (("version=2",), lambda row: row["version"] == 2),
    (("version!=2",), lambda row: row["version"] == 1),
    (("label=a",), lambda row: row["label"] == "a"),
    (("label!=a",), lambda row: row["label"] == "b"),
    (("caller=key-1",), lambda row: row["caller"] == "key-1"),
    (("caller!=key-1",), lambda row: row["caller"] is None),
    (("process=engine-0",), lambda row: row["process"] == "engine-0"),
    (("process!=engine-0", "version=1"), lambda row: row["process"] is None and row["version"] == 1),
    (("tag.customer=' or true --",), lambda _: False),
]


async def test_only_the_samples_that_are_meant_count(database: str, story: Story) -> None:
    draw = random.Random(1)
    rows: list[Row] = []
    for _ in range(120):
        row: Row = {
            "version": draw.choice([1, 2]),
            "label": draw.choice(["a", "b"]),
            "tags": draw.choice([{"customer": "17"}, {"customer": "18"}, None]),
            "caller": draw.choice(["key-1", None]),
            "process": draw.choice(["engine-0", None]),
            "truth": draw.choice(["a", "b", None]),
        }
        sample = await story.answered("classes", version=row["version"], label=row["label"], confidence=0.8)
        await story.described(sample, row["tags"], row["caller"], row["process"])
        if row["truth"]:
            await story.said(sample, row["truth"])
            await story.said(sample, "a", source="other", after=timedelta(minutes=1))
        rows.append(row)
    for conditions, meant in CASES:
        options = [word for each in conditions for word in ("--where", each)]
        report = await asked(database, "classes", *WINDOW, *options)
        chosen = [row for row in rows if meant(row)]
        found = {each["version"]: each for each in report["versions"]}
        assert sorted(found) == sorted({row["version"] for row in chosen}), conditions
        for version, each in found.items():
            own = [row for row in chosen if row["version"] == version]
            judged = [row for row in own if row["truth"]]
            assert (each["rows"], each["labelled"]) == (len(own), len(judged)), conditions
            right = sum(row["truth"] == row["label"] for row in judged)
            assert each["accuracy"]["value"] == pytest.approx(right / len(judged)), conditions
            assert sum(label["held"] for label in each["labels"]) == len(judged), conditions
        several = sum(row["truth"] is not None for row in chosen)
        apart = sum(row["truth"] == "b" for row in chosen)
        told = f"{several:,} samples have labels of several sources, and {apart:,} of them different ones"
        assert any(told in note for note in report["notes"]) == bool(apart), (conditions, report["notes"])


async def test_a_number_is_judged_on_the_samples_that_are_meant(database: str, story: Story) -> None:
    for number in range(20):
        sample = await story.answered("numbers", value=1.0)
        await story.described(sample, {"site": str(number % 2)}, None, None)
        await story.said(sample, 2.0 if number % 2 else 4.0)
    (found,) = (await asked(database, "numbers", *WINDOW, "--where", "tag.site=1"))["versions"]
    assert (found["rows"], found["labelled"], found["error"]["absolute"]["value"]) == (10, 10, 1.0)


async def test_conditions_that_make_no_sense_are_told_and_the_next_command_has_those_that_do(
    database: str, story: Story
) -> None:
    refused = await hoverboard(database, "classes", *WINDOW, "--where", "customer=17")
    assert refused.exit_code != 0 and "expected tag.NAME=VALUE" in refused.output
    for version, count in ((1, 40), (2, 4)):
        for number in range(40):
            sample = await story.answered("classes", version=version, label="a", confidence=0.8, at=START)
            await story.described(sample, {"customer": "1 7"}, None, None)
            if number < count:
                await story.said(sample, "a")
    report = await asked(database, "classes", *WINDOW, "--where", "tag.customer=1 7", "--where", "label!=b")
    assert report["where"] == {"tag.customer": "1 7"} and report["unless"] == {"label": ["b"]}
    assert report["next"][0].startswith(
        "hoverboard quality classes --where 'tag.customer=1 7' --where 'label!=b' --within"
    )
