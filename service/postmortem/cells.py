"""How many bad rows each value of a field has, and how many it would have had if nothing had changed.

A cell is a value of a field, or a pair of values of two. For each there are four counts: bad rows and others, in the
incident and in the usual time. All bad rows are there, of the others only a draw, so that rows are known by weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from hoverboard.postmortem.table import WHO, Field, Table

__all__ = ["Cells", "Draw", "chi2_tail", "clustering", "excess_g", "exposure_of"]

Matrix = NDArray[np.float64]

_GROUPS: Final = 4  # bad now, others now, bad before, others before
_MOST_CLUSTERING: Final = 20.0
_BLOCKS: Final = 8
_ALIKE: Final = 20.0
_FEW: Final = 2.0
_LEAST_PART: Final = 0.25
_LIKE_ALL: Final = 3.0
_SURE: Final = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """A table made ready for counting.

    Attributes:
        table: its rows.
        group: intp `(rows,)`, 0 to 3: bad now, another now, bad before, another before.
        weights: float64 `(4,)`, how many rows one of each group stands for.
        totals: float64 `(4,)`, drawn rows of each group.
        phi: how much more the bad rows vary than independent ones, at least 1.
    """

    table: Table
    group: NDArray[np.intp]
    weights: Matrix
    totals: Matrix
    phi: float

    @classmethod
    def of(cls, table: Table, phi: float | None = None) -> Self:
        """Of a table; `phi` is found in it when left out."""
        group = 2 * table.base.astype(np.intp) + ~table.bad
        totals = np.bincount(group, minlength=_GROUPS).astype(np.float64)
        weights = np.bincount(group, table.weight, _GROUPS) / np.maximum(totals, 1)
        # Bad rows are counted as they are: only the ratio of both times matters, and that of others to bad ones.
        return cls(table, group, np.where(totals > 0, weights, 1.0), totals, phi or clustering(table))

    @property
    def rows_now(self) -> float:
        """Rows of the incident, by weight."""
        return float(self.totals[:2] @ self.weights[:2])

    @property
    def rows_before(self) -> float:
        """Rows of the usual time, by weight."""
        return float(self.totals[2:] @ self.weights[2:])

    @property
    def bad_now(self) -> float:
        """Bad rows of the incident, as drawn."""
        return float(self.totals[0])

    @property
    def expected(self) -> float:
        """Bad rows that the incident would have had at the usual share."""
        if not self.totals[2:].any():
            return 0.0
        return float((self.totals[2] + 0.5) * self.rows_now / max(self.rows_before, 1.0))

    @property
    def usual_share(self) -> float:
        """Of bad rows in the usual time."""
        return float((self.totals[2] + 0.5) / max(self.rows_before, 1.0))

    def count(self, field: Field) -> Matrix:
        """Rows of each group and value, `(4, values)`."""
        size = len(field.values)
        counts = np.bincount(self.group * size + field.codes, minlength=_GROUPS * size)
        return counts.reshape(_GROUPS, size).astype(np.float64)

    def rows(self, counts: Matrix) -> tuple[Matrix, Matrix]:
        """Rows now and before by weight, of counts `(4, ...)`."""
        weighted = np.tensordot(self.weights[:2], counts[:2], 1), np.tensordot(self.weights[2:], counts[2:], 1)
        return np.asarray(weighted[0]), np.asarray(weighted[1])


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Cells of one shape.

    Attributes:
        bad: bad rows of the incident.
        others: other rows of the incident, as drawn.
        expected: bad rows that there would have been, had nothing changed.
        error: variance of `expected` by its square: the usual time is a sample, too.
    """

    bad: Matrix
    others: Matrix
    expected: Matrix
    error: Matrix

    @classmethod
    def of(
        cls, draw: Draw, counts: Matrix, exposure: tuple[Matrix, Matrix] | None = None, *, alike: bool = False
    ) -> Self:
        """What is expected of counts `(4, ...)`.

        Args:
            draw: the rows.
            counts: of each group and cell.
            exposure: rows now and before that a cell's bad rows are a share of: the cell's own for who sent or answered
                them, since more rows of one caller are no harm; else those of all rows, or of all that a caller sent, since
                more rows of a strange kind are what is looked for. None for all rows.
            alike: whether the values should not differ, as versions and processes of one model; clients do.
        """
        bad, others, before = counts[0], counts[1], counts[2]
        if not draw.totals[2:].any():
            # No usual time: bad rows are compared with the others of the same time.
            expected = (others + 0.5) * draw.totals[0] / (draw.totals[1] + 1)
            return cls(bad, others, expected, 1 / (others + 0.5))
        if exposure is None:
            ratio = draw.rows_now / max(draw.rows_before, 1.0)
            # Half a bad row stands for what was never seen: of few usual bad rows a part of it, else each cell of none would be
            # expected to hold as many as all of them. For what is common, some bad rows stand that are spread as all rows are.
            usual, share = draw.totals[2], draw.rows(counts)[1] / max(draw.rows_before, 1.0)
            known, some = usual / (usual + _FEW), min(usual + 0.5, _LIKE_ALL)
            spread = (before + some * share) * (usual + 0.5) / (usual + some)
            seen = np.maximum(before + 0.5 * max(_LEAST_PART, known), spread)
            # Where hardly any is bad, what all rows are like stands for them: that is known well.
            return cls(bad, others, seen * ratio, 1 / (before + 0.5 + _SURE * (1 - known)))
        # So many bad rows with the usual share stand beside the cell's own past: what was never seen has that share.
        prior = _ALIKE if alike else 1.0
        own, past = before + prior, exposure[1] + prior / draw.usual_share
        expected = exposure[0] * own / past
        # They are known as well as the usual share is, the rest as well as a count is; that of none as well as that of one.
        counted = np.maximum(before, np.minimum(exposure[1] * draw.usual_share, 1.0))
        error = (counted + prior**2 / (draw.totals[2] + 0.5)) / own**2
        # Rows that stand for others are themselves a draw: of n rows with weight w, n w is wrong by w sqrt(n (1 - 1 / w)).
        now_w, past_w = np.maximum(draw.weights[[1, 3]] - 1, 0)
        error = error + now_w / np.maximum(exposure[0], 1.0) + past_w * exposure[1] / past**2
        return cls(bad, others, expected, error)

    def g(self, phi: float, rise: float = 1.0) -> Matrix:
        """How far bad rows exceed what is expected, times `rise`: G, divided by the clustering and the expectation's own error."""
        return excess_g(self.bad, self.expected * rise, self.error) / phi


