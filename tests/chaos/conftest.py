"""One service for deaths and stalls of single processes, with two api workers and a model that says which row it saw."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.running import Service, running
from tests.load import predict_params

PROBES = 16


@pytest.fixture(scope="session")
def regressor() -> Any:
    import keras

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.utils.set_random_seed(11)
        return keras.Sequential(
            [
                keras.Input((8,), name="features"),
                keras.layers.Dense(16, activation="relu"),
                keras.layers.Dense(1, name="amount"),
            ]
        )


@pytest.fixture(scope="session")
def probes() -> Any:
    return np.random.default_rng(5).normal(size=(PROBES, 8)).astype(np.float32)


@pytest.fixture(scope="session")
def expected(regressor: Any, probes: Any) -> Mapping[int, Any]:
    """Version -> what Keras says to the probes."""
    return {1: np.asarray(regressor(probes))}


@pytest.fixture(scope="session")
def questions(probes: Any) -> list[dict[str, Any]]:
    return [predict_params("amounts", [probe.tolist()]) for probe in probes]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, regressor: Any) -> Path:
    """A working directory with the model in it."""
    from hoverboard.publishing import publish

    root = tmp_path_factory.mktemp("chaos")
    publish(regressor, name="amounts", models_dir=root / "models")
    return root


@pytest.fixture(scope="module")
def shared_service(folder: Path) -> Iterator[Service]:
    with running(folder, {"HOVERBOARD_API_WORKERS": "2"}) as service:
        yield service
