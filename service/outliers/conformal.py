"""Conformal p-values, and what they promise: of normal samples at most a share alpha has p <= alpha."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array
from hoverboard.errors import PublishError
from hoverboard.outliers.features import STRANGEST

__all__ = [
    "RESOLUTION",
    "advised_alpha",
    "beta_cdf",
    "beta_quantile",
    "check_alpha",
    "flag_rank",
    "needed_points",
    "p_values",
    "rate_bound",
    "smallest_alpha",
]

RESOLUTION: Final = 2.0**-14
"""Relative difference below which two scores are a tie: above what float32 in a graph and float64 here differ by."""
_STEPS: Final = 200_000


def p_values(scores: Array, calibration: Array) -> NDArray[np.float32]:
    """Conformal p-values: p = (1 + #{s_i >= s}) / (n + 1), float32 `(rows,)` in (0, 1].

    Scores that differ by less than `RESOLUTION` count as equal, which can only make p larger.

    Args:
        scores: `(rows,)`; NaN and Infinity count as `STRANGEST`.
        calibration: `(n,)`, ascending, finite; float64 saves a copy.
    """
    wide = np.where(np.isfinite(scores), scores, STRANGEST).astype(np.float64)
    below = np.searchsorted(np.asarray(calibration, np.float64), wide - np.abs(wide) * RESOLUTION, side="left")
    n = len(calibration)
    p: NDArray[np.float32] = ((1 + n - below) / (n + 1)).astype(np.float32)
    return p


def smallest_alpha(n: int) -> float:
    """The smallest alpha that n calibration points can tell: 1 / (n + 1)."""
    return 1 / (n + 1)


def needed_points(alpha: float) -> int:
    """How many calibration points an alpha needs: the least n with 1 / (n + 1) <= alpha."""
    # 1 / alpha may come out a hair above a whole number, which must not cost a sample.
    return max(0, math.ceil(1 / alpha - 1e-9) - 1)


def check_alpha(alpha: float, n: int, fitting: int = 0) -> None:
    """Whether a promise of alpha can be made with n samples.

    Args:
        alpha: the share.
        n: samples that there are.
        fitting: how many of them are needed for something else.

    Raises:
        PublishError: it cannot; the text says how many samples it takes, or which alpha would do.
    """
    if not 0 < alpha < 1:
        raise PublishError(f"alpha {alpha:g}: use a share between 0 and 1, such as 0.01")
    needed = needed_points(alpha)
    if n >= needed + fitting:
        return
    others = f", and fitting at least {fitting} others: {needed + fitting} samples" if fitting else " that fit nothing"
    smaller = f", or an alpha of at least {advised_alpha(n - fitting):g}" if n > fitting else ""
    raise PublishError(
        f"alpha {alpha:g} needs at least {needed} calibration points{others}; there are {n}: give more{smaller}"
    )


def advised_alpha(n: int) -> float:
    """`smallest_alpha`, rounded up to two digits, so that it is one that will do."""
    alpha = smallest_alpha(n)
    step = 10.0 ** (math.floor(math.log10(alpha)) - 1)
    return math.ceil(alpha / step - 1e-9) * step


def flag_rank(n: int, alpha: float) -> int:
    """How many of n + 1 exchangeable scores have p <= alpha: l = floor((n + 1) alpha)."""
    return min(n, math.floor((n + 1) * alpha + 1e-9))  # likewise: 100 * 0.29 is 28.999999999999996


def rate_bound(n: int, alpha: float, confidence: float = 0.95) -> float:
    """Upper bound of the true share of normal samples with p <= alpha, for this calibration set.

    Over calibration sets of n that share is Beta(l, n + 1 - l), l = floor((n + 1) alpha); this is its `confidence`
    quantile. 0 where alpha is below 1 / (n + 1).
    """
    rank = flag_rank(n, alpha)
    return 0.0 if rank == 0 else beta_quantile(confidence, rank, n + 1 - rank)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):  # the fraction converges quickly on one side of the mean only
        return 1.0 - front * _fraction(1 - x, b, a) / b
    return front * _fraction(x, a, b) / a


def beta_quantile(share: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = share, by bisection, to the last bit or nearly so."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if beta_cdf(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of I_x(a, b), by Lentz's method; x is on its quick side."""
    tiny = 1e-300
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away(1 + term * d, tiny)
            c = _away(1 + term / c, tiny)
            step = c * d
            value *= step
        if abs(step - 1) < 1e-15:
            break
    return value


def _away(value: float, tiny: float) -> float:
    return tiny if abs(value) < tiny else value
