"""What confidences are worth is learned from labelled rows, and holds for rows that nobody labelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoverboard.postmortem.calibration import LEAST_ROWS, Values, expected_error, fit, isotonic
from hoverboard.postmortem.confidences import judge_confidence


def truth(confidence: Values) -> Values:
    """An over-confident version: right less often than it says."""
    return np.asarray(confidence**2)


def drawn(rows: int, seed: int) -> tuple[Values, Values]:
    """Ascending confidences and whether each was right."""
    draw = np.random.default_rng(seed)
    confidence = np.sort(draw.beta(5, 1.5, rows))
    return confidence, (draw.random(rows) < truth(confidence)).astype(np.float64)


@pytest.mark.parametrize(("rows", "method"), [(300, "logistic"), (5000, "isotonic")])
def test_the_accuracy_of_other_rows_is_told_by_their_confidences(rows: int, method: str) -> None:
    everything, _ = drawn(20_000, 0)
    found = []
    for seed in range(1, 41):
        confidence, right = drawn(rows, seed)
        learned = fit(confidence, right, np.ones(rows), rows)
        assert learned.method == method
        found.append(float(learned(everything).mean()))
    expected = float(truth(everything).mean())
    # Within chance of what a random sample of labels would tell, and unbiased over the draws; the published mean is far off.
    assert np.std(found) < 1.2 * np.sqrt(expected * (1 - expected) / rows)
    assert np.mean(found) == pytest.approx(expected, abs=3 * np.std(found) / np.sqrt(len(found)))
    assert everything.mean() > expected + 0.1


def test_labels_of_the_unsure_ones_only_bias_the_share_and_not_the_estimate() -> None:
    draw = np.random.default_rng(9)
    confidence, right = drawn(20_000, 8)
    chosen = draw.random(len(confidence)) < np.where(confidence < 0.7, 0.5, 0.03)
    learned = fit(confidence[chosen], right[chosen], np.ones(chosen.sum()), float(chosen.sum()))
    assert right[chosen].mean() < right.mean() - 0.15
    assert learned(confidence).mean() == pytest.approx(right.mean(), abs=0.02)


def test_too_few_rows_leave_the_published_confidence_as_it_is() -> None:
    confidence, right = drawn(LEAST_ROWS - 1, 1)
    learned = fit(confidence, right, np.ones(len(right)), len(right))
    assert learned.method == "published"
    assert learned(confidence).tolist() == confidence.tolist()


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_rows_that_are_all_right_or_all_wrong_make_no_certainty(right: float) -> None:
    confidence = np.full(100, 0.9)
    learned = fit(confidence, np.full(100, right), np.ones(100), 100)
    assert abs(float(learned(np.array([0.9]))[0]) - right) == pytest.approx(1 / 102, abs=0.002)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 10)), min_size=1, max_size=40))
def test_isotonic_never_decreases_and_keeps_the_mean(cells: list[tuple[float, float]]) -> None:
    values, weight = np.array(cells).T
    found = isotonic(values, weight)
    assert (np.diff(found) >= -1e-12).all()
    assert found @ weight == pytest.approx(values @ weight)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.integers(0, 100))
def test_nothing_that_does_not_decrease_is_nearer(values: list[float], seed: int) -> None:
    given_values, weight = np.array(values), np.ones(len(values))
    found = isotonic(given_values, weight)
    other = np.sort(np.random.default_rng(seed).random(len(values)))
    assert ((found - given_values) ** 2).sum() <= ((other - given_values) ** 2).sum() + 1e-12


def test_a_calibrated_version_shows_no_more_than_chance() -> None:
    draw = np.random.default_rng(4)
    confidences, rows = np.linspace(0.55, 0.95, 5), np.full(5, 200.0)
    found = [expected_error(confidences, draw.binomial(200, confidences) / 200, rows, rows) for _ in range(300)]
    assert np.mean([ece for ece, _ in found]) == pytest.approx(found[0][1], rel=0.1)
    assert expected_error(confidences, confidences - 0.1, rows, rows)[0] == pytest.approx(0.1)


def counted(confidence: Values, right: Values | None) -> list[dict[str, Any]]:
    """Rows as the statements of quality.sql count them, each with a weight of 1."""
    found: dict[tuple[int, int, bool | None], list[float]] = {}
    inside = np.clip(confidence, 1e-6, 1 - 1e-6)
    places = np.floor(50 * np.log(inside / (1 - inside))).astype(int)
    for row, score in enumerate(confidence.tolist()):
        correct = None if right is None else bool(right[row])
        found.setdefault((int(places[row]), min(int(score * 10), 9), correct), []).append(score)
    return [
        {
            "bin": bin_,
            "tenth": tenth,
            "correct": correct,
            "w": 1.0,
            "rows": len(all_),
            "weight": len(all_),
            "score": sum(all_),
        }
        for (bin_, tenth, correct), all_ in found.items()
    ]


@pytest.mark.parametrize("rows", [200, 1500], ids=["logistic", "isotonic"])
def test_the_interval_of_an_estimate_without_labels_covers_it(rows: int) -> None:
    """Also where labels are of the unsure answers; the truth is no logistic curve."""
    draw = np.random.default_rng(2)
    expected = float(truth(draw.beta(5, 1.5, 400_000)).mean())
    hits = []
    for _ in range(60):
        pool = draw.beta(5, 1.5, rows * 8)
        labelled = pool[draw.random(len(pool)) < np.where(pool < 0.7, 0.4, 0.08)]
        right = (draw.random(len(labelled)) < truth(labelled)).astype(np.float64)
        known = judge_confidence(counted(draw.beta(5, 1.5, 3000), None), counted(labelled, right), "classification")
        assert known is not None and known.estimate is not None
        hits.append(known.estimate.low <= expected <= known.estimate.high)
    # It covers in 92 to 93 of 100 of 300 draws; of 60, four standard errors fewer would be no chance.
    assert np.mean(hits) >= 0.8
