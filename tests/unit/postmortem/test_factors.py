from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hoverboard.postmortem.factors import FACTORS, FEWEST, named_units, unit_factor

COLUMNS = 8
BOTH_WAYS = (*FACTORS, *(1 / factor for factor in FACTORS))


def usual(generator: np.random.Generator, kind: int, rows: int) -> NDArray[np.floating]:
    """Amounts, waiting times, sizes, shares, two sorts of things, or counts."""
    if kind == 0:
        return generator.lognormal(0, 0.5, rows)
    if kind == 1:
        return generator.gamma(3, 1, rows)
    if kind == 2:
        return generator.normal(10, 1.5, rows)
    if kind == 3:
        return generator.uniform(1, 6, rows)
    if kind == 4:
        return np.where(generator.random(rows) < 0.8, 1.0, 4.5) * generator.lognormal(0, 0.2, rows)
    return generator.poisson(6, rows) + 1.0


def innocent(generator: np.random.Generator, pool: NDArray[np.floating], rows: int) -> NDArray[np.floating]:
    """As usual, drifted by up to a third, shifted, chosen by size, or an end of what is usual."""
    how = generator.integers(5)
    if how < 3:
        by = (0.0, generator.uniform(-0.3, 0.3), 0.0)[how]
        return np.asarray(pool[:rows] * np.exp(by) + (generator.uniform(-1, 3) * pool.std() if how == 2 else 0.0))
    if how == 3:
        logs = np.log(np.maximum(pool, 1e-3))
        weights = np.exp(generator.uniform(-1.5, 1.5) * (logs - logs.mean()) / logs.std())
        return generator.choice(pool, rows, p=weights / weights.sum(), replace=False)
    edge = np.quantile(pool, generator.uniform(0.8, 0.98))
    return generator.permutation(pool[pool >= edge] if generator.random() < 0.5 else pool[pool < edge])[:rows]


def test_what_drifts_is_shifted_or_chosen_is_in_no_other_unit() -> None:
    claimed = []
    for seed in range(600):
        generator = np.random.default_rng(seed)
        kind, rows = seed % 6, int(generator.choice([20, 40, 100, 400, 1000]))
        ours = innocent(generator, usual(generator, kind, 20 * rows + 500), rows)
        before = usual(generator, kind, int(generator.choice([100, 400, 2000])))
        if unit_factor(ours, before, COLUMNS) is not None:
            claimed.append(seed)
    assert not claimed


@pytest.mark.parametrize("factor", BOTH_WAYS)
@pytest.mark.parametrize("part", [1.0, 0.8])
def test_each_factor_is_told_where_all_or_most_of_a_hundred_rows_are_in_its_unit(factor: float, part: float) -> None:
    generator = np.random.default_rng(1)
    before, ours = generator.normal(10, 1, 800), generator.normal(10, 1, 100)
    ours[: round(100 * part)] *= factor
    found = unit_factor(ours, before, COLUMNS)
    assert found is not None
    assert found[0] == factor
    assert unit_factor(ours[: FEWEST - 1], before, COLUMNS) is None


@pytest.mark.parametrize("factor", BOTH_WAYS)
def test_of_a_hundred_rows_each_factor_is_told_three_times_in_four_and_no_other(factor: float) -> None:
    told = 0
    for seed in range(50, 70):
        generator = np.random.default_rng(seed)
        before, ours = generator.lognormal(2, 0.15, 800), generator.lognormal(2, 0.15, 100) * factor
        found = unit_factor(ours, before, COLUMNS)
        told += found is not None and found[0] == factor
        assert found is None or found[0] == factor, seed
    assert told >= 15


def test_units_have_their_names_both_ways() -> None:
    assert named_units(14.5038) == "psi for bar" and named_units(1 / 14.5038) == "bar for psi"
    assert named_units(1 / 3600.0) == "hours for seconds" and named_units(10.0) == named_units(7.0) == ""


def test_another_size_that_is_near_a_factor_is_not_that_factor() -> None:
    generator = np.random.default_rng(0)
    before, ours = generator.normal(10, 1, 800), generator.normal(10, 1, 400)
    for scale in (1.5, 2.0, 2.8, 5.0, 0.7, 0.42, 50.0):
        assert unit_factor(ours * scale, before, COLUMNS) is None


def test_one_sort_of_things_that_comes_more_often_is_in_no_other_unit() -> None:
    generator = np.random.default_rng(0)
    small, large = generator.normal(10, 0.5, 900), generator.normal(25.4, 1.27, 100)
    before = np.concatenate([small, large])
    assert unit_factor(generator.normal(25.4, 1.27, 300), before, COLUMNS) is None
    assert unit_factor(generator.normal(25.4, 1.27, 300), small, COLUMNS) is not None
