"""Whether what was sent would have been bad before, too: then who answered it did not make it so.

Of each usual row it is learnt how often such inputs are bad (naive Bayes, one half of the rows by the other one). The mean of
that over the rows of an incident, less its mean over usual rows, is the share of bad rows that the inputs bring along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.postmortem.cells import Draw, Matrix
from hoverboard.postmortem.table import Field, Table

__all__ = ["Mix", "mix_of"]

_LEVELS: Final = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99)
_PRIOR: Final = 5.0
_FEWEST: Final = 40
_HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Mix:
    """How far inputs have changed towards such as are bad.

    Attributes:
        more: bad rows that the inputs of the incident bring along beyond those that are usual, as drawn.
        g: evidence that they are others than before, in units of chi-squared; rows of one client and hour count as one.
    """

    more: float
    g: float


def mix_of(draw: Draw) -> Mix | None:
    """Of a draw; None where too few usual rows are bad, or no inputs are known."""
    table = draw.table
    fields = [field for field in table.fields if field.kind in ("input", "word")]
    if not fields or draw.totals[2] < _FEWEST or draw.totals[3] < _FEWEST or not draw.totals[0]:
        return None
    risk = _risks(draw, _scores(table, fields))
    now, before = _mean(table, risk, ~table.base), _mean(table, risk, table.base)
    apart = now[0] - before[0]
    if apart <= 0:
        return Mix(0.0, 0.0)
    return Mix(apart * draw.rows_now / draw.weights[0], float(apart**2 / max(now[1] + before[1], 1e-18)))


def _scores(table: Table, fields: list[Field]) -> Matrix:
    """The log odds that inputs of such values are bad, `(rows,)`: each half of the rows by what the other one shows."""
    half = np.arange(len(table)) % 2 == 0
    scores = np.zeros(len(table))
    for one in (half, ~half):
        bad, others = one & table.base & table.bad, one & table.base & ~table.bad
        for field in fields:
            size = len(field.values)
            usual = np.bincount(field.codes[others], minlength=size) + 0.5
            usual = usual / usual.sum()
            own = np.bincount(field.codes[bad], minlength=size) + _PRIOR * usual
            scores[~one] += np.log(own / own.sum() / usual)[field.codes[~one]]
    return scores


def _risks(draw: Draw, scores: Matrix) -> Matrix:
    """The share of bad rows among usual ones with about the same score, `(rows,)`."""
    table = draw.table
    usual = table.base
    order = np.argsort(scores[usual], kind="stable")
    whole = np.cumsum(table.weight[usual][order])
    cuts = np.unique(scores[usual][order][np.searchsorted(whole, np.array(_LEVELS) * whole[-1])])
    place = np.searchsorted(cuts, scores, side="right")
    size = len(cuts) + 1
    rows = np.bincount(place[usual], table.weight[usual], size)
    bad = np.bincount(place[usual], (table.weight * table.bad)[usual], size)
    share = float(bad.sum() / rows.sum())
    return np.asarray(((bad + share) / (rows + 1))[place])


def _mean(table: Table, risk: Matrix, rows: NDArray[np.bool_]) -> tuple[float, float]:
    """The mean by weight, and its variance, by the sums of each client and hour."""
    weight = table.weight[rows]
    mean = float(weight @ risk[rows] / weight.sum())
    _, cell = np.unique(
        table.client[rows].astype(np.int64) * 1_000_000 + table.at_us[rows] // _HOUR_US % 1_000_000, return_inverse=True
    )
    sums = np.bincount(cell, weight * (risk[rows] - mean))
    return mean, float((sums**2).sum() / weight.sum() ** 2)
