"""Since when: one change of the share of bad rows, with its posterior and a Bayes factor against no change at all.

The share is one before the change and a higher one after it, both with Jeffreys' prior; an incident may also be over
before the window ends. Whatever comes in bursts is worth fewer rows than it counts: counts are divided by their
overdispersion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.postmortem.table import BinnedCounts, Table

__all__ = ["CREDIBLE", "LEAST_LOG10_BAYES", "Onset", "onset"]

CREDIBLE: Final = 0.9
LEAST_LOG10_BAYES: Final = 2.0
"""Least evidence for an onset. Ten to one (1) would call an onset in too many of twenty quiet days: several windows are looked at."""
_STILL_ON: Final = 0.5  # prior share of incidents that are not over when one asks
_ENDS: Final = 240  # places where one may end, at most
_BLOCKS: Final = (1, 4, 16)
_RAMPS: Final = ((15, 1), (30, 1), (60, 1), (120, 1), (60, 3), (120, 3))
"""Bins that a slow rise may take, and the power of time that it goes by: a feature that drifts reaches its tails late."""
_ALIKE_PARTS: Final = 8
_ALIKE: Final = 1.3
_SLOW: Final = 0.1  # prior share of rises that take so many bins
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Onset:
    """When it began.

    Attributes:
        at_us: the likeliest time, where a bin of the counts begins.
        earliest_us, latest_us: the bounds of the 90% highest-posterior set: from the bin before its first, since a change
            within a bin may show in the next one only, to the end of its last.
        end_us: where it was over; None where it goes on.
        log10_bayes: evidence for a change against none.
        posterior: float64 `(bins,)`, that it began with each bin; sums to 1.
        share, usual_share: of bad rows, within the incident and outside of it.
    """

    at_us: int
    earliest_us: int
    latest_us: int
    end_us: int | None
    log10_bayes: float
    posterior: Matrix
    share: float
    usual_share: float

    def split(self, table: Table) -> Table:
        """A table's rows with those before it began, and after it was over, counted to the usual time.

        Rows of the time when it may have begun are left out: a new client's first ones would be its usual ones otherwise.
        """
        unsure = (table.at_us >= self.earliest_us) & (table.at_us < self.at_us)
        if self.end_us is not None:
            unsure |= (table.at_us >= self.end_us) & (table.at_us < self.end_us + (self.latest_us - self.earliest_us))
        return table[~unsure].since(self.at_us, self.end_us)

    def near(self, counts: BinnedCounts, at_us: int, steps: int = 1) -> float:
        """The posterior's mass within so many bins of a time."""
        place = int(np.searchsorted(counts.start_us, at_us, side="right")) - 1
        return float(self.posterior[max(0, place - steps) : max(0, place + steps + 1)].sum())


def onset(counts: BinnedCounts) -> Onset | None:
    """The rise of the share of bad rows that explains the counts best; None where there is no evidence for one.

    log P(begin, end) = lnB(1/2 + K1, 1/2 + N1 - K1) + lnB(1/2 + K2, 1/2 + N2 - K2), where 1 is outside and 2 within, and only
    where K2/N2 > K1/N1. Without a change it is lnB(1/2 + K, 1/2 + N - K) + lnB(1/2, 1/2).
    """
    bins = len(counts.rows)
    if bins < 3 or not counts.bad.sum():
        return None
    drawn = as_drawn(counts)
    first = _posterior(drawn.rows, drawn.bad)
    if first is None:
        return None
    # The dispersion is that around the change, not of a day with a change in it.
    phi = dispersion(drawn, *first[2])
    found = _posterior(drawn.rows / phi, drawn.bad / phi) if phi > 1 else first
    if found is None or found[1] < LEAST_LOG10_BAYES:
        return None
    joint, log10_bayes, _ = found
    _, end = _mode(joint)
    posterior = joint.sum(axis=1)[:bins]
    best = int(posterior.argmax())
    inside = credible(posterior, CREDIBLE)
    within = slice(best, end if end > best else bins)
    share, usual = _shares(counts, within)
    return Onset(
        at_us=int(counts.start_us[best]),
        earliest_us=int(counts.start_us[max(inside[0] - 1, 0)]),
        latest_us=int(counts.start_us[inside[-1]]) + counts.width_us,
        end_us=None if within.stop >= bins else int(counts.start_us[within.stop]),
        log10_bayes=log10_bayes,
        posterior=posterior,
        share=share,
        usual_share=usual,
    )


