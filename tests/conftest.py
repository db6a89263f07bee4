"""What more than one kind of test needs: real Keras models, published once a session, and settings that touch nothing."""

from __future__ import annotations

import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from hoverboard.config import Settings

pytest_plugins = ["tests.alone", "tests.postgres"]
# What is right is tested by examples, what is quick is not: any example may be slow on a machine that is busy.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # Run by nohup: a signal that is ignored stays so in every process that a test starts, one with a handler does not.
    signal.signal(signal.SIGHUP, lambda *_: None)

Build = Callable[[], Any]


def _dense(seed: int) -> Any:
    import keras

    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8,), name="features"),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(3, activation="softmax", name="probabilities"),
        ]
    )


def _constant(answer: float) -> Any:
    """Answers `answer` whatever it is asked: tells which version answered."""
    import keras

    features = keras.Input((2,), name="features")
    out = keras.layers.Dense(
        1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(answer), name="y"
    )
    return keras.Model(features, out(features))


def _poisoned() -> Any:
    """An embedding of ten rows: index 10 and above make the graph raise."""
    import keras

    keras.utils.set_random_seed(1)
    index = keras.Input((1,), name="index", dtype="int32")
    vectors = keras.layers.Flatten()(keras.layers.Embedding(10, 4)(index))
    return keras.Model(index, keras.layers.Dense(2, name="scores")(vectors))


def _logarithm() -> Any:
    """The logarithm: NaN below zero, minus infinity at zero."""
    import keras

    number = keras.Input((1,), name="number")
    return keras.Model(number, keras.layers.Identity(name="logarithm")(keras.ops.log(number)))


def _lengths() -> Any:
    """A variable-length input, two outputs."""
    import keras

    keras.utils.set_random_seed(2)
    steps = keras.Input((None, 2), name="steps")
    state = keras.layers.GRU(4)(steps)
    outputs = {"mean": keras.layers.GlobalAveragePooling1D(name="mean")(steps), "state": state}
    return keras.Model(steps, outputs)


def _mixed() -> Any:
    """A text and a number in, a probability out."""
    import keras

    keras.utils.set_random_seed(3)
    word = keras.Input((), name="word", dtype="string")
    size = keras.Input((1,), name="size")
    lookup = keras.layers.StringLookup(vocabulary=["small", "large"], output_mode="one_hot")
    both = keras.layers.Concatenate()([lookup(word), size])
    return keras.Model({"word": word, "size": size}, keras.layers.Dense(1, activation="sigmoid", name="p")(both))


@pytest.fixture(scope="session")
def keras_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The models that tests publish, in memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "dense1": _dense(1),
            "dense2": _dense(2),
            "one": _constant(1.0),
            "two": _constant(2.0),
            "poisoned": _poisoned(),
            "logarithm": _logarithm(),
            "lengths": _lengths(),
            "mixed": _mixed(),
        }


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, keras_models: dict[str, Any]) -> Path:
    """A models directory with every test model; do not change it, take a copy with `models`."""
    from hoverboard.publishing import publish

    root = tmp_path_factory.mktemp("published")
    labels = ["red", "green", "blue"]
    publish(
        keras_models["dense1"],
        name="dense",
        models_dir=root,
        labels=labels,
        contract={"features": {"min": 0, "max": 9}},
    )
    publish(
        keras_models["dense2"],
        name="dense",
        models_dir=root,
        labels=labels,
        contract={"features": {"min": 0, "max": 9}},
    )
    publish(keras_models["one"], name="constant", models_dir=root)
    publish(keras_models["two"], name="constant", models_dir=root)
    publish(keras_models["poisoned"], name="poisoned", models_dir=root, samples=[[1], [9]])
    publish(keras_models["logarithm"], name="logarithm", models_dir=root, task="raw", samples=[[1.0], [2.5]])
    publish(keras_models["lengths"], name="lengths", models_dir=root)
    publish(
        keras_models["mixed"],
        name="mixed",
        models_dir=root,
        labels=["no", "yes"],
        samples=[{"word": "small", "size": 1}],
    )
    return root


@pytest.fixture
def models(published: Path, tmp_path: Path) -> Path:
    """A models directory of a test's own, with every test model in it."""
    return Path(shutil.copytree(published, tmp_path / "models"))


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings on free ports, with everything under the test's own directory and a quick scan."""

    def make(**changes: Any) -> Settings:
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        base: dict[str, Any] = {
            "models": tmp_path / "models",
            "data_dir": data,
            "port": 0,
            "admin_port": 0,
            "scan_interval_s": 0.1,
            "xla": "off",
        }
        return Settings.load(**{**base, **changes})

    return make
