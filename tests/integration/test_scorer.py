"""The detector in the graph, beside the NumPy reference on the features that the graph gives."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.backends.tensorflow import artifact
from hoverboard.backends.tensorflow.graph import TensorFlowGraph
from hoverboard.contract.signature import Signature
from hoverboard.errors import PublishError
from hoverboard.outliers.detectors import CANDIDATES
from hoverboard.outliers.features import STRANGEST, Features
from hoverboard.outliers.package import Calibrated, OutlierPackage

ROWS = 200


@pytest.fixture(scope="module")
def classifier() -> tuple[TensorFlowGraph, Signature]:
    """A classifier of two inputs of different dtypes, with a softmax behind its last dense layer."""
    import keras

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.utils.set_random_seed(4)
        numbers = keras.Input((6,), name="numbers")
        count = keras.Input((1,), name="count", dtype="int32")
        both = keras.layers.Concatenate()([numbers, keras.layers.Rescaling(1.0)(count)])
        z = keras.layers.Dense(12, name="features")(both)
        out = keras.layers.Softmax(name="p")(keras.layers.Dense(4, name="scores")(z))
        graph = artifact.wrap_keras(keras.Model({"numbers": numbers, "count": count}, out))
    return graph, Signature("classification", graph.inputs, graph.outputs, ("a", "b", "c", "d"))


def columns(signature: Signature, rows: int, seed: int = 0) -> list[Any]:
    draw = np.random.default_rng(seed)
    values = {
        "numbers": draw.normal(size=(rows, 6)).astype(np.float32),
        "count": draw.integers(0, 9, (rows, 1)).astype(np.int32),
    }
    return [values[spec.name] for spec in signature.inputs]


def package(features: Features, labels: Any, name: str, layer: str | None) -> OutlierPackage:
    candidate = next(candidate for candidate in CANDIDATES if candidate.name == name)
    parameters = candidate.fit(features, labels)
    scores = np.sort(candidate.score(features, parameters))
    return OutlierPackage(
        0.05, name, "the only one", {name: Calibrated(name, parameters, scores)}, features.space, layer, len(features)
    )


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", [candidate.name for candidate in CANDIDATES])
def test_every_detector_scores_in_the_graph_as_its_reference_does(
    classifier: tuple[TensorFlowGraph, Signature], name: str, jit: bool
) -> None:
    graph, signature = classifier
    view = graph.view(signature)
    assert (view.space, view.layer) == ("features", "features")
    extract = graph.extractor(signature)
    normal = extract(columns(signature, ROWS))
    assert normal.logits is not None
    outliers = package(normal, normal.logits.argmax(axis=1), name, view.layer)
    executor = graph.watched(outliers).executor(signature, jit=jit)
    given = columns(signature, 64, seed=1)
    given[1 if signature.inputs[1].name == "numbers" else 0][:8] *= 50
    *outputs, scores = executor.run(given)
    assert len(outputs) == 1
    reference = outliers.detector.score(extract(given))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, reference, rtol=6e-5, atol=1e-5 * max(1.0, float(np.abs(reference).max())))
    np.testing.assert_array_equal(outputs[0], graph.executor(signature, jit=jit).run(given)[0])


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", ["mahalanobis", "relative_mahalanobis", "knn"])
def test_rows_of_any_size_score_in_the_graph_as_in_the_reference(name: str, jit: bool) -> None:
    import keras

    point = keras.Input((8,), name="point")
    hidden = keras.layers.Rescaling(1.0, name="features")(point)
    model = keras.Model(point, keras.layers.Dense(3, activation="softmax", name="probabilities")(hidden))
    graph = artifact.wrap_keras(model)
    signature = Signature("classification", graph.inputs, graph.outputs, labels=("a", "b", "c"))
    extract = graph.extractor(signature)
    generator = np.random.default_rng(3)
    normal = extract([generator.normal(size=(ROWS, 8)).astype(np.float32)])
    labels = np.arange(ROWS) % 3
    view = graph.view(signature)
    outliers = package(normal, labels, name, view.layer)
    executor = graph.watched(outliers).executor(signature, jit=jit)
    row = generator.normal(size=8).astype(np.float32)
    sizes = [0.0, 1e-20, 1e-13, 1e-11, 1e-3, 1.0, 1e10, 1e18, 1e20, 1e37]
    given = np.stack([*(row * np.float32(size) for size in sizes), row, row])
    given[-2, 0], given[-1, 7] = np.nan, -np.inf
    scores = executor.run([given])[-1]
    reference = outliers.detector.score(extract([given]))
    np.testing.assert_allclose(scores, reference, rtol=6e-5, atol=1e-4)
    assert (scores == STRANGEST).tolist() == [False] * 8 + [True] * 4


@pytest.mark.parametrize("name", [candidate.name for candidate in CANDIDATES])
def test_what_is_not_finite_is_as_strange_as_can_be(classifier: tuple[TensorFlowGraph, Signature], name: str) -> None:
    graph, signature = classifier
    view = graph.view(signature)
    extract = graph.extractor(signature)
    normal = extract(columns(signature, ROWS))
    assert normal.logits is not None
    outliers = package(normal, normal.logits.argmax(axis=1), name, view.layer)
    given = columns(signature, 4)
    next(c for c, s in zip(given, signature.inputs, strict=True) if s.name == "numbers")[1] = np.inf
    scores = graph.watched(outliers).executor(signature, jit=False).run(given)[-1]
    assert np.isfinite(scores).all()
    assert outliers.detector.p_values(scores)[1] == np.float32(1 / (ROWS + 1))


@pytest.mark.parametrize("model", ["digits/1", "digits/3", "products/3", "diamonds/2"])
def test_the_shipped_models_have_features_that_the_outputs_follow_from(model: str) -> None:
    from hoverboard.versions import read_version
    from hoverboard.versions.store import read_golden

    directory = Path(__file__).parents[2] / "models" / model
    manifest = read_version(directory)
    graph = artifact.load(directory, manifest.artifact)
    view = graph.view(manifest.signature)
    assert view.space == "features"
    features = graph.extractor(manifest.signature)(read_golden(directory, manifest).samples[0].inputs)
    assert features.z is not None
    if manifest.task == "classification":
        assert features.logits is not None
        odds = np.exp(features.logits - features.logits.max())
        expected = read_golden(directory, manifest).samples[0].outputs[0]
        np.testing.assert_allclose(odds / odds.sum(), expected, rtol=1e-3, atol=1e-5)


def test_a_model_without_a_dense_layer_at_its_end_is_seen_by_its_inputs(keras_models: dict[str, Any]) -> None:
    graph = artifact.wrap_keras(keras_models["logarithm"])
    view = graph.view(Signature("raw", graph.inputs, graph.outputs))
    assert (view.space, view.layer) == ("inputs", None)
    found = graph.extractor(Signature("raw", graph.inputs, graph.outputs))([np.ones((3, 1), np.float32)])
    assert found.z is not None
    assert found.z.tolist() == [[1.0], [1.0], [1.0]]


def linear(name: str) -> Any:
    import keras

    keras.utils.set_random_seed(3)
    given = keras.Input((6,), name="point")
    dense = keras.layers.Dense(4, activation="softmax", name="p")
    if name == "sequential":
        return keras.Sequential([given, dense])
    return keras.Model(given, dense(given))


@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_a_linear_classifier_is_seen_by_its_inputs_and_by_the_logits_of_its_one_layer(kind: str) -> None:
    model = linear(kind)
    graph = artifact.wrap_keras(model)
    signature = Signature("classification", graph.inputs, graph.outputs, ("a", "b", "c", "d"))
    view = graph.view(signature)
    assert (view.space, view.layer) == ("inputs", None)
    points = np.random.default_rng(0).normal(size=(ROWS, 6)).astype(np.float32)
    normal = graph.extractor(signature)([points])
    assert normal.z is not None
    assert normal.logits is not None
    np.testing.assert_array_equal(normal.z, points)
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(normal.logits, points @ kernel + bias, rtol=1e-5, atol=1e-5)
    for name in ("mahalanobis", "energy"):
        outliers = package(normal, normal.logits.argmax(axis=1), name, view.layer)
        scores = graph.watched(outliers).executor(signature, jit=False).run([points])[-1]
        np.testing.assert_allclose(scores, outliers.detector.score(normal), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_a_layer_asked_for_may_be_the_input_itself(kind: str) -> None:
    graph = artifact.wrap_keras(linear(kind))
    signature = Signature("classification", graph.inputs, graph.outputs, ("a", "b", "c", "d"))
    view = graph.view(signature, "point")
    assert (view.space, view.layer) == ("features", "point")
    with pytest.raises(PublishError, match="the model has no such layer"):
        graph.view(signature, "pint")


def test_features_may_come_from_an_operation_that_is_no_layer() -> None:
    import keras

    given = keras.Input((6,), name="point")
    raised = keras.ops.relu(keras.layers.Dense(5, name="hidden")(given))
    graph = artifact.wrap_keras(keras.Model(given, keras.layers.Dense(4, activation="softmax")(raised)))
    signature = Signature("classification", graph.inputs, graph.outputs, ("a", "b", "c", "d"))
    view = graph.view(signature)
    assert view.space == "features"
    assert graph.view(signature, view.layer, view.space).layer == view.layer
