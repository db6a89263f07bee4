"""Tables of customers, and models of them: what a tabular model is sent, made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hoverboard.contract.signature import Array, TensorSpec
from hoverboard.publishing.calibration_file import CalibrationRows

CLASSES = ("stays", "leaves")


def customers(rows: int, seed: int) -> tuple[dict[str, Array], Array]:
    """Inputs by name, `(rows, 1)`, and who leaves."""
    draw = np.random.default_rng(seed)
    given = {
        "plan": draw.choice(np.array([b"free", b"basic", b"pro"], object), rows, p=[0.5, 0.35, 0.15]),
        "age": np.clip(draw.normal(41, 13, rows), 18, 90).round(),
        "spend": draw.lognormal(3.3, 0.6, rows),
        "use": draw.gamma(2, 8, rows),
        "tickets": draw.poisson(1.2, rows),
    }
    leaves = (given["tickets"] > 2) | (given["use"] < 5) | (draw.random(rows) < 0.05)
    return columns_of(given), leaves.astype(np.int64)


def columns_of(given: Mapping[str, Any]) -> dict[str, Array]:
    """A column `(rows, 1)` each, float32 but for texts."""
    return {
        name: (column if column.dtype == object else column.astype(np.float32))[:, np.newaxis]
        for name, column in given.items()
    }


def churn_model() -> Any:
    """Who leaves, by a net whose softmax is sure of nearly everybody."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    given, leaves = customers(2000, 0)
    inputs = {name: keras.Input((1,), name=name, dtype="string" if name == "plan" else "float32") for name in given}
    plans = keras.layers.StringLookup(vocabulary=["free", "basic", "pro"], output_mode="one_hot")
    parts = [plans(inputs["plan"])]
    for name, column in given.items():
        if name != "plan":
            normal = keras.layers.Normalization()
            normal.adapt(column)
            parts.append(normal(inputs[name]))
    hidden = keras.layers.Dense(32, activation="relu")(keras.layers.Concatenate()(parts))
    hidden = keras.layers.Dense(16, activation="relu")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax", name="p")(hidden))
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy())
    tensors = {name: tf.constant(column) for name, column in given.items()}
    model.fit(tensors, leaves, epochs=5, batch_size=64, verbose=0)
    return model


def in_order(inputs: Sequence[TensorSpec], given: Mapping[str, Array]) -> tuple[Array, ...]:
    """Columns as a version takes them."""
    return tuple(given[spec.name] for spec in inputs)


def calibration(inputs: Sequence[TensorSpec], rows: int, seed: int) -> CalibrationRows:
    """Customers with labels."""
    given, leaves = customers(rows, seed)
    return CalibrationRows(in_order(inputs, given), [CLASSES[index] for index in leaves])
