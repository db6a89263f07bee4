from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hoverboard.postmortem.causes import LikelyCause, causes
from hoverboard.postmortem.onset import onset
from hoverboard.postmortem.shapes import moved
from hoverboard.postmortem.table import ABSENT, BinnedCounts, Event, Field, Table
from tests.unit.postmortem.days import DAY_US, NOON_US, Day, field

MINUTE_US = 60_000_000


def counts_of(day: Day, bad: np.ndarray) -> BinnedCounts:
    bins = DAY_US // MINUTE_US
    place = day.at // MINUTE_US
    rows, bads = (np.bincount(place, each, bins).astype(np.float64) for each in (np.ones(len(bad)), bad))
    return BinnedCounts(np.arange(bins) * MINUTE_US, rows, bads)


def asked(
    day: Day,
    risk: np.ndarray,
    more: Sequence[Field] = (),
    *,
    events: Sequence[Event] = (),
) -> list[LikelyCause]:
    """Causes of a day whose table has, beside its own, fields over all of its rows."""
    bad = day.generator.random(len(day.at)) < risk
    kept = bad | (day.generator.random(len(day.at)) < 0.05)
    usual = np.zeros(len(day.at), np.bool_)
    weight = np.where(bad, 1.0, 20.0)
    callers = field("tag customer", "tag", int(day.caller.max()), day.caller)
    inputs = [field(f"input f{i}", "input", 16, codes) for i, codes in enumerate(day.inputs)]
    fields = (callers, *inputs, *more)
    table = Table(day.at, bad, usual, weight, day.caller.astype(np.int32), fields, np.zeros(len(bad), "V16"))[kept]
    counts = counts_of(day, bad)
    found = causes(table, counts, onset(counts), events)
    assert sum(each.weight for each in found) == pytest.approx(1)
    return found


