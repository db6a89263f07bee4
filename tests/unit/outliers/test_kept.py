"""Features of the calibration samples: kept with a version, as many as fit, and read back as they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.errors import VersionRefused
from hoverboard.outliers import CALIBRATION_FILE, CalibrationFeatures, Features, load_features, save_features


def features(rows: int, width: int = 3) -> Features:
    return Features(z=np.arange(rows * width, dtype=np.float32).reshape(rows, width))


def kept(rows: int = 10) -> CalibrationFeatures:
    made = CalibrationFeatures.of(features(rows), np.arange(rows) % 3, np.array([1, 4]))
    assert made is not None
    return made


def test_they_survive_the_disk_byte_for_byte(tmp_path: Path) -> None:
    once = kept()
    save_features(once, tmp_path / CALIBRATION_FILE)
    first = (tmp_path / CALIBRATION_FILE).read_bytes()
    again = load_features(tmp_path)
    assert again is not None
    np.testing.assert_array_equal(again.z, features(10).z)
    assert again.z.dtype == np.float16
    assert again.classes.tolist() == [0, 1, 2] * 3 + [0]
    assert np.flatnonzero(again.calibrates).tolist() == [1, 4]
    assert again.rows == 10
    save_features(kept(), tmp_path / CALIBRATION_FILE)
    assert (tmp_path / CALIBRATION_FILE).read_bytes() == first


def test_what_float16_cannot_hold_is_its_largest_number_and_nan_stays(tmp_path: Path) -> None:
    z = np.array([[1e9, -np.inf, np.nan]], np.float32)
    made = CalibrationFeatures.of(Features(z=z), None, np.array([0]))
    assert made is not None
    np.testing.assert_array_equal(made.z, [[65504, -65504, np.nan]])
    assert made.classes.tolist() == [-1]


def test_of_too_many_the_same_ones_are_drawn_each_time_and_20_mb_are_never_passed() -> None:
    wide = features(700, 20_000)
    one, two = (CalibrationFeatures.of(wide, None, np.arange(350)) for _ in range(2))
    assert one is not None
    assert two is not None
    assert (len(one.z), one.rows, one.z.nbytes) == (500, 700, 20_000_000)
    np.testing.assert_array_equal(one.z, two.z)
    # The share that calibrated is about that of all: it is no prefix.
    assert 200 < one.calibrates.sum() < 300


def test_without_features_there_is_nothing_to_keep_nor_to_read(tmp_path: Path) -> None:
    assert CalibrationFeatures.of(Features(logits=np.zeros((4, 2))), None, np.array([0])) is None
    assert load_features(tmp_path) is None


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"classes": np.zeros(3, np.int32)}, "do not fit together"),
        ({"z": np.zeros((10, 3), np.float32)}, "do not fit together"),
        ({"rows": 9}, "do not fit together"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, broken: dict[str, object], said: str) -> None:
    save_features(replace(kept(), **broken), tmp_path / CALIBRATION_FILE)  # type: ignore[arg-type]
    with pytest.raises(VersionRefused, match=f"calibration.npz: its arrays {said}"):
        load_features(tmp_path)


def test_a_newer_format_and_a_damaged_file_are_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / CALIBRATION_FILE
    arrays: dict[str, Any] = {
        "z": np.zeros((1, 1), np.float16),
        "classes": np.zeros(1, np.int32),
        "calibrates": np.zeros(1, bool),
    }
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, numbers=np.array([2, 1]), **arrays)
    with pytest.raises(VersionRefused, match="format 2 is newer than this Hoverboard's 1: upgrade"):
        load_features(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VersionRefused, match=r"^calibration\.npz: "):
        load_features(tmp_path)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    with pytest.raises(VersionRefused, match="numbers is missing"):
        load_features(tmp_path)
