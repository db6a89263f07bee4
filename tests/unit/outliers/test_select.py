from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoverboard.outliers import CANDIDATES, Features
from hoverboard.outliers.features import two_sided
from hoverboard.outliers.select import (
    MOST_CLASSES,
    MOST_ROWS,
    TOLERANCE,
    Fold,
    auroc,
    choose,
    drawn,
    folds_of,
    leave_one_class_out,
)
from tests.unit.outliers import direct

scores = st.lists(st.integers(0, 6), min_size=1, max_size=15)


@given(scores, scores)
def test_auroc_is_the_share_of_pairs_in_order_ties_counting_half(normal: list[int], strange: list[int]) -> None:
    assert auroc(np.array(normal), np.array(strange)) == pytest.approx(direct.auroc(normal, strange))


def blobs(n: int, classes: int, d: int = 6, *, noise: float = 1.0) -> tuple[Features, Any]:
    generator = np.random.default_rng(5)
    labels = np.arange(n) % classes
    z = np.random.default_rng(6).normal(0, 4, (classes, d))[labels] + generator.normal(0, noise, (n, d))
    return Features(z, generator.normal(size=(n, classes)), generator.normal(size=(n, 2))), labels


def silent(share: float) -> None:
    pass


def test_folds_hold_every_row_once_and_their_share_of_each_class() -> None:
    features, labels = blobs(103, 4)
    marked = Features(np.arange(103)[:, None], features.logits)
    folds = folds_of(marked, labels, 0)
    assert len(folds) == 5
    scored = np.concatenate([fold.scoring.get("z")[:, 0] for fold in folds])
    assert sorted(scored) == list(range(103))
    for fold in folds:
        assert not set(fold.fitting.get("z")[:, 0]) & set(fold.scoring.get("z")[:, 0])
        assert (np.abs(np.bincount(fold.scoring_labels, minlength=4) - 103 / 20) <= 1.5).all()


def test_of_many_rows_ten_thousand_take_part_and_a_fifth_is_held_out() -> None:
    (fold,) = folds_of(Features(np.zeros((30_000, 1))), np.arange(30_000) % 3, 0)
    assert (len(fold.fitting), len(fold.scoring)) == (8000, 2000)
    assert len(drawn(30_000, 0)) == MOST_ROWS
    assert drawn(10, 0).tolist() == list(range(10))


def test_a_detector_that_separates_left_out_classes_is_chosen_over_noise() -> None:
    features, labels = blobs(400, 5)
    seen: list[float] = []
    found = leave_one_class_out(folds_of(features, labels, 0), progress=seen.append)
    choice = choose(found, [candidate.name for candidate in CANDIDATES], "")
    assert choice.name == "mahalanobis"
    assert choice.auroc["mahalanobis"] > 0.95
    assert abs(choice.auroc["tails"] - 0.5) < 0.1
    assert set(choice.by_class["knn"]) == set(range(5))
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_each_class_is_left_out_of_the_fit_and_of_the_logits() -> None:
    features, labels = blobs(200, 4)
    fits: list[tuple[Any, int]] = []

    class Spy:
        name = "mahalanobis"

        def unsuited(self, features: Features, labels: Any) -> None:
            return None

        def fit(self, features: Features, labels: Any) -> None:
            fits.append((sorted(set(labels.tolist())), features.get("logits").shape[1]))

        def score(self, features: Features, parameters: Any) -> Any:
            return np.zeros(len(features), np.float32)

    spies: Any = [Spy()]
    found = leave_one_class_out(folds_of(features, labels, 0), candidates=spies, progress=silent)
    assert fits[:4] == [([1, 2, 3], 3), ([0, 2, 3], 3), ([0, 1, 3], 3), ([0, 1, 2], 3)]
    assert found == {"mahalanobis": dict.fromkeys(range(4), 0.5)}


def test_a_left_out_class_is_scored_against_rows_that_were_not_fitted_on() -> None:
    z = np.array([[0.0], [1.0], [5.0], [6.0], [0.5], [5.5]])
    labels = np.array([0, 0, 1, 1, 0, 1])
    spied: list[list[float]] = []

    class Spy:
        name = "knn"

        def unsuited(self, features: Features, labels: Any) -> None:
            return None

        def fit(self, features: Features, labels: Any) -> None:
            spied.append(features.get("z")[:, 0].tolist())

        def score(self, features: Features, parameters: Any) -> Any:
            return features.get("z")[:, 0].astype(np.float32)

    fold = Fold(Features(z[:4]), labels[:4], Features(z[4:]), labels[4:])
    spies: Any = [Spy()]
    found = leave_one_class_out([fold], candidates=spies, progress=silent)
    assert spied == [[5, 6], [0, 1]]
    assert found == {"knn": {0: 0.0, 1: 1.0}}


