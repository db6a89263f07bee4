"""What an output holds is read from the graph: a softmax, sigmoids or logits; and labels of which several may hold."""

from __future__ import annotations

import json
import subprocess
import urllib.request
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.contract.heads import probabilities, read_head
from hoverboard.engine.models.loader import Loader
from hoverboard.errors import PublishError
from hoverboard.publishing import publish
from hoverboard.publishing.calibration_file import CalibrationRows
from hoverboard.versions import VersionOnDisk, read_version
from tests.integration.running import HOVERBOARD, environment, running

TOPICS = ["toys", "vehicles", "books"]
WANTED = np.array([0.98, 0.95, 0.01], np.float32)


def _fixed(values: Any, activation: Any) -> Any:
    """Answers the same to everybody: the activation of `values`."""
    import keras

    x = keras.Input((2,), name="x")
    bias = keras.initializers.Constant(np.asarray(values))
    dense = keras.layers.Dense(len(values), kernel_initializer="zeros", bias_initializer=bias, activation=activation)
    return keras.Model(x, dense(x))


def topics(activation: str | None = "sigmoid") -> Any:
    return _fixed(np.log(WANTED / (1 - WANTED)), activation)


def _over(make: Callable[[Any], Any], width: int = 3) -> Any:
    import keras

    keras.utils.set_random_seed(1)
    x = keras.Input((4,), name="x")
    return keras.Model(x, make(keras.layers.Dense(width)(x)))


def _heads() -> dict[str, tuple[Callable[[], Any], str]]:
    from keras import Sequential, layers, ops

    return {
        "softmax of a layer": (lambda: _over(layers.Softmax()), "softmax"),
        "softmax of an activation": (lambda: _over(layers.Activation("softmax")), "softmax"),
        "softmax of an operation, cast": (lambda: _over(lambda z: ops.cast(ops.softmax(z), "float64")), "softmax"),
        "softmax in a model within": (lambda: _over(Sequential([layers.Dense(3), layers.Softmax()])), "softmax"),
        "linear": (lambda: _over(layers.Dense(3)), "logits"),
        "linear without bias": (lambda: _over(layers.Dense(3, use_bias=False)), "logits"),
        "linear, reshaped": (lambda: _over(layers.Reshape((3,))), "logits"),
        "logarithms of a softmax": (lambda: _over(layers.Activation("log_softmax")), "logits"),
        "half precision": (lambda: _over(layers.Dense(3, activation="softmax", dtype="mixed_bfloat16")), "softmax"),
        "one sigmoid": (lambda: _over(layers.Activation("sigmoid"), 1), "sigmoid"),
    }


@pytest.mark.parametrize("name", _heads())
@pytest.mark.parametrize("exported", [False, True], ids=["keras", "saved model"])
def test_the_head_is_read_from_the_last_operation(tmp_path: Path, name: str, exported: bool) -> None:
    make, head = _heads()[name]
    model = make()
    labels = ["a", "b"] if head == "sigmoid" else TOPICS
    if exported:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.export(tmp_path / "saved", verbose=False)
    given = tmp_path / "saved" if exported else model
    manifest = read_version(publish(given, name="m", models_dir=tmp_path / "models", labels=labels))
    assert (manifest.task, manifest.head, manifest.format) == ("classification", head, 1)


def test_probabilities_that_happen_to_sum_to_one_are_not_taken_for_a_softmax(tmp_path: Path) -> None:
    """Logits of 0.2, 0.3, 0.5 look like one on every sample."""
    manifest = read_version(publish(_fixed([0.2, 0.3, 0.5], None), name="m", models_dir=tmp_path, labels=TOPICS))
    assert manifest.head == "logits"