def excess_g(bad: Matrix, expected: Matrix, error: Matrix | float = 0.0) -> Matrix:
    """2 (k ln(k / E) - (k - E)), the likelihood ratio of a Poisson count, where k > E; else 0.

    Divided by 1 + E v, v being the relative variance of E: that is how much more k - E varies than k.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        g = 2 * (bad * np.log(bad / expected) - (bad - expected))
    return np.where(bad > expected, g, 0.0) / (1 + expected * error)


def chi2_tail(statistic: Matrix) -> Matrix:
    """P(chi-squared with one degree of freedom > statistic)."""
    return np.array([math.erfc(math.sqrt(max(each, 0.0) / 2)) for each in statistic.tolist()])


def clustering(table: Table) -> float:
    """Pearson's chi-squared by degrees of freedom of bad rows, over clients and eighths of the usual time, at least 1.

    A client's bad rows come together: ten of one call are no ten witnesses. Each client is compared with its own share, so
    that a client that is always worse says nothing. Without a usual time it is by the median client of the incident, who
    the incident is not about.
    """
    usual = table[table.base] if table.base.any() else table
    if not usual.bad.any():
        return 1.0
    _, client = np.unique(usual.client, return_inverse=True)
    clients = int(client.max()) + 1
    span = int(np.ptp(usual.at_us)) + 1
    blocks = _BLOCKS if table.base.any() else 1
    cell = client * blocks + (usual.at_us - usual.at_us.min()) * blocks // span
    size = clients * blocks
    shape = (clients, blocks)
    bad = np.bincount(cell, usual.bad, size).reshape(shape)
    rows = np.bincount(cell, usual.weight, size).reshape(shape)
    drawn = np.bincount(cell, ~usual.bad, size).reshape(shape)
    whole = (bad.sum(), rows.sum()) if blocks == 1 else (bad.sum(axis=1)[:, None], rows.sum(axis=1)[:, None])
    expected = rows * whole[0] / np.maximum(whole[1], 1e-9)
    some = expected >= 1
    if blocks > 1:
        some &= (some.sum(axis=1) > 1)[:, np.newaxis]
    if some.sum() < 2:
        return 1.0
    variance = expected[some] * (1 + expected[some] / (drawn[some] + 1))
    chi2 = (bad[some] - expected[some]) ** 2 / variance
    if blocks == 1:
        ratio = float(np.median(chi2)) / 0.4549
    else:
        freedom = int(some.sum() - some.any(axis=1).sum())
        ratio = float(chi2.sum()) / max(freedom, 1)
    return float(np.clip(ratio, 1.0, _MOST_CLUSTERING))


def exposure_of(draw: Draw, fields: Sequence[Field], counts: Matrix) -> tuple[Matrix, Matrix] | None:
    """The rows that bad rows of each cell are a share of, see `Cells.of`.

    Args:
        draw: the rows.
        fields: one or two, whose values are the axes of the cells.
        counts: `(4, values)` or `(4, values, values)`.
    """
    who = [field.kind in WHO for field in fields]
    if not any(who):
        return None
    if all(who):
        return draw.rows(counts)
    axis = 2 - who.index(True)  # the other field's, which is summed over
    now, before = draw.rows(counts.sum(axis=axis, keepdims=True))
    return np.broadcast_to(now, counts.shape[1:]), np.broadcast_to(before, counts.shape[1:])
