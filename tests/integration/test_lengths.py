"""A sample that is too short for a model is refused before it reaches the model's graph.

TensorFlow's operations do not all say that there is nothing to compute: some answer with unset memory, and one divides by zero.
"""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.backends.tensorflow import artifact, export
from hoverboard.contract.signature import Signature
from hoverboard.engine.models.lengths import with_least
from hoverboard.engine.models.loader import Loader
from hoverboard.errors import ModelFailed, PublishError
from hoverboard.publishing import publish
from hoverboard.versions import GoldenSample, GoldenSet, VersionOnDisk, read_version
from hoverboard.versions.manifest import MANIFEST_FILE
from tests.integration.running import Service, running

Build = Callable[[], Any]


def _chain(shape: tuple[int | None, ...], *layers: str | tuple[Any, ...], dtype: str = "float32") -> Build:
    """A model of Keras layers one after the other, by name with their arguments."""

    def build() -> Any:
        import keras

        keras.utils.set_random_seed(1)
        end = start = keras.Input(shape, name="s", dtype=dtype)
        for layer in layers:
            name, *rest = (layer,) if isinstance(layer, str) else layer
            keywords = rest.pop() if rest and isinstance(rest[-1], dict) else {}
            end = getattr(keras.layers, name)(*rest, **keywords)(end)
        return keras.Model(start, end)

    return build


def _joined(how: str) -> Build:
    """Two series whose windows are 4 and 7 steps, side by side, or added up before a window of 4."""

    def build() -> Any:
        import keras

        layers = keras.layers
        a, b = keras.Input((None, 2), name="a"), keras.Input((None, 2), name="b")
        if how == "added":
            return keras.Model([a, b], layers.GlobalMaxPooling1D()(layers.Conv1D(3, 4)(layers.Add()([a, b]))))
        ends = [layers.GlobalAveragePooling1D()(layers.Conv1D(3, size)(x)) for x, size in ((a, 4), (b, 7))]
        return keras.Model([a, b], layers.Concatenate()(ends))

    return build


def _unet() -> Any:
    """Down by four and up again: sizes are multiples of four."""
    import keras

    layers = keras.layers
    picture = keras.Input((None, None, 1), name="s")
    half = layers.MaxPooling2D()(picture)
    wide = layers.UpSampling2D()(layers.MaxPooling2D()(half))
    wide = layers.UpSampling2D()(layers.Concatenate()([wide, half]))
    return keras.Model(picture, layers.Conv2D(1, 1)(layers.Concatenate()([wide, picture])))


def _triples() -> Any:
    """Series whose length is a multiple of three, any."""
    import keras

    steps = keras.Input((None, 2), name="s")
    threes = keras.layers.Reshape((-1, 6))(steps)
    return keras.Model(steps, keras.ops.sum(threes, axis=1))


SERIES = (None, 2)
POOLED = _chain(
    SERIES,
    ("Conv1D", 8, 3, {"padding": "same"}),
    ("MaxPooling1D", 5, {"strides": 2}),
    "GlobalMaxPooling1D",
    ("Dense", 2, "softmax"),
)
STRIDED = _chain(
    SERIES,
    ("Conv1D", 4, 5, {"strides": 2}),
    ("Conv1D", 4, 5, {"strides": 2}),
    "GlobalAveragePooling1D",
    ("Dense", 2, "softmax"),
)
PLAIN = _chain(SERIES, ("Conv1D", 8, 5, {"strides": 2}))

