"""Callers share batches: a graph in which one row changes the answer to another is not served, unless each row runs alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.engine.models.loader import Loader
from hoverboard.errors import PublishError, VersionRefused
from hoverboard.publishing import publish
from hoverboard.versions import VersionOnDisk


def _scaled() -> Any:
    import keras

    x = keras.Input((3,), name="x")
    return keras.Model(x, keras.layers.Dense(1, name="y")(x / (1.0 + keras.ops.max(keras.ops.abs(x)))))


def _softmax_over_the_batch() -> Any:
    import keras

    x = keras.Input((3,), name="x")
    return keras.Model(x, keras.ops.softmax(keras.layers.Dense(2)(x), axis=0))


def _batch_statistics() -> Any:
    """What a normalisation does that takes its mean from the batch, as in training."""
    import keras

    x = keras.Input((3,), name="x")
    return keras.Model(x, keras.layers.Dense(2, name="y")(x - keras.ops.mean(x, axis=0, keepdims=True)))


def _longest_text() -> Any:
    """Padded to the longest text of the batch, and the padding counts."""
    import keras

    text = keras.Input((1,), dtype="string", name="text")
    tokens = keras.layers.TextVectorization(vocabulary=["some", "text", "example"])(text)
    return keras.Model(text, keras.layers.GlobalAveragePooling1D(name="y")(keras.layers.Embedding(9, 2)(tokens)))


MIXING: dict[str, Callable[[], Any]] = {
    "scaled": _scaled,
    "softmax": _softmax_over_the_batch,
    "statistics": _batch_statistics,
    "longest": _longest_text,
}


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("same", [False, True], ids=["drawn samples", "samples that are all the same"])
def test_a_graph_that_mixes_rows_is_refused_and_told_how_to_be_served(tmp_path: Path, name: str, same: bool) -> None:
    sample = "some text" if name == "longest" else [1.0, 2.0, 3.0]
    samples = [sample] * 3 if same else None
    given: dict[str, Any] = {"name": "m", "models_dir": tmp_path, "task": "raw", "samples": samples}
    with pytest.raises(PublishError, match=r"bucket 2.*mixes the rows of a batch.*--max-batch 1"):
        publish(MIXING[name](), **given)
    place = publish(MIXING[name](), max_batch=1, **given)
    live = Loader(lambda job: job(), max_batch=64).load(VersionOnDisk(1, place, ()))
    assert live.costs.sizes == (1,)


def test_a_version_on_disk_that_mixes_rows_is_refused_at_load(tmp_path: Path) -> None:
    place = publish(_scaled(), name="m", models_dir=tmp_path, max_batch=1)
    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps({**manifest, "max_batch": None}))
    loader = Loader(lambda job: job(), max_batch=64)
    with pytest.raises(VersionRefused, match="mixes the rows") as refused:
        loader.load(VersionOnDisk(1, place, ()))
    assert refused.value.check == "rows"
    # A limit in serving.toml keeps it as a version of its own would.
    assert loader.load(VersionOnDisk(1, place, ()), 1).costs.sizes == (1,)


def test_remembered_timings_do_not_spare_a_version_the_check(tmp_path: Path) -> None:
    place = publish(_scaled(), name="m", models_dir=tmp_path, max_batch=1)
    timings = tmp_path / "timings"
    loader = Loader(lambda job: job(), max_batch=2, timings_dir=timings)
    import keras

    fine = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(1, name="y")])
    loader.load(VersionOnDisk(1, publish(fine, name="fine", models_dir=tmp_path), ()))
    (remembered,) = timings.iterdir()
    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps({**manifest, "max_batch": None}))
    from hoverboard.versions import read_version

    path = loader._memory_path(read_version(place), 2)
    assert path is not None
    shutil.copy(remembered, path)
    with pytest.raises(VersionRefused, match="mixes the rows"):
        loader.load(VersionOnDisk(1, place, ()))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "float16", "float64"])
def test_rows_of_any_dtype_are_no_reason_to_refuse_a_graph_that_keeps_rows_apart(tmp_path: Path, dtype: str) -> None:
    import keras

    x = keras.Input((4,), dtype=dtype, name="x")
    model = keras.Model(x, keras.layers.Dense(2, name="y")(keras.ops.cast(x, "float32")))
    assert publish(model, name="m", models_dir=tmp_path).name == "1"


def test_a_row_that_the_graph_cannot_run_is_no_company(tmp_path: Path, keras_models: dict[str, Any]) -> None:
    """An embedding of ten rows: made-up indexes are outside of it, and that says nothing about golden samples."""
    place = publish(keras_models["poisoned"], name="m", models_dir=tmp_path, samples=[[1], [9]])
    assert place.name == "1"


@pytest.mark.parametrize("what", ["noise", "state"])
def test_a_model_that_gives_the_same_sample_other_values_each_time_is_refused(tmp_path: Path, what: str) -> None:
    import tensorflow as tf

    class Changing(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        def __init__(self) -> None:
            self.calls = tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def serve(self, x: Any) -> dict[str, Any]:
            more = tf.random.normal(tf.shape(x)) if what == "noise" else self.calls.assign_add(1.0)
            return {"y": x + more}

    module = Changing()
    tf.saved_model.save(module, str(tmp_path / "changing"), signatures={"serving_default": module.serve})
    with pytest.raises(PublishError, match=r"other values each time it is asked.*random"):
        publish(
            tmp_path / "changing",
            name="m",
            models_dir=tmp_path / "models",
            task="raw",
            allow_ops=["RandomStandardNormal", "AssignAddVariableOp"],
        )


def test_calibration_of_a_version_whose_rows_run_alone_runs_them_alone(tmp_path: Path) -> None:
    """Otherwise the level would be set by scores that no caller ever sees."""
    import keras

    from hoverboard.outliers import load_package
    from hoverboard.publishing.calibration_file import CalibrationRows

    keras.utils.set_random_seed(5)
    x = keras.Input((3,), name="x")
    z = keras.layers.Dense(4, name="z")(x / (1.0 + keras.ops.max(keras.ops.abs(x))))
    model = keras.Model(x, keras.layers.Dense(1, name="y")(z))
    rows = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32) * np.exp(
        np.random.default_rng(1).normal(size=(300, 1))
    ).astype(np.float32)
    place = publish(
        model, name="m", models_dir=tmp_path, max_batch=1, calibration=CalibrationRows((rows,), None), alpha=0.05
    )
    assert load_package(place / "outliers.npz").alpha == 0.05
    live = Loader(lambda job: job(), max_batch=64).load(VersionOnDisk(1, place, ()))
    p_values = [live.execute([rows[i : i + 1]], 1, 1).p_value for i in range(len(rows))]
    flagged = np.mean([p is not None and p[0] <= 0.05 for p in p_values])
    assert 0.005 <= flagged <= 0.12
