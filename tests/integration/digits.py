"""Small Keras classifiers of 64 pixels, published for tests."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["classifier", "pixels", "publish_all"]


def classifier(seed: int, width: int = 64) -> Any:
    """An MLP with one hidden layer."""
    import keras

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.utils.set_random_seed(seed)
        return keras.Sequential(
            [
                keras.Input((64,), name="pixels"),
                keras.layers.Dense(width, activation="relu"),
                keras.layers.Dense(10, activation="softmax", name="probabilities"),
            ]
        )


def publish_all(models_dir: Path, models: Mapping[int, Any]) -> Path:
    """Publish version -> model as `digits`; returns the models directory."""
    from hoverboard.publishing import publish

    for version, model in models.items():
        publish(model, name="digits", models_dir=models_dir, version=version)
    return models_dir


def pixels(samples: int, seed: int = 7) -> Any:
    """Float32 `(samples, 64)` from 0 to 16."""
    return np.random.default_rng(seed).uniform(0, 16, (samples, 64)).astype(np.float32)
