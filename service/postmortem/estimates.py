"""Means and shares of traffic, from rows that stand for different numbers of others, each with its 95% interval.

Two draws lie between traffic and a labelled row. Which rows are recorded is drawn with a known probability: a row weighs one over it
(Horvitz and Thompson 1952), and a mean is a ratio of such sums (Hajek 1971). Which recorded rows are labelled is up to people, and they
look at what is strange. So rows are taken apart by kind, and each kind weighs what it is of all recorded rows, labelled or not: within a
kind, labelled rows are taken for a random sample (post-stratification, Holt and Smith 1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

__all__ = ["Estimate", "Kind", "Sums", "difference", "mean_of_kinds", "share_of_kinds", "wilson"]

Z: Final = 1.959964
"""The 97.5% quantile of the normal distribution."""


class Estimate(msgspec.Struct, frozen=True):
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Sums:
    """What is known of some rows, w being one over a row's incl_prob.

    Attributes:
        rows: how many.
        weight, squared: sums of w and of w^2.
        mean: sum of w x over `weight`, x being what is asked about; a share where x is 0 or 1.
        scatter: sum of w^2 (x - mean)^2 over `weight`^2, which is the variance of `mean` (Sarndal, Swensson and Wretman 1992, 5.7).
    """

    rows: int = 0
    weight: float = 0.0
    squared: float = 0.0
    mean: float = 0.0
    scatter: float = 0.0

    @property
    def effective(self) -> float:
        """How many rows of equal weight tell as much (Kish 1965)."""
        return self.weight**2 / self.squared if self.squared else 0.0


@dataclass(frozen=True, slots=True)
class Kind:
    """Rows of one kind.

    Attributes:
        weight, squared: sums of w and of w^2 over all recorded rows of it, labelled or not.
        labelled: those of which the truth is known.
    """

    weight: float
    squared: float
    labelled: Sums


def share_of_kinds(kinds: Sequence[Kind]) -> Estimate | None:
    """A share of traffic; None without a labelled row.

    Each kind has Wilson's interval, and these are joined by the squares of their arms (Zou, Huang and Zhang 2009): unlike a
    variance, the arms are no 0 where all labelled rows of a kind are right. Kinds without a labelled row are left out.
    """
    known = [kind for kind in kinds if kind.labelled.rows]
    if not known:
        return None
    shares, value, spread = _combined(known)
    below = above = spread
    for share, kind in zip(shares, known, strict=True):
        each = wilson(kind.labelled.mean, kind.labelled.effective)
        below += (share * (each.value - each.low)) ** 2
        above += (share * (each.high - each.value)) ** 2
    return Estimate(value, max(value - math.sqrt(below), 0.0), min(value + math.sqrt(above), 1.0))


def mean_of_kinds(kinds: Sequence[Kind], *, positive: bool) -> Estimate | None:
    """A mean over traffic, by its standard error; None without a labelled row, and with an endless interval of a single one.

    Args:
        kinds: all of them.
        positive: whether what is averaged is never below 0, as a squared error: then the interval is one of the logarithm, since
            such means are skewed.
    """
    known = [kind for kind in kinds if kind.labelled.rows]
    if not known:
        return None
    shares, value, spread = _combined(known)
    variance, freedom = spread, 0.0
    for share, kind in zip(shares, known, strict=True):
        n = kind.labelled.effective
        # Of a single row nobody can tell how rows differ: the whole interval is then unknown.
        own = kind.labelled.scatter * n / (n - 1) if n > 1.5 else math.inf
        variance += share**2 * own if share else 0.0
        freedom += max(n - 1, 0.0)
    arm = _t(freedom) * math.sqrt(variance)
    if positive and value > 0:
        factor = math.exp(min(arm / value, 700.0))
        return Estimate(value, value / factor, value * factor)
    return Estimate(value, value - arm, value + arm)


def wilson(share: float, rows: float) -> Estimate:
    """A share of so many rows of equal weight, with Wilson's interval (1927).

    Args:
        share: 0 to 1.
        rows: above 0; effective ones where weights differ.
    """
    shrink = 1 + Z * Z / rows
    centre = (share + Z * Z / (2 * rows)) / shrink
    half = Z * math.sqrt(share * (1 - share) / rows + (Z / (2 * rows)) ** 2) / shrink
    return Estimate(share, min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share))


def difference(this: Estimate, that: Estimate) -> Estimate:
    """This less that, of rows that have nothing to do with each other: Newcombe's interval (1998), for means likewise."""
    value = this.value - that.value
    low = math.hypot(this.value - this.low, that.high - that.value)
    high = math.hypot(this.high - this.value, that.value - that.low)
    return Estimate(value, value - low, value + high)


def _combined(known: Sequence[Kind]) -> tuple[list[float], float, float]:
    """Each kind's share of the weight, the mean over all of them, and the variance that comes of not knowing the shares."""
    total = sum(kind.weight for kind in known)
    shares = [kind.weight / total for kind in known]
    value = sum(share * kind.labelled.mean for share, kind in zip(shares, known, strict=True))
    spread = sum(kind.squared * (kind.labelled.mean - value) ** 2 for kind in known) / total**2
    return shares, value, spread


def _t(freedom: float) -> float:
    """The 97.5% quantile of Student's t, by Cornish and Fisher's expansion (Abramowitz and Stegun 26.7.5)."""
    if freedom < 1:
        return 12.7062
    one, two = (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    three = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + one / freedom + two / freedom**2 + three / freedom**3


def pooled(kinds: Mapping[str, Kind]) -> list[Kind]:
    """The same rows as if the labelled ones were all that is known: each kind weighs what it is of them."""
    return [Kind(kind.labelled.weight, kind.labelled.squared, kind.labelled) for kind in kinds.values()]
