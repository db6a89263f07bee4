"""Drift: a version's recorded traffic in windows of so many rows, beside the baseline that it was published with.

A feature has drifted in a window where both hold: the G-test says that the difference is not chance, after Benjamini and
Hochberg over all features of the window, and the Jensen-Shannon divergence says that it is large enough to care about. A
fixed threshold on a divergence alone, such as on the population stability index, would depend on how many rows there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hoverboard.contract.signature import Array, Signature
from hoverboard.journal.batch_forms import answered, form, joined
from hoverboard.journal.columns import Column, float_dtype
from hoverboard.journal.records import BatchRecord
from hoverboard.versions.baseline import Baseline
from hoverboard.versions.binning import Bins, Place
from hoverboard.watch.statistics import Matrix, benjamini_hochberg, g_test, js_divergence

__all__ = ["FALSE_DISCOVERIES", "LEAST_JS", "Counted", "Finding", "Reference", "Window", "count"]

FALSE_DISCOVERIES: Final = 0.05
LEAST_JS: Final = 0.05
"""Bits. A normal distribution that moves by half a standard deviation is about as much."""

_PREDICTION: Final = {"label": "label_index", "confidence": "confidence", "value": "value", "p_value": "p_value"}
"""What a baseline calls a number of each prediction -> what records call it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One feature of one window.

    Attributes:
        feature: its name.
        n: samples that it could be read of, by their effective number where they are weighted.
        p_value: of the G-test.
        q_value: that, adjusted for all features of the window.
        js: Jensen-Shannon divergence in bits.
        counts: weights in its bins.
    """

    feature: str
    n: float
    p_value: float
    q_value: float
    js: float
    counts: Array

    @property
    def drifted(self) -> bool:
        """Whether the feature differs, and by enough."""
        return self.q_value <= FALSE_DISCOVERIES and self.js >= LEAST_JS


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Rows that are being counted.

    Attributes:
        number: counts a version's windows from 1.
        counts: weights in the bins of all features, float64 `(size,)`.
        rows: recorded samples.
        weight, weight_squared: sums over them of 1 / incl_prob and of its square.
        first_us, last_us: times of the first and the last batch; None without.
    """

    number: int
    counts: Matrix
    rows: int = 0
    weight: float = 0.0
    weight_squared: float = 0.0
    first_us: int | None = None
    last_us: int | None = None

    def next(self) -> Window:
        """The empty one after this."""
        return Window(self.number + 1, np.zeros_like(self.counts))


@dataclass(frozen=True, slots=True)
class Counted:
    """What some batches make of a window.

    Attributes:
        after: the window that is being filled now.
        full: those that are full, with what each says.
    """

    after: Window
    full: tuple[tuple[Window, list[Finding]], ...]


