"""What no quiet time has, however usual it is: more outliers than versions promise, or many errors.

Where all that is on record is strange, it is as usual as can be. A promise tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from hoverboard.postmortem.cells import excess_g
from hoverboard.postmortem.question import About
from hoverboard.postmortem.recorded import RecordedVersion
from hoverboard.postmortem.wording import share

__all__ = ["Ceiling", "ceiling"]

_FAR: Final = 1.5
"""How many times the ceiling a share must be: as of alarms, whose least odds these are."""
_BEYOND_CHANCE: Final = 10.8  # chi-squared: p = 0.001
_FAILED: Final = 0.1
"""Share of calls without an answer that nobody calls usual."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A share of bad rows that is too much, whatever is usual.

    Attributes:
        share: 0 to 1.
        words: who says so, a part of a sentence.
    """

    share: float
    words: str

    def exceeded(self, bad: float, rows: float) -> bool:
        """Whether so many bad rows are far more, and more than chance makes of it: as of alarms, each row is a witness."""
        allowed = self.share * rows
        if bad <= _FAR * allowed:
            return False
        return not allowed or bool(excess_g(np.array([bad]), np.array([allowed]))[0] > _BEYOND_CHANCE)


def ceiling(about: About, versions: Iterable[RecordedVersion]) -> Ceiling | None:
    """That of a kind of bad row; None where nothing was promised: what is slow or wrong, only other times can tell.

    Args:
        about: the kind.
        versions: that answered. Of several the one that promises least counts for all.
    """
    if about.kind in ("errors", "refusals"):
        return Ceiling(_FAILED, f"a time with more than {share(_FAILED)} of them is never a quiet one")
    bounds = {each.version: each.bound for each in versions if each.bound is not None}
    if about.kind != "outliers" or not bounds:
        return None
    most = max(bounds.values())
    of = [str(number) for number in sorted(bounds)]
    named = f"version {of[0]} promises" if len(of) == 1 else f"versions {', '.join(of[:-1])} and {of[-1]} promise"
    return Ceiling(most, f"{named} at most {share(most)}")
