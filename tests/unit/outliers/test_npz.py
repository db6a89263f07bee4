from __future__ import annotations

import io
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.errors import VersionRefused
from hoverboard.outliers import BY_NAME, CANDIDATES, Calibrated, OutlierPackage, load_package, save_package
from hoverboard.outliers import npz as module
from tests.unit.outliers.test_detectors import normal


@pytest.fixture(scope="module")
def package() -> OutlierPackage:
    fitted, labels = normal(200)
    calibration, _ = normal(199, 1)
    detectors = {}
    for candidate in CANDIDATES:
        parameters = candidate.fit(fitted, labels)
        scores = np.sort(candidate.score(calibration, parameters))
        detectors[candidate.name] = Calibrated(candidate.name, parameters, scores, 0.9)
    detectors["msp"] = replace(detectors["msp"], auroc=None)
    return OutlierPackage(
        alpha=0.01,
        chosen="relative_mahalanobis",
        reason="because",
        detectors=detectors,
        space="features",
        layer="hidden",
        fitted=200,
        unsuited={"other": "so"},
        left_out=4,
        notes=("a note",),
    )


def test_a_package_survives_the_disk_and_scores_exactly_as_before(tmp_path: Path, package: OutlierPackage) -> None:
    save_package(package, tmp_path / "outliers.npz")
    again = load_package(tmp_path / "outliers.npz")
    rows, _ = normal(50, 2)
    for name, detector in package.detectors.items():
        np.testing.assert_array_equal(again.detectors[name].score(rows), detector.score(rows))
        np.testing.assert_array_equal(again.detectors[name].calibration, detector.calibration)
        scores = detector.score(rows)
        np.testing.assert_array_equal(again.detectors[name].p_values(scores), detector.p_values(scores))
    assert replace(again, detectors={}) == replace(package, detectors={})
    assert again.summary() == package.summary()


def test_the_same_package_gives_the_same_bytes(tmp_path: Path, package: OutlierPackage) -> None:
    for name in ("a.npz", "b.npz"):
        save_package(package, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_what_two_detectors_share_is_stored_once(tmp_path: Path, package: OutlierPackage) -> None:
    save_package(package, tmp_path / "outliers.npz")
    with np.load(tmp_path / "outliers.npz") as arrays:
        matrices = [name for name in arrays.files if arrays[name].shape == (7, 7)]
    assert len(matrices) == 2  # the shared covariance and the background


def test_the_summary_is_json_and_states_the_promise(package: OutlierPackage) -> None:
    summary = json.loads(json.dumps(package.summary()))
    assert summary["detector"] == "relative_mahalanobis"
    assert summary["calibration_points"] == 199
    assert summary["bound"] == pytest.approx(package.bound, abs=1e-6)
    assert summary["smallest_alpha"] == 0.005
    assert summary["auroc"]["msp"] is None
    assert summary["layer"] == "hidden"


def rewritten(path: Path, **changes: Any) -> None:
    """The file with other arrays, or with other entries of `meta`."""
    with np.load(path) as arrays:
        stored = {name: arrays[name] for name in arrays.files}
    meta = json.loads(stored["meta"].tobytes())
    for name, value in changes.items():
        if isinstance(value, np.ndarray):
            stored[meta["arrays"][name.replace("__", "/")]] = value
        else:
            meta[name] = value
    stored["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, **stored)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 3}, "format 3 is newer than this server's 2: upgrade the server"),
        ({"chosen": "vim"}, "the chosen detector 'vim' is not in it"),
        ({"auroc": {"vim": 0.5}}, "detector 'vim' is not known"),
        ({"alpha": 0.001}, "alpha 0.001 is none that its calibration points can tell"),
        ({"alpha": "small"}, "Expected `float`"),
        ({"more": 1}, "unknown field `more`"),
        ({"knn__calibration": np.array([2.0, 1.0])}, "knn/calibration: expected ascending scores"),
        ({"knn__calibration": np.array([1.0, np.nan])}, "knn/calibration: expected finite numbers"),
        ({"knn__calibration": np.array([1.0])}, "detectors differ in calibration points"),
        ({"knn__bank": np.zeros((3, 4), np.float16)}, r"centre has shape \[7\], expected \[4\]"),
        ({"knn__k": np.array(1000)}, "k is 1000 of 200 rows"),
        ({"mahalanobis__means": np.zeros((4, 3))}, r"means has shape \[4, 3\], expected \[4, 7\]"),
        ({"tails__heights": np.zeros((1, 3))}, "heights has shape"),
        ({"tails__heights": np.array(["a"])}, "tails/heights: expected finite numbers"),
        ({"arrays": {}}, "calibration is missing"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused_by_name(
    tmp_path: Path, package: OutlierPackage, changes: dict[str, Any], words: str
) -> None:
    save_package(package, tmp_path / "outliers.npz")
    rewritten(tmp_path / "outliers.npz", **changes)
    with pytest.raises(VersionRefused, match=words) as refused:
        load_package(tmp_path / "outliers.npz")
    assert refused.value.check == "outliers"
    assert str(refused.value).startswith("outliers.npz: ")


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was loaded",))


def test_pickles_are_never_loaded(tmp_path: Path, package: OutlierPackage) -> None:
    path = tmp_path / "outliers.npz"
    save_package(package, path)
    body = io.BytesIO()
    np.lib.format.write_array_header_1_0(body, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("evil.npy", body.getvalue() + pickle.dumps(Trap()))
    with pytest.raises(VersionRefused, match="allow_pickle"):
        load_package(path)


def test_a_file_that_unpacks_to_too_much_is_refused_unread(
    tmp_path: Path, package: OutlierPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_package(package, tmp_path / "outliers.npz")
    monkeypatch.setattr(module, "MOST_BYTES", 1 << 10)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(VersionRefused, match="holds more than 0 MiB"):
        load_package(tmp_path / "outliers.npz")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "outliers.npz").write_bytes(content)
    with pytest.raises(VersionRefused, match=r"outliers\.npz: "):
        load_package(tmp_path / "outliers.npz")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VersionRefused, match="No such file"):
        load_package(tmp_path / "outliers.npz")


def test_every_byte_that_is_damaged_is_noticed_or_harmless(tmp_path: Path, package: OutlierPackage) -> None:
    path = tmp_path / "outliers.npz"
    small = replace(package, chosen="msp", detectors={"msp": package.detectors["msp"]})
    save_package(small, path)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for place in generator.choice(len(whole), min(300, len(whole)), replace=False):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            load_package(path)
        except VersionRefused:
            refused += 1
    assert refused > 100


def test_every_candidate_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(CANDIDATES)
