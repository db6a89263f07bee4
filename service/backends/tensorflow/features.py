"""What a version's detectors look at: a Keras model's last inner features and logits, its outputs, or its numeric inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hoverboard.backends.executor import Executor, run_in_pieces
from hoverboard.backends.tensorflow.device import quiet
from hoverboard.backends.tensorflow.executors import dense
from hoverboard.contract.heads import logits_of
from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.errors import PublishError
from hoverboard.outliers.features import Features, Needs, Space

with quiet():
    import keras
    import numpy as np
    import tensorflow as tf

__all__ = ["FeatureExtractor", "View", "Watched", "parts_of", "view_of"]


@dataclass(frozen=True, slots=True)
class Tap:
    """Where a Keras model's features are taken.

    Attributes:
        layer: whose output they are; the one before the last dense layer, unless another was asked for. None where
            there is nothing before it but an input.
        call: flat tensors in; the outputs, the features `(n, d)` and the logits `(n, C)` out, the latter two float32. Logits
            are what the last dense layer gives before its activation; None where the model does not end in one.
    """

    layer: str | None
    call: Callable[..., tuple[list[Any], Any, Any]]


class Watched(NamedTuple):
    """What detectors look at, as float32 tensors: `(rows, d)`, `(rows, C)`, `(rows, m)`; None where there is nothing."""

    z: Any
    logits: Any
    inputs: Any


@dataclass(frozen=True, slots=True)
class View:
    """What a version's detectors look at.

    Attributes:
        space: what z is.
        layer: whose output it is; None for other spaces.
        call: flat tensors in the graph's order in; its outputs and the features out.
    """

    space: Space
    layer: str | None
    call: Callable[..., tuple[list[Any], Watched]]


@dataclass(frozen=True, slots=True)
class FeatureExtractor:
    """What detectors look at, for samples at hand.

    Attributes:
        space, layer: as in `View`.
    """

    space: Space
    layer: str | None
    _names: Sequence[Needs]
    _executor: Executor
    _rows: int | None = None

    def __call__(self, columns: Sequence[Array]) -> Features:
        """Features of `(rows, *shape)` columns, in the signature's order.

        Raises:
            GraphError, OutOfMemory: as an executor does.
        """
        parts = run_in_pieces(self._executor, columns, self._rows or len(columns[0]))
        return Features(**dict(zip(self._names, parts, strict=True)), space=self.space)


def view_of(
    model: Any,
    call: Callable[..., list[Any]],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    signature: Signature,
    *,
    layer: str | None = None,
    space: Space | None = None,
) -> View:
    """Choose what detectors look at: inner features, else outputs that are a vector, else the numeric inputs.

    Args:
        model: of Keras; None where there is none.
        call, inputs, outputs: as in a graph.
        signature: the manifest's.
        layer: whose output the features are; the one before the last dense layer when left out.
        space: what was chosen before; it is found by itself when left out.

    Raises:
        PublishError: there is nothing that a sample could be scored by; or no such layer, or its output is no vector of numbers.
    """
    numeric = _numeric(inputs)
    first = next(i for i, spec in enumerate(outputs) if spec.name == signature.outputs[0].name)
    vector = signature.task in ("classification", "multi-label", "embedding") and not outputs[first].variable
    # Also where z is the inputs: the logits of a linear model are those of its one layer.
    tap = _tap(model, layer, first) if model is not None and space != "outputs" else None
    # A tap without a layer is that of a linear model: what its one layer is given are the inputs.
    best: Space = "outputs" if vector and tap is None else "inputs"
    chosen: Space = space or ("features" if tap and tap.layer else best)
    if chosen == "inputs" and not numeric:
        raise PublishError("outliers: the model has no inner features, and no inputs that are numbers of fixed shape")

    def look(*tensors: Any) -> tuple[list[Any], Watched]:
        answers, z, logits = tap.call(*tensors) if tap else (call(*tensors), None, None)
        flat = [_flat_float(tensors[i]) for i in numeric]
        numbers = tf.concat(flat, axis=1) if flat else None
        if signature.task == "classification":
            if logits is None:
                logits = logits_of(signature.head, tf.cast(answers[first], tf.float32), _log)
            # As `two_sided` does for the reference: detectors of logits weigh classes against each other.
            logits = tf.concat([-logits / 2, logits / 2], axis=1) if logits.shape[1] == 1 else logits
        else:
            logits = None
        if chosen != "features":
            z = numbers if chosen == "inputs" else _flat_float(answers[first])
        return answers, Watched(z, logits, numbers)

    return View(chosen, tap.layer if tap else None, look)


def parts_of(signature: Signature, inputs: Sequence[TensorSpec]) -> list[Needs]:
    """Which of `Watched` a view gives, in order."""
    names: list[Needs] = ["z"]
    names += ["logits"] if signature.task == "classification" else []
    return names + (["inputs"] if _numeric(inputs) else [])


def _numeric(inputs: Sequence[TensorSpec]) -> list[int]:
    """Places of the inputs that are so many numbers a sample."""
    return [place for place, spec in enumerate(inputs) if spec.dtype != STRING and not spec.variable]


def _tap(model: Any, layer: str | None, output: int) -> Tap | None:
    """Find where the features are; None for a model without a layer that suits. Raises PublishError as `view_of` does."""
    head = _head(model.outputs[output])
    below = None if head is None else head.input._keras_history.operation  # noqa: SLF001 - Keras keeps it nowhere else
    if below is not None and _width(head.input) is not None and layer in (None, below.name):
        # Not looked up by its name: a Sequential model hides its input, and a layer may be called more than once.
        inner = head.input
        layer = None if layer is None and isinstance(below, keras.layers.InputLayer) else str(below.name)
    elif layer is not None:
        source = next((known for known in model.layers if known.name == layer), None)
        if source is None:
            names = ", ".join(known.name for known in model.layers)
            raise PublishError(f"feature layer {layer!r}: the model has no such layer; layers: {names}")
        inner = source.output
        if _width(inner) is None:
            raise PublishError(f"feature layer {layer!r}: its output is no vector of numbers a sample")
    else:
        return None
    width = _width(inner)
    # One model for outputs and features: its layers run once for both.
    tapped = keras.Model(model.inputs, [*model.outputs, inner, inner if head is None else head.input])

    def call(*tensors: Any) -> tuple[list[Any], Any, Any]:
        *answers, z, under = tapped(list(tensors), training=False)
        flat = tf.reshape(tf.cast(z, tf.float32), (-1, width))
        return answers, flat, None if head is None else _logits(head, under)

    return Tap(layer, call)


def _head(output: Any) -> Any:
    """The dense layer that an output comes from, with nothing but layers without weights behind it."""
    operation = output._keras_history.operation  # noqa: SLF001 - Keras keeps it nowhere else
    while not isinstance(operation, keras.layers.Dense):
        below = getattr(operation, "input", None)
        if getattr(operation, "weights", None) or not isinstance(below, keras.KerasTensor):
            return None
        operation = below._keras_history.operation  # noqa: SLF001 - see above
        if isinstance(operation, keras.layers.InputLayer):
            return None
    return operation if isinstance(operation.input, keras.KerasTensor) and len(operation.input.shape) == 2 else None


def _flat_float(tensor: Any) -> Any:
    return tf.reshape(tf.cast(dense(tensor), tf.float32), (-1, math.prod(tensor.shape[1:])))


def _log(values: Any) -> Any:
    return tf.math.log(tf.maximum(values, np.finfo(np.float32).tiny))


def _logits(head: Any, below: Any) -> Any:
    """Once more without the activation: the logarithm of a softmax in float32 ends at -87, and all beyond looks the same."""
    logits = tf.matmul(below, tf.cast(head.kernel, below.dtype))
    logits = logits + tf.cast(head.bias, logits.dtype) if head.use_bias else logits
    return tf.cast(logits, tf.float32)


def _width(tensor: Any) -> int | None:
    """Numbers a sample; None where that varies, or they are none."""
    fit = isinstance(tensor, keras.KerasTensor) and str(tensor.dtype).startswith(("float", "bfloat"))
    if not fit or any(dim is None for dim in tensor.shape[1:]):
        return None
    width: int = math.prod(tensor.shape[1:])
    return width
