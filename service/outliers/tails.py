"""How far out in its tails each input of a tabular model lies, summed over the inputs (after ECOD, Li et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.outliers.features import STRANGEST, Features, Labels, Matrix, check_shapes, chunks, never_nan
from service.types import Array

__all__ = ["TailsParameters", "fit_tails", "tails_score"]

_KNOTS: Final = 64
_OUTER: Final = 0.1


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


def fit_tails(features: Features, labels: Labels | None) -> TailsParameters:  # noqa: ARG001 - one signature for all
    """Fit every column by itself; Infinity counts as missing here, and is as strange as can be when scored."""
    columns = [_fit_column(column) for column in features.get("inputs").astype(np.float32).T]
    knots, heights, *rest = zip(*columns, strict=True)
    width = max(len(one) for one in knots)
    padded = [np.stack([np.pad(one, (0, width - len(one)), mode="edge") for one in many]) for many in (knots, heights)]
    return TailsParameters(
        padded[0].astype(np.float32),
        padded[1].astype(np.float32),
        *(np.minimum(one, STRANGEST).astype(np.float32) for one in rest),
    )


def tails_score(features: Features, parameters: TailsParameters) -> NDArray[np.float32]:
    inputs = features.get("inputs").astype(np.float32)
    totals = np.zeros(len(inputs))
    with np.errstate(invalid="ignore", over="ignore"):
        for part in chunks(len(inputs), inputs.shape[1]):
            for index in range(inputs.shape[1]):
                totals[part] += _heights(inputs[part, index].astype(np.float64), parameters, index)
    return never_nan(totals)


def _fit_column(column: NDArray[np.float32]) -> tuple[Matrix, Matrix, float, float, float, float]:
    """Knots, heights, outside, slope below, slope above, missing."""
    rows = len(column)
    values = np.sort(column[np.isfinite(column)]).astype(np.float64)
    n = len(values)
    outside = float(np.log((rows + 1) / 2)) if rows > 1 else 1.0
    missing = -float(np.log((rows - n + 1) / (rows + 1)))
    if n == 0:
        return np.zeros(1), np.full(1, outside), outside, 1.0, 1.0, missing
    knots = _knots(values)
    at_most = np.searchsorted(values, knots, "right") / (n + 1)
    at_least = (n - np.searchsorted(values, knots, "left")) / (n + 1)
    heights = -np.log(np.minimum(1.0, 2 * np.minimum(at_most, at_least)))
    below, above = (_slope(values, knots, heights, outside, upper=upper) for upper in (False, True))
    return knots, heights, outside, below, above, missing


def _knots(values: Matrix) -> Matrix:
    """Every distinct value where there are few; else quantiles, ever closer towards both ends."""
    distinct = np.unique(values)
    if len(distinct) <= _KNOTS:
        return distinct
    n = len(values)
    ranks = np.geomspace(1, n / 2, _KNOTS // 2) - 1
    places = np.unique(np.concatenate([ranks, n - 1 - ranks]).round().astype(np.int64))
    return np.unique(values[places])


def _slope(values: Matrix, knots: Matrix, heights: Matrix, outside: float, *, upper: bool) -> float:
    """How fast t rises over the outer tenth of the values on one side; by the spread where those are all the same."""
    edge = knots[-1] if upper else knots[0]
    inner = float(np.quantile(values, 1 - _OUTER if upper else _OUTER))
    rise = max(heights[-1] if upper else heights[0], outside) - float(np.interp(inner, knots, heights))
    width = abs(float(edge) - inner)
    if width > 0 and rise > 0:
        return float(rise / width)
    return 1 / max(float(values.std()), 1e-3 * abs(float(edge)), 1e-6)


def _heights(column: Matrix, parameters: TailsParameters, index: int) -> Matrix:
    knots = parameters.knots[index].astype(np.float64)
    heights = parameters.heights[index].astype(np.float64)
    outside = float(parameters.outside[index])
    t = np.interp(column, knots, heights)
    below = max(heights[0], outside) + parameters.slope_below[index] * (knots[0] - column)
    above = max(heights[-1], outside) + parameters.slope_above[index] * (column - knots[-1])
    t = np.where(column < knots[0], below, np.where(column > knots[-1], above, t))
    found: Matrix = np.where(np.isnan(column), parameters.missing[index], t)
    return found
