"""Whether an issue has become more frequent than it was: the alarm's evidence, against the issue's own rate of seven days."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from hoverboard.watch.alarm import Block, Evidence

__all__ = ["IssuePace", "rate_bound_of"]

_NORMAL_95: Final = 1.6449
# A bound of nearly 1 would leave no higher rate that evidence could speak for.
_MOST: Final = 0.5


@dataclass(frozen=True, slots=True)
class IssuePace:
    """How often an issue comes on one day, beside how often it came before.

    Attributes:
        day: UTC; None before the first.
        bound: on the rate before, members a row, see `rate_bound_of`; None where there was no day before.
        before_rows, before_members: that it is taken from.
        evidence: of the day: a sample is a row, a member is a flagged one.
    """

    day: date | None = None
    bound: float | None = None
    before_rows: int = 0
    before_members: int = 0
    evidence: Evidence = field(default_factory=Evidence)

    def on(self, day: date, rows: int, members: int) -> IssuePace:
        """A new day: the rate is taken anew from the days before it, and nothing is counted yet."""
        return IssuePace(day, rate_bound_of(members, rows), rows, members)

    def after(self, idle: int, rows: int, members: int, at_us: int) -> IssuePace:
        """This and what came since.

        Args:
            idle: rows without a member, before the others. Counted as one block, which tells less than its parts would, and never more.
            rows, members: of the chunk that the members came with.
            at_us: its time.
        """
        if self.bound is None:
            return self
        evidence = self.evidence
        if idle > 0:
            evidence = evidence.after(Block(idle, 0, at_us), self.bound)
        # Features may come a chunk after the batches that they are of: then there are more members than rows.
        evidence = evidence.after(Block(max(rows, members), members, at_us), self.bound)
        return IssuePace(self.day, self.bound, self.before_rows, self.before_members, evidence)

    def escalates(self, run_length: int) -> bool:
        """Whether the rate is higher, with `run_length` rows between two false alarms, on average, at least."""
        return self.bound is not None and self.evidence.log10_e >= math.log10(run_length)

    def words(self) -> str:
        """Why it escalates, one sentence."""
        counted = self.evidence
        # Shares of what was counted, and no estimate: the sentence must add up for whoever checks it.
        now, before = counted.flagged / max(counted.rows, 1), self.before_members / max(self.before_rows, 1)
        times = f", {now / before:.1f} times as often" if before > 0 else ""
        return (
            f"{counted.flagged:,} of {counted.rows:,} samples on {self.day} ({now:.3%}); on the days before, at most 7, "
            f"{self.before_members:,} of {self.before_rows:,} ({before:.3%}){times}; e-value 10^{counted.log10_e:.1f}"
        )


def rate_bound_of(members: int, rows: int) -> float | None:
    """95% upper bound of a rate from Poisson counts (Wilson and Hilferty, 1931); None without rows."""
    if rows <= 0:
        return None
    shape = members + 1
    upper = shape * (1 - 1 / (9 * shape) + _NORMAL_95 / (3 * math.sqrt(shape))) ** 3
    return min(upper / rows, _MOST)
