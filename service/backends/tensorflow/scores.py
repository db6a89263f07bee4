"""A version's chosen detector as operations of its graph: the score comes out of the call that gives the outputs.

What a detector is, its parameters and its formula, is said in `hoverboard.outliers`, whose NumPy code is the reference. Each formula
is written here once more, in float32 and term by term, since a graph cannot call NumPy; `conformal.RESOLUTION` covers what the two
round differently.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np

from hoverboard.backends.tensorflow.device import quiet
from hoverboard.backends.tensorflow.features import Watched
from hoverboard.outliers.features import STRANGEST, row_squares
from hoverboard.outliers.gaussian import GaussianParameters, RelativeParameters
from hoverboard.outliers.neighbours import KnnParameters
from hoverboard.outliers.outputs import EnergyParameters, GenParameters, MspParameters
from hoverboard.outliers.package import Calibrated
from hoverboard.outliers.prepare import TINY
from hoverboard.outliers.tails import TailsParameters

with quiet():
    import tensorflow as tf

__all__ = ["score_of"]

_Formula = Callable[[Any], Any]
"""Float32 `(rows, any)`, those of z, the logits or the inputs that the detector needs -> float32 `(rows,)`."""


def score_of(detector: Calibrated) -> Callable[[Watched], Any]:
    """The detector's score, float32 `(rows,)`: finite, and `STRANGEST` for a row that cannot be scored.

    Args:
        detector: fitted.
    """
    needs = detector.candidate.needs
    formula = _compiled(detector.parameters)
    unit = needs == "z" and detector.parameters.unit

    def score(watched: Watched) -> Any:
        rows = getattr(watched, needs)
        if unit:
            squares = tf.reduce_sum(rows * rows, axis=1)  # not finite where a number is not, or too large
            sound = tf.math.is_finite(squares)
            rows *= tf.expand_dims(tf.math.rsqrt(tf.maximum(squares, TINY**2)), 1)
        else:
            # NaN among inputs stands for a missing value, which the tails have a height for.
            broken = tf.math.is_inf(rows) if needs == "inputs" else tf.logical_not(tf.math.is_finite(rows))
            sound = tf.logical_not(tf.reduce_any(broken, axis=1))
        scores = formula(rows)
        strangest = tf.constant(STRANGEST, tf.float32)
        sound = tf.logical_and(tf.math.is_finite(scores), sound)
        return tf.where(sound, tf.clip_by_value(scores, -strangest, strangest), strangest)

    return score


@singledispatch
def _compiled(parameters: Any) -> _Formula:
    """The formula of a detector, by the class of its parameters."""
    raise TypeError(f"{type(parameters).__name__}: no formula for the graph")


def _others(logits: Any) -> Any:
    """Sum over the classes but the largest of exp(l - max l): 1 - p as a difference would be 0 for every p above 1 - 6e-8."""
    relative = tf.exp(logits - tf.reduce_max(logits, axis=1, keepdims=True))
    top = tf.one_hot(tf.argmax(logits, axis=1), logits.shape[1], dtype=tf.float32)
    return tf.reduce_sum(relative * (1.0 - top), axis=1)


@_compiled.register
def _msp(_: MspParameters) -> _Formula:
    def score(logits: Any) -> Any:
        others = _others(logits)
        return others / (1.0 + others)

    return score


@_compiled.register
def _energy(parameters: EnergyParameters) -> _Formula:
    t = parameters.temperature

    def score(logits: Any) -> Any:
        others = _others(logits / t)
        return -t * (tf.reduce_max(logits / t, axis=1) + tf.math.log1p(others))

    return score


@_compiled.register
def _gen(parameters: GenParameters) -> _Formula:
    def score(logits: Any) -> Any:
        # In logarithms: a probability below 1e-38 is 0 in float32, and its tenth root, 1e-4, would be lost.
        relative = logits - tf.reduce_max(logits, axis=1, keepdims=True)
        top = tf.one_hot(tf.argmax(logits, axis=1), logits.shape[1], on_value=True, off_value=False)
        log_others = tf.reduce_logsumexp(
            tf.where(top, tf.constant(-np.inf, tf.float32), relative), axis=1, keepdims=True
        )
        log_total = tf.math.softplus(log_others)
        log_p = relative - log_total
        log_rest = tf.where(top, log_others - log_total, tf.math.log1p(-tf.exp(log_p)))
        terms = tf.exp(parameters.gamma * (log_p + log_rest))
        if parameters.top < logits.shape[1]:
            terms = tf.gather(terms, tf.math.top_k(log_p, parameters.top).indices, batch_dims=1)
        return tf.reduce_sum(terms, axis=1)

    return score


@_compiled.register
def _mahalanobis(parameters: GaussianParameters) -> _Formula:
    centre, matrix = tf.constant(parameters.centre), tf.constant(parameters.matrix)
    across = tf.constant(-2.0 * parameters.means.T)
    squares = tf.constant(row_squares(parameters.means).astype(np.float32))

    def score(z: Any) -> Any:
        rows = tf.matmul(z - centre, matrix)
        nearest = tf.reduce_min(tf.matmul(rows, across) + squares, axis=1)
        return tf.maximum(tf.reduce_sum(rows * rows, axis=1) + nearest, 0.0)

    return score


@_compiled.register
def _relative(parameters: RelativeParameters) -> _Formula:
    classes, background = _mahalanobis(parameters.classes), _mahalanobis(parameters.background)

    def score(z: Any) -> Any:
        return classes(z) - background(z)

    return score


@_compiled.register
def _knn(parameters: KnnParameters) -> _Formula:
    centre, scale = tf.constant(parameters.centre), tf.constant(parameters.scale)
    bank = tf.constant(parameters.bank.astype(np.float32))
    squares = tf.constant(row_squares(parameters.bank).astype(np.float32))

    def score(z: Any) -> Any:
        rows = (z - centre) / scale
        # Squared distances but for the row's own part: the same for the whole bank, it has no say in which is nearest.
        distances = squares - 2.0 * tf.matmul(rows, bank, transpose_b=True)
        if parameters.floor > 0:
            # Once more, without the difference of large squares, which leaves little of a small distance.
            nearest = tf.gather(bank, tf.math.top_k(-distances, parameters.k).indices[:, -1])
            return tf.maximum(tf.norm(rows - nearest, axis=1), parameters.floor)
        nearest = -tf.math.top_k(-distances, parameters.k).values[:, -1]
        return tf.sqrt(tf.maximum(tf.reduce_sum(rows * rows, axis=1) + nearest, 0.0))

    return score


@_compiled.register
def _tails(parameters: TailsParameters) -> _Formula:
    # Between two knots at least: a column of one value repeats it.
    knots = np.concatenate([parameters.knots, parameters.knots[:, -1:]], axis=1)
    heights = np.concatenate([parameters.heights, parameters.heights[:, -1:]], axis=1)
    first, last = tf.constant(knots[:, 0]), tf.constant(knots[:, -1])
    lowest, highest = tf.constant(parameters.lowest), tf.constant(parameters.highest)
    below, above = tf.constant(parameters.slope_below), tf.constant(parameters.slope_above)
    missing = tf.constant(parameters.missing)
    table, levels = tf.constant(knots), tf.constant(heights)
    segments = knots.shape[1] - 2

    def score(inputs: Any) -> Any:
        absent = tf.math.is_nan(inputs)
        x = tf.where(absent, first, inputs)
        # Knots passed, by comparing with each: a search that XLA can compile too, and quick for at most 64 of them.
        passed = tf.reduce_sum(tf.cast(x[:, :, tf.newaxis] >= table, tf.int32), axis=2)
        place = tf.transpose(tf.clip_by_value(passed - 1, 0, segments))
        left, right = (tf.transpose(tf.gather(table, place + step, batch_dims=1)) for step in (0, 1))
        low, high = (tf.transpose(tf.gather(levels, place + step, batch_dims=1)) for step in (0, 1))
        share = tf.clip_by_value(tf.math.divide_no_nan(x - left, right - left), 0.0, 1.0)
        t = low + share * (high - low)
        t = tf.where(x < first, lowest + below * (first - x), t)
        t = tf.where(x > last, highest + above * (x - last), t)
        return tf.reduce_sum(tf.where(absent, missing, t), axis=1)

    return score
