"""The watch over a version's inputs as operations of its graph, beside its detector's score; see `hoverboard.outliers.input_watch`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from hoverboard.backends.tensorflow.device import quiet
from hoverboard.contract.signature import TensorSpec
from hoverboard.outliers.features import STRANGEST
from hoverboard.outliers.input_watch import UNSEEN, ClosedSet, Numbers, Scale, Watch

with quiet():
    import tensorflow as tf

__all__ = ["Combined", "watch_of"]

_SMALL: Final = 16
"""Values of a set that is looked up together with others: each operation of a graph costs time of its own, however little it does."""

Combined = Callable[[Any, Mapping[str, Any]], Any]
"""The detector's scores, float32 `(rows,)`, and the inputs by name -> the combined scores, likewise."""


def watch_of(watch: Watch | None, inputs: Sequence[TensorSpec]) -> Combined:
    """`Watch.combined` in TensorFlow; of what watches nothing, the scores as they are.

    Args:
        watch: fitted; None for a version from before there was one.
        inputs: the signature's.
    """
    if watch is None or watch.scale is None:
        return lambda scores, _: scores
    scale = _scale(watch.scale)
    parts = [_unseen(group) for group in _groups(watch.sets)]
    if watch.numbers is not None:
        # What is declared finite was refused where it is not.
        gaps = any(not spec.finite for spec in inputs if spec.name in watch.names)
        parts.append(_numbers(watch.names, watch.numbers, gaps=gaps))

    def combined(scores: Any, columns: Mapping[str, Any]) -> Any:
        # Pairwise rather than stacked: most versions watch one or two things, and stacking costs another copy.
        strangest = parts[0](columns)
        for part in parts[1:]:
            strangest = tf.maximum(strangest, part(columns))
        return tf.maximum(scores, tf.minimum(scale(strangest), tf.constant(STRANGEST, tf.float32)))

    return combined


def _flat(tensor: Any) -> Any:
    return tf.reshape(tensor, (-1, math.prod(tensor.shape[1:])))


def _beside(tensors: list[Any]) -> Any:
    return tf.concat(tensors, axis=1) if len(tensors) > 1 else tensors[0]


def _numbers(names: Sequence[str], parameters: Numbers, *, gaps: bool) -> Callable[[Mapping[str, Any]], Any]:
    low, high = tf.constant(parameters.low), tf.constant(parameters.high)
    below, above = tf.constant(parameters.below), tf.constant(parameters.above)
    offset, missing = tf.constant(parameters.offset), tf.constant(parameters.missing)

    def strangeness(columns: Mapping[str, Any]) -> Any:
        x = _beside([tf.cast(_flat(columns[name]), tf.float32) for name in names])
        y = tf.maximum((x - high) * above, (low - x) * below)
        found = tf.where(y > 0.0, offset + y, 0.0)
        return tf.reduce_max(tf.where(tf.math.is_nan(x), missing, found) if gaps else found, axis=1)

    return strangeness


def _groups(sets: Sequence[ClosedSet]) -> list[list[ClosedSet]]:
    """Small sets of one kind are looked up together, in one table; a large one by itself."""
    groups: dict[object, list[ClosedSet]] = {}
    for place, one in enumerate(sets):
        groups.setdefault(type(one.values[0]) if len(one.values) <= _SMALL else place, []).append(one)
    return list(groups.values())


def _unseen(group: Sequence[ClosedSet]) -> Callable[[Mapping[str, Any]], Any]:
    width = max(len(one.values) for one in group)
    rows = [[*one.values, *one.values[-1:] * (width - len(one.values))] for one in group]
    texts = isinstance(rows[0][0], bytes)
    table = tf.constant([rows], tf.string) if texts else tf.constant(np.array([rows]).astype(np.int64))

    def strangeness(columns: Mapping[str, Any]) -> Any:
        parts = [_flat(columns[one.input])[:, one.element : one.element + 1] for one in group]
        values = _beside(parts if texts else [tf.cast(part, tf.int64) for part in parts])
        known = tf.reduce_all(tf.reduce_any(tf.equal(tf.expand_dims(values, 2), table), axis=2), axis=1)
        return tf.where(known, 0.0, UNSEEN)

    return strangeness


def _scale(scale: Scale) -> Callable[[Any], Any]:
    """Interpolation as a sum of ramps; the last one has no end."""
    knots, values = scale.knots.astype(np.float64), scale.values.astype(np.float64)
    widths = np.append(np.diff(knots), np.inf)
    slopes = np.append(np.diff(values) / np.diff(knots), scale.slope)
    starts, ends = tf.constant(knots.astype(np.float32)), tf.constant(widths.astype(np.float32))
    rises, first = tf.constant(slopes.astype(np.float32)), tf.constant(values[0].astype(np.float32))

    def score(strangeness: Any) -> Any:
        along = tf.minimum(tf.maximum(tf.expand_dims(strangeness, 1) - starts, 0.0), ends)
        return first + tf.reduce_sum(along * rises, axis=1)

    return score
