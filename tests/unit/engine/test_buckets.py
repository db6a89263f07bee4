from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoverboard.engine.buckets import CostModel, ladder, useful_buckets


@pytest.mark.parametrize(
    ("largest", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])]
)
def test_the_ladder_doubles_up_to_the_largest_bucket(largest: int, expected: list[int]) -> None:
    assert ladder(largest) == expected


def test_a_bucket_that_padding_up_replaces_for_less_than_15_percent_is_dropped() -> None:
    assert useful_buckets({1: 0.50, 2: 0.51, 4: 0.52, 8: 0.70, 16: 0.75, 32: 1.5}) == [4, 16, 32]


def test_the_largest_bucket_is_always_kept() -> None:
    assert useful_buckets({1: 1.0, 2: 1.0, 4: 1.0}) == [4]


def test_padding_up_wins_where_a_row_costs_less_that_way() -> None:
    costs = CostModel({4: 1.0, 64: 1.5})
    assert costs.choose(40) == (40, 64)
    assert costs.choose(5) == (4, 4)  # 0.3 a row padded up, 0.25 a row in a full small bucket
    assert costs.choose(3) == (3, 4)
    assert costs.choose(1000) == (64, 64)


def test_prediction_adds_full_batches_and_the_rest() -> None:
    costs = CostModel({1: 1.0, 8: 3.0})
    assert costs.predict(0) == 0
    assert costs.predict(1) == 1.0
    assert costs.predict(17) == 7.0


def test_observations_move_the_model_and_unknown_buckets_do_not() -> None:
    costs = CostModel({1: 1.0, 8: 3.0})
    for _ in range(200):
        costs.observe(8, 6.0)
    costs.observe(4, 100.0)
    assert costs.seconds(8) == pytest.approx(6.0, rel=1e-3)
    assert costs.seconds(1) == 1.0


def test_lowering_forgets_buckets_from_the_failing_one_up_but_never_the_last() -> None:
    costs = CostModel({1: 1.0, 8: 3.0, 64: 9.0})
    assert costs.lower_to(64)
    assert costs.largest == 8
    assert not costs.lower_to(1)
    assert costs.sizes == (1, 8)


@given(
    st.dictionaries(st.sampled_from(ladder(256)), st.floats(1e-6, 10.0), min_size=1),
    st.integers(1, 2000),
)
def test_a_choice_always_fits_its_bucket_and_takes_no_more_than_waits(timings: dict[int, float], waiting: int) -> None:
    costs = CostModel(timings)
    take, bucket = costs.choose(waiting)
    assert 1 <= take <= min(waiting, bucket)
    assert bucket in costs.sizes
