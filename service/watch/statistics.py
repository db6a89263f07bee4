"""Whether counts differ from a reference: G-test, Jensen-Shannon divergence, and Benjamini-Hochberg over many of them."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Matrix", "benjamini_hochberg", "g_test", "gamma_tail", "js_divergence"]

Matrix = NDArray[np.float64]

# The rule of thumb since Cochran (1954).
_LEAST_EXPECTED: Final = 5.0
_PRECISION: Final = 1e-13
_MOST_STEPS: Final = 10_000
# Stands for 0 where something is divided by it: what comes of it is thrown away, or as good as infinite.
_TINY: Final = 1e-300


def g_test(counts: Matrix, reference: Matrix) -> Matrix:
    """p-values of the hypothesis that two samples are of one distribution, by the likelihood-ratio (G) test.

    Cells in which either sample is expected to have fewer than five are pooled into one, since the chi-squared
    approximation does not hold there. Both samples are random, so the reference's own size counts as well.

    Args:
        counts: `(tests, cells)`, not negative; fractions where samples are weighted.
        reference: the same of the other sample.

    Returns:
        `(tests,)`; 1 where there is nothing to compare: fewer than two cells, or an empty sample.
    """
    ours, theirs = _pooled(counts, reference)
    both = ours + theirs
    size = both.sum(axis=1)
    n, m = ours.sum(axis=1), theirs.sum(axis=1)
    statistic = 2 * (_x_log_x(ours) + _x_log_x(theirs) - _x_log_x(both)).sum(axis=1)
    statistic -= 2 * (_x_log_x(n) + _x_log_x(m) - _x_log_x(size))
    # Cells that are empty in both say nothing: they are no degrees of freedom.
    freedom = (both > 0).sum(axis=1) - 1.0
    testable = (freedom >= 1) & (n > 0) & (m > 0)
    p_values = gamma_tail(np.where(testable, freedom, 1.0) / 2, np.maximum(statistic, 0) / 2)
    return np.where(testable, p_values, 1.0)


def js_divergence(counts: Matrix, reference: Matrix) -> Matrix:
    """Jensen-Shannon divergence of the shares that two samples give each cell, in bits: 0 is the same, 1 has nothing in common.

    Args:
        counts, reference: `(tests, cells)`, not negative.

    Returns:
        `(tests,)`; 0 where a sample is empty.
    """
    n, m = counts.sum(axis=1, keepdims=True), reference.sum(axis=1, keepdims=True)
    p, q = counts / np.maximum(n, _TINY), reference / np.maximum(m, _TINY)
    nats = (_x_log_x(p) + _x_log_x(q)) / 2 - _x_log_x((p + q) / 2)
    bits = np.clip(nats.sum(axis=1) / math.log(2), 0, 1)
    return np.where((n > 0) & (m > 0), bits[:, np.newaxis], 0.0)[:, 0]


def benjamini_hochberg(p_values: Matrix) -> Matrix:
    """Adjusted p-values `(tests,)`: rejecting those at most x keeps the expected share of false rejections at most x.

    Benjamini and Hochberg (1995); valid for independent tests and for positively dependent ones.
    """
    count = len(p_values)
    order = np.argsort(p_values)
    scaled = p_values[order] * count / np.arange(1, count + 1)
    adjusted = np.empty(count)
    # The least of a p-value and all larger ones, so that the order is kept; from the largest down.
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def gamma_tail(a: Matrix, x: Matrix) -> Matrix:
    """The regularised upper incomplete gamma function Q(a, x); a chi-squared tail is `Q(freedom / 2, statistic / 2)`.

    By the series of P = 1 - Q below x = a + 1, and by Lentz's continued fraction above it (Abramowitz and Stegun 6.5.29
    and 6.5.31).

    Args:
        a: above 0, `(n,)`.
        x: 0 or more, `(n,)`.
    """
    tails = np.ones(len(x))
    near = (x > 0) & (x < a + 1)
    far = x >= a + 1
    tails[near] = 1 - _series(a[near], x[near])
    tails[far] = _fraction(a[far], x[far])
    return np.clip(tails, 0.0, 1.0)


def _series(a: Matrix, x: Matrix) -> Matrix:
    """P(a, x)."""
    term = 1 / a
    total = term.copy()
    for step in range(1, _MOST_STEPS):
        term = term * x / (a + step)
        total += term
        if (term <= total * _PRECISION).all():
            break
    return total * _scale(a, x)


def _fraction(a: Matrix, x: Matrix) -> Matrix:
    """Q(a, x)."""
    b = x + 1 - a
    c = np.full(len(x), 1 / _TINY)
    d = 1 / b
    product = d.copy()
    for step in range(1, _MOST_STEPS):
        factor = -step * (step - a)
        b = b + 2
        d = 1 / _not_zero(factor * d + b)
        c = _not_zero(b + factor / c)
        change = c * d
        product *= change
        if (np.abs(change - 1) <= _PRECISION).all():
            break
    return product * _scale(a, x)


def _scale(a: Matrix, x: Matrix) -> Matrix:
    """x^a e^-x / Gamma(a)."""
    log_gamma = np.array([math.lgamma(each) for each in a])
    return np.asarray(np.exp(a * np.log(x) - x - log_gamma))


def _not_zero(values: Matrix) -> Matrix:
    return np.where(np.abs(values) < _TINY, _TINY, values)


def _x_log_x(values: Matrix) -> Matrix:
    return np.asarray(values * np.log(np.where(values > 0, values, 1.0)))


def _pooled(counts: Matrix, reference: Matrix) -> tuple[Matrix, Matrix]:
    """Both samples with one cell more: what is too rare in the others."""
    both = counts + reference
    size = both.sum(axis=1, keepdims=True)
    smaller = np.minimum(counts.sum(axis=1, keepdims=True), reference.sum(axis=1, keepdims=True))
    expected = both * smaller / np.maximum(size, _TINY)
    rare = expected < _LEAST_EXPECTED
    # Where even all of them together are too rare, they join another cell, one that the counts have no say in.
    lonely = np.where(rare, expected, 0).sum(axis=1) < _LEAST_EXPECTED
    rows = np.arange(len(both))
    place = np.where(lonely, reference.argmax(axis=1), both.shape[1])
    pooled = []
    for sample in (counts, reference):
        cells = np.concatenate([np.where(rare, 0, sample), np.zeros((len(sample), 1))], axis=1)
        cells[rows, place] += np.where(rare, sample, 0).sum(axis=1)
        pooled.append(cells)
    return pooled[0], pooled[1]
