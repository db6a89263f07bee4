"""What a head's numbers mean, in one place: a version's first output read as labels, probabilities, logits or values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hoverboard.contract.signature import Array, Head, Signature

__all__ = [
    "DEFAULT_THRESHOLD",
    "HeadReading",
    "held",
    "logits_of",
    "probabilities",
    "read_head",
    "thresholds",
    "two_in_one",
]

DEFAULT_THRESHOLD: Final = 0.5
"""From this probability on, a label of a multi-label version holds, unless its publisher said otherwise."""
_NARROW: Final = (np.dtype(np.float16), np.dtype(np.bool_))


@dataclass(frozen=True, slots=True)
class HeadReading:
    """What the task reads off the first output; one entry a row.

    Attributes:
        label_index: int32, the most probable one, for a classification or a multi-label version.
        confidence: float32, likewise.
        value: in the output's dtype, for a regression; float32 where that is float16 or bool.
    """

    label_index: Array | None = None
    confidence: Array | None = None
    value: Array | None = None


def read_head(signature: Signature, first: Array) -> HeadReading:
    """Read labels and confidences, or values, off the first output `(rows, *shape)`."""
    if signature.task == "regression":
        value = first.reshape(len(first))
        return HeadReading(value=value.astype(np.float32) if value.dtype in _NARROW else value)
    if signature.task == "multi-label":
        each = probabilities(signature, first)
        index = each.argmax(axis=1)
        return HeadReading(index.astype(np.int32), np.take_along_axis(each, index[:, np.newaxis], axis=1)[:, 0])
    if signature.task != "classification":
        return HeadReading()
    second = _second_class(signature, first)
    if second is not None:
        index = (second > 0.5).astype(np.int32)
        return HeadReading(index, np.where(index == 1, second, 1 - second).astype(np.float32))
    # Not by way of `probabilities`: of many classes only the largest is asked for, on every call.
    index = first.argmax(axis=1)
    top = np.take_along_axis(first, index[:, np.newaxis], axis=1)[:, 0]
    if signature.head == "logits":
        with np.errstate(all="ignore"):
            top = 1.0 / np.exp(first.astype(np.float64) - top[:, np.newaxis]).sum(axis=1)
    return HeadReading(index.astype(np.int32), top.astype(np.float32, copy=False))


def two_in_one(head: Head, shape: Sequence[int | None], labels: Sequence[str] | None) -> bool:
    """Whether a single column of a classification tells two classes apart: a sigmoid, or the logit of the second of two.

    Args:
        shape: of one sample of the first output.
        labels: the classes.
    """
    return head == "sigmoid" or (head == "logits" and tuple(shape) == (1,) and len(labels or ()) > 1)


def logits_of(head: Head, values: Any, log: Callable[[Any], Any]) -> Any:
    """The logits that give these values, which may be tensors of any framework.

    Args:
        head: of a classification.
        values: its first output `(rows, classes)`; of a sigmoid `(rows, 1)`.
        log: the logarithm, finite also of 0.
    """
    if head == "logits":
        return values
    return log(values) - log(1.0 - values) if head == "sigmoid" else log(values)


def probabilities(signature: Signature, first: Array) -> Array:
    """Probabilities, float32 `(rows, labels)`, whatever the head.

    Of a classification they sum to one; of a multi-label version each stands for itself.

    Args:
        signature: of a classification or multi-label version.
        first: its first output, `(rows, labels)`; `(rows, 1)` of a sigmoid, or its logit, that tells two classes apart.
    """
    scores = first.reshape(len(first), -1)
    if signature.task == "multi-label":
        return scores.astype(np.float32, copy=False) if signature.head == "sigmoid" else _sigmoid(scores)
    second = _second_class(signature, scores)
    if second is not None:
        return np.column_stack([1 - second, second])
    if signature.head == "softmax":
        return scores.astype(np.float32)
    # Less the largest, so that exp cannot overflow; softmax does not change by it.
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    together: Array = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return together


def _second_class(signature: Signature, first: Array) -> Array | None:
    """The probability of the second of two classes, float32 `(rows,)`, where one column tells them apart; None where more do."""
    if not two_in_one(signature.head, first.shape[1:], signature.labels):
        return None
    column = first.reshape(len(first))
    return column.astype(np.float32, copy=False) if signature.head == "sigmoid" else _sigmoid(column)


def _sigmoid(logits: Array) -> Array:
    with np.errstate(
        over="ignore"
    ):  # exp(-x) overflows to infinity for very negative x, and 1 / infinity is the 0 meant
        probability: Array = (1.0 / (1.0 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    return probability


def thresholds(signature: Signature) -> Array:
    """From which probability on each label of a multi-label version holds, float32 `(labels,)`."""
    count = len(signature.labels or ())
    return np.array(signature.thresholds or [DEFAULT_THRESHOLD] * count, np.float32)


def held(signature: Signature, first: Array) -> tuple[Array, Array, Array]:
    """The labels of a multi-label version that are at or above their thresholds, most probable first.

    Args:
        signature: of a multi-label version.
        first: its first output, `(rows, labels)`.

    Returns:
        Indexes of labels and their probabilities (float32), of all rows one after the other; and how many are each
        row's, int64 `(rows,)`.
    """
    each = probabilities(signature, first)
    order = np.argsort(-each, axis=1, kind="stable")  # stable: equal ones in the labels' order, on every machine
    ranked = np.take_along_axis(each, order, axis=1)
    holds = ranked >= thresholds(signature)[order]
    return order[holds], ranked[holds], holds.sum(axis=1)