KINDS: dict[str, tuple[Build, Sequence[tuple[int, ...]], list[Any]]] = {
    "pooled": (POOLED, [(40, 2)], [5]),
    "strided": (STRIDED, [(40, 2)], [13]),
    "depthwise": (_chain(SERIES, ("DepthwiseConv1D", 5), "GlobalAveragePooling1D"), [(40, 2)], [5]),
    "dilated": (_chain(SERIES, ("Conv1D", 2, 3, {"dilation_rate": 2}), "GlobalMaxPooling1D"), [(40, 2)], [5]),
    "embedded": (
        _chain((None,), ("Embedding", 9, 4), ("SeparableConv1D", 3, 3), "GlobalMaxPooling1D", dtype="int32"),
        [(9,)],
        [3],
    ),
    "recurrent": (_chain(SERIES, ("LSTM", 3)), [(7, 2)], [1]),
    "cropped": (_chain(SERIES, ("Cropping1D", (2, 3)), "GlobalAveragePooling1D"), [(9, 2)], [6]),
    "averaged": (_chain(SERIES, "GlobalAveragePooling1D"), [(4, 2)], [1]),
    "transposed": (_chain(SERIES, ("Conv1DTranspose", 3, 4), "GlobalMaxPooling1D"), [(4, 2)], [1]),
    "dense": (_chain(SERIES, ("Dense", 3)), [(4, 2)], [0]),
    "pictures": (
        _chain((None, None, 3), ("Conv2D", 4, 3), "MaxPooling2D", ("Conv2D", 4, 3), "GlobalAveragePooling2D"),
        [(30, 20, 3)],
        [8],
    ),
    "oblong": (
        _chain((None, None, 3), ("Conv2D", 4, (3, 9)), ("AveragePooling2D", (1, 4)), "GlobalAveragePooling2D"),
        [(30, 20, 3)],
        [(3, 12)],
    ),
    "solids": (_chain((None, None, None, 1), ("Conv3D", 2, 3), ("MaxPooling3D", 2)), [(9, 9, 9, 1)], [4]),
    "side by side": (_joined("beside"), [(20, 2), (20, 2)], [4, 7]),
    "added up": (_joined("added"), [(20, 2), (20, 2)], [4, 4]),
    "multiples of four": (_unet, [(16, 16, 1)], [4]),
    "multiples of three": (_triples, [(60, 2)], [0]),
}


