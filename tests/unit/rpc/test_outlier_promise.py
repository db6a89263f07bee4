from __future__ import annotations

from typing import Any

import pytest

from hoverboard.rpc.outlier_promise import promise


def manifest(detector: str, **changes: Any) -> dict[str, Any]:
    found = {
        "detector": detector,
        "alpha": 0.01,
        "bound": 0.0166,
        "calibration_points": 2840,
        "space": "features",
        "layer": "drop",
        "classes_left_out": 18,
        "auroc": {detector: 0.9518},
    }
    return {"outliers": found | changes}


@pytest.mark.parametrize(
    ("detector", "changes", "where"),
    [
        ("mahalanobis", {}, "the model's features (layer drop)"),
        ("knn", {"space": "inputs", "layer": None}, "the model's inputs"),
        ("energy", {}, "the model's logits"),
        ("tails", {}, "the model's numeric inputs"),
    ],
)
def test_it_says_what_the_detector_looks_at(detector: str, changes: dict[str, Any], where: str) -> None:
    assert f"Detector: {detector}, looking at {where}. " in str(promise(manifest(detector, **changes)))


def test_it_says_how_many_points_set_the_level_and_how_far_the_true_share_may_be_off() -> None:
    said = str(promise(manifest("energy")))
    assert "about 1.00% are called outliers. The level was set by 2,840 samples" in said
    assert "with 95% confidence the true share is below 1.66%" in said
    assert said.endswith(
        "It told 18 classes that were left out of its fit, though the model had learned them, from the rest "
        "with a mean AUROC of 0.952."
    )


def test_without_classes_there_is_no_auroc_to_tell_of() -> None:
    assert "AUROC" not in str(promise(manifest("mahalanobis", auroc={"mahalanobis": None}, classes_left_out=0)))


def test_a_version_without_calibration_says_so() -> None:
    assert promise({}) == "It was published without calibration samples: p_value and outlier are null."
    assert promise(None) is None
