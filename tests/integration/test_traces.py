"""A version answers what its Keras model answers when it is called, also where Keras traces it to something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.backends.tensorflow import artifact
from hoverboard.contract.signature import Array
from hoverboard.engine.models.loader import Loader
from hoverboard.errors import PublishError, VersionRefused
from hoverboard.publishing import publish
from hoverboard.publishing.calibration_file import CalibrationRows
from hoverboard.versions import VersionOnDisk, read_version


def _tagger(steps: int | None, *, distributed: bool = True) -> Any:
    """A class for each step. Keras traces TimeDistributed over free steps to one that counts rows instead."""
    import keras

    keras.utils.set_random_seed(1)
    steps_in = keras.Input((steps, 4), name="steps")
    dense = keras.layers.Dense(2, "softmax", name="tags")
    last = keras.layers.TimeDistributed(dense, name="tags") if distributed else dense
    return keras.Model(steps_in, last(keras.layers.GRU(6, return_sequences=True)(steps_in)))


@pytest.mark.parametrize("how", ["in memory", "a file", "exported"])
def test_a_model_that_keras_traces_to_another_is_refused_with_what_to_do(tmp_path: Path, how: str) -> None:
    model = _tagger(None)
    artifact.save_keras(model, tmp_path / "tagger.keras")
    given = tmp_path / "tagger.keras" if how == "a file" else model
    words = r"for inputs of shape \w+ \[4, 4\] has shape \[1, 2\] as a graph, \[4, 2\] as Keras calls it.*TimeDistributed.*keras.Input"
    with pytest.raises(PublishError, match=words):
        publish(given, name="m", models_dir=tmp_path / "models", max_batch=1, export=how == "exported")


def test_golden_samples_of_one_length_do_not_hide_it(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"steps \[4, 4\] has shape \[1, 2\] as a graph"):
        publish(_tagger(None), name="m", models_dir=tmp_path, max_batch=1, samples=[[[0.0, 1.0, 2.0, 3.0]]])


@pytest.mark.parametrize("model", ["fixed steps", "a Dense alone"])
def test_what_the_refusal_advises_answers_every_step(tmp_path: Path, model: str) -> None:
    made = _tagger(5) if model == "fixed steps" else _tagger(None, distributed=False)
    place = publish(made, name="m", models_dir=tmp_path, max_batch=4)
    live = Loader(lambda job: job(), max_batch=4).load(VersionOnDisk(1, place, ()))
    steps = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    (tags,) = live.execute([steps], 2, 2).outputs
    np.testing.assert_allclose(tags[:2], made(steps).numpy(), rtol=1e-4, atol=1e-5)


def test_a_layer_that_gives_other_values_when_it_is_traced_is_refused(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    class Sly(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            return x * (2.0 if tf.executing_eagerly() else 3.0)

    model = keras.Sequential([keras.Input((3,), name="x"), Sly(name="y")])
    with pytest.raises(PublishError, match=r"output output_0 .* as a graph, .* as Keras calls it"):
        publish(model, name="m", models_dir=tmp_path, export=True)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "float32"])
def test_rounding_is_no_difference(tmp_path: Path, dtype: str) -> None:
    import keras

    keras.utils.set_random_seed(2)
    layers = [keras.layers.Dense(64, "relu", dtype=dtype) for _ in range(4)]
    model = keras.Sequential([keras.Input((32,), name="x"), *layers, keras.layers.Dense(3, name="y", dtype="float32")])
    assert publish(model, name="m", models_dir=tmp_path, max_batch=1).name == "1"


def test_a_graph_that_takes_the_number_of_rows_for_a_dimension_is_not_called_a_mixer(tmp_path: Path) -> None:
    import tensorflow as tf

    class Counting(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec((None, None), tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def serve(self, x: Any) -> dict[str, Any]:
            return {"y": x[:, : tf.shape(x)[0]]}

    module = Counting()
    tf.saved_model.save(module, str(tmp_path / "counting"), signatures={"serving_default": module.serve})
    words = r"shape \[1, 2\], expected \[1, 1\] \(bucket 2.*depends on the number of rows.*keras.Input"
    with pytest.raises(PublishError, match=words) as refused:
        publish(tmp_path / "counting", name="m", models_dir=tmp_path / "models", task="raw")
    assert "--max-batch" not in str(refused.value)
    assert "mixes" not in str(refused.value)


@pytest.mark.parametrize("built_by", ["a call", "fit"])
def test_a_subclassed_model_that_was_built_is_exported(tmp_path: Path, built_by: str) -> None:
    import keras

    class Mine(keras.Model):  # type: ignore[misc]  # Keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    with pytest.raises(PublishError, match=r"declares no inputs.*export=True"):
        publish(Mine(), name="m", models_dir=tmp_path)
    with pytest.raises(PublishError, match="not built: call it once"):
        publish(Mine(), name="m", models_dir=tmp_path, export=True)
    model, x = Mine(), np.ones((5, 3), np.float32)
    if built_by == "fit":
        model.compile("sgd", "mse")
        model.fit(x, np.ones((5, 2), np.float32), verbose=0)
    wanted = model(x).numpy()
    place = publish(model, name="m", models_dir=tmp_path, export=True, max_batch=8)
    live = Loader(lambda job: job(), max_batch=8).load(VersionOnDisk(1, place, ()))
    for rows in (1, 5):
        found = live.execute([x[:rows]], rows, live.costs.bucket_for(rows)).outputs[0][:rows]
        np.testing.assert_allclose(found, wanted[:rows], rtol=1e-4, atol=1e-5)


def trained(*layers: Any, width: int = 8, classes: int = 3) -> tuple[Any, Array]:
    """A Sequential without `keras.Input`, built by `fit`, which keeps the size of its first batch; and what it was fitted on."""
    import keras

    keras.utils.set_random_seed(4)
    samples = np.random.default_rng(0).normal(size=(64, width)).astype(np.float32)
    model = keras.Sequential([*layers, keras.layers.Dense(classes, "softmax", name="p")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(samples, np.arange(64) % classes, verbose=0)
    assert model.inputs[0].shape == (32, width)
    return model, samples


@pytest.mark.parametrize("form", ["memory", "file", "export"])
def test_a_sequential_that_keeps_the_size_of_its_first_batch_answers_any_number_of_rows(
    tmp_path: Path, form: str
) -> None:
    import keras

    model, samples = trained(keras.layers.Dense(16, "relu"), keras.layers.BatchNormalization())
    given: Any = model
    if form == "file":
        given = tmp_path / "fitted.keras"
        artifact.save_keras(model, given)
    place = publish(given, name="m", models_dir=tmp_path, labels=["a", "b", "c"], max_batch=8, export=form == "export")
    manifest = read_version(place)
    assert [spec.shape for spec in (*manifest.inputs, *manifest.outputs)] == [(8,), (3,)]
    live = Loader(lambda job: job(), max_batch=8).load(VersionOnDisk(1, place, ()))
    for rows in (1, 5, 8):
        wanted = model(samples[:rows], training=False)
        found = live.execute([samples[:rows]], rows, live.costs.bucket_for(rows)).outputs[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert model.inputs[0].shape == (32, 8), "the publisher's own model was changed"


def test_outliers_are_calibrated_for_a_model_that_keeps_the_size_of_its_first_batch(tmp_path: Path) -> None:
    import keras

    model, _ = trained(keras.layers.Dense(16, "relu"))
    rows = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    place = publish(
        model,
        name="m",
        models_dir=tmp_path,
        labels=["a", "b", "c"],
        max_batch=4,
        calibration=CalibrationRows((rows,)),
    )
    outliers = read_version(place).outliers
    assert outliers is not None
    assert outliers["layer"] == model.layers[0].name


def _reshaped() -> Any:
    import keras

    x = keras.Input(batch_shape=(4, 3, 2), name="x")
    return keras.Model(x, keras.layers.Dense(1)(keras.ops.reshape(x, (4, 6))))


def _with_a_row_each() -> Any:
    import keras

    x = keras.Input(batch_shape=(4, 2), name="x")
    return keras.Model(x, keras.layers.Dense(1)(x + np.ones((4, 2), np.float32)))


def _stateful() -> Any:
    import keras

    lstm = keras.layers.LSTM(2, stateful=True, name="memory")
    return keras.Sequential([keras.Input(batch_shape=(4, 3, 2)), lstm, keras.layers.Dense(1)])


def test_a_stateful_layer_is_named_whatever_the_size_of_its_batch(tmp_path: Path) -> None:
    import keras

    x = keras.Input(batch_shape=(1, 4, 2), name="x")
    model = keras.Model(x, keras.layers.Dense(1)(keras.layers.GRU(3, stateful=True, name="memory")(x)))
    with pytest.raises(PublishError, match=r"batches of 1 only.*layer memory keeps a state.*stateful=False"):
        publish(model, name="m", models_dir=tmp_path)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_reshaped, r"its output keeps that number of rows.*-1"),
        (_with_a_row_each, r"its output keeps that number of rows"),
        (_stateful, r"layer memory keeps a state for each row.*stateful=False"),
    ],
)
def test_a_model_that_takes_one_size_of_batches_only_is_refused_with_why(
    tmp_path: Path, make: Callable[[], Any], why: str
) -> None:
    with pytest.raises(PublishError, match=rf"takes batches of 4 only.*keras.Input\(\(.*{why}"):
        publish(make(), name="m", models_dir=tmp_path)


def test_a_layer_that_is_not_keras_own_is_named_by_its_package(tmp_path: Path) -> None:
    import keras

    @keras.saving.register_keras_serializable("mine")
    class Scale(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            return x * 2

    Scale.__module__ = "__main__"  # as in a script, whose name Keras leaves out
    artifact.save_keras(keras.Sequential([keras.Input((3,)), Scale(name="s")]), tmp_path / "m.keras")
    keras.saving.get_custom_objects().pop("mine>Scale")
    with pytest.raises(VersionRefused, match=r"\(Scale, registered under the package mine\)"):
        artifact.load_artifact(tmp_path / "m.keras")
