from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hoverboard.errors import PublishError
from hoverboard.outliers import BY_NAME, CANDIDATES, STRANGEST, Features, two_sided
from hoverboard.outliers.features import chunks
from hoverboard.outliers.gaussian import GaussianParameters
from hoverboard.outliers.neighbours import KnnParameters
from hoverboard.outliers.outputs import GenParameters
from hoverboard.outliers.prepare import ledoit_wolf
from tests.unit.outliers import direct

D, C = 7, 4


def normal(n: int, seed: int = 0, *, shift: float = 0.0) -> tuple[Features, Any]:
    """Rows of four classes, spread unequally; their logits; and five inputs with ties and a missing value."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, C, n)
    means = np.random.default_rng(99).normal(0, 3, (C, D))
    z = means[labels] + generator.normal(shift, np.linspace(0.3, 2, D), (n, D))
    logits = z @ np.random.default_rng(98).normal(0, 0.4, (D, C))
    inputs = np.concatenate([z[:, :3], generator.integers(0, 3, (n, 1)), np.where(z[:, :1] > 4, np.nan, 1)], axis=1)
    return Features(z.astype(np.float32), logits.astype(np.float32), inputs.astype(np.float32)), labels


def scores(name: str, fitted: Features, labels: Any, rows: Features) -> Any:
    candidate = BY_NAME[name]
    assert candidate.unsuited(fitted, labels) is None
    found = candidate.score(rows, candidate.fit(fitted, labels))
    assert found.dtype == np.float32
    assert found.shape == (len(rows),)
    assert np.isfinite(found).all()
    return found


# --- each formula against itself, slowly ----------------------------------------------------------------------------


def test_msp_energy_and_gen_are_their_formulas() -> None:
    fitted, labels = normal(50)
    rows, _ = normal(40, 1)
    logits = rows.get("logits")
    np.testing.assert_allclose(scores("msp", fitted, labels, rows), direct.each(direct.msp)(logits), rtol=1e-5)
    np.testing.assert_allclose(
        scores("energy", fitted, labels, rows), direct.each(direct.energy)(logits), rtol=1e-5, atol=1e-6
    )
    expected = direct.each(lambda row: direct.gen(row, 0.1, C))(logits)
    np.testing.assert_allclose(scores("gen", fitted, labels, rows), expected, rtol=1e-5)


def test_gen_counts_only_the_largest_probabilities() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (30, 12))
    found = BY_NAME["gen"].score(Features(logits=logits), GenParameters(0.1, 5))
    np.testing.assert_allclose(found, direct.each(lambda row: direct.gen(row, 0.1, 5))(logits), rtol=1e-5)


def test_energy_divides_logits_by_the_temperature() -> None:
    from hoverboard.outliers.outputs import EnergyParameters, energy_score

    logits = np.array([[1.0, 2.0, 4.0]])
    found = energy_score(Features(logits=logits), EnergyParameters(2.0))
    assert found[0] == pytest.approx(2 * direct.energy(logits[0] / 2))


def test_mahalanobis_and_relative_mahalanobis_are_their_formulas() -> None:
    fitted, labels = normal(60)
    rows, _ = normal(25, 1, shift=0.5)
    for name, formula in (("mahalanobis", direct.mahalanobis), ("relative_mahalanobis", direct.relative_mahalanobis)):
        expected = formula(fitted.get("z"), labels, rows.get("z"))
        np.testing.assert_allclose(scores(name, fitted, labels, rows), expected, rtol=2e-4, atol=2e-3)


def test_the_covariance_is_shrunk_as_ledoit_and_wolf_say() -> None:
    rows = np.random.default_rng(0).normal(0, [1, 2, 0.1], (12, 3))
    np.testing.assert_allclose(ledoit_wolf(rows), direct.ledoit_wolf(rows), rtol=1e-10)


def test_whitened_residuals_have_the_identity_as_covariance_when_rows_are_many() -> None:
    fitted, labels = normal(20_000)
    parameters: GaussianParameters = BY_NAME["mahalanobis"].fit(fitted, labels)
    z = fitted.get("z").astype(np.float64)
    white = (z / np.linalg.norm(z, axis=1, keepdims=True) - parameters.centre) @ parameters.matrix
    covariance = np.cov((white - parameters.means[labels]).T)
    np.testing.assert_allclose(covariance, np.eye(D), atol=0.05)


def test_knn_is_the_distance_to_the_kth_neighbour() -> None:
    fitted, labels = normal(80)
    rows, _ = normal(25, 1)
    parameters: KnnParameters = BY_NAME["knn"].fit(fitted, labels)
    assert parameters.k == 1
    for k in (1, 5, 80):
        again = KnnParameters(parameters.unit, parameters.centre, parameters.scale, parameters.bank, k)
        found = BY_NAME["knn"].score(rows, again)
        # The bank is float16: three digits.
        np.testing.assert_allclose(found, direct.knn(fitted.get("z"), rows.get("z"), k), atol=2e-3)


def test_knn_keeps_at_most_five_thousand_rows_and_always_the_same() -> None:
    fitted, labels = normal(6000)
    first, second = (BY_NAME["knn"].fit(fitted, labels) for _ in range(2))
    assert first.bank.shape == (5000, D)
    assert first.k == 5
    assert np.array_equal(first.bank, second.bank)


def test_tails_sums_each_columns_tail_probability() -> None:
    inputs = np.array([[1, 10], [2, 10], [2, 20], [3, 20], [4, 20], [9, 30]], np.float32)
    found = scores("tails", Features(inputs=inputs), None, Features(inputs=inputs))
    columns = inputs.astype(np.float64).T
    expected = [direct.tail(columns[0], a) + direct.tail(columns[1], b) for a, b in inputs]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_tails_uses_quantiles_of_long_columns_and_is_close_to_all_values() -> None:
    values = np.random.default_rng(0).normal(size=(5000, 1)).astype(np.float32)
    rows = np.sort(values[::97], axis=0)
    found = scores("tails", Features(inputs=values), None, Features(inputs=rows))
    expected = [direct.tail(values[:, 0].astype(np.float64), float(row[0])) for row in rows]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_tails_rises_beyond_all_that_was_seen_and_for_each_side() -> None:
    values = np.random.default_rng(0).exponential(size=(1000, 1))
    high, higher, low, lower = ([np.quantile(values, 1) + 1], [60.0], [-0.5], [-30.0])
    found = scores("tails", Features(inputs=values), None, Features(inputs=np.array([high, higher, low, lower])))
    seen = scores("tails", Features(inputs=values), None, Features(inputs=values)).max()
    assert seen < found[0] < found[1]
    assert seen < found[2] < found[3]


def test_tails_finds_one_absurd_value_among_two_hundred_columns() -> None:
    values = np.random.default_rng(0).normal(size=(1000, 200))
    absurd = np.random.default_rng(1).normal(size=(500, 200))
    usual = scores("tails", Features(inputs=values), None, Features(inputs=absurd))
    absurd[:, 3] = 100
    assert (scores("tails", Features(inputs=values), None, Features(inputs=absurd)) > usual.max()).all()


def test_missing_inputs_are_as_strange_as_they_are_rare() -> None:
    often, never = np.ones((99, 1), np.float32), np.ones((99, 1), np.float32)
    often[:50] = np.nan
    gap = Features(inputs=np.array([[np.nan]], np.float32))
    assert scores("tails", Features(inputs=often), None, gap)[0] == pytest.approx(-np.log(51 / 100))
    assert scores("tails", Features(inputs=never), None, gap)[0] == pytest.approx(np.log(100))


def test_without_a_unit_sphere_inputs_are_standardised() -> None:
    generator = np.random.default_rng(0)
    z = generator.normal([0, 1e6], [1e-3, 1e4], (400, 2))
    rows = z[:50] + np.array([4e-3, 0])
    fitted, strange = Features(z, space="inputs"), Features(rows, space="inputs")
    for name in ("mahalanobis", "knn"):
        usual = scores(name, fitted, None, Features(z[200:], space="inputs"))
        assert np.median(scores(name, fitted, None, strange)) > np.quantile(usual, 0.95)


# --- the same sample, the same score ---------------------------------------------------------------------------------


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
def test_a_score_does_not_depend_on_what_else_is_in_the_batch(candidate: Any) -> None:
    fitted, labels = normal(200)
    rows, _ = normal(64, 1)
    parameters = candidate.fit(fitted, labels)
    together = candidate.score(rows, parameters)
    alone = np.concatenate([candidate.score(rows[i : i + 1], parameters) for i in range(64)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_rows_in_more_than_one_chunk_keep_their_order() -> None:
    assert [(part.start, part.stop) for part in chunks(5, 1 << 21)] == [(0, 2), (2, 4), (4, 5)]
    fitted, labels = normal(100)
    rows, _ = normal(3, 1)
    many = rows[np.tile(np.arange(3), 500_000)]
    for name in ("mahalanobis", "tails"):
        candidate = BY_NAME[name]
        parameters = candidate.fit(fitted, labels)
        expected = candidate.score(rows, parameters)
        np.testing.assert_allclose(candidate.score(many, parameters)[-3:], expected, rtol=1e-6)


# --- odd features ------------------------------------------------------------------------------------------------------


def test_constant_features_make_whatever_differs_strange() -> None:
    same = np.full((40, D), 3.0, np.float32)
    labels = np.arange(40) % C
    fitted = Features(same, np.zeros((40, C), np.float32), same[:, :3])
    other = same[:2].copy()
    other[:, 0] = 5
    for candidate in CANDIDATES:
        if candidate.unsuited(fitted, labels) is None:
            usual = scores(candidate.name, fitted, labels, fitted)
            assert np.ptp(usual) == 0
            if candidate.needs != "logits":
                found = scores(candidate.name, fitted, labels, Features(other, np.zeros((2, C)), other[:, :3]))
                # Two Gaussians fitted on the same single point differ in nothing.
                assert (found == 0).all() if candidate.name == "relative_mahalanobis" else (found > usual[0]).all()


@pytest.mark.parametrize(
    "space, level", [*itertools.product(["features", "inputs"], [0.0, 1e-30, 1e15]), ("inputs", 1e30)]
)
def test_constant_columns_of_any_size_give_numbers(level: float, space: Any) -> None:
    z = np.random.default_rng(0).normal(size=(60, D)).astype(np.float32)
    z[:, :3] = level
    for name in ("mahalanobis", "relative_mahalanobis", "knn"):
        scores(name, Features(z, space=space), np.arange(60) % 3, Features(z + 1, space=space))


@pytest.mark.parametrize("name", ["mahalanobis", "relative_mahalanobis", "knn"])
def test_a_row_too_large_for_float32_squares_is_not_fitted_on_and_as_strange_as_can_be(name: str) -> None:
    fitted, labels = normal(100)
    assert fitted.z is not None
    large = fitted.z.copy()
    large[3] *= 1e25
    without = np.delete(np.arange(100), 3)
    found = scores(name, Features(large), labels, Features(large))
    assert np.array_equal(found[without], scores(name, fitted[without], labels[without], fitted[without]))
    assert found[3] == STRANGEST
    assert (found[without] < STRANGEST).all()
    why = BY_NAME[name].unsuited(Features(large[3:4]), labels[3:4])
    assert why is not None
    assert "small enough to have a direction" in why


def test_a_row_of_zeros_has_no_direction_and_still_a_score() -> None:
    fitted, labels = normal(100)
    zeros = Features(np.zeros((2, D), np.float32))
    for name in ("mahalanobis", "relative_mahalanobis", "knn"):
        scores(name, fitted, labels, zeros)


def test_one_class_is_one_gaussian_and_nothing_relative() -> None:
    fitted, _ = normal(100)
    one = np.zeros(100, np.int64)
    assert "single class" in str(BY_NAME["relative_mahalanobis"].unsuited(fitted, one))
    assert np.array_equal(scores("mahalanobis", fitted, one, fitted), scores("mahalanobis", fitted, None, fitted))
    assert BY_NAME["mahalanobis"].fit(fitted, None).means.shape == (1, D)


def test_two_samples_a_class_give_a_mean_each_and_a_covariance() -> None:
    z = np.random.default_rng(0).normal(size=(16, 30)) + np.repeat(np.eye(8, 30) * 20, 2, axis=0)
    labels = np.repeat(np.arange(8), 2)
    far = -z
    usual = scores("mahalanobis", Features(z), labels, Features(z))
    assert scores("mahalanobis", Features(z), labels, Features(far)).min() > usual.max()
    assert BY_NAME["mahalanobis"].fit(Features(z), labels).means.shape == (8, 30)


def test_one_sample_a_class_is_fitted_as_one_class() -> None:
    fitted, _ = normal(20)
    assert BY_NAME["mahalanobis"].fit(fitted, np.arange(20)).means.shape == (1, D)


def test_a_singular_covariance_is_shrunk_until_it_has_an_inverse() -> None:
    generator = np.random.default_rng(0)
    flat = generator.normal(size=(50, 3)) @ generator.normal(size=(3, 40))
    fitted = Features(flat.astype(np.float32))
    usual = scores("mahalanobis", fitted, None, fitted)
    off = flat[:5] + 0.2 * np.linalg.norm(flat[:5], axis=1, keepdims=True) * generator.normal(size=(5, 40))
    assert scores("mahalanobis", fitted, None, Features(off)).min() > usual.max()


def test_more_features_than_rows_are_fitted() -> None:
    generator = np.random.default_rng(0)
    z = generator.normal(size=(30, 300)) + 2
    assert (
        scores("mahalanobis", Features(z), None, Features(-z)).min()
        > scores("mahalanobis", Features(z), None, Features(generator.normal(size=(30, 300)) + 2)).max()
    )


def test_a_single_row_is_fitted() -> None:
    fitted, _ = normal(1)
    rows, _ = normal(5, 1)
    for candidate in CANDIDATES:
        if candidate.unsuited(fitted, None) is None:
            scores(candidate.name, fitted, None, rows)


def test_ten_thousand_classes_are_fitted_and_scored() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(10_000), 2)
    z = generator.normal(size=(10_000, 16))[labels] + generator.normal(0, 0.1, (20_000, 16))
    logits = generator.normal(size=(200, 10_000)).astype(np.float32)
    fitted = Features(z.astype(np.float32))
    for name in ("mahalanobis", "relative_mahalanobis"):
        scores(name, fitted, labels, fitted[np.arange(200)])
    for name in ("msp", "energy", "gen"):
        scores(name, Features(logits=logits), None, Features(logits=logits))


def test_float16_features_score_as_the_same_numbers_in_float32_do() -> None:
    fitted, labels = normal(100)
    narrow: dict[str, Any] = {name: matrix.astype(np.float16) for name, matrix in fitted.parts()}
    half = Features(**narrow)
    same = Features(**{name: matrix.astype(np.float32) for name, matrix in narrow.items()})
    for candidate in CANDIDATES:
        first, second = (scores(candidate.name, rows, labels, rows) for rows in (half, same))
        np.testing.assert_array_equal(first, second)


def test_float16_features_whose_squares_overflow_are_no_trouble() -> None:
    z = (np.random.default_rng(0).normal(size=(60, D)) * 20_000).clip(-60_000, 60_000).astype(np.float16)
    for name in ("mahalanobis", "knn"):
        assert scores(name, Features(z), None, Features(z)).max() < STRANGEST


@pytest.mark.parametrize(
    ("name", "bad"),
    # A missing input is normal for a table.
    [(c.name, bad) for c in CANDIDATES for bad in (np.nan, np.inf, -np.inf) if (c.name, str(bad)) != ("tails", "nan")],
)
def test_rows_with_nan_or_infinity_are_as_strange_as_can_be(name: str, bad: float) -> None:
    fitted, labels = normal(100)
    rows, _ = normal(3, 1)
    for _, matrix in rows.parts():
        matrix[1, 0] = bad
    found = scores(name, fitted, labels, rows)
    assert found[1] == np.float32(STRANGEST)
    assert (found[[0, 2]] < STRANGEST).all()


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
def test_rows_with_infinity_are_not_fitted_on(candidate: Any) -> None:
    fitted, labels = normal(101)
    rows, _ = normal(20, 1)
    for _, matrix in fitted.parts():
        matrix[100] = np.inf
    clean = fitted[np.arange(100)]
    found, expected = scores(candidate.name, fitted, labels, rows), scores(candidate.name, clean, labels[:100], rows)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02)


def test_a_detector_without_a_usable_row_says_so() -> None:
    empty = Features(np.full((5, 2), np.nan), np.full((5, 2), np.nan), np.full((5, 2), np.inf))
    for candidate in CANDIDATES:
        assert "free of NaN" in str(candidate.unsuited(empty, None))
    assert BY_NAME["msp"].unsuited(Features(np.ones((2, 2))), None) == "there are no logits"


def test_energy_of_probabilities_says_nothing_and_is_left_out() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 5))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert "probabilities" in str(BY_NAME["energy"].unsuited(Features(logits=np.log(probabilities)), None))
    assert BY_NAME["energy"].unsuited(Features(logits=logits), None) is None


def test_a_sure_model_keeps_scores_apart() -> None:
    logits = np.zeros((40, 3), np.float32)
    logits[:, 1] = np.linspace(20, 80, 40)
    for name in ("msp", "gen"):
        assert (np.diff(scores(name, Features(logits=logits), None, Features(logits=logits))) < 0).all()


def test_a_sigmoid_gives_the_probabilities_of_two_logits() -> None:
    single = np.array([[-3.0], [0.0], [2.0]])
    pair = two_sided(single)
    np.testing.assert_allclose([direct.softmax(row)[1] for row in pair], 1 / (1 + np.exp(-single[:, 0])))
    assert two_sided(pair) is pair


def test_features_that_are_no_matrix_or_differ_in_rows_are_refused() -> None:
    with pytest.raises(PublishError, match=r"z: expected a matrix of numbers, got float64 \[3\]"):
        Features(np.zeros(3))
    with pytest.raises(PublishError, match="differ in rows"):
        Features(np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(PublishError, match="nothing to score"):
        Features()


finite = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 12), st.integers(1, 4))
def test_no_features_whatever_give_nan(data: st.DataObject, n: int, d: int) -> None:
    def matrix(elements: Any) -> Any:
        return data.draw(hnp.arrays(np.float32, (n, d), elements=elements))

    labels = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, 3)))
    space: Any = data.draw(st.sampled_from(["features", "inputs"]))
    fitted = Features(matrix(finite), two_sided(matrix(finite)), matrix(finite | st.just(np.nan)), space)
    anything = st.floats(width=32)
    rows = Features(matrix(anything), two_sided(matrix(anything)), matrix(anything), space)
    for candidate in CANDIDATES:
        if candidate.unsuited(fitted, labels) is None:
            scores(candidate.name, fitted, labels, rows)


@pytest.mark.alone
def test_the_tails_of_400_images_of_96_by_96_take_seconds_and_no_more_memory_than_a_few_copies() -> None:
    draw = np.random.default_rng(0)
    images = Features(inputs=draw.integers(0, 256, (400, 96 * 96 * 3)).astype(np.float32))
    started = time.process_time()
    parameters = BY_NAME["tails"].fit(images[:200], None)
    found = BY_NAME["tails"].score(images[200:], parameters)
    assert time.process_time() - started < 10
    # A column's tails are those that it has alone.
    one = Features(inputs=images.get("inputs")[:200, 500:501])
    alone = BY_NAME["tails"].fit(one, None)
    np.testing.assert_array_equal(alone.knots, parameters.knots[500:501, : alone.knots.shape[1]])
    assert np.isfinite(found).all()


def test_features_too_wide_for_a_covariance_are_said_to_be() -> None:
    wide = Features(np.zeros((3, 5000), np.float32))
    for name in ("mahalanobis", "relative_mahalanobis"):
        assert BY_NAME[name].unsuited(wide, None) == "5,000 features are too many for a covariance (at most 4,096)"
    assert BY_NAME["knn"].unsuited(wide, None) is None
