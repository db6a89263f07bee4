"""What of a signature's columns and outputs a detector can read, where a model has no inner features to offer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from service.errors import PublishError
from service.outliers.features import Features, Space, two_sided
from service.types import STRING, Array, Signature, TensorSpec

__all__ = ["LEAST_PROBABILITY", "WIDEST", "WIDEST_INPUTS", "input_matrix", "logits_of", "numeric_inputs", "without_tap"]

WIDEST: Final = 4096
"""Features wider than this are not fitted: their covariance takes minutes and 128 MB."""
WIDEST_INPUTS: Final = 512
"""Numeric inputs that are more than this together, such as images, are no table, and get no tail scores."""
LEAST_PROBABILITY: Final = 1e-30


def numeric_inputs(signature: Signature) -> tuple[int, ...]:
    """Places of the inputs that `input_matrix` is made of: numbers of a fixed shape; none where they are too many."""
    places = tuple(
        place
        for place, spec in enumerate(signature.inputs)
        if spec.dtype != STRING and not spec.variable and _size(spec)
    )
    return places if sum(_size(signature.inputs[place]) for place in places) <= WIDEST_INPUTS else ()


def input_matrix(signature: Signature, columns: Sequence[Array]) -> Array | None:
    """Those inputs side by side, each flattened: float32 `(n, m)`; None where there are none.

    Args:
        columns: one per input, `(n, *shape)`.
    """
    places = numeric_inputs(signature)
    if not places:
        return None
    return np.concatenate([columns[place].reshape(len(columns[place]), -1).astype(np.float32) for place in places], 1)


def logits_of(head: Literal["softmax", "logits", "sigmoid"], first: Array) -> Array:
    """Logits `(n, C)`, C >= 2, from a classifier's first output: log-probabilities where it gives probabilities."""
    if head == "logits":
        return two_sided(first)
    wide = first.astype(np.float64)
    if head == "sigmoid":
        clipped = np.clip(wide, LEAST_PROBABILITY, 1 - np.finfo(np.float32).epsneg)
        return two_sided(np.log(clipped) - np.log1p(-clipped)).astype(np.float32)
    return np.log(np.maximum(wide, LEAST_PROBABILITY)).astype(np.float32)


def without_tap(signature: Signature, columns: Sequence[Array], outputs: Sequence[Array]) -> Features:
    """Features of a model without a usable inner layer, such as a SavedModel.

    z is the first output, flattened, where that has 2 to 4,096 numbers a sample (an embedding, say); else it is the
    numeric inputs.

    Raises:
        PublishError: there are neither.
    """
    inputs = input_matrix(signature, columns)
    first = outputs[0]
    logits = logits_of(signature.head, first) if signature.task == "classification" else None
    z, space = inputs, _INPUTS
    if signature.task == "classification" and first.shape[1] > 1:
        z, space = logits, _OUTPUTS
    elif first.dtype.kind == "f" and not signature.outputs[0].variable and 2 <= _size(signature.outputs[0]) <= WIDEST:
        z, space = first.reshape(len(first), -1), _OUTPUTS
    if z is None and logits is None:
        raise PublishError(
            "calibration: the model has no inner layer whose features can be taken, no output that is a vector, and no "
            "numeric inputs of a fixed shape: there is nothing to tell outliers by"
        )
    return Features(z, logits, inputs, space)


_OUTPUTS: Final[Space] = "outputs"
_INPUTS: Final[Space] = "inputs"


def _size(spec: TensorSpec) -> int:
    return math.prod(dim or 0 for dim in spec.shape)
