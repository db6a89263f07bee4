"""Samples into the bins of a baseline: the same reading and the same cuts when a version is published and ever after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array
from hoverboard.versions.baseline import Feature, Reading, Side

__all__ = ["LOOKED_AT", "Bins", "Counts", "Place", "measure", "texts"]

Place = tuple[Side, str]
"""An input, an output or a part of the prediction, by name."""
Counts = NDArray[np.int64]

LOOKED_AT: Final = 4096
"""Most elements of a sample that `mean`, `deviation`, `smallest` and `largest` are taken of, evenly spread."""

_BYTE: Final = 255
_WORD: Final = 8
_FOLD: Final = 32
_FEW: Final = 8  # columns, below which sorting them is quicker than comparing every number with every cut


def measure(column: Array, reading: Reading) -> Array:
    """One number a sample, `(rows,)`.

    Args:
        column: `(rows, ...)`, numbers.
        reading: of several elements: `mean`, `deviation`, `smallest`, `largest` or `length`.
    """
    flat = column.reshape(len(column), -1)
    if reading == "length":
        return np.full(len(flat), flat.shape[1], np.float64)
    if not flat.shape[1]:
        return np.full(len(flat), np.nan)
    # Evenly spread: neighbours of an image say nearly the same.
    some = flat[:, :: -(-flat.shape[1] // LOOKED_AT)]
    if reading == "mean":
        # In float64: the sum of a float16 image is beyond 65,504, the largest that there is.
        return np.asarray(some.mean(axis=1, dtype=np.float64))
    if reading == "deviation":
        return np.asarray(some.std(axis=1, dtype=np.float64))
    return np.asarray(some.min(axis=1) if reading == "smallest" else some.max(axis=1))


def texts(column: Array, reading: Reading) -> Array:
    """One number a sample, `(rows,)`: `length` in bytes or `words` of its texts together; NaN where one is redacted."""
    of: Callable[[bytes], int] = len if reading == "length" else lambda text: len(text.split())
    rows = column.reshape(len(column), -1).tolist()
    return np.array([np.nan if None in row else sum(map(of, row)) for row in rows], np.float64)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Features of one tensor whose numbers lie side by side: element i of the tensor is column i.

    Attributes:
        elements: which columns of the flattened tensor; None for all of them in order.
        cuts: `(most cuts, features)`, padded with NaN, which nothing is at least.
        used: bool `(most cuts + 1, features)`: the bins that there are, but for those of missing numbers.
        bins: their places in the counts of all.
        missing: bool `(features,)`: who counts missing numbers.
        missing_bins: the places for those.
    """

    elements: NDArray[np.intp] | None
    cuts: NDArray[np.float64]
    used: NDArray[np.bool_]
    bins: NDArray[np.intp]
    missing: NDArray[np.bool_]
    missing_bins: NDArray[np.intp]

    @classmethod
    def of(cls, features: Sequence[tuple[int, Feature]]) -> _Numbers:
        most = max(len(feature.cuts) for _, feature in features)
        cuts = np.full((most, len(features)), np.nan)
        for place, (_, feature) in enumerate(features):
            cuts[: len(feature.cuts), place] = feature.cuts
        elements = np.array([feature.element for _, feature in features], np.intp)
        counts = np.array([len(feature.cuts) for _, feature in features], np.intp)
        starts = np.array([at for at, _ in features], np.intp)
        missing = np.array([feature.missing for _, feature in features], np.bool_)
        order = np.arange(most + 1)[:, np.newaxis]
        used = order <= counts
        return cls(
            None if np.array_equal(elements, np.arange(len(elements))) else elements,
            cuts,
            used,
            (starts + order)[used],
            missing,
            (starts + counts + 1)[missing],
        )

    def add(self, counts: Counts, numbers: Array) -> None:
        """Count rows of `(rows, columns)`.

        Raises:
            IndexError: there are fewer columns than elements are looked at.
        """
        wide = numbers.astype(np.float32) if numbers.dtype in (np.float16, np.bool_) else numbers
        if self.elements is not None:
            wide = wide[:, self.elements]
        features = len(self.missing)
        wide = wide[:, :features]
        if wide.shape[1] != features:
            raise IndexError(f"{wide.shape[1]} elements for {features} features")
        # Cuts are values of the tensor's own dtype, or next to one: nothing is lost in float32.
        cuts = self.cuts.astype(np.float32) if wide.dtype == np.float32 else self.cuts
        known, reached = (_by_sorting if wide.shape[1] < _FEW else _by_comparing)(wide, cuts)
        # What is at least one cut and not at least the next lies between them; behind the last one, `reached` is 0.
        steps = np.concatenate([known, reached, np.zeros_like(known)])
        counts[self.bins] += (steps[:-1] - steps[1:])[self.used]
        counts[self.missing_bins] += (len(wide) - known[0])[self.missing]


def _by_sorting(matrix: Array, cuts: Array) -> tuple[Counts, Counts]:
    """How many numbers of each column are no NaN, `(1, columns)`, and how many are at least each cut, `(cuts, columns)`."""
    ordered = np.sort(matrix, axis=0)  # NaN comes last
    known = _known(matrix)
    reached = np.zeros(cuts.shape, np.int64)
    for place, count in enumerate(known):
        column = ordered[:count, place]
        reached[:, place] = count - np.minimum(np.searchsorted(column, cuts[:, place]), count)
    return known[np.newaxis], reached