def numeric(name: str, numbers: np.ndarray, usual: np.ndarray) -> Field:
    """An input in bins of equal mass of the usual numbers, with one below and one above all of them."""
    cuts = np.quantile(usual, np.linspace(0, 1, 17))
    words = [f"below {cuts[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(cuts))]
    codes = np.searchsorted(cuts, numbers, side="right") + 1
    return Field(name, "input", (ABSENT, *words, f"above {cuts[-1]:g}"), codes.astype(np.uint8), numbers.astype("f4"))


def version(day: Day, codes: np.ndarray) -> Field:
    return Field("version", "version", (ABSENT, "1", "2"), codes.astype(np.uint8))


DEPLOYED = Event(NOON_US, "deployment", "2", "stable")


@pytest.mark.parametrize("seed", range(3))
def test_a_quiet_day_is_quiet_even_with_a_deployment_on_it(seed: int) -> None:
    day = Day(seed=seed)
    shown = version(day, np.where(day.after, 2, 1))
    (only,) = asked(day, np.full(len(day.at), 0.01), [shown], events=[DEPLOYED])
    assert (only.kind, only.weight, only.confirmed) == ("none", 1, None)
    assert only.evidence.startswith("a quiet day: ")


@pytest.mark.parametrize("effect", [1, 3, 10])
def test_a_caller_is_named_and_confirmed(effect: float) -> None:
    day = Day(first=0.2)
    first = asked(day, day.risk(day.caller == 1, effect))[0]
    assert (first.kind, first.subject, first.confirmed) == ("caller", "tag customer v1", True)
    assert first.weight > 0.99
    assert first.where == (("tag customer", "v1"),)
    assert "bad rows are of tag customer v1" in first.evidence


def test_a_new_version_for_all_is_told_by_its_time() -> None:
    day = Day()
    everything = np.ones(len(day.at), np.bool_)
    shown = version(day, np.where(day.after, 2, 1))
    first, second, *_ = asked(day, day.risk(everything, 2), [shown], events=[DEPLOYED])
    assert (first.kind, first.subject, first.confirmed) == ("version", "2", None)
    assert second.kind == "none"
    assert "belief it began within a minute" in first.evidence


def test_a_rise_everywhere_has_none_of_these_causes() -> None:
    day = Day()
    everything = np.ones(len(day.at), np.bool_)
    elsewhen = version(day, np.where(day.at > NOON_US // 2, 2, 1))
    found = asked(day, day.risk(everything, 2), [elsewhen], events=[replace(DEPLOYED, at_us=NOON_US // 2)])
    assert found[0].kind == "none"
    assert found[0].weight > 0.5


def test_a_canary_is_told_from_the_version_beside_it() -> None:
    day = Day()
    canary = day.after & (day.generator.random(len(day.at)) < 0.2)
    first = asked(day, day.risk(canary, 2), [version(day, np.where(canary, 2, 1))])[0]
    assert (first.kind, first.subject) == ("version", "2")


def test_an_innocent_deployment_at_the_same_minute_is_not_blamed() -> None:
    day = Day(first=0.2)
    shown = version(day, np.where(day.after, 2, 1))
    first = asked(day, day.risk(day.caller == 1, 2), [shown], events=[DEPLOYED])[0]
    assert first.kind == "caller"


@pytest.mark.parametrize("seed", range(4))
def test_what_was_sent_outvotes_a_deployment_at_the_same_minute(seed: int) -> None:
    day = Day(20_000, seed=seed)
    hit = day.after & (day.generator.random(len(day.at)) < 0.01)
    day.inputs[2][hit] = 0
    shown = version(day, np.where(day.after, 2, 1))
    first = asked(day, np.where(hit, 0.9, 0.01), [shown], events=[DEPLOYED])[0]
    assert (first.kind, first.subject) == ("schema", "input f2")


def test_a_class_that_comes_more_often_is_no_versions_doing() -> None:
    # Its inputs come more often as well, which no version can do.
    day = Day()
    label = np.where(day.generator.random(len(day.at)) < np.where(day.after, 0.2, 0.1), 1, 2)
    for each in day.inputs[:3]:
        each[:] = np.where(label == 1, np.minimum(each, 6), each)
    more = [field("label", "label", 2, label), version(day, np.where(day.after, 2, 1))]
    found = asked(day, (label == 1).astype(float), more, events=[DEPLOYED])
    assert (found[0].kind, found[0].subject) == ("labels", "label v1")
    # A version that says it more often of the same inputs is one.
    day = Day()
    label = np.where(day.generator.random(len(day.at)) < np.where(day.after, 0.2, 0.1), 1, 2)
    more = [field("label", "label", 2, label), version(day, np.where(day.after, 2, 1))]
    found = asked(day, (label == 1).astype(float), more, events=[DEPLOYED])
    assert (found[0].kind, found[0].subject) == ("version", "2")


def test_a_canary_is_one_cause_and_its_role_no_other_one() -> None:
    day = Day()
    canary = day.after & (day.generator.random(len(day.at)) < 0.2)
    role = Field("role", "role", (ABSENT, "stable", "canary"), np.where(canary, 2, 1).astype(np.uint8))
    found = asked(day, day.risk(canary, 2), [role, version(day, np.where(canary, 2, 1))])
    assert [(each.kind, each.subject) for each in found if each.kind == "version"] == [("version", "2")]
    assert found[0].weight > 0.99


def test_a_category_that_comes_more_often_is_a_shift_of_the_mix() -> None:
    day = Day()
    rare = day.generator.random(len(day.at)) < np.where(day.after, 0.2, 0.05)
    day.inputs[1][:] = np.where(rare, 16, np.minimum(day.inputs[1], 15))
    first = asked(day, np.where(rare, 0.2, 0.01))[0]
    assert (first.kind, first.subject) == ("upstream", "input f1")
    assert "of all rows and were" in first.evidence


def test_a_process_is_told_by_its_rows() -> None:
    day = Day()
    process = day.generator.integers(1, 5, len(day.at))
    first = asked(day, day.risk(process == 3, 2), [field("process", "process", 4, process)])[0]
    assert (first.kind, first.subject) == ("machine", "v3")
    assert first.undo == "restart the process, or take its machine out"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda numbers, other: numbers * 100, "100 times what it usually is"),
        (lambda numbers, other: np.zeros_like(numbers), "is 0 in 100%"),
        (lambda numbers, other: other, "looks as input width usually does"),
    ],
    ids=["unit", "missing", "exchanged"],
)
def test_what_is_wrong_with_an_input_is_said(change: object, words: str) -> None:
    day = Day()
    numbers, other = day.generator.lognormal(0, 0.4, len(day.at)), day.generator.lognormal(4, 0.2, len(day.at))
    hit = day.after & (day.generator.random(len(day.at)) < 0.03)
    changed, exchanged = numbers.copy(), other.copy()
    changed[hit] = change(numbers[hit], other[hit])  # type: ignore[operator]
    if words.startswith("looks"):
        exchanged[hit] = numbers[hit]
    more = [numeric("input length", changed, numbers), numeric("input width", exchanged, other)]
    first = asked(day, np.where(hit, 0.9, 0.01), more)[0]
    assert first.kind == "schema"
    assert first.subject == "input length"
    assert words in first.evidence


def test_an_input_that_is_absent_is_schema_without_numbers_too() -> None:
    day = Day()
    hit = day.after & (day.generator.random(len(day.at)) < 0.03)
    day.inputs[2][hit] = 0
    first = asked(day, np.where(hit, 0.9, 0.01))[0]
    assert (first.kind, first.subject) == ("schema", "input f2")
    assert "is absent in 100% of them" in first.evidence


def test_one_clients_odd_inputs_are_the_clients() -> None:
    day = Day(first=0.1)
    hit = day.after & (day.caller == 1) & (day.generator.random(len(day.at)) < 0.3)
    day.inputs[2][hit] = 0
    found = asked(day, np.where(hit, 0.9, 0.01))
    assert (found[0].kind, found[0].subject) == ("caller", "tag customer v1")
    assert "nearly all of them with input f2 absent" in found[0].evidence
    assert "input f2 is absent in 100% of them" in found[0].evidence
    assert found[0].weight > 0.99
    assert not [each for each in found if each.kind == "schema"]


def test_new_kinds_of_rows_are_novel() -> None:
    day = Day()
    hit = day.after & (day.generator.random(len(day.at)) < 0.03)
    day.inputs[0][hit], day.inputs[1][hit] = 3, 4
    first = asked(day, np.where(hit, 0.9, 0.01))[0]
    assert first.kind == "novelty"
    assert first.confirmed is True


def test_an_input_that_moves_for_everybody_is_upstream() -> None:
    day = Day()
    numbers = day.generator.normal(0, 1, len(day.at))
    moved = np.where(day.after, numbers + 1, numbers)
    first = asked(day, np.where(moved > 3, 0.9, 0.01), [numeric("input warmth", moved, numbers)])[0]
    assert (first.kind, first.subject) == ("upstream", "input warmth")
    assert "has moved up in good rows" in first.evidence


def test_a_drift_into_one_bin_is_upstream_though_its_good_rows_are_there_as_well() -> None:
    day = Day()
    numbers = day.generator.normal(0, 1, len(day.at))
    moved = np.where(day.after, numbers + 4, numbers)
    first = asked(day, np.where(moved > 2, 0.04, 0.01), [numeric("input warmth", moved, numbers)])[0]
    assert (first.kind, first.subject) == ("upstream", "input warmth")


def test_a_drift_that_ends_where_a_unit_would_be_is_a_drift() -> None:
    day = Day()
    numbers = day.generator.lognormal(4, 0.1, len(day.at))
    # Within an hour it is at 1/2.2 of what it was, as pounds are of kilograms.
    way = np.clip((day.at - NOON_US) / (60 * MINUTE_US), 0, 1)
    sent = numbers * (1 - way * (1 - 1 / 2.2046))
    first = asked(day, 0.01 + 0.1 * way, [numeric("input light", sent, numbers)])[0]
    assert (first.kind, first.subject) == ("upstream", "input light")


def test_half_of_the_rows_in_another_unit_are_no_drift() -> None:
    day = Day()
    numbers = day.generator.lognormal(4, 0.1, len(day.at))
    hit = day.after & (day.generator.random(len(day.at)) < 0.5)
    sent = np.where(hit, numbers * 10, numbers)
    first = asked(day, np.where(hit, 0.4, 0.01), [numeric("input length", sent, numbers)])[0]
    assert (first.kind, first.subject) == ("schema", "input length")
    assert "10 times what it usually is" in first.evidence


def test_two_causes_that_hide_each_other_are_both_named() -> None:
    # A new client sends most of the rows, and what the others send has something new: as if all had risen alike.
    day = Day(50_000)
    new = day.after & (day.generator.random(len(day.at)) < 0.85)
    day.caller[new] = 31
    hit = day.after & ~new & (day.generator.random(len(day.at)) < 0.1)
    day.inputs[0][hit], day.inputs[1][hit] = 3, 4
    first, second, *_ = asked(day, np.where(hit, 0.95, np.where(new, 0.1, 0.01)))
    assert {(first.kind, first.subject), (second.kind, "")} == {("caller", "tag customer v31"), ("novelty", "")}


def test_a_class_that_was_never_bad_is_no_shift_of_classes() -> None:
    day = Day(20_000)
    hit = day.after & (day.generator.random(len(day.at)) < 0.3)
    numbers = day.generator.lognormal(4, 0.3, len(day.at))
    label = np.where(hit, 1, day.generator.integers(1, 41, len(day.at)))
    more = [numeric("input length", np.where(hit, numbers / 100, numbers), numbers), field("label", "label", 40, label)]
    first = asked(day, np.where(hit, 0.9, np.where(label == 1, 0.0, 0.01)), more)[0]
    assert (first.kind, first.subject) == ("schema", "input length")


def test_queues_that_grow_for_good_rows_too_are_load() -> None:
    day = Day()
    waited = day.generator.gamma(2, 4, len(day.at)) + np.where(day.after, 40, 0)
    queue = replace(numeric("queue", waited, waited[~day.after]), kind="bucket", numbers=None)
    everything = np.ones(len(day.at), np.bool_)
    first = asked(day, day.risk(everything, 3), [queue])[0]
    assert (first.kind, first.subject) == ("load", "queue")


def test_labels_of_one_source_are_labels() -> None:
    day = Day()
    source = day.generator.integers(1, 4, len(day.at))
    first = asked(day, day.risk(source == 2, 2), [field("label source", "label", 3, source)])[0]
    assert (first.kind, first.subject) == ("labels", "label source v2")
    assert first.confirmed is True


def test_a_class_that_comes_more_often_is_a_shift_of_labels() -> None:
    # Asked about one label: all bad rows have it, before and after.
    day = Day()
    label = np.where(day.generator.random(len(day.at)) < np.where(day.after, 0.2, 0.1), 1, 2)
    first = asked(day, (label == 1).astype(float), [field("label", "label", 2, label)])[0]
    assert (first.kind, first.subject) == ("labels", "label v1")


def test_two_causes_are_both_named() -> None:
    day = Day(200_000, first=0.1)
    process = day.generator.integers(1, 5, len(day.at))
    risk = np.maximum(day.risk(day.caller == 1, 3), day.risk(process == 3, 1))
    first, second, *_ = asked(day, risk, [field("process", "process", 4, process)])
    assert {first.kind, second.kind} == {"caller", "machine"}
    assert min(first.weight, second.weight) > 0.05


def test_shares_of_categories_in_few_rows_have_not_moved() -> None:
    for seed in range(20):
        day = Day(2000, seed=seed)
        colour = field("input colour", "input", 8, day.generator.integers(1, 9, 2000))
        table = replace(day.table(np.full(2000, 0.01), share=0.06), fields=())
        kept = np.isin(day.at, table.at_us)
        shown = replace(table, fields=(colour[kept],)) if kept.sum() == len(table) else None
        assert shown is not None
        assert abs(moved(shown, shown.fields[0])) < 0.05