def _least(graph: Any, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    signature = Signature("raw", graph.inputs, graph.outputs)
    columns = tuple(np.ones((1, *size), spec.dtype) for spec, size in zip(graph.inputs, shapes, strict=True))
    answer = tuple(graph.executor(signature, jit=False).run(columns))
    inputs = with_least(graph, signature, GoldenSet((GoldenSample(columns, answer),)))
    return [spec.min_length for spec in inputs]


@pytest.mark.parametrize("kind", KINDS)
def test_the_least_lengths_are_found_in_the_graph_of_a_keras_model_and_of_its_export(tmp_path: Path, kind: str) -> None:
    build, shapes, expected = KINDS[kind]
    model = build()
    assert _least(artifact.wrap_keras(model), shapes) == expected
    export.export_keras(model, tmp_path / "saved_model")
    assert _least(artifact.load_artifact(tmp_path / "saved_model"), shapes) == expected


def test_no_least_length_is_above_that_of_a_sample_that_was_answered(tmp_path: Path) -> None:
    samples = [*np.ones((3, 5, 2)).tolist(), np.ones((9, 2)).tolist()]
    place = publish(PLAIN(), name="m", models_dir=tmp_path, samples=samples)
    assert read_version(place).inputs[0].min_length == 5


@pytest.mark.parametrize("build", [STRIDED, PLAIN], ids=["strided", "plain"])
@pytest.mark.parametrize("samples", [None, np.ones((3, 40, 2)).tolist()], ids=["drawn", "given"])
def test_whether_a_model_of_any_length_is_published_is_not_left_to_chance(
    tmp_path: Path, build: Build, samples: list[Any] | None
) -> None:
    model = build()
    for _ in range(3):
        publish(model, name="m", models_dir=tmp_path, samples=samples, task="raw")


def test_samples_that_are_too_short_are_refused_by_publish(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"golden sample of shape s \[2, 2\]: that is too short for a convolution"):
        publish(POOLED(), name="m", models_dir=tmp_path, samples=[[[1, 1]] * 2])


@pytest.mark.parametrize(("declared", "refused"), [(13, False), (20, False), (12, True)])
def test_a_publisher_may_declare_more_than_the_graph_needs_and_not_less(
    tmp_path: Path, declared: int, refused: bool
) -> None:
    def published() -> Path:
        contract = {"s": {"min_length": declared}}
        return publish(STRIDED(), name="m", models_dir=tmp_path, labels=["a", "b"], contract=contract)

    if not refused:
        assert read_version(published()).inputs[0].min_length == declared
        return
    with pytest.raises(PublishError, match="min_length 12: the model needs 13"):
        published()


def test_a_least_length_must_suit_its_input(tmp_path: Path) -> None:
    for given, said in (([1, 2], "has 2 numbers for 1 variable"), (-1, "is below 0")):
        with pytest.raises(PublishError, match=said):
            publish(PLAIN(), name="m", models_dir=tmp_path, contract={"s": {"min_length": given}})
    with pytest.raises(PublishError, match="is above max_length, 20"):
        publish(PLAIN(), name="m", models_dir=tmp_path, contract={"s": {"min_length": 30, "max_length": 20}})


def test_an_answer_of_another_shape_than_declared_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    """As a manifest says it that somebody wrote by hand."""
    place = publish(PLAIN(), name="m", models_dir=tmp_path)
    _rewrite(place, lambda spec: spec.update(min_length=0))
    live = Loader(lambda job: job(), max_batch=4).load(VersionOnDisk(1, place, ()))
    done = live.execute([np.ones((2, 4, 2), np.float32)], 2, 2)
    assert {type(error) for error in done.errors.values()} == {ModelFailed}
    cause = done.errors[0].cause
    assert cause is not None
    assert cause.reason
    assert not live.execute([np.ones((2, 5, 2), np.float32)], 2, 2).errors


def _words(after: str) -> Build:
    """As many steps as a text has words."""

    def build() -> Any:
        import keras

        keras.utils.set_random_seed(1)
        layers = keras.layers
        text = keras.Input((1,), dtype="string", name="text")
        steps = layers.TextVectorization(vocabulary=["red", "blue", "green"])(text)
        end = layers.Embedding(6, 4)(steps)
        end = layers.MaxPooling1D(5, strides=2)(end) if after == "pooled" else layers.Conv1D(4, 5)(end)
        return keras.Model(text, layers.Dense(2, activation="softmax")(layers.GlobalMaxPooling1D()(end)))

    return build


@pytest.mark.parametrize("export", [False, True], ids=["keras", "exported"])
@pytest.mark.parametrize("after", ["pooled", "convolved"])
def test_where_a_length_depends_on_what_a_sample_holds_the_graph_refuses_what_is_too_short(
    tmp_path: Path, after: str, export: bool
) -> None:
    samples = ["red blue green red blue green", "red red blue green green blue red"]
    model = _words(after)()
    place = publish(
        model, name="m", models_dir=tmp_path, samples=samples, labels=["a", "b"], max_batch=1, export=export
    )
    assert read_version(place).head == "softmax"
    live = Loader(lambda job: job(), max_batch=1).load(VersionOnDisk(1, place, ()))
    for words in ("red blue green red", "red", ""):
        (error,) = live.execute([np.array([[words.encode()]], object)], 1, 1).errors.values()
        assert isinstance(error, ModelFailed)
        assert error.message.endswith("it is too short for a convolution or a pooling of the model")
    for text in ("red blue green red blue", samples[0]):
        done = live.execute([np.array([[text.encode()]], object)], 1, 1)
        assert not done.errors
        np.testing.assert_allclose(done.outputs[0], model(np.array([[text]])), rtol=1e-4, atol=1e-5)


def test_the_least_length_for_a_window_behind_a_recurrent_layer_is_found_by_running_it(tmp_path: Path) -> None:
    """Shapes do not tell how many steps its loop gives, so that the graph checks it."""
    build = _chain(
        SERIES,
        ("LSTM", 3, {"return_sequences": True}),
        ("MaxPooling1D", 5, {"strides": 2}),
        "GlobalMaxPooling1D",
    )
    model = build()
    place = publish(model, name="m", models_dir=tmp_path, samples=np.ones((3, 9, 2)).tolist())
    assert read_version(place).inputs[0].min_length == 5
    live = Loader(lambda job: job(), max_batch=2).load(VersionOnDisk(1, place, ()))
    assert live.execute([np.ones((1, 4, 2), np.float32)], 1, 1).errors  # whoever sends it past the api
    columns = np.random.default_rng(1).random((2, 6, 2)).astype(np.float32)
    done = live.execute([columns], 2, 2)
    assert not done.errors
    np.testing.assert_allclose(done.outputs[0], model(columns), rtol=1e-4, atol=1e-5)


def _rewrite(place: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what a manifest says of its inputs."""
    path = place / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    for spec in manifest["inputs"]:
        change(spec)
    path.write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`now`, as it is published today, and `old`, as it was before least lengths were looked for."""
    folder = tmp_path_factory.mktemp("lengths")
    series = np.random.default_rng(0).normal(size=(4, 40, 2)).tolist()
    models = folder / "models"
    place = publish(POOLED(), name="now", models_dir=models, labels=["a", "b"], samples=series)
    shutil.copytree(place, models / "old" / "1")
    manifest = json.loads((models / "old" / "1" / MANIFEST_FILE).read_text()) | {"name": "old"}
    (models / "old" / "1" / MANIFEST_FILE).write_text(json.dumps(manifest))
    _rewrite(models / "old" / "1", lambda spec: spec.pop("min_length"))
    pictures = _chain((None, None, 3), ("Conv2D", 4, (3, 9)), "GlobalAveragePooling2D", ("Dense", 2, "softmax"))
    publish(pictures(), name="pictures", models_dir=models, labels=["a", "b"])
    return folder


@pytest.fixture(scope="module")
def served(lengths: Path) -> Any:
    with running(lengths) as service:
        yield service


def _predict(service: Service, model: str, **params: Any) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "predict", "params": {"model": model, **params}}
    request = urllib.request.Request(
        service.url, json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return dict(json.load(response))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))