def _by_comparing(matrix: Array, cuts: Array) -> tuple[Counts, Counts]:
    """The same for many columns: a quarter of a microsecond for 64 numbers and 17 cuts, where a search takes two.

    Rows are laid side by side, so that NumPy's inner loops are long, and what they hold is added up as bytes, eight in a
    word: as many rows at a time as a byte can count.
    """
    rows, columns = matrix.shape
    folded = matrix[: rows - rows % _FOLD].reshape(-1, _FOLD * columns)
    rest = matrix[len(folded) * _FOLD :]
    known = _known(rest)[np.newaxis]
    reached = (rest[:, np.newaxis] >= cuts).sum(axis=0)
    wide_cuts = np.tile(cuts, _FOLD)
    held = np.empty((min(_BYTE, len(folded)), folded.shape[1]), np.bool_)
    sums = np.empty((len(cuts), folded.shape[1] // _WORD), np.uint64)
    for start in range(0, len(folded), _BYTE):
        part = folded[start : start + _BYTE]
        here = held[: len(part)]
        for place, cut in enumerate(wide_cuts):
            np.greater_equal(part, cut, out=here)
            np.add.reduce(here.view(np.uint64), axis=0, out=sums[place])
        reached += sums.view(np.uint8).reshape(len(cuts), _FOLD, columns).sum(axis=1, dtype=np.int64)
        known += _known(part).reshape(_FOLD, columns).sum(axis=0) if _has_nan(part) else len(part) * _FOLD
    return known, reached


def _known(matrix: Array) -> Counts:
    """How many of each column are no NaN, `(columns,)`."""
    return np.asarray((matrix == matrix).sum(axis=0))  # noqa: PLR0124 - only NaN differs from itself


def _has_nan(matrix: Array) -> bool:
    """Whether there may be one; adding up is quicker than looking at each."""
    with np.errstate(invalid="ignore", over="ignore"):
        return matrix.dtype.kind == "f" and bool(np.isnan(matrix.sum()))


class _Categories:
    """The bins of a feature whose values are texts, or indexes of labels."""

    def __init__(self, categories: Sequence[str], labels: Sequence[str]) -> None:
        self.bins = len(categories) + 1
        self._other = len(categories)
        self._texts = {name.encode(): bin_ for bin_, name in enumerate(categories)}
        self._indexes = np.array([self._texts.get(label.encode(), self._other) for label in labels], np.intp)

    def find(self, values: Array) -> NDArray[np.intp]:
        """The bin of each value, `(values,)`; those that are redacted are left out."""
        if values.dtype == object:
            return np.array([self._texts.get(text, self._other) for text in values if text is not None], np.intp)
        return np.asarray(self._indexes[values])


class Bins:
    """Counts samples in the bins of some features.

    Args:
        features: as in a baseline.
        labels: the version's, by class index; for a classification.
    """

    def __init__(self, features: Sequence[Feature], labels: Sequence[str] | None = None) -> None:
        self.size = sum(feature.bins for feature in features)
        self._elements: dict[Place, list[tuple[int, Feature]]] = {}
        self._others: dict[Place, list[tuple[int, Feature]]] = {}
        for at, feature in _placed(features):
            chosen = self._elements if feature.reading == "element" else self._others
            chosen.setdefault((feature.side, feature.tensor), []).append((at, feature))
        self._numbers = {place: _Numbers.of(group) for place, group in self._elements.items()}
        self._categories = {
            at: _Categories(feature.categories, labels or ())
            for group in self._others.values()
            for at, feature in group
            if feature.reading == "category"
        }
        self._single = {at: _Numbers.of([(at, f)]) for group in self._others.values() for at, f in group if f.cuts}

    @property
    def places(self) -> frozenset[Place]:
        """What is looked at."""
        return frozenset(self._elements) | frozenset(self._others)

    def count(self, columns: Mapping[Place, Array]) -> Counts:
        """Samples in each bin, `(size,)`.

        Args:
            columns: `(rows, ...)` each; what is not there is not counted. Texts are `bytes`, None where redacted; the
                predicted `label` is the index of its class.

        Raises:
            IndexError, TypeError, ValueError: a column does not suit its features.
        """
        counts = np.zeros(self.size, np.int64)
        for place, column in columns.items():
            if not len(column):
                continue
            if place in self._numbers:
                self._numbers[place].add(counts, column.reshape(len(column), -1))
            for at, feature in self._others.get(place, ()):
                if at in self._categories:
                    categories = self._categories[at]
                    bins_hit = categories.find(column.ravel())
                    counts[at : at + categories.bins] += np.bincount(bins_hit, minlength=categories.bins)
                elif feature.cuts:
                    read = texts if column.dtype == object else measure
                    self._single[at].add(counts, read(column, feature.reading)[:, np.newaxis])
        return counts


def _placed(features: Sequence[Feature]) -> Iterator[tuple[int, Feature]]:
    at = 0
    for feature in features:
        yield at, feature
        at += feature.bins
