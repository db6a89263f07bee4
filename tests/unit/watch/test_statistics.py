import numpy as np
import pytest

from hoverboard.watch.statistics import benjamini_hochberg, g_test, gamma_tail, js_divergence


def test_the_gamma_tail_is_what_scipy_says() -> None:
    # scipy.special.gammaincc(a, x), SciPy 1.17.1
    expected = [
        (0.5, 0.001, 0.9643294082703201),
        (0.5, 1.920729, 0.050000024472662934),
        (8.0, 2.0, 0.9989032810321413),
        (8.0, 9.0, 0.32389696431289616),
        (8.0, 80.0, 8.219666300304864e-26),
        (30.0, 31.0, 0.40465217903438916),
        (30.0, 300.0, 4.4219607561434375e-90),
        (128.0, 129.0, 0.4531889753254852),
        (128.0, 60.0, 0.999999999999983),
        (3.0, 0.0, 1.0),
    ]
    a, x, tail = (np.array(column) for column in zip(*expected, strict=True))
    assert gamma_tail(a, x) == pytest.approx(tail, rel=1e-11)
    assert gamma_tail(np.array([2.0]), np.array([5000.0])) == [0]


def test_the_g_test_is_what_scipy_says() -> None:
    # scipy.stats.chi2_contingency([counts, reference], lambda_="log-likelihood", correction=False).pvalue, SciPy 1.17.1
    counts = np.array([[20.0, 30, 50], [312, 280, 408], [100, 100, 100]])
    reference = np.array([[25.0, 35, 40], [330, 330, 340], [10, 10, 10]])
    assert g_test(counts, reference) == pytest.approx([0.3578811502906549, 0.004520958155928959, 1.0], rel=1e-9)


def test_rare_cells_are_tested_together() -> None:
    # By hand: the three cells on the right are expected fewer than five times each, and so are one cell of 12 and 3.
    apart = g_test(np.array([[50.0, 60, 4, 4, 4]]), np.array([[60.0, 60, 1, 1, 1]]))
    together = g_test(np.array([[50.0, 60, 12]]), np.array([[60.0, 60, 3]]))
    assert apart == pytest.approx(together)
    # One such cell alone joins the largest of the reference.
    assert g_test(np.array([[50.0, 60, 4]]), np.array([[60.0, 70, 0]])) == pytest.approx(
        g_test(np.array([[50.0, 64]]), np.array([[60.0, 70]]))
    )


@pytest.mark.parametrize(
    "counts, reference",
    [([0, 0], [50, 50]), ([50, 50], [0, 0]), ([0, 0], [0, 0]), ([100, 0], [100, 0]), ([2, 1], [1, 2])],
)
def test_where_there_is_nothing_to_compare_nothing_is_found(counts: list[float], reference: list[float]) -> None:
    ours, theirs = np.array([counts], float), np.array([reference], float)
    assert g_test(ours, theirs) == [1]
    assert 0 <= js_divergence(ours, theirs)[0] < 0.1


def test_without_drift_p_values_are_as_they_promise_with_bins_made_from_the_reference() -> None:
    generator = np.random.default_rng(0)
    tests, n, m = 2000, 5000, 1000
    reference = np.sort(generator.normal(size=(tests, m)), axis=1)
    cuts = reference[:, (np.arange(16) * m) // 16]
    counts = np.empty((2, tests, 17))
    for test in range(tests):
        for side, values in enumerate((generator.normal(size=n), reference[test])):
            found = np.searchsorted(cuts[test], values, side="right")
            counts[side, test] = np.bincount(found, minlength=17)
    p_values = g_test(counts[0], counts[1])
    for level in (0.05, 0.01):
        assert np.mean(p_values <= level) < level * 1.6
    assert np.mean(p_values <= 0.5) == pytest.approx(0.5, abs=0.06)
    # An index with a fixed threshold would depend on n and m; the smallest effect that counts is far above chance.
    assert js_divergence(counts[0], counts[1]).max() < 0.025


def test_the_divergence_is_in_bits_from_the_same_to_nothing_in_common() -> None:
    counts = np.array([[10.0, 20, 30], [10, 0, 0], [1, 3, 0], [0, 0, 0]])
    reference = np.array([[100.0, 200, 300], [0, 5, 5], [3, 1, 0], [1, 1, 1]])
    # scipy.spatial.distance.jensenshannon([1, 3, 0], [3, 1, 0], base=2) ** 2, SciPy 1.17.1
    assert js_divergence(counts, reference) == pytest.approx([0, 1, 0.1887218755408671, 0], abs=1e-12)


def test_half_a_standard_deviation_is_about_the_smallest_effect_that_counts() -> None:
    generator = np.random.default_rng(1)
    reference, moved = generator.normal(size=200_000), generator.normal(0.53, size=200_000)
    cuts = np.quantile(reference, np.arange(1, 16) / 16)
    counts = [np.bincount(np.searchsorted(cuts, values), minlength=16)[np.newaxis] for values in (moved, reference)]
    assert js_divergence(counts[0].astype(float), counts[1].astype(float))[0] == pytest.approx(0.05, abs=0.006)


def test_adjusted_p_values_are_what_scipy_says() -> None:
    # scipy.stats.false_discovery_control, SciPy 1.17.1
    p_values = np.array([0.01, 0.04, 0.03, 0.005, 0.8])
    assert benjamini_hochberg(p_values) == pytest.approx([0.025, 0.05, 0.05, 0.025, 0.8])
    assert benjamini_hochberg(np.array([])).shape == (0,)


def test_of_many_features_without_drift_hardly_a_window_finds_one() -> None:
    generator = np.random.default_rng(2)
    found = [benjamini_hochberg(generator.uniform(size=64)).min() <= 0.05 for _ in range(2000)]
    assert np.mean(found) < 0.07
