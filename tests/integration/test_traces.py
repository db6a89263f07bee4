"""A version answers what its Keras model answers when it is called, also where Keras traces it to something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.engine import artifact
from service.engine.loading import Loader
from service.errors import PublishError, VersionRefused
from service.publishing import publish
from service.versions import VersionOnDisk


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


def test_a_subclassed_model_that_was_called_is_exported(tmp_path: Path) -> None:
    import keras

    class Mine(keras.Model):  # type: ignore[misc]  # Keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    with pytest.raises(PublishError, match="not built: call it once"):
        publish(Mine(), name="m", models_dir=tmp_path, export=True)
    model, x = Mine(), np.ones((5, 3), np.float32)
    wanted = model(x).numpy()
    place = publish(model, name="m", models_dir=tmp_path, export=True, max_batch=8)
    live = Loader(lambda job: job(), max_batch=8).load(VersionOnDisk(1, place, ()))
    np.testing.assert_allclose(live.execute([x], 5, 5).outputs[0][:5], wanted, rtol=1e-4, atol=1e-5)


def test_a_sequential_that_keeps_the_size_of_its_first_batch_is_refused_with_what_to_do(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.layers.Dense(1, name="y")])
    model(np.ones((5, 3), np.float32))
    with pytest.raises(
        PublishError, match=r"shape \[5, 3\] has no free batch axis.*keras.Input\(\(3,\)\).*set_weights"
    ):
        publish(model, name="m", models_dir=tmp_path)
    mended = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="y")])
    mended.set_weights(model.get_weights())
    assert publish(mended, name="m", models_dir=tmp_path, max_batch=1).name == "1"


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
