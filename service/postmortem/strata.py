"""Since when, of the rows of one caller, process or source of labels: what a part of the rows shows, all of them may hide.

A client with a fifth of the rows that sends six times its bad rows doubles those of all: the same bad rows beside a fifth of the
usual ones are evidence for it several times as strong. That is looked for where all rows together show nothing, and costs
the logarithm of how many parts were looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.postmortem.onset import LEAST_LOG10_BAYES, Onset, onset
from hoverboard.postmortem.table import BinnedCounts, Table

__all__ = ["onset_of_a_part"]

_KINDS: Final = frozenset({"tag", "caller", "version", "process", "role"})
_OF_LABELLING: Final = "label source"
_LEAST_BAD: Final = 12
_COARSE: Final = 15
"""Bins at once in a first look, which takes a thousandth of the time."""
_NEARLY: Final = 1.0
_MOST: Final = 0.9
"""Share of all rows beyond which a part is all of them."""


def onset_of_a_part(table: Table, counts: BinnedCounts) -> Onset | None:
    """The onset of the part that has the strongest one; None where chance would do.

    Args:
        table: rows of the window and of its usual time.
        counts: whose bins the onset is told in.
    """
    parts = list(_parts(table))
    least = LEAST_LOG10_BAYES + math.log10(max(len(parts), 1))
    best: tuple[float, NDArray[np.bool_]] | None = None
    for rows in parts:
        coarse = onset(_counted(table, rows, counts, _COARSE))
        if coarse is not None and coarse.log10_bayes > max(least - _NEARLY, 0.0 if best is None else best[0]):
            best = coarse.log10_bayes, rows
    found = None if best is None else onset(_counted(table, best[1], counts, 1))
    return found if found is not None and found.log10_bayes >= least else None


def _parts(table: Table) -> Iterator[NDArray[np.bool_]]:
    for field in table.fields:
        if field.kind in _KINDS or field.name == _OF_LABELLING:
            bad = np.bincount(field.codes[table.bad], minlength=len(field.values))
            for code in np.flatnonzero(bad >= _LEAST_BAD).tolist():
                rows = field.codes == code
                if code and rows.mean() < _MOST:
                    yield rows


def _counted(table: Table, rows: NDArray[np.bool_], counts: BinnedCounts, width: int) -> BinnedCounts:
    """Rows of a table by time, in so many of the bins at once."""
    starts = counts.start_us[::width]
    place = np.searchsorted(starts, table.at_us[rows], side="right") - 1
    inside = place >= 0
    weight, bad = table.weight[rows][inside], table.bad[rows][inside]
    weights = (weight, weight * bad, np.ones(len(bad)), bad)
    return BinnedCounts(starts, *(np.bincount(place[inside], each, len(starts)).astype(np.float64) for each in weights))