def test_where_the_last_operation_does_not_say_the_publisher_is_asked(tmp_path: Path) -> None:
    from keras import layers

    def ensemble(z: Any) -> Any:
        return layers.Average()([layers.Softmax()(z), layers.Dense(3, activation="softmax")(z)])

    with pytest.raises(PublishError, match=r"does not say whether it holds a softmax, sigmoids or logits.*--head"):
        publish(_over(ensemble), name="m", models_dir=tmp_path, labels=TOPICS)
    place = publish(_over(ensemble), name="m", models_dir=tmp_path, labels=TOPICS, head="softmax")
    assert read_version(place).head == "softmax"
    with pytest.raises(PublishError, match="a softmax lies between 0 and 1, on golden samples it does not"):
        publish(_over(layers.Activation("tanh")), name="n", models_dir=tmp_path, labels=TOPICS, head="softmax")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"task": "classification"}, "several may hold: that is --task multi-label"),
        ({"head": "softplus"}, "head 'softplus': use one of softmax, logits, sigmoid"),
        ({"thresholds": {"cars": 0.7}}, "threshold of 'cars': the model has no such label"),
        ({"thresholds": {"toys": 1.7}}, "expected a probability from 0 to 1, got 1.7"),
        ({"labels": None, "task": "raw", "thresholds": {"toys": 0.7}}, "thresholds are for --task multi-label"),
        ({"labels": ["a", "b"]}, "a column for each of 2 labels"),
    ],
)
def test_what_does_not_suit_sigmoids_is_refused_in_words(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(PublishError, match=words):
        publish(topics(), **{"name": "m", "models_dir": tmp_path, "labels": TOPICS, **given})


def test_a_softmax_is_no_multi_label_answer(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="of which one class holds: that is --task classification"):
        publish(topics("softmax"), name="m", models_dir=tmp_path, labels=TOPICS, task="multi-label")


@pytest.mark.parametrize("calibrated", [False, True])
def test_one_logit_tells_two_classes_apart_where_the_publisher_says_so(tmp_path: Path, calibrated: bool) -> None:
    import keras

    x = keras.Input((1,), name="x")
    model = keras.Model(x, keras.layers.Dense(1, kernel_initializer="ones", name="logit")(x))
    with pytest.raises(
        PublishError, match=r"needs a sigmoid at its end, not logits.*from_logits=True, say --head logits"
    ):
        publish(model, name="m", models_dir=tmp_path, labels=["neg", "pos"])
    with pytest.raises(PublishError, match="3 labels for 2 classes"):
        publish(model, name="m", models_dir=tmp_path, labels=TOPICS, head="logits")
    usual = np.random.default_rng(0).normal(size=(250, 1)).astype(np.float32)
    labels = tuple("pos" if row > 0 else "neg" for row in usual[:, 0])
    rows = CalibrationRows((usual,), labels) if calibrated else None
    place = publish(
        model, name="m", models_dir=tmp_path, labels=["neg", "pos"], head="logits", calibration=rows, max_batch=4
    )
    manifest = read_version(place)
    assert (manifest.task, manifest.head, manifest.outputs[0].shape) == ("classification", "logits", (1,))
    live = Loader(lambda job: job(), max_batch=4).load(VersionOnDisk(1, place, ()))
    logits = np.array([[-800], [-2], [3], [800]], np.float32)
    done = live.execute([logits], 4, 4)
    read = read_head(manifest.signature, done.outputs[0])
    assert read.label_index is not None
    assert read.confidence is not None
    assert read.label_index.tolist() == [0, 0, 1, 1]
    sure = 1 / (1 + np.exp([-800.0, -2, -3, -800]))
    np.testing.assert_allclose(read.confidence, sure, rtol=1e-6)
    positive = np.array([0, 1 - sure[1], sure[2], 1])
    np.testing.assert_allclose(
        probabilities(manifest.signature, done.outputs[0]), np.stack([1 - positive, positive], axis=1), atol=1e-7
    )


def test_masked_logits_are_told_what_to_be_masked_with(tmp_path: Path) -> None:
    import keras

    x = keras.Input((2,), name="x")
    masked = keras.layers.Dense(3)(x) + np.array([0, 0, -np.inf], np.float32)
    with pytest.raises(PublishError, match=r"-Infinity is no answer in JSON.*-1e9, or end it in a softmax"):
        publish(keras.Model(x, masked), name="m", models_dir=tmp_path, labels=TOPICS, head="logits")


def call(url: str, method: str, **params: Any) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def shortened(labels: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(one["label"], round(one["confidence"], 4)) for one in labels]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a model of three sigmoids, one with thresholds, and one of three logits."""
    folder = tmp_path_factory.mktemp("multi-label")
    models = folder / "models"
    publish(topics(), name="topics", models_dir=models, labels=TOPICS)
    publish(topics(), name="careful", models_dir=models, labels=TOPICS, thresholds={"vehicles": 0.96})
    publish(topics(None), name="logits", models_dir=models, labels=TOPICS, task="multi-label")
    return folder


def test_several_labels_hold_each_with_its_own_confidence_and_threshold(folder: Path) -> None:
    manifest = read_version(folder / "models" / "careful" / "1")
    assert (manifest.task, manifest.head, manifest.thresholds, manifest.format) == (
        "multi-label",
        "sigmoid",
        (0.5, 0.96, 0.5),
        2,
    )
    with running(folder) as service:
        for model, held in (("topics", 2), ("careful", 1), ("logits", 2)):
            (one,) = call(service.url, "predict", model=model, instances=[[1, 2]])["result"]["predictions"]
            assert shortened(one["labels"]) == [("toys", 0.98), ("vehicles", 0.95)][:held]
            assert shortened(one["top"]) == [("toys", 0.98)]
            assert "label" not in one and "confidence" not in one and "outputs" not in one
            many = call(service.url, "predict", model=model, instances=[[1, 2]] * 3, top_k=3, outputs=True)
            assert len(many["result"]["predictions"]) == 3
            assert [one["label"] for one in many["result"]["predictions"][2]["top"]] == TOPICS
            assert len(many["result"]["predictions"][2]["outputs"]) == 1
        described = call(service.url, "models.describe", model="careful")["result"]["versions"][0]
        assert described["task"] == "multi-label"
        assert described["manifest"]["thresholds"] == [0.5, 0.96, 0.5]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_files_are_scored_with_several_labels_a_row(folder: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "rows.jsonl").write_text("[1, 2]\n[3, 4]\n")
    words = [
        "predict",
        "topics",
        "--input",
        "rows.jsonl",
        "--output",
        f"out.{kind}",
        "--models",
        str(folder / "models"),
    ]
    done = subprocess.run(
        [*HOVERBOARD, *words], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    if kind == "csv":
        assert done.returncode == 0 or "csv" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    if kind == "jsonl":
        rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    else:
        import pyarrow.parquet as pq

        rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [shortened(row["labels"]) for row in rows] == [[("toys", 0.98), ("vehicles", 0.95)]] * 2


def test_outliers_of_a_multi_label_version_are_told_by_features_alone(tmp_path: Path) -> None:
    """Scores of one class against the others mean nothing where several hold."""
    import keras

    keras.utils.set_random_seed(2)
    x = keras.Input((4,), name="x")
    z = keras.layers.Dense(6, activation="tanh", name="z")(x)
    model = keras.Model(x, keras.layers.Dense(3, activation="sigmoid")(z))
    rows = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    place = publish(
        model,
        name="m",
        models_dir=tmp_path,
        labels=TOPICS,
        calibration=CalibrationRows((rows,), None),
        thresholds={"toys": 0.7},
    )
    outliers = read_version(place).public()["outliers"]
    assert outliers["layer"] == "z"
    from hoverboard.outliers import load_package

    assert not load_package(place / "outliers.npz").detectors.keys() & {"max-softmax", "energy", "gen"}
    from hoverboard.versions.baseline import read_baseline

    baseline = read_baseline(place)
    assert baseline is not None
    (label,) = [feature for feature in baseline.features if feature.name == "label"]
    assert set(label.categories) <= set(TOPICS)
