from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from hoverboard.postmortem.cells import Cells, Draw, chi2_tail, clustering, excess_g, exposure_of
from hoverboard.postmortem.slices import rows_of, slices
from hoverboard.postmortem.table import Field, Table
from tests.unit.postmortem.days import NOON_US, Day, field


@pytest.mark.parametrize("effect", [1, 3, 10])
def test_the_caller_that_went_wrong_is_found_with_its_share(effect: float) -> None:
    day = Day(first=0.2)
    (found,) = slices(day.table(day.risk(day.caller == 1, effect)))
    assert found.where == (("caller", "v1"),)
    assert found.explained > 0.9
    assert found.explained_low <= found.explained
    assert found.odds_low > 1.5
    assert found.q < 1e-6
    assert found.rows == pytest.approx(10_000, rel=0.1)


def test_a_pair_is_told_from_its_parts() -> None:
    day = Day(first=0.2)
    (found,) = slices(day.table(day.risk((day.caller == 1) & (day.inputs[2] == 5), 1)))
    assert set(found.where) == {("caller", "v1"), ("input f2", "v5")}


def test_a_pair_without_parts_is_found() -> None:
    # Neither condition says anything by itself: of rows with one, as many are bad as of those without.
    day = Day(400_000)
    risk = np.full(len(day.at), 0.02)
    one, other = day.inputs[0] <= 8, day.inputs[1] <= 8
    halves = [field(f"tag {name}", "tag", 2, np.where(low, 1, 2)) for name, low in (("a", one), ("b", other))]
    day.more += halves
    risk[day.after & one & other] = 0.06
    risk[day.after & ~one & ~other] = 0.06
    found = slices(day.table(risk))
    assert found
    assert {name for name, _ in found[0].where} == {"tag a", "tag b"}


def test_two_reasons_are_found_one_after_the_other() -> None:
    day = Day()
    risk = np.maximum(day.risk(day.caller == 1, 2), day.risk(day.inputs[3] == 7, 1))
    found = slices(day.table(risk))
    assert [one.where for one in found[:2]] == [(("caller", "v1"),), (("input f3", "v7"),)]
    assert found[0].explained > found[1].explained
    assert sum(one.explained for one in found) < 1.2


def test_quiet_days_have_no_slices() -> None:
    assert sum(bool(slices(Day(40_000, seed=seed).table(np.full(40_000, 0.02)))) for seed in range(40)) <= 1


def test_a_rise_everywhere_is_no_slice() -> None:
    day = Day()
    assert slices(day.table(day.risk(np.ones(len(day.at), np.bool_), 3))) == []


def test_who_was_always_worse_is_no_slice() -> None:
    day = Day()
    risk = np.where(day.caller == 1, 0.1, 0.01)
    assert slices(day.table(risk)) == []
    everywhere = np.where(day.after, risk * 3, risk)
    assert slices(day.table(everywhere)) == []


def test_without_a_usual_time_the_other_rows_are_what_is_usual() -> None:
    day = Day(first=0.2)
    table = day.table(day.risk(day.caller == 1, 5))
    (found,) = slices(table[~table.base])
    assert found.where == (("caller", "v1"),)


def test_a_client_that_grows_is_no_slice_but_a_strange_input_is() -> None:
    # Both have as many bad rows by row as ever; more rows of a client are no harm, more rows of a strange kind are.
    for kind, expected in (("caller", 0), ("input", 1)):
        day = Day(200_000)
        more = np.where(day.after, 0.1, 0.01) > day.generator.random(len(day.at))
        risk = np.where(more, 0.2, 0.01)
        day.more.append(field("grown", "tag" if kind == "caller" else "input", 2, np.where(more, 1, 2)))
        found = slices(day.table(risk))
        assert len(found) == expected
        assert all(one.where == (("grown", "v1"),) for one in found)


def test_rows_of_one_client_that_come_together_are_few_witnesses() -> None:
    day = Day(40_000, callers=300, first=0.003)
    # Bad rows by the burst: a client has all of an hour's rows bad, or none.
    hour = day.at // 3_600_000_000
    burst = np.random.default_rng(5).random((301, int(hour.max()) + 1)) < 0.02
    table = day.table(burst[day.caller, hour].astype(float))
    assert clustering(table) > 1.5
    assert slices(table) == []


