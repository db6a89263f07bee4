"""The watch over a version's inputs as operations of its graph, beside its detector's score; see `service.outliers.watch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from service.outliers.features import STRANGEST
from service.outliers.watch import UNSEEN, ClosedSet, Numbers, Scale, Watch

__all__ = ["Combined", "watch_of"]

Combined = Callable[[Any, Mapping[str, Any]], Any]
"""The detector's scores, float32 `(rows,)`, and the inputs by name -> the combined scores, likewise."""


def watch_of(tf: Any, watch: Watch | None) -> Combined:
    """`Watch.combined` in TensorFlow; of what watches nothing, the scores as they are.

    Args:
        tf: the module; only the runtime imports it.
        watch: fitted; None for a version from before there was one.
    """
    if watch is None or watch.scale is None:
        return lambda scores, _: scores
    scale = _scale(tf, watch.scale)
    numbers = None if watch.numbers is None else _numbers(tf, watch.numbers)

    def combined(scores: Any, inputs: Mapping[str, Any]) -> Any:
        found = [_unseen(tf, one, inputs[one.input]) for one in watch.sets]
        if numbers is not None:
            flat = [tf.cast(tf.reshape(inputs[name], (-1, _size(inputs[name]))), tf.float32) for name in watch.names]
            found.append(numbers(tf.concat(flat, axis=1) if len(flat) > 1 else flat[0]))
        strangest = found[0]
        for one in found[1:]:
            strangest = tf.maximum(strangest, one)
        return tf.maximum(scores, tf.minimum(scale(strangest), tf.constant(STRANGEST, tf.float32)))

    return combined


def _size(tensor: Any) -> int:
    return int(np.prod(tensor.shape[1:], dtype=np.int64))


def _numbers(tf: Any, parameters: Numbers) -> Callable[[Any], Any]:
    low, high = tf.constant(parameters.low), tf.constant(parameters.high)
    below, above = tf.constant(parameters.below), tf.constant(parameters.above)
    offset, missing = tf.constant(parameters.offset), tf.constant(parameters.missing)
    heavy = parameters.shape > 0
    shape = tf.constant(np.where(heavy, parameters.shape, 1).astype(np.float32))

    def strangeness(x: Any) -> Any:
        y = tf.maximum((x - high) * above, (low - x) * below)
        tail = y
        if heavy.any():
            logarithm = tf.math.log1p(shape * tf.maximum(y, 0.0)) / shape
            tail = logarithm if heavy.all() else tf.where(heavy, logarithm, y)
        found = tf.where(y > 0.0, offset + tail, 0.0)
        return tf.reduce_max(tf.where(tf.math.is_nan(x), missing, found), axis=1)

    return strangeness


def _unseen(tf: Any, one: ClosedSet, given: Any) -> Any:
    flat = tf.reshape(given, (-1, _size(given)))[:, one.element : one.element + 1]
    if flat.dtype == tf.string:
        known = tf.equal(flat, tf.constant([list(one.values)], tf.string))
    else:
        known = tf.equal(tf.cast(flat, tf.int64), tf.constant(np.array([one.values]).astype(np.int64)))
    return tf.where(tf.reduce_any(known, axis=1), 0.0, UNSEEN)


def _scale(tf: Any, scale: Scale) -> Callable[[Any], Any]:
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
