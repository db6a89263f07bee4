"""`--fail-if`: when a comparison of versions is a reason not to go on, such as `broken>0.5%`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hoverboard.errors import ConfigError
from hoverboard.postmortem.replay_rendering import why_nothing
from hoverboard.postmortem.replay_result import KINDS, ReplayResult

__all__ = ["Gate", "parse_gate"]

_FORM: Final = re.compile(r"(\w+)\s*(>=|>|<=|<|==)\s*(\d+(?:\.\d+)?)\s*(%?)")
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
}
_OF_LABELLED: Final = ("fixed", "broken")
_COUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    **{kind: (kind,) for kind in KINDS},
    "differs": ("changed", "fixed", "broken"),
}
"""What a gate may be of, and the kinds that it counts."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition.

    Attributes:
        text: as it was given.
        of: what it counts: one of `KINDS`, or `differs` for all that are neither the same nor noise.
        comparison: such as `>`.
        limit: rows, or percent of the rows that could be counted.
        percent: which of the two.
    """

    text: str
    of: str
    comparison: str
    limit: float
    percent: bool

    def holds(self, result: ReplayResult) -> bool:
        """Whether it holds.

        Raises:
            ConfigError: it cannot be told, since there are no rows that it could hold for: no reason to go on, either. With
                why that is, and what to do.
        """
        if not result.rows:
            raise ConfigError(f"--fail-if {self.text}: cannot be told; {why_nothing(result)}")
        rows = result.labelled.rows if self.of in _OF_LABELLED else result.rows
        if not rows:
            raise ConfigError(
                f"--fail-if {self.text}: cannot be told, none of the {result.rows:,} samples is labelled and answered alike when "
                "repeated; `hoverboard label` takes labels, and differs>... needs none"
            )
        found = sum(result.kinds[kind].rows for kind in _COUNTS[self.of])
        return _COMPARE[self.comparison](100 * found / rows if self.percent else found, self.limit)


def parse_gate(text: str) -> Gate:
    """A condition such as `broken>0.5%` or `differs>=10`.

    A percentage is of all rows that were replayed, of `fixed` and `broken` of the labelled ones.

    Raises:
        ConfigError: it is none.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None or found[1] not in _COUNTS:
        raise ConfigError(
            f"--fail-if {text!r}: expected one such as broken>0.5% or differs>=10, of {', '.join(_COUNTS)}"
        )
    return Gate(text, found[1], found[2], float(found[3]), bool(found[4]))
