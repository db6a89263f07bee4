"""The watch over a model's inputs: numbers far outside what was seen, and values that a small closed set does not have.

A detector looks at what the model makes of a sample, and a model may make something usual of an absurd number. So the inputs
are watched beside the detector, and both give one score: see `Watch.combined`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import STRING, Array, TensorSpec
from hoverboard.outliers.features import Matrix, check_shapes, never_nan
from hoverboard.outliers.summary import WatchSummary

__all__ = ["UNSEEN", "WIDEST_INPUTS", "ClosedSet", "Numbers", "Scale", "Watch", "numbers_of", "set_places", "watchable"]

WIDEST_INPUTS: Final = 512
"""Numbers a sample that are watched, at most: an input with more, such as an image, is no row of a table."""
MOST_SETS: Final = 16
"""Texts or integers of one input that are watched as sets, at most."""
UNSEEN: Final = 30.0
"""The strangeness of a value that a closed set does not have, and of a first missing number: far out, though not the farthest."""


def watchable(inputs: Sequence[TensorSpec]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Names of the inputs whose numbers can be watched, and why others cannot be, by name. Texts are in neither.

    The smallest inputs come first, so that an image beside a table costs the table nothing.
    """
    taken: set[str] = set()
    reasons: dict[str, str] = {}
    room = WIDEST_INPUTS
    for spec in sorted(inputs, key=lambda spec: 0 if spec.variable else size_of(spec)):
        if spec.variable:
            reasons[spec.name] = "its length varies"
        elif spec.dtype == STRING:
            continue
        elif not 0 < size_of(spec) <= room:
            reasons[spec.name] = f"{size_of(spec):,} numbers a sample are too many (at most {WIDEST_INPUTS} in all)"
        else:
            taken.add(spec.name)
            room -= size_of(spec)
    return tuple(spec.name for spec in inputs if spec.name in taken), reasons


def size_of(spec: TensorSpec) -> int:
    """Elements a sample; of a variable shape as if the free dimensions were 0."""
    return math.prod(dim or 0 for dim in spec.shape)


def set_places(spec: TensorSpec) -> range:
    """Elements of an input that may be members of a set: texts, integers and booleans, where they are few."""
    fit = not spec.variable and (spec.dtype == STRING or np.dtype(spec.dtype).kind in "iub")
    return range(size_of(spec) if fit and size_of(spec) <= MOST_SETS else 0)


def numbers_of(names: Sequence[str], columns: Mapping[str, Array]) -> Array:
    """The numbers of some inputs side by side, each flattened: float32 `(rows, m)`."""
    parts = [columns[name].reshape(len(columns[name]), -1) for name in names]
    with np.errstate(over="ignore"):  # what float32 cannot hold is Infinity, and as strange as can be
        return np.concatenate([part.astype(np.float32) for part in parts], axis=1)


@dataclass(frozen=True, slots=True)
class Numbers:
    """How far outside the middle 80% of its own column each number lies, about -log of the share that lies as far out.

    Beyond `high` the strangeness is offset + (x - high) * above, below `low` likewise; between them it is 0. That is an
    exponential tail; of a heavier one it is the line that meets it where one number in ten thousand lies farther out.

    Attributes:
        owner: int32 `(m,)`, which of `Watch.names` a column belongs to.
        low, high: float32 `(m,)`.
        below, above: float32 `(m,)`, above 0.
        offset: float32 `(m,)`, of a value just beyond either.
        missing: float32 `(m,)`, of NaN.
    """

    owner: Array
    low: Array
    high: Array
    below: Array
    above: Array
    offset: Array
    missing: Array

    def __post_init__(self) -> None:
        m = (len(self.owner),)
        names = ("low", "high", "below", "above", "offset", "missing")
        check_shapes(**{name: (getattr(self, name), m) for name in names})

    def strangeness(self, numbers: Array) -> Matrix:
        """Of float32 `(rows, m)`, column by column; Infinity is as strange as can be."""
        with np.errstate(invalid="ignore", over="ignore"):
            x = numbers.astype(np.float64)  # after float32, which is what the graph sees
            y = np.maximum((x - self.high) * self.above, (self.low - x) * self.below)
            strangeness: Matrix = np.where(np.isnan(x), self.missing, np.where(y > 0, self.offset + y, 0.0))
        return strangeness


