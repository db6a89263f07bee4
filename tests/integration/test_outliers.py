"""From calibration samples to a promise that a product service can act on: published, served, recorded, scored offline."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.config import Settings
from hoverboard.contract.calls import PredictCall
from hoverboard.engine.engine import Engine
from hoverboard.engine.socket.client import EngineClient
from hoverboard.engine.socket.server import EngineServer
from hoverboard.errors import PublishError
from hoverboard.outliers import Features, load_features, load_package
from hoverboard.publishing import publish
from hoverboard.publishing.calibration_file import CalibrationRows
from hoverboard.versions import read_version
from tests.integration.recorded import Recorded, until
from tests.integration.running import HOVERBOARD, ROOT, environment
from tests.postgres import Server

SCALE = 8.0
CLASSES = ("north", "east", "south", "west")


def samples(rows: int, seed: int) -> tuple[Any, list[str]]:
    """Points near four corners of a square in six dimensions, and which corner."""
    draw = np.random.default_rng(seed)
    corners = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]], np.float32) * SCALE
    labels = draw.integers(0, 4, rows)
    points = draw.normal(size=(rows, 6)).astype(np.float32)
    points[:, :2] += corners[labels]
    return points, [CLASSES[label] for label in labels]


@pytest.fixture(scope="module")
def model() -> Any:
    """A classifier of them, trained in a second."""
    import keras

    keras.utils.set_random_seed(6)
    net = keras.Sequential(
        [
            keras.Input((6,), name="point"),
            keras.layers.Dense(16, activation="tanh", name="features"),
            keras.layers.Dense(4, activation="softmax", name="corner"),
        ]
    )
    net.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy())
    points, labels = samples(2000, 1)
    net.fit(points, np.array([CLASSES.index(label) for label in labels]), epochs=5, batch_size=64, verbose=0)
    return net


@pytest.fixture(scope="module")
def models(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 without calibration, version 2 with it."""
    root = tmp_path_factory.mktemp("calibrated") / "models"
    points, labels = samples(1200, 2)
    publish(model, name="corners", models_dir=root, labels=CLASSES)
    publish(model, name="corners", models_dir=root, labels=CLASSES, calibration=CalibrationRows((points,), labels))
    return root


@pytest.fixture(scope="module")
def recorded(models: Path, postgres: Server, migrated_template: str) -> Iterator[Recorded]:
    with Recorded.running(models.parent, models, (), postgres, migrated_template) as recorded:
        yield recorded


def predict(recorded: Recorded, points: Any, **more: Any) -> list[dict[str, Any]]:
    answer = recorded.call("predict", {"model": "corners", "instances": np.asarray(points).tolist(), **more})
    predictions: list[dict[str, Any]] = answer["result"]["predictions"]
    return predictions


def test_normal_samples_are_called_outliers_as_rarely_as_promised(recorded: Recorded, models: Path) -> None:
    found = predict(recorded, samples(4000, 3)[0])
    share = np.mean([prediction["outlier"] for prediction in found])
    promised = read_version(models / "corners" / "2").public()["outliers"]
    # Four standard deviations above the bound that holds with 95% confidence: 1 in 400 versions at the most fails here.
    assert share <= promised["bound"] + 4 * np.sqrt(0.01 / 4000)
    p_values = np.array([prediction["p_value"] for prediction in found])
    assert abs(p_values.mean() - 0.5) < 0.05
    assert all(prediction["outlier"] == (prediction["p_value"] <= promised["alpha"]) for prediction in found)


def test_what_is_between_all_classes_is_an_outlier_and_its_record_holds_every_score(recorded: Recorded) -> None:
    found = predict(recorded, np.zeros((5, 6)))
    assert all(prediction["outlier"] for prediction in found)
    ids = [prediction["sample_id"] for prediction in found]
    query = "SELECT detector, scores, p_value FROM outliers WHERE sample_id = ANY($1::uuid[]) AND scores IS NOT NULL"
    rows = until(lambda: recorded.rows(query, ids), lambda rows: len(rows) == 5)
    for row in rows:
        scores = json.loads(row["scores"])
        assert row["detector"] in scores
        assert {"mahalanobis", "msp", "energy", "gen", "knn"} <= scores.keys()
        assert all(np.isfinite(score) for score in scores.values())
        assert row["p_value"] == pytest.approx(found[0]["p_value"])


def test_the_record_of_an_absurd_number_names_the_input_that_decided(recorded: Recorded) -> None:
    points, _ = samples(3, 11)
    points[1, 5] = 1e6
    found = predict(recorded, points)
    assert found[1]["outlier"]
    query = "SELECT detector, scores FROM outliers WHERE sample_id = $1::uuid AND scores IS NOT NULL"
    (row,) = until(lambda: recorded.rows(query, found[1]["sample_id"]), lambda rows: len(rows) == 1)
    assert row["detector"] == "input point"
    assert json.loads(row["scores"])["input point"] > 100
    promised = recorded.call("models.describe", {"model": "corners"})["result"]["versions"][1]["outliers"]
    assert "inputs are watched for numbers far out (point)" in promised


