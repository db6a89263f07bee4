"""What a confidence is worth: the share of right answers among those of a confidence, as labelled rows show it.

Fitted on labelled rows, and read off all rows, it tells the accuracy of answers that have no label yet. That holds as long as a confidence
means what it meant: it sees other inputs than usual come, and does not see that the truth of the same inputs has changed.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_ROWS", "ConfidenceFit", "Method", "expected_error", "fit", "isotonic"]

Values = NDArray[np.float64]
Method = Literal["published", "logistic", "isotonic"]

LEAST_ROWS: Final = 50
"""Labelled rows below which a published confidence is believed as it is."""
_ISOTONIC_ROWS: Final = 1000
"""From so many rows on, no shape is assumed (Niculescu-Mizil and Caruana 2005)."""
_BINS: Final = 30
_CLOSEST: Final = 1e-6
_STEPS: Final = 50


class ConfidenceFit:
    """A map from confidences to shares of right answers.

    Args:
        method: how it was made.
        confidences: ascending, `(points,)`; empty for `published`.
        shares: at these, `(points,)`; in between they are interpolated.
    """

    def __init__(self, method: Method, confidences: Values, shares: Values) -> None:
        self.method: Method = method
        self._confidences = confidences
        self._shares = shares

    def __call__(self, confidences: Values) -> Values:
        """The shares of right answers at some confidences."""
        if not len(self._confidences):
            return confidences
        return np.interp(confidences, self._confidences, self._shares)


def fit(confidences: Values, right: Values, weight: Values, rows: float) -> ConfidenceFit:
    """Learn what confidences are worth.

    Below `LEAST_ROWS` the published confidence stands. Up to 1,000 rows its logit is stretched and shifted (Platt 1999, with his
    targets, so that a class without a mistake is no certainty); the stretch alone is temperature scaling (Guo et al. 2017). From there
    on it is isotonic regression (Zadrozny and Elkan 2002).

    Args:
        confidences: 0 to 1, `(cells,)`, ascending.
        right: share of right answers in each cell.
        weight: of each cell.
        rows: how many rows of equal weight these are worth.
    """
    if rows < LEAST_ROWS:
        return ConfidenceFit("published", np.zeros(0), np.zeros(0))
    if rows < _ISOTONIC_ROWS:
        grid = np.concatenate([[_CLOSEST], np.linspace(0.001, 0.999, 999), [1 - _CLOSEST]])
        return ConfidenceFit("logistic", grid, _logistic(confidences, right, weight * rows / weight.sum(), grid))
    confidences, right, weight = _joined(confidences, right, weight)
    return ConfidenceFit("isotonic", confidences, isotonic(right, weight))


def isotonic(values: Values, weight: Values) -> Values:
    """The non-decreasing numbers nearest to some values in weighted squares, `(n,)`, by pooling neighbours that are out of order."""
    blocks: list[tuple[float, float, int]] = []
    for value, mass in zip(values.tolist(), weight.tolist(), strict=True):
        total, count = mass, 1
        while blocks and blocks[-1][0] >= value:
            earlier, its_mass, its_count = blocks.pop()
            value = (earlier * its_mass + value * total) / (its_mass + total)  # noqa: PLW2901 - the pooled block's
            total += its_mass
            count += its_count
        blocks.append((value, total, count))
    return np.repeat([block[0] for block in blocks], [block[2] for block in blocks])


def _joined(confidences: Values, right: Values, weight: Values) -> tuple[Values, Values, Values]:
    """Cells joined with their neighbours to at most `_BINS` of about equal weight.

    Without it the ends of the curve follow single rows: the least share is too low and the greatest too high.
    """
    middle = np.cumsum(weight) - weight / 2
    _, place = np.unique(np.floor(middle / weight.sum() * _BINS), return_inverse=True)
    total = np.bincount(place, weight).astype(np.float64)
    return np.bincount(place, weight * confidences) / total, np.bincount(place, weight * right) / total, total


def expected_error(confidences: Values, right: Values, weight: Values, rows: Values) -> tuple[float, float]:
    """Expected calibration error over bins (Guo et al. 2017), and what chance alone makes of it.

    The latter is what the bins of a perfectly calibrated version would differ by on average: E|x| of a normal x with the variance of
    their shares.

    Args:
        confidences: mean confidence of each bin, `(bins,)`.
        right: share of right answers.
        weight: of each bin.
        rows: effective ones, above 0.
    """
    part = weight / weight.sum()
    chance = np.sqrt(2 / np.pi * confidences * (1 - confidences) / rows)
    return float(part @ np.abs(confidences - right)), float(part @ chance)


def _logistic(confidences: Values, right: Values, weight: Values, grid: Values) -> Values:
    """Shares at the grid's confidences, by a stretch and a shift of the logit; the likeliest ones, by Newton's steps."""
    good, bad = float(weight @ right), float(weight @ (1 - right))
    target = right * (good + 1) / (good + 2) + (1 - right) / (bad + 2)
    x = _logit(confidences)
    stretch, shift = 1.0, 0.0
    for _ in range(_STEPS):
        guess = _expit(stretch * x + shift)
        slope = weight * guess * (1 - guess)
        gap = weight * (target - guess)
        # A little is added, since all confidences may be the same: then the stretch stays as it is.
        curvature = np.array([[slope @ (x * x), slope @ x], [slope @ x, slope.sum()]]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, np.array([gap @ x, gap.sum()]))
        stretch, shift = stretch + float(np.clip(step[0], -1, 1)), shift + float(np.clip(step[1], -2, 2))
        if np.abs(step).max() < 1e-9:
            break
    return _expit(stretch * _logit(grid) + shift)


def _logit(share: Values) -> Values:
    inside = np.clip(share, _CLOSEST, 1 - _CLOSEST)
    return np.log(inside) - np.log1p(-inside)


def _expit(x: Values) -> Values:
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))