@pytest.mark.parametrize("model", ["now", "old"])
def test_a_short_sample_is_refused_by_pointer_and_the_engine_lives(served: Service, model: str) -> None:
    before = [child.pid for child in served.children("_engine")]
    steps = [[1.0, 1.0]] * 40
    for length in (4, 2, 0):
        answer = _predict(served, model, instances=[[[1.0, 1.0]] * length])["error"]
        assert (answer["code"], answer["data"]["details"]["pointer"]) == (-32602, "/instances/0")
        assert answer["data"]["details"]["expected"] == "at least 5 arrays"
        assert answer["data"]["details"]["got"] == str(length)
    tensor = {"b64": "AACAPwAAgD8AAIA/AACAPw==", "dtype": "float32", "shape": [1, 2, 2]}
    answer = _predict(served, model, inputs={"s": tensor})["error"]
    assert answer["data"]["details"]["pointer"] == "/inputs/s/shape"
    assert answer["data"]["details"]["expected"] == "at least 5 along axis 1"
    assert "result" in _predict(served, model, instances=[steps])
    assert "result" in _predict(served, model, instances=[steps[:5]])
    assert [child.pid for child in served.children("_engine")] == before


def test_each_side_of_a_picture_has_its_own_least_size(served: Service) -> None:
    def picture(height: int, width: int) -> list[Any]:
        return np.ones((height, width, 3)).tolist()

    assert "result" in _predict(served, "pictures", instances=[picture(3, 9)])
    narrow = _predict(served, "pictures", instances=[picture(3, 9), picture(12, 8)])["error"]["data"]["details"]
    assert (narrow["pointer"], narrow["expected"]) == ("/instances/1/0", "at least 9 arrays")
    narrow = _predict(served, "pictures", instances=[picture(12, 8)])["error"]["data"]["details"]
    assert (narrow["pointer"], narrow["expected"]) == ("/instances/0/0", "at least 9 arrays")
    nothing: list[Any] = []
    for empty in (nothing, [nothing]):
        refused = _predict(served, "pictures", instances=[empty])["error"]["data"]["details"]
        assert (refused["pointer"], refused["expected"]) == ("/instances/0", "at least 3 arrays")


@pytest.mark.parametrize("model", ["now", "old"])
def test_models_describe_tells_the_least_length(served: Service, model: str) -> None:
    assert "result" in _predict(served, model, instances=[[[1.0, 1.0]] * 40])
    body = {"jsonrpc": "2.0", "id": 1, "method": "models.describe", "params": {"model": model}}
    request = urllib.request.Request(
        served.url, json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        version = json.load(response)["result"]["versions"][0]
    assert version["inputs"][0]["min_length"] == version["manifest"]["inputs"][0]["min_length"] == 5
