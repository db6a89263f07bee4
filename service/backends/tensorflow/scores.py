"""A version's chosen detector as operations of its graph: the score comes out of the call that gives the outputs.

Each follows the NumPy reference in `hoverboard.outliers` term by term, in float32; `conformal.RESOLUTION` covers what the two
round differently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hoverboard.outliers.features import STRANGEST
from hoverboard.outliers.gaussian import GaussianParameters, RelativeParameters
from hoverboard.outliers.neighbours import KnnParameters
from hoverboard.outliers.outputs import EnergyParameters, GenParameters, MspParameters
from hoverboard.outliers.package import Calibrated
from hoverboard.outliers.prepare import TINY
from hoverboard.outliers.tails import TailsParameters

__all__ = ["Score", "score_of"]

Score = Callable[[Any, Any, Any], Any]
"""(z, logits, inputs), those that the detector needs, as float32 tensors -> float32 `(rows,)`."""


def score_of(tf: Any, detector: Calibrated) -> Score:
    """The detector's score, in TensorFlow.

    Args:
        tf: the module; only the runtime imports it.
        detector: fitted.
    """
    parameters = detector.parameters
    builders: dict[type[Any], Callable[[Any, Any], Callable[[Any], Any]]] = {
        MspParameters: _msp,
        EnergyParameters: _energy,
        GenParameters: _gen,
        GaussianParameters: _mahalanobis,
        RelativeParameters: _relative,
        KnnParameters: _knn,
        TailsParameters: _tails,
    }
    score = builders[type(parameters)](tf, parameters)
    place = ("z", "logits", "inputs").index(detector.candidate.needs)

    missing = detector.candidate.needs == "inputs"
    unit = _on_sphere(parameters)

    def finite(*features: Any) -> Any:
        watched = features[place]
        if unit:
            squares = tf.reduce_sum(watched * watched, axis=1)  # not finite where a number is not, or too large
            sound = tf.math.is_finite(squares)
            watched *= tf.expand_dims(tf.math.rsqrt(tf.maximum(squares, TINY**2)), 1)
        else:
            broken = tf.math.is_inf(watched) if missing else tf.logical_not(tf.math.is_finite(watched))
            sound = tf.logical_not(tf.reduce_any(broken, axis=1))
        scores = score(watched)
        strangest = tf.constant(STRANGEST, tf.float32)
        sound = tf.logical_and(tf.math.is_finite(scores), sound)
        return tf.where(sound, tf.clip_by_value(scores, -strangest, strangest), strangest)

    return finite


def _on_sphere(parameters: Any) -> bool:
    """Whether rows of z are divided by their norm first."""
    if isinstance(parameters, RelativeParameters):
        return parameters.classes.unit
    return isinstance(parameters, GaussianParameters | KnnParameters) and parameters.unit


def _others(tf: Any, logits: Any) -> Any:
    """Sum over the classes but the largest of exp(l - max l)."""
    relative = tf.exp(logits - tf.reduce_max(logits, axis=1, keepdims=True))
    top = tf.one_hot(tf.argmax(logits, axis=1), logits.shape[1], dtype=tf.float32)
    return tf.reduce_sum(relative * (1.0 - top), axis=1)


def _msp(tf: Any, _: MspParameters) -> Callable[[Any], Any]:
    def score(logits: Any) -> Any:
        others = _others(tf, logits)
        return others / (1.0 + others)

    return score


def _energy(tf: Any, parameters: EnergyParameters) -> Callable[[Any], Any]:
    t = parameters.temperature

    def score(logits: Any) -> Any:
        others = _others(tf, logits / t)
        return -t * (tf.reduce_max(logits / t, axis=1) + tf.math.log1p(others))

    return score


def _gen(tf: Any, parameters: GenParameters) -> Callable[[Any], Any]:
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


def _mahalanobis(tf: Any, parameters: GaussianParameters) -> Callable[[Any], Any]:
    centre, matrix = tf.constant(parameters.centre), tf.constant(parameters.matrix)
    across = tf.constant(-2.0 * parameters.means.T)
    squares = tf.constant((parameters.means.astype(np.float64) ** 2).sum(axis=1).astype(np.float32))

    def score(z: Any) -> Any:
        rows = tf.matmul(z - centre, matrix)
        nearest = tf.reduce_min(tf.matmul(rows, across) + squares, axis=1)
        return tf.maximum(tf.reduce_sum(rows * rows, axis=1) + nearest, 0.0)

    return score


def _relative(tf: Any, parameters: RelativeParameters) -> Callable[[Any], Any]:
    classes, background = _mahalanobis(tf, parameters.classes), _mahalanobis(tf, parameters.background)

    def score(z: Any) -> Any:
        return classes(z) - background(z)

    return score


def _knn(tf: Any, parameters: KnnParameters) -> Callable[[Any], Any]:
    centre, scale = tf.constant(parameters.centre), tf.constant(parameters.scale)
    bank = tf.constant(parameters.bank.astype(np.float32))
    squares = tf.constant((parameters.bank.astype(np.float64) ** 2).sum(axis=1).astype(np.float32))

    def score(z: Any) -> Any:
        rows = (z - centre) / scale
        found = squares - 2.0 * tf.matmul(rows, bank, transpose_b=True)
        if parameters.floor > 0:
            # Once more, without the difference of large squares, which leaves little of a small distance.
            nearest = tf.gather(bank, tf.math.top_k(-found, parameters.k).indices[:, -1])
            return tf.maximum(tf.norm(rows - nearest, axis=1), parameters.floor)
        nearest = -tf.math.top_k(-found, parameters.k).values[:, -1]
        return tf.sqrt(tf.maximum(tf.reduce_sum(rows * rows, axis=1) + nearest, 0.0))

    return score


def _tails(tf: Any, parameters: TailsParameters) -> Callable[[Any], Any]:
    # Between two knots at least: a column of one value repeats it.
    knots = np.concatenate([parameters.knots, parameters.knots[:, -1:]], axis=1)
    heights = np.concatenate([parameters.heights, parameters.heights[:, -1:]], axis=1)
    first, last = tf.constant(knots[:, 0]), tf.constant(knots[:, -1])
    lowest = tf.constant(np.maximum(heights[:, 0], parameters.outside))
    highest = tf.constant(np.maximum(heights[:, -1], parameters.outside))
    below, above = tf.constant(parameters.slope_below), tf.constant(parameters.slope_above)
    missing = tf.constant(parameters.missing)
    table, levels = tf.constant(knots), tf.constant(heights)
    segments = knots.shape[1] - 2

    def score(inputs: Any) -> Any:
        absent = tf.math.is_nan(inputs)
        x = tf.where(absent, first, inputs)
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