class Reference:
    """A version's baseline, ready to be counted and compared with.

    Args:
        baseline: as it was published.
        signature: of the version.
    """

    def __init__(self, baseline: Baseline, signature: Signature) -> None:
        self.baseline = baseline
        self._bins = Bins(baseline.features, signature.labels)
        # By name, since a record has the columns of what was not redacted, in the signature's order.
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]
        # Where a feature's bins lie in the counts of all; one place more, which is always 0, stands for no bin.
        sizes = [feature.bins for feature in baseline.features]
        starts = np.cumsum([0, *sizes])
        self._layout = np.full((len(sizes), max(sizes, default=0)), baseline.size, np.intp)
        for row, size in enumerate(sizes):
            self._layout[row, :size] = np.arange(starts[row], starts[row] + size)
        self._sizes = sizes
        self._counts = self._by_feature(baseline.counts().astype(np.float64))

    @property
    def empty(self) -> Window:
        """The first window."""
        return Window(1, np.zeros(self._bins.size))

    def add(self, window: Window, records: Sequence[BatchRecord]) -> Window:
        """A window with the rows of some batches added; a batch that its version does not suit counts for nothing."""
        # A copy, since the transaction may be rolled back, and the window counted again.
        counts = window.counts.copy()
        rows, weight, squared = 0, 0.0, 0.0
        times = [] if window.first_us is None or window.last_us is None else [window.first_us, window.last_us]
        for group, weights, added in self._sound(_alike(records)):
            counts += added
            rows += len(weights)
            weight += float(weights.sum())
            squared += float((weights**2).sum())
            times += [record.started_us for record in group]
        return Window(
            window.number,
            counts,
            window.rows + rows,
            window.weight + weight,
            window.weight_squared + squared,
            min(times, default=None),
            max(times, default=None),
        )

    def judge(self, windows: Sequence[Window]) -> list[list[Finding]]:
        """What windows say of each feature."""
        if not windows:
            return []
        features = len(self._sizes)
        # All windows and features in one test: NumPy's cost is by the call.
        weights = np.concatenate([self._by_feature(window.counts) for window in windows])
        counts = np.tile(self._counts, (len(windows), 1))
        # Weighted counts are worth fewer samples than they add up to (Kish 1965).
        worth = np.repeat([each.weight / each.weight_squared if each.rows else 1.0 for each in windows], features)
        effective = weights * worth[:, np.newaxis]
        p_values = g_test(effective, counts).reshape(-1, features)
        divergences = js_divergence(weights, counts).reshape(-1, features)
        totals = effective.sum(axis=1).reshape(-1, features)
        return [
            self._findings(*each)
            for each in zip(weights.reshape(-1, *self._layout.shape), totals, p_values, divergences, strict=True)
        ]

    def _findings(self, weights: Matrix, totals: Matrix, p_values: Matrix, divergences: Matrix) -> list[Finding]:
        numbers = (totals, p_values, benjamini_hochberg(p_values), divergences)
        features = zip(self.baseline.features, *(each.tolist() for each in numbers), weights, self._sizes, strict=True)
        return [Finding(feature.name, n, p, q, js, counts[:size]) for feature, n, p, q, js, counts, size in features]

    def _by_feature(self, counts: Matrix) -> Matrix:
        """`(features, most bins)`."""
        return np.asarray(np.append(counts, 0.0)[self._layout])

    def _sound(self, groups: Iterable[Sequence[BatchRecord]]) -> Iterator[tuple[Sequence[BatchRecord], Array, Matrix]]:
        """Groups with what they add; of one that cannot be read each record by itself, but for the offenders."""
        for group in groups:
            try:
                weights, added = self._weighed(group)
            except (IndexError, TypeError, ValueError):
                # One broken record must not cost its neighbours: each by itself, and the offender counts for nothing.
                if len(group) > 1:
                    yield from self._sound([[record] for record in group])
            else:
                yield group, weights, added

    def _weighed(self, group: Sequence[BatchRecord]) -> tuple[Array, Matrix]:
        """The weights of the rows of records that are alike, and what they add to each bin."""
        columns = dict(self._columns(group))
        weights = _weights(group)
        added = np.zeros(self._bins.size)
        # There are few different weights: a policy's share, and 1 for what is always kept.
        for weight in [1.0] if group[0].incl_prob is None else np.unique(weights).tolist():
            chosen = weights == weight
            part = columns if chosen.all() else {place: column[chosen] for place, column in columns.items()}
            added += weight * self._bins.count(self._answered(group, chosen, part))
        return weights, added

    def _columns(self, group: Sequence[BatchRecord]) -> Iterator[tuple[Place, Array]]:
        first = group[0]
        if first.policy != "hashed":
            recorded = [name for name in self._inputs if name not in first.redacted]
            yield from self._tensors("input", recorded, [record.columns for record in group])
        yield from self._tensors("output", self._outputs, [record.outputs for record in group])
        for name, field in _PREDICTION.items():
            data = getattr(first, field)
            if ("prediction", name) in self._bins.places and data is not None:
                dtype = np.int32 if name == "label" else float_dtype(data, first.rows)
                yield ("prediction", name), np.frombuffer(b"".join([getattr(r, field) for r in group]), dtype)

    def _tensors(
        self, side: Any, names: Sequence[str], batches: Sequence[Sequence[Column]]
    ) -> Iterator[tuple[Place, Array]]:
        if any(len(columns) != len(names) for columns in batches):
            raise ValueError(f"{side}s: not as many as its version has")
        for place, name in enumerate(names):
            if (side, name) in self._bins.places:
                yield (side, name), _joined([columns[place] for columns in batches])

    def _answered(
        self, group: Sequence[BatchRecord], chosen: Array, columns: Mapping[Place, Array]
    ) -> Mapping[Place, Array]:
        """The same without what was answered with an error: there is no output then, nor a prediction."""
        ok = answered(group)
        if ok is None:
            return columns
        return {place: column if place[0] == "input" else column[ok[chosen]] for place, column in columns.items()}


def count(reference: Reference, before: Window, records: Iterable[BatchRecord], size: int) -> Counted:
    """Count batches, in order, from a window on.

    A window is full with the batch that brings it to `size` rows, so that it does not matter in which portions they come.
    """
    window = before
    full: list[Window] = []
    some: list[BatchRecord] = []
    waiting = 0
    for record in records:
        # A window of nothing but what was kept for being strange would always have drifted.
        if not _representative(record):
            continue
        some.append(record)
        waiting += record.rows
        # Added together and not batch by batch: binning costs by the call.
        if window.rows + waiting >= size:
            window = reference.add(window, some)
            some, waiting = [], 0
            if window.rows >= size:
                full.append(window)
                window = window.next()
    after = reference.add(window, some) if some else window
    return Counted(after, tuple(zip(full, reference.judge(full), strict=True)))


def _representative(record: BatchRecord) -> bool:
    """Whether its rows stand for all that ran: not where ordinary ones were shed, and only the strange were kept."""
    return record.rows > 0 and not (record.why is not None and record.incl_prob is None)


def _alike(records: Sequence[BatchRecord]) -> list[list[BatchRecord]]:
    """Records whose arrays can be joined."""
    groups: dict[Any, list[BatchRecord]] = {}
    for record in records:
        groups.setdefault(form(record), []).append(record)
    return list(groups.values())


def _joined(columns: Sequence[Column]) -> Array:
    _, (_, *shape), _ = columns[0]
    return joined(columns).reshape(sum(each[1][0] for each in columns), *shape)


def _weights(group: Sequence[BatchRecord]) -> Array:
    """1 / incl_prob, float64 `(rows,)`."""
    rows = sum(record.rows for record in group)
    if group[0].incl_prob is None:
        return np.ones(rows)
    shares = np.frombuffer(b"".join([record.incl_prob or b"" for record in group]), np.float32)
    if len(shares) != rows or not ((shares > 0) & (shares <= 1)).all():
        # A share of 0 would weigh without bound: one damaged record must not be all that the window holds.
        raise ValueError("incl_prob: no shares, or not one for each row")
    return 1 / shares.astype(np.float64)
