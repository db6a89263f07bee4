"""Where an onset is told: within the time that was asked about, and where there are rows.

It is looked for over the usual time and the window together. Time that nobody asked about, and pauses, are as likely as the rows
beside them, so that the likeliest bin may be one without any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hoverboard.postmortem.counting import WindowCounts
from hoverboard.postmortem.onset import Onset
from hoverboard.postmortem.table import BinnedCounts, Table

__all__ = ["EARLIER_INCIDENT", "HAD_BEGUN", "SetAside", "placed", "set_aside"]

EARLIER_INCIDENT: Final = "more of them were bad than usual, as of an earlier incident that was over, or by chance"
HAD_BEGUN: Final = "the change seems to have begun by then, before the time that was asked about"


@dataclass(frozen=True, slots=True)
class SetAside:
    """Rows of the usual time that do not count as usual.

    Attributes:
        begin_us, end_us: their time, microseconds, the end excluded.
        rows, bad: how many there are, each for 1 / incl_prob, and how many of them are bad.
        why: a part of a sentence.
    """

    begin_us: int
    end_us: int
    rows: float
    bad: float
    why: str

    def left(self, table: Table) -> Table:
        """A table without them."""
        return table[(table.at_us < self.begin_us) | (table.at_us >= self.end_us)]


def set_aside(usual: WindowCounts, begin_us: int, end_us: int, why: str) -> tuple[WindowCounts, SetAside]:
    """The rest of the usual time, in the same bins, and what was set aside of it."""
    rest = usual.outside(begin_us, end_us)
    rows, bad = (
        float(getattr(usual.counts, name).sum() - getattr(rest.counts, name).sum()) for name in ("rows", "bad")
    )
    return rest, SetAside(begin_us, end_us, rows, bad, why)


def placed(found: Onset, counts: BinnedCounts, first_us: int | None = None) -> Onset | None:
    """The same with times that can be told; None where it was over before the first of them.

    The posterior stays: what happened shortly before the window may well have to do with it.

    Args:
        found: by the counts.
        counts: whose bins it was found in.
        first_us: no time before it is told; None for any.
    """
    at_us = found.at_us if first_us is None else max(found.at_us, first_us)
    some = np.flatnonzero((counts.rows > 0) & (counts.start_us + counts.width_us > at_us))
    if len(some):
        at_us = max(at_us, int(counts.start_us[some[0]]))
    if found.end_us is not None and at_us >= found.end_us:
        return None
    earliest_us = found.earliest_us if first_us is None else max(found.earliest_us, first_us)
    latest_us = max(found.latest_us, at_us + counts.width_us) if at_us > found.at_us else found.latest_us
    return replace(found, at_us=at_us, earliest_us=min(earliest_us, at_us), latest_us=latest_us)
