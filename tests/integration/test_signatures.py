"""What a version takes and answers is taken from the traced graph, whatever structure its inputs have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.backends.tensorflow import artifact
from hoverboard.config import Settings
from hoverboard.engine.engine import Engine
from hoverboard.engine.models.loader import Loader
from hoverboard.errors import ModelFailed, PublishError, VersionRefused
from hoverboard.publishing import publish
from hoverboard.versions import VersionOnDisk, read_version
from tests.integration.test_engine import call


def load(directory: Path) -> Any:
    return Loader(lambda job: job(), max_batch=4).load(VersionOnDisk(int(directory.name), directory, ()))


@pytest.mark.parametrize("mode", ["multi_hot", "count", "tf_idf"])
def test_whole_texts_are_vectorised_to_the_shape_that_the_graph_gives(tmp_path: Path, mode: str) -> None:
    """Keras declares one dimension more than it gives."""
    import keras

    vectorise = keras.layers.TextVectorization(output_mode=mode, max_tokens=50)
    vectorise.adapt(["red wine", "blue chair"])
    text = keras.Input((1,), dtype="string", name="text")
    model = keras.Model(text, keras.layers.Dense(2, activation="softmax", name="p")(vectorise(text)))
    place = publish(model, name="m", models_dir=tmp_path, labels=["neg", "pos"])
    manifest = read_version(place)
    assert (manifest.task, manifest.outputs[0].shape) == ("classification", (2,))
    done = load(place).execute([np.array([[b"red"], [b"blue chair"]], object)], 2, 2)
    np.testing.assert_allclose(done.outputs[0].sum(axis=1), 1, rtol=1e-5)


def test_structures_of_inputs_and_outputs_are_flattened_to_paths(tmp_path: Path) -> None:
    import keras

    a, b, c = (keras.Input((width,), name=name) for name, width in (("x", 2), ("y", 1), ("z", 3)))
    both = keras.layers.Concatenate()([a, b, c])
    outputs = {"scores": {"first": keras.layers.Dense(1)(both), "second": keras.layers.Dense(2)(both)}}
    model = keras.Model({"user": {"age": b, "place": a}, "views": [c]}, outputs)
    place = publish(model, name="m", models_dir=tmp_path, task="raw")
    manifest = read_version(place)
    assert [(spec.name, spec.shape) for spec in manifest.inputs] == [
        ("user.age", (1,)),
        ("user.place", (2,)),
        ("views.0", (3,)),
    ]
    assert [(spec.name, spec.shape) for spec in manifest.outputs] == [("scores.first", (1,)), ("scores.second", (2,))]
    columns = [np.full((1, width), width, np.float32) for width in (1, 2, 3)]
    expected = model({"user": {"age": columns[0], "place": columns[1]}, "views": [columns[2]]})["scores"]["second"]
    np.testing.assert_allclose(load(place).execute(columns, 1, 1).outputs[1], expected, rtol=1e-4, atol=1e-5)


def test_a_key_that_looks_like_the_path_of_another_input_is_refused(tmp_path: Path) -> None:
    import keras

    a, b = keras.Input((1,), name="age"), keras.Input((1,), name="user.age")
    model = keras.Model({"user": {"age": a}, "user.age": b}, keras.layers.Add()([a, b]))
    with pytest.raises(PublishError, match=r"two inputs are both called 'user.age'"):
        publish(model, name="m", models_dir=tmp_path)


@pytest.mark.parametrize(("name", "fine"), [('a "b" \\ é', True), ("tab\there", False), ("x" * 129, False)])
def test_names_are_printable_and_not_too_long(tmp_path: Path, name: str, fine: bool) -> None:
    import keras

    x = keras.Input((2,), name=name)
    model = keras.Model({name: x}, keras.layers.Dense(1, name="y")(x))
    if fine:
        assert read_version(publish(model, name="m", models_dir=tmp_path)).inputs[0].name == name
    else:
        with pytest.raises(PublishError, match="no control characters"):
            publish(model, name="m", models_dir=tmp_path)


def test_strings_looked_up_are_outputs_of_the_graphs_own_dtype(tmp_path: Path) -> None:
    import keras

    index = keras.Input((1,), dtype="int64", name="index")
    names = keras.layers.StringLookup(vocabulary=["red", "blue"], invert=True, name="names")(index)
    place = publish(keras.Model(index, names), name="m", models_dir=tmp_path, samples=[[1], [2]])
    assert (read_version(place).outputs[0].dtype, read_version(place).task) == ("string", "raw")
    assert load(place).execute([np.array([[2]])], 1, 1).outputs[0].tolist() == [[b"blue"]]


def test_inputs_without_a_name_are_called_alike_in_memory_and_in_the_file(tmp_path: Path) -> None:
    import keras

    a, b = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([a, b], keras.layers.Dense(1, name="y")(keras.layers.Add()([a, b])))
    names = [spec.name for spec in read_version(publish(model, name="m", models_dir=tmp_path)).inputs]
    assert all(name.startswith("input_layer") for name in names)
    place = publish(tmp_path / "m" / "1" / "model.keras", name="m", models_dir=tmp_path)
    assert [spec.name for spec in read_version(place).inputs] == names


def test_ragged_outputs_and_sparse_inputs_are_refused_in_words(tmp_path: Path) -> None:
    import keras

    sparse = keras.Input((3,), sparse=True, name="s")
    with pytest.raises(PublishError, match=r"input s is sparse: build the model with keras.Input"):
        publish(keras.Model(sparse, keras.layers.Dense(1)(sparse)), name="m", models_dir=tmp_path)


def test_a_graph_that_needs_more_elements_is_tried_with_more(tmp_path: Path) -> None:
    import keras

    image = keras.Input((None, None, 3), name="image")
    z = keras.layers.MaxPooling2D(8)(keras.layers.Conv2D(4, 3)(image))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(z)))
    assert read_version(publish(model, name="m", models_dir=tmp_path)).inputs[0].shape == (None, None, 3)


def test_a_sample_that_the_graph_cannot_take_is_told_why(tmp_path: Path, keras_models: dict[str, Any]) -> None:
    live = load(publish(keras_models["poisoned"], name="m", models_dir=tmp_path, samples=[[1], [9]]))
    done = live.execute([np.array([[1], [12], [3]], np.int32)], 3, 4)
    assert list(done.errors) == [1]
    assert isinstance(done.errors[1], ModelFailed)
    assert done.errors[1].details == {"reason": "index 12 is not in [0, 10)"}
    assert done.errors[1].message == "The model failed on this input: index 12 is not in [0, 10)"
    cause = done.errors[1].cause
    assert cause is not None
    assert cause.version == 1
    assert cause.reason.endswith("= 12 is not in [0, 10)")


def test_what_the_author_of_a_model_asserts_is_told_to_callers(tmp_path: Path) -> None:
    import tensorflow as tf

    class Aging(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec((None, 1), tf.float32, name="age")])  # type: ignore[untyped-decorator]
        def serve(self, age: Any) -> dict[str, Any]:
            tf.debugging.assert_non_negative(age, message="age must not be negative, see /home/me/limits/age.md")
            return {"y": age * 2}

    model = Aging()
    tf.saved_model.save(model, str(tmp_path / "saved"), signatures={"serving_default": model.serve})
    live = load(publish(tmp_path / "saved", name="m", models_dir=tmp_path, task="raw"))
    done = live.execute([np.array([[1], [-2], [3]], np.float32)], 3, 4)
    assert done.outputs[0].tolist() == [[2], [0], [6]]
    assert list(done.errors) == [1]
    assert done.errors[1].message == "The model failed on this input: age must not be negative, see (path)"


@pytest.mark.parametrize(("kind", "kept"), [("poisoned", False), ("dense1", True)])
def test_xla_is_left_where_it_would_answer_what_the_graph_refuses(
    tmp_path: Path, keras_models: dict[str, Any], kind: str, *, kept: bool
) -> None:
    """It takes the nearest row for an index that there is not."""
    place = publish(keras_models[kind], name="m", models_dir=tmp_path, task="raw")
    graph, signature = artifact.load(place, "model.keras"), read_version(place).signature
    if kept:
        assert graph.executor(signature, jit=True).name == "tf-xla"
    else:
        with pytest.raises(VersionRefused, match="XLA leaves out what the graph checks"):
            graph.executor(signature, jit=True)


@pytest.mark.parametrize("hidden", [False, True])
async def test_why_a_sample_failed_is_logged_without_what_the_model_hides(
    tmp_path: Path, keras_models: dict[str, Any], make_settings: Callable[..., Settings], *, hidden: bool
) -> None:
    from structlog.testing import capture_logs

    publish(keras_models["poisoned"], name="m", models_dir=tmp_path / "models", samples=[[1], [9]])
    if hidden:
        (tmp_path / "models" / "m" / "serving.toml").write_text('[recording]\nredact = ["/index"]\n')
    async with Engine(make_settings(models=tmp_path / "models")) as engine:
        await engine.settled()
        with capture_logs() as logs:
            for _ in range(3):
                with pytest.raises(ModelFailed):
                    await engine.predict(call(engine, "m", np.array([[1], [12]], np.int32)))
        (failure,) = (await engine.admin("failures", {"model": "m"})).values()
    (entry,) = [entry for entry in logs if entry["event"] == "sample_failed"]
    assert (entry["model"], entry["version"], entry["reason"]) == ("m", 1, failure["reason"])
    assert ("12" in entry["reason"]) is not hidden


def test_a_golden_sample_that_fails_is_refused_with_the_graphs_own_reason(tmp_path: Path) -> None:
    import keras

    text = keras.Input((1,), dtype="string", name="s")
    lookup = keras.layers.StringLookup(vocabulary=["x", "y"], num_oov_indices=0, output_mode="one_hot")
    model = keras.Model(text, keras.layers.Dense(1)(lookup(text)))
    with pytest.raises(
        PublishError, match=r"all inputs should be in vocabulary.*give samples it can answer with --samples"
    ):
        publish(model, name="m", models_dir=tmp_path)
    assert publish(model, name="m", models_dir=tmp_path, samples=["x", "y"]).name == "1"
