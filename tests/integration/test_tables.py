"""The inputs of tables are watched beside the detector: absurd numbers and unknown categories are outliers, at the same promise."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.backends.tensorflow import artifact
from hoverboard.backends.tensorflow.graph import TensorFlowGraph
from hoverboard.contract.signature import Array, Signature, TensorSpec
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.loader import Loader
from hoverboard.outliers import OutlierPackage, load_package, p_values
from hoverboard.publishing import publish
from hoverboard.publishing.calibration import calibrate
from hoverboard.publishing.calibration_file import CalibrationRows
from hoverboard.rpc.outlier_promise import promise
from hoverboard.versions import read_version
from hoverboard.watch.alarm import Alarm, Block, blocks_of
from tests.integration.tables import CLASSES, calibration, churn_model, customers, in_order

ALPHA = 0.01
ABSURD = [
    ("spend", 100_000.0),
    ("spend", -1e9),
    ("age", 119.0),
    ("tickets", 500.0),
    ("use", 500.0),
    ("plan", b"gold"),
    ("spend", 3e38),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = churn_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = calibration(artifact.wrap_keras(model).inputs, 2500, 7)
    root = tmp_path_factory.mktemp("tables")
    return publish(model, name="churn", models_dir=root, labels=CLASSES, calibration=rows)


@pytest.fixture(scope="module")
def version(directory: Path) -> LiveVersion:
    return Loader(lambda job: job(), 64, xla=False).prove(directory, read_version(directory))


def flags(version: LiveVersion, given: Mapping[str, Array]) -> Array:
    """Whether each row is called an outlier, as a call is."""
    columns = in_order(version.signature.inputs, given)
    found = []
    for start in range(0, len(columns[0]), 64):
        part = [column[start : start + 64] for column in columns]
        found.append(version.execute(part, len(part[0]), 64).outlier)
    return np.concatenate([one for one in found if one is not None])


def replaced(given: Mapping[str, Array], name: str, value: Any) -> dict[str, Array]:
    column = given[name].copy()
    column[:] = value
    return {**given, name: column}


def allowed(alpha: float, calibration_points: int, rows: int) -> float:
    """Four standard deviations above alpha, of the calibration set and of the rows."""
    return alpha + 4 * float(np.sqrt(alpha * (1 - alpha) * (1 / calibration_points + 1 / rows)))


@pytest.mark.parametrize(("name", "value"), ABSURD)
def test_what_no_customer_has_is_an_outlier_and_the_record_says_which_input(
    version: LiveVersion, name: str, value: Any
) -> None:
    given = replaced(customers(1000, 99)[0], name, value)
    assert flags(version, given).mean() >= 0.95
    looked = version.look(in_order(version.signature.inputs, {name: column[:20] for name, column in given.items()}))
    assert looked is not None
    assert set(looked.reasons) <= {name, None}
    assert looked.reasons.count(name) >= (0 if value == 3e38 else 19)
    assert looked.scores[f"input {name}"].min() > 7
    assert sum(map(len, looked.by_reason("mahalanobis").values())) == 20


def test_customers_like_those_before_are_outliers_as_rarely_as_promised(version: LiveVersion) -> None:
    assert flags(version, customers(1000, 98)[0]).mean() <= allowed(ALPHA, 1250, 1000)
    assert flags(version, customers(1000, 98)[0]).mean() > 0


def test_one_customer_in_five_whose_cents_are_taken_for_dollars_raises_the_alarm(version: LiveVersion) -> None:
    outliers = version.outliers
    assert outliers is not None
    quiet, broken = customers(2000, 97)[0], customers(1000, 96)[0]
    broken["spend"][::5] *= 100
    alarm = Alarm(outliers.bound)
    for given, raised in ((quiet, False), (broken, True)):
        found = flags(version, given)
        counts = [Block(64, int(found[start : start + 64].sum()), start) for start in range(0, len(found), 64)]
        for block in blocks_of(counts):
            alarm = alarm.after(block, 100_000)
        assert (alarm.raised is not None) is raised


def test_the_graph_scores_as_the_package_does(version: LiveVersion, directory: Path) -> None:
    package = load_package(directory / "outliers.npz")
    assert package.watch is not None
    graph = artifact.load(directory, "model.keras")
    executor = graph.watched(package).executor(version.signature, jit=False)
    extract = graph.extractor(version.signature, package.layer, package.space)
    given = customers(200, 95)[0]
    for place, (name, value) in enumerate(ABSURD):
        given[name][place] = value
    for place, name in enumerate(("spend", "age", "use")):
        given[name][30 + place] = -np.inf
    columns = in_order(version.signature.inputs, given)
    scores = executor.run(columns)[-1]
    found = package.watch.combined(package.detector.score(extract(columns)), package.watch.by_input(given))
    np.testing.assert_allclose(scores, found, rtol=6e-5, atol=1e-4)


def test_the_manifest_and_its_words_say_what_is_watched(directory: Path) -> None:
    outliers = read_version(directory).public()["outliers"]
    assert outliers["watch"] == {"numbers": ["age", "spend", "tickets", "use"], "sets": {"plan": 3}, "not": {}}
    words = promise(read_version(directory).public())
    assert words is not None
    assert words.endswith(
        "Beside it, inputs are watched for numbers far out (age, spend, tickets, use) and values never seen (plan: 3 known)."
    )


def test_a_package_from_before_the_watch_scores_as_it_did(
    version: LiveVersion, directory: Path, tmp_path: Path
) -> None:
    from hoverboard.outliers import save_package

    package = load_package(directory / "outliers.npz")
    save_package(replace(package, watch=None), tmp_path / "outliers.npz")
    with np.load(tmp_path / "outliers.npz") as arrays:
        meta = json.loads(arrays["meta"].tobytes())
    assert meta["format"] == 1
    before = load_package(tmp_path / "outliers.npz")
    assert "watch" not in before.summary()
    graph = artifact.load(directory, "model.keras")
    columns = in_order(version.signature.inputs, customers(100, 94)[0])
    scores = graph.watched(before).executor(version.signature, jit=False).run(columns)[-1]
    extract = graph.extractor(version.signature, before.layer, before.space)
    np.testing.assert_allclose(scores, before.detector.score(extract(columns)), rtol=6e-5, atol=1e-4)
    np.testing.assert_array_equal(before.calibration, package.detector.calibration)


# -- tables of every kind: each is published with a sensible watch, and holds the promise --------------------------------

Draw = Callable[[np.random.Generator, int], Any]
N = 1200


def texts(values: Any) -> Array:
    return np.array([str(value).encode() for value in values], object)


def holey(draw: np.random.Generator, n: int) -> Array:
    values = draw.normal(size=n)
    values[draw.random(n) < 0.2] = np.nan
    return values


KINDS: dict[str, dict[str, tuple[str, Draw]]] = {
    "two numbers": {
        "x": ("float32", lambda g, n: g.normal(size=n)),
        "y": ("float32", lambda g, n: g.exponential(size=n)),
    },
    "categories": {
        "country": ("string", lambda g, n: texts(g.integers(0, 12, n))),
        "plan": ("string", lambda g, n: texts(g.choice(["a", "b"], n))),
    },
    "free text": {"text": ("string", lambda g, n: texts(g.integers(0, 1 << 40, n)))},
    "a constant": {"x": ("float32", lambda g, n: g.normal(size=n)), "c": ("float32", lambda g, n: np.full(n, 7.0))},
    "mostly zeros": {
        "x": ("float32", lambda g, n: g.normal(size=n)),
        "rare": ("float32", lambda g, n: np.where(g.random(n) < 0.01, g.exponential(50, n), 0)),
    },
    "integers": {
        "count": ("int32", lambda g, n: g.poisson(3, n)),
        "code": ("int64", lambda g, n: g.choice([10, 20, 40, 80], n)),
        "small": ("uint8", lambda g, n: g.integers(0, 100, n)),
    },
    "booleans": {"x": ("float32", lambda g, n: g.normal(size=n)), "yes": ("bool", lambda g, n: g.random(n) < 0.5)},
    "missing values": {"x": ("float32", holey), "y": ("float32", lambda g, n: g.normal(size=n))},
    "heavy tails": {
        "income": ("float32", lambda g, n: g.pareto(1.5, n) * 1000),
        "age": ("float32", lambda g, n: g.normal(40, 10, n)),
    },
    "half precision and double": {
        "h": ("float16", lambda g, n: g.normal(size=n)),
        "d": ("float64", lambda g, n: g.normal(size=n) * 1e12),
    },
}


def table(kind: str, rows: int, seed: int) -> dict[str, Array]:
    draw = np.random.default_rng(seed)
    found = {}
    for name, (dtype, values) in KINDS[kind].items():
        column = values(draw, rows)
        found[name] = (column if dtype == "string" else column.astype(dtype))[:, np.newaxis]
    return found


def untrained(kind: str, task: str) -> tuple[TensorFlowGraph, Signature]:
    """A model of such a table with weights as they were drawn: a promise needs no good model."""
    import keras

    keras.utils.set_random_seed(3)
    inputs, parts = {}, []
    for name, (dtype, _) in KINDS[kind].items():
        given = inputs[name] = keras.Input((1,), name=name, dtype=dtype)
        if dtype == "string":
            parts.append(keras.layers.Hashing(16, output_mode="one_hot")(given))
        else:
            wide = keras.ops.nan_to_num(keras.ops.cast(given, "float32"))
            parts.append(keras.ops.tanh(wide / 10))
    merged = keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    hidden = keras.layers.Dense(8, activation="relu", name="hidden")(merged)
    units, activation = {"classification": (3, "softmax"), "regression": (1, None), "embedding": (4, None)}[task]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = artifact.wrap_keras(keras.Model(inputs, keras.layers.Dense(units, activation, name="out")(hidden)))
    specs = tuple(replace(spec, finite=False) if kind == "missing values" else spec for spec in graph.inputs)
    labels = ("a", "b", "c") if task == "classification" else None
    return graph, Signature(task, specs, graph.outputs, labels)  # type: ignore[arg-type]


def flagged(graph: TensorFlowGraph, signature: Signature, package: OutlierPackage, given: Mapping[str, Array]) -> float:
    scores = graph.watched(package).executor(signature, jit=False).run(in_order(signature.inputs, given))[-1]
    return float((p_values(scores, package.calibration) <= package.alpha).mean())


def absurd(spec: TensorSpec) -> list[Any]:
    """What such an input never holds."""
    if spec.dtype == "string":
        return [b"never seen"]
    if spec.dtype == "bool":
        return []
    kind = np.dtype(spec.dtype)
    return [np.finfo(kind).max / 2, np.finfo(kind).min / 2] if kind.kind == "f" else [np.iinfo(kind).max]


TRIED = [
    *((kind, "classification") for kind in KINDS),
    *((kind, task) for kind in ("two numbers", "categories", "missing values") for task in ("regression", "embedding")),
]


@pytest.mark.parametrize(("kind", "task"), TRIED)
def test_every_kind_of_table_holds_the_promise_and_its_absurd_values_are_outliers(kind: str, task: str) -> None:
    graph, signature = untrained(kind, task)
    extract = graph.extractor(signature)
    rows = CalibrationRows(in_order(signature.inputs, table(kind, N, 1)))
    package = calibrate(extract, rows, inputs=signature.inputs, classes=signature.labels, layer=extract.layer)
    assert package.watch is not None
    assert package.watch.watched == (() if kind == "free text" else tuple(spec.name for spec in signature.inputs))
    assert ("text" in package.watch.unwatched) is (kind == "free text")
    fresh = table(kind, 5000, 2)
    assert flagged(graph, signature, package, fresh) <= allowed(ALPHA, package.points, 5000)
    some = {name: column[:100] for name, column in fresh.items()}
    for spec in signature.inputs:
        for value in absurd(spec) if spec.name in package.watch.watched else ():
            assert flagged(graph, signature, package, replaced(some, spec.name, value)) >= 0.95, (spec.name, value)


def test_a_code_between_those_seen_and_the_other_side_of_a_constant_are_outliers() -> None:
    graph, signature = untrained("integers", "classification")
    rows = CalibrationRows(in_order(signature.inputs, table("integers", N, 1)))
    package = calibrate(graph.extractor(signature), rows, inputs=signature.inputs, classes=signature.labels)
    fresh = table("integers", 100, 2)
    assert flagged(graph, signature, package, replaced(fresh, "code", 30)) == 1.0
    assert flagged(graph, signature, package, replaced(fresh, "code", 40)) <= 0.1


def test_an_image_beside_a_table_leaves_the_table_watched() -> None:
    import keras

    image, age = keras.Input((32, 32, 3), name="image"), keras.Input((1,), name="age")
    merged = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(image), age])
    hidden = keras.layers.Dense(4, activation="relu")(merged)
    graph = artifact.wrap_keras(
        keras.Model([image, age], keras.layers.Dense(2, activation="softmax", name="p")(hidden))
    )
    signature = Signature("classification", graph.inputs, graph.outputs, ("a", "b"))
    draw = np.random.default_rng(0)
    given = {
        "image": draw.random((300, 32, 32, 3), np.float32),
        "age": draw.normal(40, 10, (300, 1)).astype(np.float32),
    }
    rows = CalibrationRows(in_order(signature.inputs, given))
    package = calibrate(graph.extractor(signature), rows, inputs=signature.inputs, classes=signature.labels)
    assert package.watch is not None
    assert package.watch.watched == ("age",)
    assert package.watch.unwatched == {"image": "3,072 numbers a sample are too many (at most 512 in all)"}
    assert flagged(graph, signature, package, replaced(given, "age", 200.0)) == 1.0