def test_values_that_say_nothing_are_left_out() -> None:
    # What is explained is that a word is there, never that another one is not.
    day = Day()
    word = day.inputs[0] == 3
    day.more.append(field("word free", "word", 1, word.astype(np.uint8)))
    table = day.table(day.risk(word, 5))
    table = replace(table, fields=tuple(one for one in table.fields if one.name != "input f0"))
    (found,) = slices(table)
    assert found.where == (("word free", "v1"),)


def test_a_missing_input_is_found_by_name() -> None:
    day = Day()
    lost = day.after & (day.generator.random(len(day.at)) < 0.03)
    day.inputs[1][lost] = 0
    (found,) = slices(day.table(np.where(lost, 0.9, 0.01)))
    assert found.where == (("input f1", "absent"),)


def test_a_table_says_what_does_not_fit() -> None:
    table = Day(1000).table(np.full(1000, 0.5))
    with pytest.raises(ValueError, match="bad: 3 rows where at_us has"):
        replace(table, bad=table.bad[:3])
    with pytest.raises(ValueError, match="input f0: the first value is 'absent'"):
        Field("input f0", "input", ("v1",), table.fields[1].codes)
    with pytest.raises(KeyError, match="nothing"):
        rows_of(table, (("nothing", "v1"),))


def test_the_time_outside_of_an_incident_is_usual() -> None:
    table = Day(1000).table(np.full(1000, 0.5))
    ended = table.since(NOON_US + 10, NOON_US + 20_000_000_000)
    inside = (table.at_us >= NOON_US + 10) & (table.at_us < NOON_US + 20_000_000_000)
    assert (ended.base == ~inside).all()
    assert not table.since(0).base.any()  # also of what was to be the usual time


def test_the_statistics_are_what_they_are_by_hand() -> None:
    # scipy.stats.chi2.sf([3.841458820694124, 0, 50], 1), SciPy 1.17.1
    assert chi2_tail(np.array([3.841458820694124, 0, 50])) == pytest.approx([0.05, 1, 1.5374597944280347e-12])
    assert excess_g(np.array([20.0, 5, 0]), np.array([10.0, 10, 10])) == pytest.approx([7.725887222397812, 0, 0])
    assert excess_g(np.array([20.0]), np.array([10.0]), 0.1) == pytest.approx([7.725887222397812 / 2])
    table = Day(20_000).table(np.full(20_000, 0.02))
    draw = Draw.of(table)
    assert draw.rows_now + draw.rows_before == pytest.approx(20_000, rel=0.03)
    assert draw.expected == pytest.approx(200, rel=0.25)
    assert draw.usual_share == pytest.approx(0.02, rel=0.2)


def test_many_rows_and_fields_take_seconds_and_little_memory() -> None:
    generator = np.random.default_rng(3)
    rows, after = 250_000, np.arange(250_000) >= 125_000
    fields = [field(f"input f{i}", "input", 16, generator.integers(1, 17, rows)) for i in range(40)]
    bad = (generator.random(rows) < 0.3) | (after & (fields[0].codes == 3) & (generator.random(rows) < 0.7))
    client = generator.integers(0, 300, rows).astype(np.int32)
    weight = np.where(bad, 1.0, 20.0)
    table = Table(np.arange(rows) * 1000, bad, ~after, weight, client, tuple(fields), np.zeros(rows, "V16"))
    started = time.thread_time()
    (found,) = slices(table)
    assert time.thread_time() - started < 10  # 1.2 s on an idle core
    assert found.where == (("input f0", "v3"),)


def test_what_a_cell_is_expected_to_have_is_as_unsure_as_a_draw_of_good_rows_is() -> None:
    # A good row in ten is kept: how many rows each of many callers sent is known by some twenty.
    exceeded = []
    for seed in range(20):
        draw = Draw.of(Day(12_000, seed=seed, callers=30).table(np.full(12_000, 0.05), share=0.1), 1.0)
        caller = draw.table.fields[0]
        counts = draw.count(caller)
        exceeded.append(Cells.of(draw, counts, exposure_of(draw, [caller], counts)).g(1.0)[1:] > 6.6)
    assert np.mean(exceeded) < 0.02