def as_drawn(counts: BinnedCounts) -> BinnedCounts:
    """The rows as they were recorded, each for itself, where good rows stand for as many at all times; else as they are.

    Where all bad rows are kept and one good row in ten, the odds of a bad row are ten times what they were, before a change and
    after it (case and control): the change is where it was. By weight a good row would count as ten witnesses, and the minutes would
    vary as ten times fewer rows do. What is lost is 1 / (1 + odds as recorded) of the evidence, beside 1 / (1 + odds).
    """
    if counts.kept_rows is None or counts.kept_bad is None:
        return counts
    kept, good = counts.kept_rows - counts.kept_bad, counts.rows - counts.bad
    if good.sum() <= 1.01 * kept.sum():
        return counts
    # Another policy at some time is no onset: its rows are comparable by weight only.
    edges = np.searchsorted(np.cumsum(kept), np.linspace(0, kept.sum(), _ALIKE_PARTS + 1)[1:-1])
    parts = [
        (part.sum(), whole.sum()) for part, whole in zip(np.split(kept, edges), np.split(good, edges), strict=True)
    ]
    factors = [whole / part for part, whole in parts if part]
    if max(factors) > _ALIKE * min(factors):
        return counts
    return BinnedCounts(counts.start_us, counts.kept_rows, counts.kept_bad)


def credible(posterior: Matrix, mass: float) -> NDArray[np.intp]:
    """The smallest set of bins that has so much of the posterior, ascending."""
    order = np.argsort(-posterior, kind="stable")
    enough = int(np.searchsorted(np.cumsum(posterior[order]), mass * posterior.sum())) + 1
    return np.sort(order[:enough])


def dispersion(counts: BinnedCounts, begin: int, end: int) -> float:
    """Pearson's chi-squared by degrees of freedom of bad counts, at least 1: within minutes and in blocks of them.

    Blocks see what comes in bursts of a quarter of an hour, which single minutes do not.
    """
    inside = np.zeros(len(counts.rows), np.bool_)
    inside[begin:end] = True
    largest = 1.0
    for block in _BLOCKS:
        chi2, freedom = 0.0, 0
        for part in (~inside, inside):
            rows, bad = (_blocks(one[part], block) for one in (counts.rows, counts.bad))
            share = bad.sum() / max(rows.sum(), 1e-9)
            variance = rows * share * (1 - share)
            some = variance > 0.05 * block
            if some.sum() > 5:
                chi2 += float(((bad - rows * share)[some] ** 2 / variance[some]).sum())
                freedom += int(some.sum()) - 1
        if freedom > 5:
            # Only what is beyond chance: sqrt(2 / df) is the standard error of chi2 / df.
            ratio = chi2 / freedom
            largest = max(largest, ratio if ratio > 1 + 2 * (2 / freedom) ** 0.5 else 1.0)
    return largest


def _posterior(rows: Matrix, bad: Matrix) -> tuple[Matrix, float, tuple[int, int]] | None:
    """P(begin, end) `(bins, ends)` over ends that `_ends` gives, spread onto `(bins, bins + 1)`, log10 of the Bayes factor, and the likeliest step."""
    bins = len(rows)
    n, k = (np.concatenate([[0.0], np.cumsum(one)]) for one in (rows, bad))
    ends = _ends(bins)
    begin = np.arange(bins)[:, np.newaxis]
    # What is within is a difference of sums; the rest is outside.
    n2, k2 = n[ends] - n[begin], k[ends] - k[begin]
    n1, k1 = n[-1] - n2, k[-1] - k2
    allowed = (ends > begin) & (k2 * n1 > k1 * n2) & (n2 > 0) & (n1 > 0)
    if not allowed.any():
        return None
    logs = np.full(allowed.shape, -np.inf)
    n1, n2, k1, k2 = (each[allowed] for each in (n1, n2, k1, k2))
    logs[allowed] = log_beta(k1 + 0.5, n1 - k1 + 0.5) + log_beta(k2 + 0.5, n2 - k2 + 0.5)
    # Prior: each begin is as likely; half of the incidents go on, of the others each end is as likely.
    prior = np.full(len(ends), (1 - _STILL_ON) / max(len(ends) - 1, 1))
    prior[-1] = _STILL_ON
    logs += np.log(prior)
    none = float(log_beta(np.array([k[-1] + 0.5]), np.array([n[-1] - k[-1] + 0.5]))[0] + np.log(np.pi))
    # What was so from the first bin on and is over is a fall: it speaks against an onset as no change does.
    fall, rise = _log_sum(logs[0]), _log_sum(logs[1:])
    if rise == -np.inf:
        return None
    log_bayes = rise - float(np.log(bins - 1)) - float(np.logaddexp(none, fall))
    slow = _ramps(rows, bad) + np.log(prior[-1]) if bins > 2 * _RAMPS[0][0] else np.full(bins, -np.inf)
    both = np.logaddexp(rise + np.log(1 - _SLOW), _log_sum(slow) + np.log(_SLOW))
    log_bayes += both - rise
    joint = np.zeros((bins, bins + 1))
    joint[1:, ends] = np.exp(logs[1:] - both) * (1 - _SLOW)
    step = _mode(joint)
    joint[:, bins] += np.exp(slow - both) * _SLOW
    return joint, log_bayes / float(np.log(10)), step


