from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hoverboard.errors import PublishError
from hoverboard.outliers import STRANGEST, p_values, rate_bound, smallest_alpha
from hoverboard.outliers.conformal import beta_cdf, beta_quantile, check_alpha, flag_rank, needed_points
from tests.unit.outliers import direct

grid = st.integers(-8, 8).map(lambda number: number / 4)


@given(hnp.arrays(np.float32, st.integers(1, 60), elements=grid), hnp.arrays(np.float32, 12, elements=grid))
def test_p_values_are_their_formula_with_ties(calibration: Any, scores: Any) -> None:
    found = p_values(scores, np.sort(calibration))
    assert found.dtype == np.float32
    expected = [direct.p_value(score, calibration) for score in scores.tolist()]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


@given(
    hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    hnp.arrays(np.float32, 20, elements=st.floats(width=32)),
)
def test_p_values_are_within_their_range_and_fall_as_scores_rise(calibration: Any, scores: Any) -> None:
    found = p_values(np.sort(scores), np.sort(calibration))
    assert (found >= np.float32(smallest_alpha(len(calibration)))).all()
    assert (found <= 1).all()
    known = ~np.isnan(np.sort(scores)) & (np.sort(scores) != -np.inf)
    assert (np.diff(found[known]) <= 0).all()


def test_a_score_that_differs_by_rounding_only_counts_as_a_tie() -> None:
    calibration = np.array([1.0, 2.0, 100.0], np.float32)
    assert p_values(np.array([100.0001, 100.1, 2.00001], np.float32), calibration).tolist() == [0.5, 0.25, 0.75]


def test_nan_and_infinity_are_as_strange_as_can_be() -> None:
    scores = np.array([np.nan, np.inf, 1e30], np.float32)
    assert p_values(scores, np.zeros(3)).tolist() == [0.25] * 3
    # Unless normal samples are so as well.
    assert p_values(scores, np.array([0, STRANGEST, STRANGEST], np.float32)).tolist() == [0.75, 0.75, 0.75]


def test_all_calibration_scores_equal_flag_only_what_is_above() -> None:
    assert p_values(np.array([0.0, 1.0, 2.0]), np.ones(99)).tolist() == pytest.approx([1.0, 1.0, 0.01])


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("discrete", [False, True])
def test_of_exchangeable_samples_at_most_a_share_of_alpha_is_flagged(alpha: float, discrete: bool) -> None:
    generator = np.random.default_rng(7)
    n, fresh, splits = 150, 50, 4000
    draws = generator.standard_normal((splits, n + fresh))
    draws = np.round(draws) if discrete else draws
    rates = [(p_values(row[n:], np.sort(row[:n])) <= alpha).mean() for row in draws]
    expected = flag_rank(n, alpha) / (n + 1)
    error = np.std(rates) / math.sqrt(splits)
    assert np.mean(rates) <= expected + 4 * error <= alpha + 4 * error
    if not discrete:
        assert np.mean(rates) >= expected - 4 * error


def test_p_values_of_exchangeable_samples_are_uniform() -> None:
    generator = np.random.default_rng(8)
    found = [p_values(row[99:], np.sort(row[:99]))[0] for row in generator.standard_normal((20_000, 100))]
    counts = np.bincount(np.round(np.array(found) * 100).astype(int), minlength=101)[1:]
    # 99 degrees of freedom: 160 is the 0.9999 quantile.
    assert ((counts - 200) ** 2 / 200).sum() < 160


@pytest.mark.parametrize(
    ("n", "alpha", "bound"),
    [(1_000, 0.01, 0.0157), (5_000, 0.01, 0.0124), (10_000, 0.01, 0.0117), (10_000, 0.001, 0.00157)],
)
def test_the_bound_of_the_true_rate_is_the_known_one(n: int, alpha: float, bound: float) -> None:
    assert float(f"{rate_bound(n, alpha):.3g}") == bound


def test_the_true_rate_stays_below_its_bound_in_95_of_100_calibration_sets() -> None:
    n, alpha = 300, 0.05
    calibration = np.sort(np.random.default_rng(9).random((20_000, n)), axis=1)
    # Scores are uniform, so that the true rate is 1 less the score of rank l from above.
    true_rates = 1 - calibration[:, n - flag_rank(n, alpha)]
    assert (true_rates <= rate_bound(n, alpha)).mean() == pytest.approx(0.95, abs=0.006)


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.001, 0.999))
def test_the_incomplete_beta_function_is_its_binomial_sum(a: int, b: int, x: float) -> None:
    n = a + b - 1
    expected = sum(math.comb(n, j) * x**j * (1 - x) ** (n - j) for j in range(a, n + 1))
    assert beta_cdf(x, a, b) == pytest.approx(expected, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize(("a", "b"), [(1, 99), (10, 991), (100, 9901), (1000, 999_001), (2.5, 0.5)])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.95, 0.999])
def test_the_quantile_is_the_inverse(a: float, b: float, share: float) -> None:
    assert beta_cdf(beta_quantile(share, a, b), a, b) == pytest.approx(share, rel=1e-7)


def test_the_quantile_of_beta_one_is_known_in_closed_form() -> None:
    assert beta_quantile(0.95, 1, 150) == pytest.approx(1 - 0.05 ** (1 / 150), rel=1e-12)


def test_outside_its_range_the_distribution_is_zero_or_one() -> None:
    assert [beta_cdf(x, 2, 3) for x in (-1.0, 0.0, 1.0, 2.0)] == [0, 0, 1, 1]


@given(st.integers(2, 100_000))
def test_as_many_points_are_needed_as_give_alpha_a_rank(denominator: int) -> None:
    alpha = 1 / denominator
    needed = needed_points(alpha)
    assert needed == denominator - 1
    assert flag_rank(needed, alpha) == 1
    assert flag_rank(needed - 1, alpha) == 0
    assert rate_bound(needed - 1, alpha) == 0


def test_alpha_below_what_the_points_can_tell_is_refused_with_how_many_it_takes() -> None:
    check_alpha(0.01, 99)
    with pytest.raises(PublishError, match=r"alpha 0\.01 needs at least 99 calibration points .* there are 98"):
        check_alpha(0.01, 98)


@pytest.mark.parametrize("n", [*range(22, 130), 2500])
def test_the_alpha_that_is_advised_is_one_that_will_do(n: int) -> None:
    with pytest.raises(PublishError, match=r"an alpha of at least [\d.e-]+$") as refused:
        check_alpha(1e-6, n, 20)
    check_alpha(float(str(refused.value).rsplit(" ", 1)[1]), n, 20)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, math.nan])
def test_alpha_is_a_share(alpha: float) -> None:
    with pytest.raises(PublishError, match="between 0 and 1"):
        check_alpha(alpha, 1000)


@pytest.mark.parametrize("n", [99, 150, 1000, 5000])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
def test_float32_p_values_compare_with_alpha_as_exact_ones_would(n: int, alpha: float) -> None:
    scores = np.arange(n + 1) - 0.5
    assert int((p_values(scores, np.arange(n)) <= alpha).sum()) == flag_rank(n, alpha)