@dataclass(frozen=True, slots=True)
class ClosedSet:
    """The values that one element of an input has.

    Attributes:
        input: its name.
        element: index in the flattened input.
        values: ascending: bytes of a text input, else integers.
    """

    input: str
    element: int
    values: tuple[bytes, ...] | tuple[int, ...]

    def unseen(self, column: Array) -> NDArray[np.bool_]:
        """Rows of the input's column whose element is none of them, bool `(rows,)`."""
        elements = column.reshape(len(column), -1)[:, self.element]
        if elements.dtype.kind == "O":
            known = frozenset(self.values)
            return np.fromiter((value not in known for value in elements), np.bool_, len(elements))
        return ~np.isin(elements.astype(np.int64), np.array(self.values).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Scale:
    """The watch's strangeness on the scale of the detector's scores: what is as rare has the same score.

    Attributes:
        knots: float32 `(K,)`, strangeness, strictly ascending.
        values: float32 `(K,)`, scores there, ascending; between knots they are interpolated, below the first it is the first.
        slope: of the scores beyond the last knot, above 0.
    """

    knots: Array
    values: Array
    slope: float

    def __post_init__(self) -> None:
        check_shapes(values=(self.values, self.knots.shape))
        if (np.diff(self.knots) <= 0).any() or not self.slope > 0:
            raise ValueError("the scale of the watch does not ascend")

    def __call__(self, strangeness: Matrix) -> Matrix:
        inside = np.interp(strangeness, self.knots.astype(np.float64), self.values.astype(np.float64))
        scores: Matrix = inside + self.slope * np.maximum(strangeness - float(self.knots[-1]), 0)
        return scores


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched of a version's inputs beside its detector, and what is not.

    Attributes:
        names: of the inputs whose numbers are watched.
        numbers: how; None where there are none.
        sets: small closed sets of values.
        scale: onto the detector's scores; None where nothing is watched.
        calibration: float32 `(n,)`, the combined scores of the calibration points, ascending.
        unwatched: input -> why it is not watched.
    """

    names: tuple[str, ...]
    numbers: Numbers | None
    sets: tuple[ClosedSet, ...]
    scale: Scale | None
    calibration: Array
    unwatched: Mapping[str, str] = field(default_factory=dict)

    @property
    def watched(self) -> tuple[str, ...]:
        """Names of all inputs that are watched in one way or the other."""
        return tuple(dict.fromkeys([*self.names, *(one.input for one in self.sets)]))

    def by_input(self, columns: Mapping[str, Array]) -> dict[str, Matrix]:
        """Strangeness of each watched input, `(rows,)`: about -log of the share of normal samples as far out; 0 is usual."""
        by_input: dict[str, Matrix] = {}
        if self.numbers is not None:
            every = self.numbers.strangeness(numbers_of(self.names, columns))
            for place, name in enumerate(self.names):
                by_input[name] = every[:, self.numbers.owner == place].max(axis=1)
        for one in self.sets:
            column = columns[one.input]
            strange = np.where(one.unseen(column), UNSEEN, 0.0)
            by_input[one.input] = np.maximum(by_input.get(one.input, strange), strange)
        return by_input

    def combined(self, scores: Array, strangeness: Mapping[str, Matrix]) -> NDArray[np.float32]:
        """The larger of the detector's score and of what the watch says in its terms, float32 `(rows,)`.

        Args:
            scores: `(rows,)`, the detector's.
            strangeness: of each input, as `by_input` gives it.
        """
        if self.scale is None:
            return never_nan(scores.astype(np.float64))
        most = np.max(list(strangeness.values()), axis=0)
        with np.errstate(over="ignore"):
            return never_nan(np.maximum(scores.astype(np.float64), self.scale(most)))

    def reasons(self, scores: Array, strangeness: Mapping[str, Matrix]) -> list[str | None]:
        """The input that decided each row's combined score; None where the detector did."""
        if self.scale is None:
            return [None] * len(scores)
        names = list(strangeness)
        every = np.stack(list(strangeness.values()))
        with np.errstate(over="ignore"):
            watch = self.scale(every.max(axis=0)) > scores
        return [names[place] if decided else None for place, decided in zip(every.argmax(axis=0), watch, strict=True)]

    def summary(self) -> WatchSummary:
        """For the manifest."""
        sets = {f"{one.input}[{one.element}]" if one.element else one.input: len(one.values) for one in self.sets}
        return WatchSummary(list(self.names), sets, dict(self.unwatched))
