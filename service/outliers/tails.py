"""How far out in its tails each input of a tabular model lies, summed over the inputs (after ECOD, Li et al., 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array
from hoverboard.outliers.features import STRANGEST, Features, Labels, Matrix, check_shapes, chunks, never_nan

__all__ = ["TailsParameters", "fit_tails", "tails_score"]

_KNOTS: Final = 64
_OUTER: Final = 0.1
_SHARE: Final = 16
"""Columns are taken so many at a time that what is made of them stays within a few dozen MB."""


@dataclass(frozen=True, slots=True)
class TailsParameters:
    """Sum over the columns j of t_j(x), where t_j(x) = -log min(1, 2 min(P(X <= x), P(X >= x))) at the knots.

    Between knots t is interpolated. Outside them it is max(height at the edge, `outside`) + slope * distance from the
    edge: the tail goes on as its outer tenth does, so that a single absurd value stands out among many columns.

    Attributes:
        knots: float32 `(m, K)`, ascending; a column with fewer repeats its last.
        heights: float32 `(m, K)`, t there.
        outside: float32 `(m,)`, t of a value that is more extreme than all fitted ones.
        slope_below, slope_above: float32 `(m,)`, above 0.
        missing: float32 `(m,)`, t of NaN.
    """

    knots: Array
    heights: Array
    outside: Array
    slope_below: Array
    slope_above: Array
    missing: Array

    def __post_init__(self) -> None:
        m = (len(self.knots),)
        check_shapes(
            heights=(self.heights, self.knots.shape),
            outside=(self.outside, m),
            slope_below=(self.slope_below, m),
            slope_above=(self.slope_above, m),
            missing=(self.missing, m),
        )

    @property
    def lowest(self) -> Array:
        """float32 `(m,)`, t just below the first knot."""
        return np.maximum(self.heights[:, 0], self.outside)

    @property
    def highest(self) -> Array:
        """float32 `(m,)`, t just above the last knot."""
        return np.maximum(self.heights[:, -1], self.outside)


def fit_tails(features: Features, labels: Labels | None) -> TailsParameters:  # noqa: ARG001 - one signature for all
    """Fit every column by itself, many at a time; Infinity counts as missing here, and is as strange as can be when scored."""
    inputs = features.get("inputs")
    parts = [
        _fit_columns(inputs[:, part].astype(np.float32).T) for part in chunks(inputs.shape[1], _SHARE * len(inputs))
    ]
    knots, heights, *rest = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    # Not more than the column with most of them has: images of few colours need few.
    width = max(1, int((np.diff(knots, axis=1) > 0).sum(axis=1).max()) + 1)
    return TailsParameters(knots[:, :width], heights[:, :width], *(np.minimum(one, STRANGEST) for one in rest))


def tails_score(features: Features, parameters: TailsParameters) -> NDArray[np.float32]:
    inputs = features.get("inputs")
    totals = np.zeros(len(inputs))
    with np.errstate(invalid="ignore", over="ignore"):
        for part in chunks(inputs.shape[1], _SHARE * len(inputs)):
            columns = np.ascontiguousarray(inputs[:, part].astype(np.float32).T)
            totals += _heights(columns, parameters, part).sum(axis=0)
    return never_nan(totals)


def _fit_columns(columns: NDArray[np.float32]) -> tuple[Array, ...]:
    """Knots, heights `(m, K)`, and outside, slope below, slope above, missing `(m,)` of columns `(m, rows)`; float32."""
    m, rows = columns.shape
    ordered = np.where(np.isfinite(columns), columns, np.nan).astype(np.float64)
    ordered.sort(axis=1)  # NaN comes last
    n = rows - np.isnan(ordered).sum(axis=1)
    outside = np.full(m, math.log((rows + 1) / 2) if rows > 1 else 1.0)
    missing = -np.log((rows - n + 1) / (rows + 1))
    knots, heights = np.zeros((m, _KNOTS)), np.repeat(outside[:, np.newaxis], _KNOTS, axis=1)
    slopes = np.ones((2, m))
    for count in np.unique(n[n > 0]).tolist():
        some = np.flatnonzero(n == count)
        values = ordered[some, :count]
        knots[some], heights[some] = _knots(values)
        for side, upper in enumerate((False, True)):
            slopes[side, some] = _slopes(values, knots[some], heights[some], outside[some], upper=upper)
    return tuple(one.astype(np.float32) for one in (knots, heights, outside, *np.minimum(slopes, STRANGEST), missing))


def _knots(values: Matrix) -> tuple[Matrix, Matrix]:
    """Knots and heights of ascending values `(m, n)`, the last repeated where they are fewer than `_KNOTS`.

    Every distinct value where there are few; else quantiles, ever closer towards both ends.
    """
    m, n = values.shape
    first = np.concatenate([np.ones((m, 1), np.bool_), np.diff(values, axis=1) > 0], axis=1)
    distinct = first.sum(axis=1)
    ranks = np.geomspace(1, n / 2, _KNOTS // 2) - 1 if n > _KNOTS else np.arange(n)
    spread = np.unique(np.concatenate([ranks, n - 1 - ranks]).round().astype(np.int64))
    places = np.repeat(_padded(spread)[np.newaxis], m, axis=0)
    few = np.flatnonzero(distinct <= _KNOTS)
    row, place = np.nonzero(first[few])
    nth = np.arange(len(row)) - np.repeat(np.cumsum(distinct[few]) - distinct[few], distinct[few])
    places[few] = place[np.cumsum(distinct[few]) - 1][:, np.newaxis]
    places[few[row], nth] = place
    # Runs of equal values: where the one at each place begins, and where it ends.
    here = np.arange(n, dtype=np.int32)
    begins = np.maximum.accumulate(np.where(first, here, 0), axis=1)
    last = np.concatenate([first[:, 1:], np.ones((m, 1), np.bool_)], axis=1)
    ends = np.minimum.accumulate(np.where(last, here + 1, n)[:, ::-1], axis=1)[:, ::-1]
    at_most = np.take_along_axis(ends, places, axis=1) / (n + 1)
    at_least = (n - np.take_along_axis(begins, places, axis=1)) / (n + 1)
    heights = -np.log(np.minimum(1.0, 2 * np.minimum(at_most, at_least)))
    return _without_repeats(np.take_along_axis(values, places, axis=1), heights)


def _padded(places: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.pad(places, (0, _KNOTS - len(places)), mode="edge")


def _without_repeats(knots: Matrix, heights: Matrix) -> tuple[Matrix, Matrix]:
    """The same knots with equal ones moved to the end, where they repeat the last."""
    again = np.concatenate([np.zeros((len(knots), 1), np.bool_), np.diff(knots, axis=1) <= 0], axis=1)
    order = np.argsort(again, axis=1, kind="stable")
    order = np.where(np.arange(knots.shape[1]) < (~again).sum(axis=1, keepdims=True), order, knots.shape[1] - 1)
    return np.take_along_axis(knots, order, axis=1), np.take_along_axis(heights, order, axis=1)


def _slopes(values: Matrix, knots: Matrix, heights: Matrix, outside: Matrix, *, upper: bool) -> Matrix:
    """How fast t rises over the outer tenth of the values on one side; by the spread where those are all the same."""
    edge, height = (one[:, -1 if upper else 0] for one in (knots, heights))
    inner = np.quantile(values, 1 - _OUTER if upper else _OUTER, axis=1)
    rise = np.maximum(height, outside) - _between(inner[:, np.newaxis], knots, heights)[:, 0]
    width = np.abs(edge - inner)
    spread = 1 / np.maximum(np.maximum(values.std(axis=1), 1e-3 * np.abs(edge)), 1e-6)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes: Matrix = np.where((width > 0) & (rise > 0), rise / width, spread)
    return slopes


def _between(x: Matrix, knots: Matrix, heights: Matrix) -> Matrix:
    """Heights at x `(m, rows)`, interpolated between knots `(m, K)`; at the ends those of the ends."""
    place = np.zeros(x.shape, np.int64)
    width = knots.shape[1]
    step = 1 << max(width - 1, 1).bit_length() - 1
    while step:  # the last knot that is at most x, by halves
        further = np.minimum(place + step, width - 1)
        place = np.where(np.take_along_axis(knots, further, axis=1) <= x, further, place)
        step //= 2
    right = np.minimum(place + 1, width - 1)
    low, high = (np.take_along_axis(knots, one, axis=1) for one in (place, right))
    at_low, at_high = (np.take_along_axis(heights, one, axis=1) for one in (place, right))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(high > low, (at_high - at_low) / (high - low), 0.0)
        line: Matrix = np.where(x > low, slope * (x - low) + at_low, at_low)
    return line


def _heights(columns: NDArray[np.float32], parameters: TailsParameters, part: slice) -> Matrix:
    """What columns `(m, rows)`, those of `part`, add to the score."""
    x = columns.astype(np.float64)
    knots, heights = (one[part].astype(np.float64) for one in (parameters.knots, parameters.heights))
    edges = (parameters.lowest, parameters.highest, parameters.slope_below, parameters.slope_above, parameters.missing)
    lowest, highest, slope_below, slope_above, missing = (one[part, np.newaxis].astype(np.float64) for one in edges)
    first, last = knots[:, :1], knots[:, -1:]
    below = lowest + slope_below * (first - x)
    above = highest + slope_above * (x - last)
    t = np.where(x < first, below, np.where(x > last, above, _between(x, knots, heights)))
    strangeness: Matrix = np.where(np.isnan(x), missing, t)
    return strangeness
