"""Fit the watch: tails of numbers, closed sets, and the scale that puts both beside a detector's scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from hoverboard.contract.signature import STRING, Array, TensorSpec
from hoverboard.outliers.features import STRANGEST, Matrix
from hoverboard.outliers.input_watch import (
    UNSEEN,
    ClosedSet,
    Numbers,
    Scale,
    Watch,
    numbers_of,
    set_places,
    size_of,
    watchable,
)

__all__ = ["SHARE", "fit_scale", "fit_watch"]

SHARE: Final = 0.2
"""Of the samples flagged for nothing, the part that is left to the watch; the detector keeps the rest.

An absurd number is so far out that little is enough to find it, and what the watch has the detector lacks.
"""
_OUTER: Final = 0.1
_FEWEST: Final = 10
_FEW_IN_TAIL: Final = 5
_FOR_SHAPE: Final = 20
_LIGHT: Final = 0.1
_HEAVIEST: Final = 0.5
_FAR: Final = math.log(10_000)
_KNOTS: Final = 16
_FURTHER: Final = 4
_STEP: Final = 0.05
_MOST_VALUES: Final = 256
_MOST_INTEGERS: Final = 32
_BIG: Final = 1e30


def fit_watch(inputs: Sequence[TensorSpec], columns: Mapping[str, Array], alpha: float) -> Watch:
    """What can be watched of some rows; without `scale` and `calibration` yet.

    Args:
        inputs: the signature's.
        columns: input -> `(rows, ...)`.
        alpha: a set counts as closed where new values of it are much rarer than this.
    """
    names, unwatched = watchable(inputs)
    sets, open_sets = _sets(inputs, columns, alpha)
    for spec in inputs:
        if spec.name in open_sets and spec.name not in names:
            unwatched.setdefault(spec.name, open_sets[spec.name])
    numbers = _numbers([spec for spec in inputs if spec.name in names], columns) if names else None
    return Watch(names, numbers, sets, None, np.zeros(0, np.float32), unwatched)


def fit_scale(scores: Array, strangeness: Array) -> Scale:
    """Where the watch's strangeness is put among a detector's scores.

    Both are of the same rows, on which neither was fitted. The strangeness that a share `SHARE` * q of them reaches gets
    the score that a share (1 - `SHARE`) * q of them reaches. Among the ten largest of either, and beyond, shares are
    taken to fall exponentially: a single wild row would say little of how far the next one goes.
    """
    finite = scores[scores < STRANGEST].astype(np.float64)
    detector = _Falling.of(finite if len(finite) else np.zeros(1))
    watch = _Falling.of(np.minimum(strangeness.astype(np.float64), _BIG), steepest=1.0)
    between = math.log((1 - SHARE) / SHARE)
    # From the end of what the watch has seen on, until the detector's end is reached as well.
    further = np.linspace(0, max(between + detector.levels[-1] - watch.levels[-1], _STEP), _FURTHER)[1:]
    levels = np.concatenate([watch.levels, watch.levels[-1] + further])
    knots = np.concatenate([watch.values, watch.values[-1] + further / watch.rate])
    values = np.maximum.accumulate(detector.value_at(levels - between)).astype(np.float32)
    narrow = knots.astype(np.float32)
    rising = np.concatenate([[True], np.diff(narrow) > 0])
    return Scale(narrow[rising], values[rising], watch.rate / detector.rate)


@dataclass(frozen=True, slots=True)
class _Falling:
    """-log of the share of rows that reach a value.

    Attributes:
        values, levels: `(K,)`, ascending; closer to each other towards the end.
        rate: by how much it rises per unit beyond.
    """

    values: Matrix
    levels: Matrix
    rate: float

    @classmethod
    def of(cls, rows: Matrix, steepest: float = math.inf) -> _Falling:
        ordered = np.sort(rows)
        n = len(ordered)
        last = min(_FEWEST, n)
        ranks = np.unique(np.geomspace(last, n, _KNOTS).round().astype(np.int64))
        values = np.unique(ordered[n - ranks])
        levels = -np.log((n - np.searchsorted(ordered, values, "left")) / (n + 1))
        beyond = ordered[ordered > values[-1]] - values[-1]
        least = -math.log((len(beyond) + 1) / (n + 1))
        if least > levels[-1] + _STEP:  # many rows are tied here: what is above them is rarer at once
            values, levels = np.append(values, values[-1] + _STEP), np.append(levels, least)
        # The median of an exponential law is log 2 over its rate; no few wild rows move it.
        middle = float(np.median(beyond)) if len(beyond) else 1.0 / steepest
        widest = max(middle, 1e-3 * abs(float(values[-1])) if math.isinf(steepest) else 0.0, 1e-6)
        return cls(values, levels, min(math.log(2) / widest, steepest))

    def value_at(self, levels: Matrix) -> Matrix:
        """The value that a share exp(-level) of the rows reaches."""
        beyond = np.maximum(levels - self.levels[-1], 0) / self.rate
        scores: Matrix = np.interp(levels, self.levels, self.values) + beyond
        return scores


def _numbers(specs: Sequence[TensorSpec], columns: Mapping[str, Array]) -> Numbers:
    owners, fitted = [], []
    for place, spec in enumerate(specs):
        matrix = numbers_of([spec.name], columns).astype(np.float64)
        matrix[~np.isfinite(matrix) & ~np.isnan(matrix)] = np.nan
        finite = matrix[np.isfinite(matrix)]
        # An element that hardly varies, such as a pixel at the edge, is measured by what its neighbours do.
        spread = float(finite.std()) if finite.size and size_of(spec) > 1 else 0.0
        for column in matrix.T:
            owners.append(place)
            fitted.append(_tails(column, spread))
    arrays = [np.array(values, np.float32) for values in zip(*fitted, strict=True)]
    return Numbers(np.array(owners, np.int32), *arrays)


def _tails(column: Matrix, spread: float) -> tuple[float, float, float, float, float, float]:
    """Low, high, below, above, offset and missing of one column."""
    rows = len(column)
    values = np.sort(column[~np.isnan(column)])
    n, none = len(values), math.log(rows + 1)
    missing = -math.log((rows - n + 1) / (rows + 1)) if n < rows else UNSEEN
    if not n:
        return 0.0, 0.0, 1.0, 1.0, none, 0.0
    outer = min(max(int(_OUTER * n), _FEWEST), (n - 1) // 2)
    low, high = (float(np.float32(values[place])) for place in (outer, n - 1 - outer))
    below, above = low - values[values < low][::-1], values[values > high] - high
    offset = -math.log(min(len(below) + len(above) + 1, n) / (n + 1))
    rates = [1 / _scale(beyond, edge, spread, offset) for beyond, edge in ((below, low), (above, high))]
    return low, high, rates[0], rates[1], offset, missing


def _scale(beyond: Matrix, edge: float, spread: float, offset: float) -> float:
    """What of a tail is worth 1, from what lies beyond an edge, ascending.

    A generalised Pareto tail, offset + log(1 + shape y) / shape at y scales beyond the edge, is fitted by weighted moments
    (Hosking and Wallis, 1987), and the line through its beginning and its `_FAR` taken.
    """
    k = len(beyond)
    least = max(1e-6 * abs(edge), 1e-6)
    if k < _FEW_IN_TAIL:
        return max(float(beyond[-1]) if k else 0.0, spread, 1e-3 * abs(edge), least)
    mean = float(beyond.mean())
    weighted = float((beyond * (1 - (np.arange(1, k + 1) - 0.35) / k)).mean())
    heavy = k >= _FOR_SHAPE and mean > 2 * weighted
    shape = min(2 - mean / (mean - 2 * weighted), _HEAVIEST) if heavy else 0.0
    if shape <= _LIGHT:
        return max(mean, least)
    rise = max(_FAR - offset, 1.0)
    return max(mean * (1 - shape) * math.expm1(shape * rise) / (shape * rise), least)


def _sets(
    inputs: Sequence[TensorSpec], columns: Mapping[str, Array], alpha: float
) -> tuple[tuple[ClosedSet, ...], dict[str, str]]:
    """The closed sets, and why other texts are none, by input.

    The chance that the next value is new is about the share of values seen just once (Good, 1953). Together the sets may
    take half of what is left to the watch.
    """
    candidates: list[tuple[float, ClosedSet]] = []
    reasons: dict[str, str] = {}
    for spec in inputs:
        places = set_places(spec)
        if spec.dtype == STRING and not places:
            reasons[spec.name] = (
                "its length varies" if spec.variable else f"{size_of(spec):,} texts a sample are too many"
            )
        for element in places:
            elements = columns[spec.name].reshape(len(columns[spec.name]), -1)[:, element]
            often = Counter(elements.tolist() if spec.dtype == STRING else elements.astype(np.int64).tolist())
            new = sum(count == 1 for count in often.values()) / len(elements)
            if len(often) > (_MOST_VALUES if spec.dtype == STRING else _MOST_INTEGERS):
                reasons[spec.name] = f"free text: {len(often):,} different ones in {len(elements):,} samples"
                continue
            reasons[spec.name] = f"too many of its {len(often):,} texts came only once to call the set closed"
            candidates.append((new, ClosedSet(spec.name, element, tuple(sorted(often)))))
    room, taken = alpha * SHARE / 2, []
    for new, one in sorted(candidates, key=lambda each: each[0]):
        if new > room:
            break
        room -= new
        taken.append(one)
    order = [spec.name for spec in inputs]
    taken.sort(key=lambda one: (order.index(one.input), one.element))
    watched = {one.input for one in taken}
    return tuple(taken), {name: reason for name, reason in reasons.items() if name not in watched}