def _ramps(rows: Matrix, bad: Matrix) -> Matrix:
    """The same logarithm for a rise that takes a while, by the bin that it begins with, `(bins,)`; -inf where it cannot.

    Before and after the share is as in a step; in between it goes from one to the other, at their posterior means.
    """
    bins = len(rows)
    n, k = (np.concatenate([[0.0], np.cumsum(one)]) for one in (rows, bad))
    logs = np.full((bins, len(_RAMPS)), -np.inf)
    for column, (length, power) in enumerate(_RAMPS):
        begin = np.arange(1, bins - length - 1)
        if not len(begin):
            continue
        n1, k1 = n[begin], k[begin]
        n2, k2 = n[-1] - n[begin + length], k[-1] - k[begin + length]
        low, high = (k1 + 0.5) / (n1 + 1), (k2 + 0.5) / (n2 + 1)
        way = ((np.arange(length) + 0.5) / length) ** power
        share = low[:, np.newaxis] + (high - low)[:, np.newaxis] * way
        place = begin[:, np.newaxis] + np.arange(length)
        within = (bad[place] * np.log(share) + (rows[place] - bad[place]) * np.log1p(-share)).sum(axis=1)
        ends = log_beta(k1 + 0.5, n1 - k1 + 0.5) + log_beta(k2 + 0.5, n2 - k2 + 0.5)
        logs[begin, column] = np.where(high > low, within + ends, -np.inf)
    top = np.maximum(logs.max(axis=1), -1e300)
    with np.errstate(divide="ignore"):
        return np.asarray(top + np.log(np.exp(logs - top[:, np.newaxis]).mean(axis=1)))


def _log_sum(logs: Matrix) -> float:
    """The logarithm of the sum of exponentials."""
    top = float(logs.max())
    return top if top == -np.inf else top + float(np.log(np.exp(logs - top).sum()))


def _ends(bins: int) -> NDArray[np.intp]:
    """Where an incident may end, ascending; the last is the end of the window."""
    step = max(1, -(-bins // _ENDS))
    return np.append(np.arange(step, bins, step), bins)


def _mode(joint: Matrix) -> tuple[int, int]:
    begin, end = np.unravel_index(int(joint.argmax()), joint.shape)
    return int(begin), int(end)


def _shares(counts: BinnedCounts, within: slice) -> tuple[float, float]:
    bad, rows = float(counts.bad[within].sum()), float(counts.rows[within].sum())
    rest = float(counts.rows.sum()) - rows
    return bad / max(rows, 1e-9), (float(counts.bad.sum()) - bad) / max(rest, 1e-9)


def _blocks(values: Matrix, size: int) -> Matrix:
    """Sums of so many neighbours; those that are over at the end are left out."""
    whole = len(values) // size * size
    return np.asarray(values[:whole].reshape(-1, size).sum(axis=1))


def log_beta(a: Matrix, b: Matrix) -> Matrix:
    """The logarithm of B(a, b), elementwise, for a and b above 0."""
    return log_gamma(a) + log_gamma(b) - log_gamma(a + b)


def log_gamma(x: Matrix) -> Matrix:
    """The logarithm of Gamma(x) for x above 0, to 1e-10 or so: Stirling's series after a shift by eight (Abramowitz and Stegun 6.1.41)."""
    shift = np.log(x)
    for step in range(1, 8):
        shift += np.log(x + step)
    y = x + 8
    series = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / y**2) / y**2) / y**2) / y
    return np.asarray((y - 0.5) * np.log(y) - y + 0.9189385332046727 + series - shift)
