from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hoverboard.contract.signature import Array
from hoverboard.errors import PublishError
from hoverboard.outliers import STRANGEST, Features, OutlierPackage
from hoverboard.publishing import calibration as module
from hoverboard.publishing.calibration import calibrate, class_indexes
from hoverboard.publishing.calibration_file import CalibrationRows

CLASSES = ("ant", "bee", "cat", "dog")
D = 6
MEANS = np.random.default_rng(11).normal(0, 3, (len(CLASSES), D))


def model(columns: Sequence[Array]) -> Features:
    """Features are the input; logits are what a linear discriminant makes of them."""
    (x,) = columns
    logits = x @ MEANS.T - (MEANS**2).sum(axis=1) / 2
    return Features(x, logits.astype(np.float32), x[:, :2])


def rows(n: int, seed: int = 0, *, labelled: bool = True, classes: int = len(CLASSES)) -> CalibrationRows:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    x = (MEANS[labels] + generator.normal(size=(n, D))).astype(np.float32)
    return CalibrationRows((x,), [CLASSES[label] for label in labels] if labelled else None)


def same(first: OutlierPackage, second: OutlierPackage) -> bool:
    return first.chosen == second.chosen and all(
        np.array_equal(first.detectors[name].calibration, second.detectors[name].calibration)
        for name in first.detectors
    )


def test_half_fits_and_half_calibrates_and_strange_samples_are_flagged() -> None:
    package = calibrate(model, rows(1001), classes=CLASSES, layer="hidden")
    assert (package.fitted, package.points) == (500, 501)
    assert set(package.detectors) == {"mahalanobis", "relative_mahalanobis", "tails", "gen", "energy", "msp", "knn"}
    assert all(detector.auroc is not None for detector in package.detectors.values())
    assert (package.left_out, package.layer, package.space) == (4, "hidden", "features")
    assert package.notes == ("calibration: the model agrees with 100.0% of the labels",)
    fresh, strange = model(rows(4000, 1).columns), model([np.full((50, D), -9, np.float32)])
    detector = package.detectors["mahalanobis"]
    assert (detector.p_values(detector.score(fresh)) <= package.alpha).mean() < package.bound
    assert (detector.p_values(detector.score(strange)) <= package.alpha).all()


def test_calibration_scores_are_those_of_rows_never_fitted_on() -> None:
    data = rows(400)
    package = calibrate(model, data, classes=CLASSES, seed=3)
    scores = package.detectors["knn"].score(model(data.columns))
    # A fitted row is its own neighbour, but for the bank's float16.
    assert int((scores < 5e-3).sum()) == package.fitted == 200
    assert package.detectors["knn"].calibration.min() > 5e-3


def test_calibration_points_have_no_say_in_the_choice() -> None:
    data = rows(400)
    taken = np.sort(module._halves(400, class_indexes(data.labels or (), CLASSES), 0.01, 0)[1])
    other = data.columns[0].copy()
    other[taken] = np.random.default_rng(0).normal(size=(len(taken), D))
    before = calibrate(model, data, classes=CLASSES)
    # The labels hold still, so that the same rows are taken; what the model sees of those rows does not.
    after = calibrate(model, CalibrationRows((other,), data.labels), classes=CLASSES)
    assert {n: d.auroc for n, d in before.detectors.items()} == {n: d.auroc for n, d in after.detectors.items()}
    assert not same(before, after)


def test_a_detector_asked_for_is_taken_and_the_reason_says_what_would_have_been() -> None:
    free = calibrate(model, rows(1001), classes=CLASSES)
    package = calibrate(model, rows(1001), classes=CLASSES, detector="tails")
    assert (free.chosen, package.chosen) == ("mahalanobis", "tails")
    mean, best = (one.auroc for one in (package.detectors["tails"], package.detectors["mahalanobis"]))
    assert package.reason == (
        f"asked for when this was published; mean AUROC of left-out classes {mean:.3f}, of mahalanobis {best:.3f}"
    )
    assert package.left_out == 4
    assert all(
        np.array_equal(free.detectors[name].calibration, package.detectors[name].calibration) for name in free.detectors
    )


def test_a_detector_may_be_asked_for_where_no_class_can_be_left_out() -> None:
    package = calibrate(model, rows(400, classes=1), classes=CLASSES, detector="energy")
    assert (package.chosen, package.reason) == ("energy", "asked for when this was published")


def test_a_detector_that_there_is_not_or_that_does_not_suit_is_refused() -> None:
    with pytest.raises(PublishError, match="detector 'nergy': there is none of that name; there are mahalanobis, "):
        calibrate(model, rows(400), classes=CLASSES, detector="nergy")
    with pytest.raises(PublishError, match="detector 'energy' does not suit: "):
        calibrate(lambda columns: Features(columns[0], None, None), rows(400, labelled=False), detector="energy")