def test_features_of_outliers_and_of_a_fixed_share_of_the_others_are_recorded(recorded: Recorded, model: Any) -> None:
    import keras

    points = np.concatenate([samples(600, 12)[0], np.zeros((3, 6), np.float32)])
    found = predict(recorded, points)
    wanted = {
        uuid.UUID(each["sample_id"]): point
        for each, point in zip(found, points, strict=True)
        if each["outlier"] or uuid.UUID(each["sample_id"]).bytes[15] < 13
    }
    assert len(wanted) > 15
    query = (
        "SELECT f.sample_id, f.z, f.at = s.at AS timely, v.version FROM features f JOIN samples s ON s.id = f.sample_id "
        "JOIN model_versions v ON v.id = f.version_id WHERE f.sample_id = ANY($1::uuid[])"
    )
    ids = [each["sample_id"] for each in found]
    rows = until(lambda: recorded.rows(query, ids), lambda rows: len(rows) >= len(wanted))
    assert {row["sample_id"] for row in rows} == wanted.keys()
    assert all(row["timely"] and row["version"] == 2 for row in rows)
    tapped = keras.Model(model.inputs, model.get_layer("features").output)
    expected = tapped.predict(np.stack([wanted[row["sample_id"]] for row in rows]), verbose=0)
    z = np.stack([np.frombuffer(row["z"], "<f2") for row in rows])
    np.testing.assert_allclose(z, expected, atol=2e-3)


def test_a_version_keeps_the_features_that_it_was_calibrated_on(models: Path, model: Any) -> None:
    import keras

    assert load_features(models / "corners" / "1") is None
    kept = load_features(models / "corners" / "2")
    assert kept is not None
    points, labels = samples(1200, 2)
    tapped = keras.Model(model.inputs, model.get_layer("features").output)
    np.testing.assert_allclose(kept.z, tapped.predict(points, verbose=0), atol=2e-3)
    assert [CLASSES[index] for index in kept.classes] == labels
    assert (kept.rows, kept.calibrates.sum()) == (1200, 600)
    assert "calibration.npz" in read_version(models / "corners" / "2").sha256
    package = load_package(models / "corners" / "2" / "outliers.npz")
    held_out = kept.z[kept.calibrates].astype(np.float32)
    scores = np.sort(package.detectors["mahalanobis"].score(Features(z=held_out)))
    np.testing.assert_allclose(scores, package.detectors["mahalanobis"].calibration, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("recording", ['policy = "hashed"', 'policy = "none"', 'redact = ["/point/0"]'])
def test_where_inputs_are_hidden_no_features_are_recorded(recorded: Recorded, models: Path, recording: str) -> None:
    serving = models / "corners" / "serving.toml"

    def described() -> Any:
        return recorded.call("models.describe", {"model": "corners"})["result"]

    before = described()
    try:
        serving.write_text(f"[recording]\n{recording}\n")
        until(described, lambda now: now != before)
        count = "SELECT count(*) AS n FROM features"
        (known,) = recorded.rows(count)
        predict(recorded, np.concatenate([samples(200, 13)[0], np.zeros((3, 6), np.float32)]))
    finally:
        serving.unlink()
    until(described, lambda now: now == before)
    # Features of what comes later are there: those of what came before would be, too.
    (last,) = predict(recorded, np.zeros((1, 6)))
    query = "SELECT sample_id FROM features WHERE sample_id = $1::uuid"
    until(lambda: recorded.rows(query, last["sample_id"]), bool)
    (now,) = recorded.rows(count)
    assert now["n"] == known["n"] + 1


def test_a_version_without_calibration_says_nothing(recorded: Recorded) -> None:
    given = {"model": "corners", "instances": [[0.0] * 6], "version": 1}
    answer = until(lambda: recorded.call("predict", given), lambda answer: "result" in answer)  # loads on demand
    (found,) = answer["result"]["predictions"]
    assert (found["p_value"], found["outlier"]) == (None, None)


def test_a_model_may_abstain(recorded: Recorded, models: Path) -> None:
    serving = models / "corners" / "serving.toml"
    try:
        serving.write_text("uncategorized_below = 0.01\n")
        (strange,) = until(lambda: predict(recorded, np.zeros((1, 6))), lambda found: "nearest" in found[0])
        assert strange["label"] == "Uncategorized"
        assert strange["nearest"] in CLASSES
        assert strange["top"][0]["label"] == strange["nearest"]
        several = predict(recorded, np.concatenate([np.zeros((1, 6)), samples(3, 5)[0]]))
        assert [prediction["label"] == "Uncategorized" for prediction in several] == [True, False, False, False]
        assert "nearest" not in several[1]
    finally:
        serving.unlink()


def test_describe_says_in_words_what_a_version_promises(recorded: Recorded) -> None:
    described = recorded.call("models.describe", {"model": "corners"})["result"]
    first, second = (version["outliers"] for version in described["versions"])
    assert first == "It was published without calibration samples: p_value and outlier are null."
    assert "about 1.00% are called outliers. The level was set by 600 samples" in second
    assert "with 95% confidence the true share is below" in second
    assert "Detector: " in second
    assert "4 classes that were left out" in second
    shown = subprocess.run(
        [*HOVERBOARD, "models", "show", "corners", "--json"],
        env=recorded.service.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(shown.stdout)["versions"][1]["outliers"] == second


def test_offline_predictions_carry_the_same_p_values(recorded: Recorded, models: Path, tmp_path: Path) -> None:
    points, _ = samples(50, 7)
    points[0] = 0
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(point) + "\n" for point in points.tolist()))
    subprocess.run(
        [*HOVERBOARD, "predict", "corners", "--input", rows, "--output", tmp_path / "out.jsonl", "--models", models],
        env=environment(),
        cwd=tmp_path,
        timeout=120,
        check=True,
        capture_output=True,
    )
    offline = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    online = predict(recorded, points)
    assert [one["p_value"] for one in offline] == pytest.approx([one["p_value"] for one in online])
    assert [one["outlier"] for one in offline] == [one["outlier"] for one in online]
    assert offline[0]["outlier"]


