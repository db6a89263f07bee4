"""A day of rows that a test makes for itself: callers, inputs that mean nothing, and whatever is planted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hoverboard.postmortem.table import ABSENT, Field, Kind, Table

DAY_US = 86_400_000_000
NOON_US = DAY_US // 2
Flags = NDArray[np.bool_]
Risk = Callable[["Day"], NDArray[np.float64]]


def field(name: str, kind: Kind, values: int, codes: NDArray[np.integer]) -> Field:
    """A field with values `v1`, `v2` and so on, and codes from 0 (absent)."""
    return Field(name, kind, (ABSENT, *(f"v{i + 1}" for i in range(values))), codes.astype(np.uint8))


class Day:
    """Rows before and after noon, not yet good or bad.

    Args:
        rows: that were asked, of which the table holds the bad ones and a twentieth of the others.
        seed: of everything that is random.
        inputs: with 16 even bins each.
        callers: as many, the first of which sends `first` of all rows.
    """

    def __init__(
        self, rows: int = 100_000, *, seed: int = 0, inputs: int = 6, callers: int = 30, first: float = 0.05
    ) -> None:
        self.generator = np.random.default_rng(seed)
        self.at = np.sort(self.generator.integers(0, DAY_US, rows))
        self.after = self.at >= NOON_US
        shares = np.append(first, np.full(callers - 1, (1 - first) / (callers - 1)))
        self.caller = self.generator.choice(callers, rows, p=shares) + 1
        self.inputs = self.generator.integers(1, 17, (inputs, rows))
        self.more: list[Field] = []

    def table(self, risk: NDArray[np.float64], share: float = 0.05) -> Table:
        """The rows, each bad by its risk."""
        bad = self.generator.random(len(self.at)) < risk
        fields = [field("caller", "caller", int(self.caller.max()), self.caller), *self.more]
        fields += [field(f"input f{place}", "input", 16, codes) for place, codes in enumerate(self.inputs)]
        kept = bad | (self.generator.random(len(self.at)) < share)
        whole = Table(
            self.at,
            bad,
            ~self.after,
            np.where(bad, 1.0, 1 / share),
            self.caller.astype(np.int32),
            tuple(fields),
            np.zeros(len(self.at), "V16"),
        )
        return whole[kept]

    def risk(self, inside: Flags, effect: float, usual: float = 0.01) -> NDArray[np.float64]:
        """Of each row: as usual, and in the rows `inside` so that bad rows of the afternoon are `effect` times more."""
        more = effect * usual * self.after.sum() / max((inside & self.after).sum(), 1)
        return np.where(inside & self.after, np.minimum(usual + more, 1.0), usual)