def test_each_class_has_its_share_of_the_calibration_points() -> None:
    labels = np.repeat([0, 1, 2], [300, 41, 6])
    first, second = module._halves(347, labels, 0.01, 0)
    assert sorted([*first, *second]) == list(range(347))
    assert (np.abs(np.bincount(labels[second]) - np.array([300, 41, 6]) / 2) <= 1).all()


def test_every_row_has_the_same_chance_to_be_a_calibration_point() -> None:
    labels = np.repeat([0, 1, 2], [100, 30, 1])
    times = np.zeros(131)
    for seed in range(2000):
        times[module._halves(131, labels, 0.01, seed)[1]] += 1
    expected = 99 / 131
    assert np.abs(times / 2000 - expected).max() < 5 * np.sqrt(expected * (1 - expected) / 2000)


def test_the_same_seed_gives_the_same_package_and_another_does_not() -> None:
    packages = [calibrate(model, rows(300), classes=CLASSES, seed=seed) for seed in (1, 1, 2)]
    assert same(packages[0], packages[1])
    assert not same(packages[0], packages[2])


def test_with_data_of_its_own_fitting_leaves_half_to_choose_and_half_to_calibrate() -> None:
    package = calibrate(model, rows(300), classes=CLASSES, fitting=rows(2000, 5))
    assert (package.fitted, package.points) == (2000, 150)
    assert package.detector.auroc is not None
    assert package.detectors["knn"].parameters.bank.shape == (2000, D)
    assert any(note.startswith("fitting: the model agrees") for note in package.notes)


def test_more_are_kept_for_calibration_where_alpha_needs_it() -> None:
    package = calibrate(model, rows(130), classes=CLASSES, alpha=0.01)
    assert (package.points, package.fitted) == (99, 31)


def test_too_few_samples_are_refused_with_how_many_it_takes() -> None:
    with pytest.raises(PublishError, match=r"alpha 0\.01 needs at least 99 calibration points.*there are 60"):
        calibrate(model, rows(60), classes=CLASSES)
    with pytest.raises(PublishError, match=r"99 calibration points, and fitting at least 20 others: 119 samples.* 110"):
        calibrate(model, rows(110), classes=CLASSES)
    assert calibrate(model, rows(60), classes=CLASSES, alpha=0.05).points == 30


def test_an_empty_file_and_an_empty_fitting_file_are_refused() -> None:
    with pytest.raises(PublishError, match="there are 0"):
        calibrate(model, rows(0), classes=CLASSES)
    with pytest.raises(PublishError, match="fitting: there are no samples"):
        calibrate(model, rows(200), classes=CLASSES, fitting=rows(0))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["ant"] * 150, "150 labels for 200 samples"),
        (
            ["ant"] * 7 + ["eel"] + ["ant"] * 192,
            "row 7 .counted from 0.: label 'eel' is none of the model's 4: ant, bee, cat, dog",
        ),
        ([0] * 3 + [4] + [0] * 196, "row 3 .counted from 0.: label 4 is none of the model's 4"),
        ([None] * 200, "row 0 .counted from 0.: label None is none"),
        ([True] * 200, "row 0 .counted from 0.: label True is none"),
        ([0.5] * 200, "row 0 .counted from 0.: label 0.5 is none"),
    ],
)
def test_labels_that_are_not_the_models_are_refused_by_name(labels: list[Any], words: str) -> None:
    with pytest.raises(PublishError, match=words):
        calibrate(model, CalibrationRows(rows(200).columns, labels), classes=CLASSES)


def test_labels_in_another_order_are_refused() -> None:
    data = rows(200)
    turned = [CLASSES[(CLASSES.index(label) + 1) % 4] for label in data.labels or ()]
    with pytest.raises(PublishError, match=r"agrees with 0\.\d% of the labels, guessing would with 25\.0%"):
        calibrate(model, CalibrationRows(data.columns, turned), classes=CLASSES)


def test_names_and_indexes_are_labels_alike() -> None:
    found = class_indexes(["cat", b"dog", 0, np.int64(1), 2.0, np.float32(3)], CLASSES)
    assert found.tolist() == [2, 3, 0, 1, 2, 3]
    # Where class names are numbers, names go first.
    assert class_indexes(["1", 1, 0], ("1", "0")).tolist() == [0, 0, 1]


def test_labels_may_be_an_array_of_class_indexes() -> None:
    data = rows(400)
    indexes = class_indexes(data.labels or (), CLASSES)
    package = calibrate(model, CalibrationRows(data.columns, indexes), classes=CLASSES)
    assert same(package, calibrate(model, data, classes=CLASSES))


def test_without_labels_a_classifiers_predictions_stand_for_them() -> None:
    package = calibrate(model, rows(300, labelled=False), classes=CLASSES)
    assert package.left_out == 4
    assert package.notes == ("calibration: no labels were given, the model's own predictions stand for them",)