def test_publishing_from_a_file_of_calibration_samples(model: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / "model.keras")
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    points, labels = samples(400, 2)
    lines = (json.dumps({"point": p, "label": y}) + "\n" for p, y in zip(points.tolist(), labels, strict=True))
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    words = ["model.keras", "--name", "corners", "--labels", "labels.txt", "--calibration", "rows.jsonl"]
    done = subprocess.run(
        [*HOVERBOARD, "publish", *words, "--alpha", "0.05", "--detector", "knn", "--json"],
        env=environment() | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        timeout=170,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outliers = json.loads(done.stdout)["outliers"]
    assert (outliers["alpha"], outliers["calibration_points"], outliers["layer"]) == (0.05, 200, "features")
    assert outliers["detector"] == "knn"
    assert outliers["reason"].startswith("asked for when this was published")
    assert {path.name for path in (tmp_path / "models" / "corners" / "1").iterdir()} == {
        "baseline.arrow",
        "calibration.npz",
        "golden.json",
        "manifest.json",
        "model.keras",
        "outliers.npz",
    }


def test_too_few_calibration_samples_for_alpha_are_refused(model: Any, tmp_path: Path) -> None:
    points, labels = samples(60, 2)
    with pytest.raises(PublishError, match=r"alpha 0.01 needs at least 99 calibration points"):
        publish(model, name="c", models_dir=tmp_path, labels=CLASSES, calibration=CalibrationRows((points,), labels))
    assert not (tmp_path / "c").exists()


def test_a_changed_outliers_file_is_refused(models: Path, tmp_path: Path) -> None:
    import shutil

    from hoverboard.engine.models.loader import Loader
    from hoverboard.errors import VersionRefused
    from hoverboard.versions import VersionOnDisk, scan

    shutil.copytree(models, tmp_path / "models")
    place: VersionOnDisk = scan(tmp_path / "models")["corners"].versions[2]
    shutil.copyfile(place.path / "golden.json", place.path / "outliers.npz")
    with pytest.raises(VersionRefused, match=r"outliers\.npz"):
        Loader(lambda job: job(), 8, xla=False).load(place)


def linear() -> Any:
    import keras

    return keras.Sequential(
        [keras.Input((6,), name="point"), keras.layers.Dense(4, activation="softmax", name="corner")]
    )


def half_precision() -> Any:
    import keras

    point = keras.Input((6,), name="point")
    z = keras.layers.Dense(16, activation="tanh", name="features", dtype="mixed_float16")(point)
    return keras.Model(point, keras.layers.Dense(4, activation="softmax", name="corner", dtype="mixed_float16")(z))


@pytest.mark.parametrize(("build", "space"), [(linear, "inputs"), (half_precision, "features")])
async def test_other_kinds_of_classifiers_say_how_usual_a_sample_is(
    build: Callable[[], Any], space: str, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    import keras

    keras.utils.set_random_seed(6)
    net = build()
    net.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy())
    points, labels = samples(1000, 1)
    net.fit(points, np.array([CLASSES.index(label) for label in labels]), epochs=5, batch_size=64, verbose=0)
    points, labels = samples(600, 2)
    given = CalibrationRows((points,), labels)
    place = publish(net, name="corners", models_dir=tmp_path / "models", labels=CLASSES, calibration=given)
    assert read_version(place).public()["outliers"]["space"] == space
    asked = np.concatenate([samples(300, 3)[0], samples(30, 4)[0] * 1000])
    async with (
        Engine(make_settings(models=tmp_path / "models")) as engine,
        EngineServer(engine, tmp_path / "e.sock"),
        EngineClient(tmp_path / "e.sock") as client,
    ):
        await engine.settled()
        while not client.connected:
            await asyncio.sleep(0.02)
        status = client.catalog.models["corners"].version(1)
        assert status is not None
        assert status.signature is not None
        deadline = time.monotonic() + 30
        call = PredictCall("corners", "stable", status.signature.fingerprint, (asked,), len(asked), deadline)
        answer = await client.predict(call)
    assert answer.p_value is not None
    assert np.isfinite(answer.p_value).all()
    assert 0.4 < answer.p_value[:300].mean() < 0.6
    assert len(np.unique(answer.p_value)) > 100
