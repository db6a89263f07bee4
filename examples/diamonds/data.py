"""The diamonds data: 53,940 round-cut diamonds with their prices, as the package `plotnine` carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CATEGORIES", "NUMBERS", "SEED", "Part", "Parts", "load", "split"]

SEED: Final = 53940
NUMBERS: Final = ("carat", "depth", "table", "x", "y", "z")
CATEGORIES: Final[Mapping[str, tuple[str, ...]]] = {
    "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
    "color": ("J", "I", "H", "G", "F", "E", "D"),
    "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
}
"""Grades from worst to best."""


@dataclass(frozen=True, slots=True)
class Part:
    """Diamonds and their prices.

    Attributes:
        columns: input name -> `(n,)`; float32 for `NUMBERS` (carat; depth and table in per cent; x, y, z in mm, where
            a few rows have 0 for unknown), str objects for `CATEGORIES`.
        price: float32 `(n,)`, US dollars.
    """

    columns: Mapping[str, NDArray[Any]]
    price: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.price)

    def __getitem__(self, rows: NDArray[Any]) -> Part:
        return Part({name: column[rows] for name, column in self.columns.items()}, self.price[rows])

    def instances(self, count: int) -> list[dict[str, Any]]:
        """The first `count` diamonds in row form, as a client would send them."""
        return [
            {name: float(str(v)) if isinstance(v := column[row], np.float32) else str(v)
             for name, column in self.columns.items()}
            for row in range(count)
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parts:
    """Three parts, 60/20/20, that share no stone."""

    train: Part
    calibration: Part
    test: Part


def load() -> Part:
    """All 53,940 diamonds, in the package's order."""
    from plotnine.data import diamonds  # takes seconds, and only this function needs it

    columns: dict[str, NDArray[Any]] = {name: diamonds[name].to_numpy(np.float32) for name in NUMBERS}
    columns |= {name: diamonds[name].astype(str).to_numpy(object) for name in CATEGORIES}
    return Part(columns, diamonds["price"].to_numpy(np.float32))


def split(part: Part, seed: int = SEED) -> Parts:
    """Part diamonds so that one listed twice (turned round, or with another cut) stays whole in one part."""
    stone = _stones(part)
    where = np.random.default_rng(seed).choice(3, size=stone.max() + 1, p=(0.6, 0.2, 0.2))[stone]
    return Parts(*(part[np.flatnonzero(where == number)] for number in range(3)))


def _stones(part: Part) -> NDArray[np.int64]:
    """Number the stones: rows with the same carat, color, clarity and sorted measures are one, int64 `(n,)`."""
    measures = np.sort(np.stack([part.columns[name] for name in "xyz"]), axis=0)
    grades = [np.unique(part.columns[name], return_inverse=True)[1] for name in ("color", "clarity")]
    rows = np.column_stack([part.columns["carat"], *measures, *grades])
    numbers: NDArray[np.int64] = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    return numbers
