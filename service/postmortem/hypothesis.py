"""One hypothesis about a rise of bad rows, and the moment of the rise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hoverboard.postmortem.onset import Onset
from hoverboard.postmortem.table import BinnedCounts, Event

__all__ = ["Hypothesis", "HypothesisKind", "Moment", "Where", "words_of"]

Where = tuple[tuple[str, str], ...]
HypothesisKind = Literal["version", "caller", "schema", "machine", "novelty", "load", "labels", "upstream", "none"]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """More rows are bad in one cell, and nowhere else.

    Attributes:
        kind: of cause.
        subject: what is at fault.
        where: the cell; empty for all rows.
        bad, expected: bad rows of the incident in it, and as many as there would usually be.
        g: evidence against no change, in units of chi-squared.
        looked_at: how many cells it was picked from.
        timing: twice the logarithm of the odds that it gains because something happened at the onset.
        evidence: one sentence.
        whole: whether it says that all rows changed, as "none of these" does, and differs from it by timing alone.
        words: what is odd about its rows, for a sentence; empty where that is said by who sent or answered them.
        undo: what would undo it, where that is not what undoes others of its kind.
    """

    kind: HypothesisKind
    subject: str
    where: Where
    bad: float
    expected: float
    g: float
    looked_at: int
    timing: float
    evidence: str
    whole: bool = False
    words: str = ""
    undo: str = ""

    @property
    def excess(self) -> float:
        """Bad rows beyond what is usual."""
        return self.bad - self.expected


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """When it began, and what happened around then."""

    counts: BinnedCounts
    onset: Onset | None
    events: tuple[Event, ...]

    def timing(self, kinds: Sequence[str], subject: str, seen_us: int | None) -> tuple[float, float | None]:
        """Twice the log odds by which an event at the onset is no coincidence, and the belief that it was then.

        Args:
            kinds: of events.
            subject: of the event, or one of its words.
            seen_us: when it was first seen in the rows, which counts where there is no such event.
        """
        if self.onset is None:
            return 0.0, None
        times = [each.at_us for each in self.events if each.kind in kinds and subject in each.subject.split()]
        if not times and seen_us is not None:
            times = [seen_us]
        if not times:
            return 0.0, None
        belief = max(self.onset.near(self.counts, at_us) for at_us in times)
        # By chance an event falls within a step of the onset in three of all bins, for each event that there was.
        chance = min(1.0, 3 * len(times) / max(len(self.counts.rows), 1))
        return 2 * math.log(max(belief, 1e-3) / chance), belief


def words_of(where: Where) -> str:
    """A cell for a sentence."""
    return " and ".join(f"{name} {value}" for name, value in where)