def untrained(classes: int, columns: int) -> tuple[Features, Any]:
    """Features and logits of a model that knows nothing, and what it predicts: its logits are told apart by themselves."""
    generator = np.random.default_rng(8)
    logits = two_sided(generator.normal(size=(300, columns)))
    labels = generator.integers(0, classes, 300) if classes > 2 else logits.argmax(axis=1)
    return Features(generator.normal(size=(300, 4)), logits), labels


@pytest.mark.parametrize("columns", [1, 2], ids=["sigmoid", "softmax"])
def test_of_two_classes_none_is_left_out_of_the_logits_so_they_take_no_part(columns: int) -> None:
    features, labels = untrained(2, columns)
    found = leave_one_class_out(folds_of(features, labels, 0), progress=silent)
    assert set(found) == {"mahalanobis", "knn"}
    choice = choose(found, [candidate.name for candidate in CANDIDATES if candidate.name != "tails"], "")
    assert choice.name in found
    assert 0.4 < choice.auroc[choice.name] < 0.6


def test_of_three_classes_the_logits_of_two_take_part() -> None:
    features, labels = untrained(3, 3)
    found = leave_one_class_out(folds_of(features, labels, 0), progress=silent)
    assert {"msp", "energy", "gen"} <= found.keys()
    assert all(0.4 < value < 0.6 for value in found["energy"].values())


def test_two_classes_with_nothing_but_logits_leave_none_to_compare() -> None:
    features, labels = untrained(2, 2)
    assert leave_one_class_out(folds_of(Features(logits=features.logits), labels, 0), progress=silent) == {}


def test_a_detector_that_could_not_be_compared_does_not_win() -> None:
    choice = choose({"knn": {0: 0.1, 1: 0.1}}, ["gen", "energy", "msp", "knn"], "")
    assert choice.name == "knn"
    assert choice.auroc == {"knn": pytest.approx(0.1)}


def test_one_class_has_none_to_leave_out() -> None:
    features, _ = blobs(100, 2)
    assert leave_one_class_out(folds_of(features, np.zeros(100, np.int64), 0), progress=silent) == {}


def test_two_classes_with_two_samples_each_are_no_trouble() -> None:
    features, labels = blobs(4, 2)
    for values in leave_one_class_out(folds_of(features, labels, 0), progress=silent).values():
        assert all(0 <= value <= 1 for value in values.values())


def test_of_very_many_classes_twenty_are_left_out_always_the_same() -> None:
    features, labels = blobs(900, 60)
    some = [candidate for candidate in CANDIDATES if candidate.name == "mahalanobis"]
    first, second = (
        leave_one_class_out(folds_of(features, labels, 0), candidates=some, progress=silent) for _ in range(2)
    )
    assert len(first["mahalanobis"]) == MOST_CLASSES
    assert first == second


def test_without_classes_the_first_that_suits_is_taken_and_the_reason_says_so() -> None:
    choice = choose({}, ["msp", "tails", "knn"], "there are no classes to leave out")
    assert choice.name == "tails"
    assert choice.reason == ("there are no classes to leave out: the first that suits, in the order tails, msp, knn")
    assert choice.auroc == {}


def test_the_best_mean_is_taken() -> None:
    choice = choose({"mahalanobis": {0: 0.9, 1: 0.7}, "msp": {0: 0.8, 1: 0.9}}, ["mahalanobis", "msp"], "")
    assert (choice.name, choice.reason) == (
        "msp",
        "best at telling 2 left-out classes from the rest: mean AUROC 0.850",
    )


def test_of_two_that_are_as_good_the_preferred_one_is_taken_and_the_reason_says_so() -> None:
    near = 0.95 - TOLERANCE * 0.9
    choice = choose({"knn": {0: 0.95}, "mahalanobis": {0: near}}, ["mahalanobis", "knn"], "")
    assert choice.name == "mahalanobis"
    assert "within 0.01 of the best, 0.950" in choice.reason
    far = 0.95 - TOLERANCE * 1.1
    assert choose({"knn": {0: 0.95}, "mahalanobis": {0: far}}, ["mahalanobis", "knn"], "").name == "knn"
