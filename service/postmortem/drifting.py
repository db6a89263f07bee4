"""When an input began to move: where the cause is a drift, rows become bad long after that, when it has moved far."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.postmortem.onset import CREDIBLE, LEAST_LOG10_BAYES, Onset, credible
from hoverboard.postmortem.table import BinnedCounts, Field, Table

__all__ = ["began_to_move"]

_LENGTHS_MIN: Final = np.geomspace(1, 300, 72)
_MOST_EARLIER_MIN: Final = 360
_MOST_LATER_MIN: Final = 30
_MINUTE_US: Final = 60_000_000
_FEWEST: Final = 100
_BLOCKS: Final = (1, 4, 16)
_MOST_SCORE: Final = 8.0
_TINY: Final = 1e-9
Matrix = NDArray[np.float64]


def began_to_move(table: Table, name: str, counts: BinnedCounts, onset: Onset) -> Onset:
    """The onset with the time when an input began to move, where that was no later than half an hour after its set.

    Its mean is one before and goes to another one on a straight line that takes between a minute and five hours; P(begin) is that of
    a linear regression with flat priors, over all such lines. Rows of one caller are alike: they are as dispersed as they are around
    the best line, in blocks of minutes.

    Args:
        table: rows of the window and of its usual time.
        name: of the input.
        counts: whose bins the onset was told in.
        onset: of the bad rows.
    """
    field = table.field(name)
    scored = None if field is None else _scores(table, field, counts, onset)
    if scored is None:
        return onset
    n, sums, first = scored
    _, _, fit = _posterior(n, sums, counts, onset, first)
    # As dispersed as they are around the best line, which is wrong about them, too.
    phi = max(_dispersion(n, sums - n * fit, block) for block in _BLOCKS)
    posterior, log10_bayes, _ = _posterior(n / phi, sums / phi, counts, onset, first)
    best = int(posterior.argmax())
    # What moves at the very end moves later still: it is not what made rows bad.
    if log10_bayes < LEAST_LOG10_BAYES or not posterior[best + 1 :].any():
        return onset
    inside = credible(posterior, CREDIBLE)
    return replace(
        onset,
        at_us=int(counts.start_us[best]),
        earliest_us=int(counts.start_us[max(inside[0] - 1, 0)]),
        latest_us=int(counts.start_us[inside[-1]]) + counts.width_us,
        posterior=posterior,
    )


def _scores(table: Table, field: Field, counts: BinnedCounts, onset: Onset) -> tuple[Matrix, Matrix, int] | None:
    """Rows of each bin and the sum of their scores, by weight; and the first bin that may be the begin.

    Good and bad ones: good ones alone would move less and less, since those that move far are bad.
    """
    if field.numbers is None:
        return None
    some = np.isfinite(field.numbers) & (table.at_us >= counts.start_us[0])
    if onset.end_us is not None:
        some &= table.at_us < onset.end_us
    at, numbers, weight = table.at_us[some], field.numbers[some].astype(np.float64), table.weight[some]
    first = int(np.searchsorted(counts.start_us, onset.at_us - _MOST_EARLIER_MIN * _MINUTE_US))
    # At least a quarter of what was before must be so.
    first = max(first, int(np.searchsorted(counts.start_us, onset.at_us)) // 4)
    before = at < counts.start_us[min(first + 1, len(counts.start_us) - 1)]
    if before.sum() < _FEWEST or (~before).sum() < _FEWEST:
        return None
    low, middle, high = np.quantile(numbers[before], [0.1, 0.5, 0.9])
    if high - low < 1e-6 * max(abs(middle), 1.0):
        return None
    # Not ranks, which what moves far has too little of at its end; and no value counts as a hundred.
    scores = np.clip((numbers - middle) / (high - low), -_MOST_SCORE, _MOST_SCORE)
    scores = (scores - scores[before].mean()) / max(float(scores[before].std()), 1e-6)
    place = np.searchsorted(counts.start_us, at, side="right") - 1
    bins = len(counts.start_us)
    n, sums = (np.bincount(place, each, bins).astype(np.float64) for each in (weight, weight * scores))
    return n, sums, first


def _dispersion(n: Matrix, sums: Matrix, block: int) -> float:
    """The variance of blocks' sums by that of as many independent scores, at least 1."""
    starts = np.arange(0, len(n), block)
    n_, sums_ = np.add.reduceat(n, starts), np.add.reduceat(sums, starts)
    some = n_ > 0
    return max(1.0, float((sums_[some] ** 2).sum() / n_[some].sum())) if some.any() else 1.0


def _posterior(n: Matrix, sums: Matrix, counts: BinnedCounts, onset: Onset, first: int) -> tuple[Matrix, float, Matrix]:
    """P(begin) `(bins,)`, log10 of the Bayes factor of a move against none, and the best line `(bins,)`."""
    last = int(np.searchsorted(counts.start_us, onset.latest_us + _MOST_LATER_MIN * _MINUTE_US))
    begins = np.arange(max(first, 1), max(last, first + 2))
    starts = (counts.start_us - counts.start_us[0]) / _MINUTE_US
    middles = starts + counts.width_us / (2 * _MINUTE_US)
    begin, length = starts[begins][:, np.newaxis], _LENGTHS_MIN
    since, until = begins[:, np.newaxis], np.searchsorted(middles, begin + length)
    # Of a line that is 0 before, (t - begin) / length within and 1 after: all sums are differences of cumulated ones.
    n0, n1, n2, y0, y1 = (np.concatenate([[0.0], np.cumsum(each)]) for each in _powers(n, sums, middles))
    by_n = (n1[until] - n1[since] - begin * (n0[until] - n0[since])) / length + n0[-1] - n0[until]
    inner = n2[until] - n2[since] - 2 * begin * (n1[until] - n1[since]) + begin**2 * (n0[until] - n0[since])
    products = (y1[until] - y1[since] - begin * (y0[until] - y0[since])) / length + y0[-1] - y0[until]
    # Without the mean, which is free.
    squares = inner / length**2 + n0[-1] - n0[until] - by_n**2 / n0[-1]
    products -= by_n * y0[-1] / n0[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(squares > _TINY, products**2 / (2 * squares) - 0.5 * np.log1p(squares), -np.inf)
    top = float(logs.max())
    weights = np.exp(logs - top).sum(axis=1)
    posterior = np.zeros(len(n))
    posterior[begins] = weights / weights.sum()
    row, column = np.unravel_index(int(logs.argmax()), logs.shape)
    way = np.clip((middles - begin[row]) / length[column], 0, 1)
    slope = products[row, column] / max(float(squares[row, column]), _TINY)
    fit = y0[-1] / n0[-1] + slope * (way - by_n[row, column] / n0[-1])
    return posterior, (top + float(np.log(weights.sum() / logs.size))) / float(np.log(10)), fit


def _powers(n: Matrix, sums: Matrix, at: Matrix) -> tuple[Matrix, ...]:
    return n, n * at, n * at**2, sums, sums * at
