"""What the statistics of a postmortem work on: rows as small integers, counts a minute, and what happened meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ABSENT",
    "CONSEQUENCES",
    "EXOGENOUS",
    "OURS",
    "WHO",
    "BinnedCounts",
    "Codes",
    "Event",
    "Field",
    "Kind",
    "Table",
]

Kind = Literal[
    "input", "word", "cluster", "refusal", "tag", "caller", "version", "process", "label", "bucket", "hour", "role"
]  # fmt: skip
Codes = NDArray[np.uint8] | NDArray[np.uint16]

ABSENT: Final = "absent"
"""The value of code 0: missing, redacted or not sent; of a word: not in the text."""
WHO: Final = frozenset({"tag", "caller", "version", "process", "role", "bucket", "hour"})
"""Kinds that say who sent or answered a row. More rows of one of them are no harm: their share of bad ones counts."""
OURS: Final = frozenset({"version", "process", "role", "bucket", "hour"})
"""Kinds whose values should be as good as each other; those of clients need not be."""
CONSEQUENCES: Final = ("alarm", "issue", "gap")
"""How kinds of events begin that come of bad rows or are about records: none of them makes a row bad."""
EXOGENOUS: Final = frozenset({"input", "word", "cluster", "refusal"})
"""Kinds that say what was sent. No version and no process can change how many rows have a value."""


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One thing about each row.

    Attributes:
        name: such as `input amount`, `word free`, `tag customer`, `version`.
        kind: what it is of. `cluster` is the group of a row's features z, such as its issue or the nearest leader; `bucket`
            is whatever tells load: a batch's size, the time in the queue.
        values: in words, by code; the first is `absent`. Those of an input are the labels of the baseline's bins.
        codes: `(rows,)`.
        numbers: float32 `(rows,)`, of a numeric input as it was sent, NaN where there is none; None where nobody kept them.
            With them a cause can name the factor of a unit.
    """

    name: str
    kind: Kind
    values: tuple[str, ...]
    codes: Codes
    numbers: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if not self.values or self.values[0] != ABSENT:
            raise ValueError(f"{self.name}: the first value is {ABSENT!r}, for code 0")

    def __getitem__(self, rows: NDArray[np.bool_]) -> Field:
        return replace(self, codes=self.codes[rows], numbers=None if self.numbers is None else self.numbers[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows of a window and of the time that it is compared with: all bad ones, and a part of the others.

    Attributes:
        at_us: int64 `(rows,)`, microseconds since 1970, UTC.
        bad: bool `(rows,)`, those that the question is about.
        base: bool `(rows,)`, those of the usual time.
        weight: float64 `(rows,)`, how many rows each stands for: 1 / incl_prob / its share of the draw.
        client: int32 `(rows,)`, who sent it, by number: rows of one client are not independent.
        fields: each of as many rows.
        ids: V16 `(rows,)`, the samples' UUIDs.

    Raises:
        ValueError: they differ in rows.
    """

    at_us: NDArray[np.int64]
    bad: NDArray[np.bool_]
    base: NDArray[np.bool_]
    weight: NDArray[np.float64]
    client: NDArray[np.int32]
    fields: tuple[Field, ...]
    ids: NDArray[np.void]

    def __post_init__(self) -> None:
        columns = {name: getattr(self, name) for name in ("bad", "base", "weight", "client", "ids")}
        for name, column in (*columns.items(), *((field.name, field.codes) for field in self.fields)):
            if len(column) != len(self.at_us):
                raise ValueError(f"{name}: {len(column)} rows where at_us has {len(self.at_us)}")

    def __len__(self) -> int:
        return len(self.at_us)

    def __getitem__(self, rows: NDArray[np.bool_]) -> Table:
        return Table(
            self.at_us[rows],
            self.bad[rows],
            self.base[rows],
            self.weight[rows],
            self.client[rows],
            tuple(field[rows] for field in self.fields),
            self.ids[rows],
        )

    def since(self, start_us: int, end_us: int | None = None) -> Table:
        """The same rows with those outside of an incident counted to the usual time, and no others.

        It may have begun before the time that was asked about, such as an alarm's, which is later by some rows: then the end of what was
        to be the usual time is the incident's.

        Args:
            start_us: where it began.
            end_us: where it was over; None where it goes on.
        """
        outside = self.at_us < start_us
        if end_us is not None:
            outside |= self.at_us >= end_us
        return replace(self, base=outside)

    def field(self, name: str) -> Field | None:
        """The field of that name, or None."""
        return next((field for field in self.fields if field.name == name), None)


@dataclass(frozen=True, slots=True, eq=False)
class BinnedCounts:
    """All rows of a window by time, not a draw of them.

    Attributes:
        start_us: int64 `(bins,)`, ascending, where each begins; bins are equally long.
        rows: float64 `(bins,)`, weighted by 1 / incl_prob.
        bad: float64 `(bins,)`, those of them that are bad.
        kept_rows, kept_bad: float64 `(bins,)`, how many were recorded of each; None where all of them were.
    """

    start_us: NDArray[np.int64]
    rows: NDArray[np.float64]
    bad: NDArray[np.float64]
    kept_rows: NDArray[np.float64] | None = None
    kept_bad: NDArray[np.float64] | None = None

    @property
    def width_us(self) -> int:
        """How long a bin is."""
        return int(self.start_us[1] - self.start_us[0]) if len(self.start_us) > 1 else 60_000_000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one time.

    Attributes:
        at_us: when.
        kind: `deployment`, `start`, `stop`, `death`, `alarm`, `gap`.
        subject: what it happened to, such as `version 4` or the name of a process.
        detail: in words.
    """

    at_us: int
    kind: str
    subject: str
    detail: str = ""

    @property
    def consequence(self) -> bool:
        """Whether it makes no row bad, see `CONSEQUENCES`."""
        return self.kind.startswith(CONSEQUENCES)
