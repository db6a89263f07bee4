"""Whether numbers come in another unit: which named factor explains them better than anything else that numbers do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FACTORS",
    "FEWEST",
    "LEVELS",
    "ODDS",
    "UsualDensity",
    "best_mixed",
    "chosen",
    "known_of_both",
    "named_units",
    "unit_factor",
]

Matrix = NDArray[np.float64]

FACTORS: Final[dict[float, str]] = {
    10.0: "",
    100.0: "",
    1000.0: "",
    1e6: "",
    255.0: "",
    16.0: "",
    2.54: "centimetres/inches",
    25.4: "millimetres/inches",
    1.609: "kilometres/miles",
    3.2808: "feet/metres",
    2.2046: "pounds/kilograms",
    14.5038: "psi/bar",
    6.8948: "kilopascals/psi",
    4.184: "joules/calories",
    60.0: "seconds/minutes",
    3600.0: "seconds/hours",
    86_400.0: "seconds/days",
    0.5556: "",
}
"""Units that are taken for each other: what comes / what is usual, where that has a name. Others are decimal prefixes, grey
values, and differences of degrees. Of two that are near, neither is told where numbers are widely spread and rows are few: 14.5 is
such a one for 16, and no others are let in (3.6 beside 3.28, 28.3 beside 25.4)."""
FEWEST: Final = 20
"""Rows that a claim needs."""
_MOST: Final = 500  # rows beyond say no more: bad rows are chosen ones, and so never exactly a sample of the usual ones
_MOST_USUAL: Final = 20_000
ODDS: Final = 3.0  # log 20
_PARTS: Final = np.array([1.0, 0.95, 0.85, 0.7, 0.5])
"""Shares of the rows that may have changed, the others being as usual."""
_OF_GAP: Final = 0.5
_TAIL: Final = 0.02
_LEAST_WIDTH: Final = 0.01
_SHARES: Final = np.array([0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99])
LEVELS: Final = np.linspace(0.05, 0.95, 19)


class UsualDensity:
    """The density of usual numbers, such as their logarithms: a Gaussian kernel estimate, with a fiftieth part as a Cauchy tail.

    The width of the kernel is Silverman's (1986, equation 3.31). The tail keeps one odd row from deciding.

    Args:
        logs: them.
    """

    def __init__(self, logs: Matrix) -> None:
        low, self.middle, high = (float(each) for each in np.quantile(logs, [0.25, 0.5, 0.75]))
        self.logs = logs
        self.spread = max((high - low) / 1.349, _LEAST_WIDTH)
        width = max(0.9 * min(self.spread, max(float(logs.std()), _LEAST_WIDTH)) * len(logs) ** -0.2, _LEAST_WIDTH)
        step = width / 4
        first, last = self.middle - 60 * self.spread, self.middle + 60 * self.spread
        first, last = max(first, float(logs.min()) - 5 * width), min(last, float(logs.max()) + 5 * width)
        cells = int((last - first) / step) + 2
        counts = np.bincount(np.clip(((logs - first) / step).astype(int), 0, cells - 1), minlength=cells)
        kernel = np.exp(-0.5 * (np.arange(-20, 21) / 4) ** 2)
        smooth = np.convolve(counts, kernel / kernel.sum())[20 : 20 + cells]
        self.at = first + (np.arange(cells) + 0.5) * step
        self.density = smooth / max(smooth.sum(), 1e-12) / step

    def kernel(self, logs: Matrix) -> Matrix:
        """The part that was seen, at some logarithms, of their shape."""
        return np.asarray((1 - _TAIL) * np.interp(logs, self.at, self.density, left=0.0, right=0.0))

    def tail(self, logs: Matrix) -> Matrix:
        """The part that was not."""
        return np.asarray(_TAIL / (math.pi * self.spread * (1 + ((logs - self.middle) / self.spread) ** 2)))

    def __call__(self, logs: Matrix) -> Matrix:
        """Density at some logarithms, of their shape."""
        return self.kernel(logs) + self.tail(logs)


def named_units(factor: float) -> str:
    """What comes and what is usual, such as `psi for bar`, of a factor or of 1 by it; empty where it has no name."""
    for known, names in FACTORS.items():
        if names and factor in (known, 1 / known):
            ours, usual = names.split("/")
            return f"{ours} for {usual}" if factor == known else f"{usual} for {ours}"
    return ""


def unit_factor(ours: NDArray[np.floating], usual: NDArray[np.floating], columns: int) -> tuple[float, float] | None:
    """The factor by which numbers differ from the usual ones, and the log odds for it; None where nothing says it is a unit.

    Divided by it they must be likelier, as the usual ones, than as they are, and than shifted, stretched or chosen from the
    usual ones: by odds of 20 beyond the number of factors and columns that were tried. A free scale, and a free scale
    with a free spread, may be better by no more than their parameters cost (Schwarz, 1978).

    Args:
        ours: numbers `(rows,)` of the rows in question; some may be in the usual unit.
        usual: numbers `(others,)` to compare with.
        columns: as many were looked at.
    """
    known = known_of_both(ours, usual, _logs)
    if known is None:
        return None
    mine, theirs = known
    rows = len(mine)
    density = UsualDensity(theirs)
    as_usual = density(mine)
    unscaled = float(np.log(as_usual).sum())
    factors = (*FACTORS, *(1 / each for each in FACTORS))
    logs = np.log(factors)
    scores = best_mixed(density(mine - logs[:, np.newaxis]), as_usual)
    place = int(scores.argmax())
    price, cost = math.log(len(logs) * columns) + ODDS, 0.5 * math.log(rows)
    named, log = float(scores[place]), float(logs[place])
    # Numbers so widely spread that another factor, or none, would do as well name none of them.
    near = np.abs(np.append(logs, 0.0) - log)
    if density.spread * math.sqrt(2 * cost / rows) > _OF_GAP * near[near > 0].min():
        return None
    odds = named - cost - unscaled - price
    if odds <= 0:
        return None
    others = max(_shifted(density, mine, as_usual) - cost, chosen(density, mine))
    odds = min(odds, named - cost - others - price)
    if odds <= 0 or named + cost < _rescaled(density, mine, as_usual, log, cost):
        return None
    return factors[place], float(odds)


def known_of_both(
    ours: NDArray[np.floating], usual: NDArray[np.floating], known: Callable[[NDArray[np.floating]], Matrix | None]
) -> tuple[Matrix, Matrix] | None:
    """What is known of our numbers and of the usual ones, in order, at most so many as count; None where it is too little.

    Args:
        ours, usual: as given.
        known: what counts of them, in order; None of too few.
    """
    theirs, mine = known(usual), known(ours)
    if theirs is None or mine is None:
        return None
    theirs = _spaced(theirs, _MOST_USUAL)
    # What is known of the usual ones is no surer than their number.
    return _spaced(mine, min(_MOST, len(theirs))), theirs


def _logs(numbers: NDArray[np.floating]) -> Matrix | None:
    """Logarithms of the positive ones; None of too few. In any unit 0 is 0."""
    known = numbers[np.isfinite(numbers)].astype(np.float64)
    positive = known[known > 0]
    if len(positive) < FEWEST or len(positive) < 0.6 * len(known):
        return None
    return np.asarray(np.sort(np.log(positive)))


def _spaced(ordered: Matrix, most: int) -> Matrix:
    """At most so many, evenly spread among those in order, so that which ones does not depend on chance."""
    return ordered if len(ordered) <= most else ordered[np.linspace(0, len(ordered) - 1, most).astype(int)]


def best_mixed(changed: Matrix, as_usual: Matrix) -> Matrix:
    """Log likelihoods `(models,)` of densities `(models, rows)` for the share of changed rows that fits each best."""
    return np.asarray(
        np.max([np.log(part * changed + (1 - part) * as_usual).sum(axis=-1) for part in _PARTS.tolist()], axis=0)
    )


def _shifted(density: UsualDensity, mine: Matrix, as_usual: Matrix) -> float:
    """The best shift by a constant."""
    numbers = np.exp(mine)
    apart = np.quantile(numbers, LEVELS) - np.quantile(np.exp(density.logs), LEVELS)
    by = np.linspace(apart.min(), apart.max(), 41)[:, np.newaxis]
    before = numbers - by
    positive = np.where(before > 0, before, 1.0)
    changed = np.where(before > 0, density(np.log(positive)) * numbers / positive, 0.0)
    floor = _TAIL * density(mine)
    return float((best_mixed(np.maximum(changed, floor), as_usual)).max()) - 0.5 * math.log(len(mine))


def chosen(density: UsualDensity, mine: Matrix) -> float:
    """The usual rows, some of which are chosen more often: evenly more with size, or freely by their place among them.

    What was never seen cannot be chosen: that part stays as it is.
    """
    seen, unseen, cost = density.kernel(mine), density.tail(mine), 0.5 * math.log(len(mine))
    whole = density.density * (density.at[1] - density.at[0])
    tilts = np.linspace(-8, 8, 65)[:, np.newaxis]
    at, here = (np.clip((each - density.middle) / density.spread, -5, 5) for each in (density.at, mine))
    chances = np.exp(tilts * here) / (whole * np.exp(tilts * at)).sum(axis=1, keepdims=True)
    evenly = float(np.log(seen * chances + unseen).sum(axis=1).max()) - cost
    cuts = np.unique(np.quantile(density.logs, _SHARES))
    place = np.searchsorted(cuts, mine)
    ours, usual = (np.bincount(each, minlength=len(cuts) + 1) for each in (place, np.searchsorted(cuts, density.logs)))
    rates = ours / len(mine) / ((usual + 0.5) / (len(density.logs) + 0.5))
    freely = float(np.log(seen * rates[place] + unseen).sum()) - cost * ((ours > 0).sum() - 1)
    return float(max(evenly, freely))


def _rescaled(density: UsualDensity, mine: Matrix, as_usual: Matrix, log: float, cost: float) -> float:
    """The best free scale, and the best one with a free spread, less what their parameters cost beyond the first's.

    The spread costs twice, since bad rows are seldom exactly a sample of all that came in the unit.
    """
    by = log + np.linspace(-1, 1, 41)[:, np.newaxis] * density.spread
    best = float(best_mixed(density(mine - by), as_usual).max())
    for spread in np.geomspace(0.3, 3, 19).tolist():
        inside = (mine - by - density.middle) / spread + density.middle
        best = max(best, float(best_mixed(density(inside) / spread, as_usual).max()) - 2 * cost)
    return best
