"""What a head's numbers mean, in one place: probabilities by class or by label, from a version's first output."""

from __future__ import annotations

import numpy as np

from hoverboard.contract.signature import Array, Signature

__all__ = ["DEFAULT_THRESHOLD", "held", "probabilities", "second_class", "thresholds"]

DEFAULT_THRESHOLD = 0.5
"""From this probability on, a label of a multi-label version holds, unless its publisher said otherwise."""

_TWO = 2


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
    second = second_class(signature, scores)
    if second is not None:
        return np.column_stack([1 - second, second])
    if signature.head == "softmax":
        return scores.astype(np.float32)
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    together: Array = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return together


def second_class(signature: Signature, first: Array) -> Array | None:
    """The probability of the second of two classes, float32 `(rows,)`, where one column tells them apart; None where more do.

    Args:
        signature: of a classification.
        first: its first output.
    """
    if signature.head == "sigmoid":
        return first.reshape(len(first)).astype(np.float32, copy=False)
    if signature.head == "logits" and first.shape[1:] == (1,) and len(signature.labels or ()) == _TWO:
        return _sigmoid(first.reshape(len(first)))
    return None


def _sigmoid(logits: Array) -> Array:
    with np.errstate(over="ignore"):
        found: Array = (1.0 / (1.0 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    return found


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
    found = probabilities(signature, first)
    order = np.argsort(-found, axis=1, kind="stable")
    ranked = np.take_along_axis(found, order, axis=1)
    holds = ranked >= thresholds(signature)[order]
    return order[holds], ranked[holds], holds.sum(axis=1)