def test_a_regression_takes_the_first_that_suits_and_its_values_are_no_classes() -> None:
    data = rows(300)
    priced = CalibrationRows(data.columns, np.linspace(0, 9, 300).tolist())
    package = calibrate(lambda columns: Features(columns[0], None, columns[0]), priced)
    assert package.chosen == "mahalanobis"
    assert package.reason.startswith("there are no classes to leave out: the first that suits")
    assert (package.left_out, package.detector.auroc) == (0, None)
    assert package.unsuited["relative_mahalanobis"].startswith("with a single class")
    assert package.unsuited["msp"] == "there are no logits"


def test_a_model_whose_features_are_inputs_names_no_layer() -> None:
    package = calibrate(lambda columns: Features(columns[0], space="inputs"), rows(300), layer="hidden")
    assert (package.space, package.layer) == ("inputs", None)


def test_one_class_is_calibrated_without_leaving_any_out() -> None:
    package = calibrate(model, rows(300, classes=1), classes=CLASSES)
    assert package.reason.startswith("there are too few classes to leave one out")
    assert package.chosen == "mahalanobis"


def test_two_samples_a_class_are_calibrated() -> None:
    generator = np.random.default_rng(0)
    names = [str(index) for index in range(100)]
    means = generator.normal(0, 5, (100, D))
    data = CalibrationRows(
        (means.repeat(2, axis=0) + generator.normal(0, 0.1, (200, D)),), np.repeat(names, 2).tolist()
    )
    package = calibrate(lambda columns: Features(columns[0]), data, classes=names)
    assert all(np.isfinite(detector.calibration).all() for detector in package.detectors.values())


def test_constant_features_are_calibrated_and_whatever_differs_is_flagged() -> None:
    data = CalibrationRows((np.ones((300, 3), np.float32),), ["ant", "bee"] * 150)
    package = calibrate(lambda columns: Features(columns[0]), data, classes=CLASSES)
    other = Features(np.array([[1, 1, 1], [1, 2, 1]], np.float32))
    detector = package.detectors["mahalanobis"]
    assert detector.p_values(detector.score(other)).tolist() == pytest.approx([1, 1 / (package.points + 1)])


def test_normal_samples_that_cannot_be_scored_are_counted_and_stated() -> None:
    def overflowing(columns: Sequence[Array]) -> Features:
        z = columns[0].astype(np.float16)
        z[z[:, 1] > np.median(rows(1000).columns[0][:, 1]) + 4] = np.inf
        return Features(z)

    package = calibrate(overflowing, rows(1000), classes=CLASSES)
    count = int((package.detector.calibration == np.float32(STRANGEST)).sum())
    assert count > 0
    assert package.notes[-1].startswith(
        f"{count} of 500 calibration points have features that are NaN, infinite or too large"
    )


def test_a_model_that_gives_only_nan_is_refused() -> None:
    with pytest.raises(PublishError, match="no detector suits: mahalanobis: no row of the features is free of NaN"):
        calibrate(lambda columns: Features(columns[0] * np.nan), rows(300), classes=CLASSES)


def test_samples_beyond_what_memory_holds_are_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NUMBERS", 1200 * (D + len(CLASSES) + 2))
    package = calibrate(model, rows(3000), classes=CLASSES)
    assert package.fitted + package.points == 1200
    assert package.notes[0] == "calibration: 1200 of 3000 samples, drawn at random: no more fit in memory"


def test_the_model_is_run_on_few_rows_at_a_time_and_must_answer_for_each() -> None:
    sizes = []

    def spied(columns: Sequence[Array]) -> Features:
        sizes.append(len(columns[0]))
        return model(columns)

    calibrate(spied, rows(600), classes=CLASSES)
    assert sizes == [1, 256, 256, 88]
    with pytest.raises(PublishError, match="features of 255 rows for 256 samples"):
        calibrate(lambda columns: model([columns[0][: max(1, len(columns[0]) - 1)]]), rows(600), classes=CLASSES)


def test_many_copies_among_the_samples_are_said() -> None:
    once = rows(300)
    again = CalibrationRows((np.concatenate([once.columns[0], once.columns[0][:100]]),), None)
    assert "100 of 400 rows are the same as another" in calibrate(model, again).notes[0]
    assert not any("same as another" in note for note in calibrate(model, rows(300, labelled=False)).notes)


def test_progress_is_told_stage_by_stage_from_start_to_end() -> None:
    told: list[tuple[str, float]] = []
    calibrate(model, rows(600), classes=CLASSES, progress=lambda stage, share: told.append((stage, share)))
    assert list(dict.fromkeys(stage for stage, _ in told)) == ["features", "choosing", "fitting"]
    for stage in ("features", "choosing", "fitting"):
        shares = [share for known, share in told if known == stage]
        assert shares == sorted(shares)
        assert shares[-1] == 1
