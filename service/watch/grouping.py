"""Which outliers are alike: each joins the nearest leader within a radius, else becomes a leader itself.

Leaders never move, so that what belongs together does not depend on what came in between, and a leader's number can stand
for its group for good. This is leader clustering (Hartigan 1975, chapter 3) with the nearest leader in place of the first.

A thing that is wider than the radius gets several leaders. Rows that lie within the radius of two leaders link them: the space
between them is not empty, and whoever counts enough such rows may take both for one thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array
from hoverboard.outliers import CalibrationFeatures, OutlierPackage
from hoverboard.outliers.features import Matrix
from hoverboard.outliers.gaussian import GaussianParameters, RelativeParameters
from hoverboard.outliers.neighbours import KnnParameters
from hoverboard.outliers.prepare import TINY

__all__ = [
    "LEAST_FOR_RADIUS",
    "Grouping",
    "Whitening",
    "calibrated_radius",
    "estimated_radius",
    "group",
    "published_radius",
    "whitening_of",
]

LEAST_FOR_RADIUS: Final = 32
"""Outliers that a radius is estimated from, where the version's own calibration tells none."""

# Quantiles and not extremes: one odd calibration sample must not decide for all that comes.
_QUANTILE: Final = 0.99
_BETWEEN: Final = 0.05
_ASKED: Final = 1000
_WIDEST: Final = 0.5
# Of a product of rows and leaders that is made at once, and of its pairs that are looked at closely: 1 MiB of single precision,
# which stays in the processor's cache.
_CELLS: Final = 1 << 18
_PAIRS: Final = 1 << 14
_ROUNDING: Final = 1e-5
_WIDER: Final = 0.7

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Whitening:
    """u = (z / max(|z|, 1e-12) - centre) matrix; z is not divided by its norm unless `unit`.

    Attributes:
        unit: as above.
        centre: float64 `(d,)`.
        matrix: float64 `(d, d)`, or None for the identity.
        means: float64 `(C, d)`, of the classes, whitened; None where nothing tells them.
        usual: the 99% quantile of the distances of calibration samples to the nearest of these; None without.
    """

    unit: bool
    centre: Matrix
    matrix: Matrix | None
    means: Matrix | None = None
    usual: float | None = None

    def stretch(self, whitened: Matrix) -> Matrix:
        """What the radius is multiplied by around rows `(n, d)`, float64 `(n,)`, at least 1.

        What is k times as strange as the strangest usual samples varies more than those do, too: 0.7 k times is what planted
        novelties came out best with (`benchmarks/novelties.py`).
        """
        if self.means is None or not self.usual:
            return np.ones(len(whitened))
        nearest = np.sqrt(_squares(whitened, self.means).min(axis=1))
        wider: Matrix = np.maximum(_WIDER * nearest / self.usual, 1.0)
        return wider

    def apply(self, z: Array) -> Matrix:
        """Rows `(n, d)` as float64 `(n, d)`; NaN where z is not finite, or where it has no direction."""
        rows = z.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            if self.unit:
                norms = np.linalg.norm(rows, axis=1, keepdims=True)
                rows = np.where(norms > TINY, rows / np.maximum(norms, TINY), np.nan)
            rows = rows - self.centre
            whitened: Matrix = rows if self.matrix is None else rows @ self.matrix
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(whitened).all(axis=1))
        whitened[~finite] = np.nan
        return whitened


def whitening_of(package: OutlierPackage | None, width: int) -> Whitening:
    """Under the within-class covariance that a version was published with; without one, unit z as it is.

    Args:
        package: None where the version's own cannot be read.
        width: d, of z.
    """
    found = {} if package is None else {name: each.parameters for name, each in package.detectors.items()}
    # The background's covariance is no measure of one class: of a relative detector only the part of the classes is taken.
    for name, parameters in found.items():
        one = parameters.classes if isinstance(parameters, RelativeParameters) else parameters
        if isinstance(one, GaussianParameters) and len(one.centre) == width:
            centre, matrix, means = (each.astype(np.float64) for each in (one.centre, one.matrix, one.means))
            usual = None
            if package is not None and one is parameters:  # whose score is that distance, squared
                usual = float(np.sqrt(np.quantile(package.detectors[name].calibration, _QUANTILE)))
            return Whitening(one.unit, centre, matrix, means, usual)
    # A detector of neighbours knows no covariance, but the scale of each feature.
    for one in found.values():
        if isinstance(one, KnnParameters) and len(one.centre) == width:
            return Whitening(one.unit, one.centre.astype(np.float64), np.diag(1 / one.scale.astype(np.float64)))
    return Whitening(width > 1, np.zeros(width), None)


def calibrated_radius(kept: CalibrationFeatures, whitening: Whitening) -> float | None:
    """How far apart a version's calibration samples of one kind lie, whitened.

    The 99% quantile of the distances to the nearest other of the class. Not more than the 5% quantile of the distances to the
    nearest of another class: beyond that, two things would often be one. But no less than the median of the former, should the
    classes lie in each other.

    None where there are none, or where those of a class are all the same.
    """
    return _radius(whitening.apply(kept.z), kept.classes)


def published_radius(package: OutlierPackage, whitening: Whitening) -> float | None:
    """The same of the rows that its detector of neighbours keeps, for a version without those samples.

    Their classes are not kept: each is taken to be of the class whose mean is nearest.
    """
    for each in package.detectors.values():
        if isinstance(bank := each.parameters, KnnParameters) and len(bank.bank) > 1:
            rows = bank.bank.astype(np.float64) * bank.scale + bank.centre - whitening.centre
            rows = rows if whitening.matrix is None else rows @ whitening.matrix
            means = whitening.means
            classes = np.zeros(len(rows), np.int64) if means is None else _squares(rows, means).argmin(axis=1)
            return _radius(rows, classes)
    return None


def _radius(rows: Matrix, classes: Array) -> float | None:
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    rows, classes = rows[finite], classes[finite]
    own = _nearest(rows, lambda part: classes[part][:, None] != classes)
    if not len(own):
        return None
    radius = float(np.quantile(own, _QUANTILE))
    others = _nearest(rows, lambda part: classes[part][:, None] == classes)
    if len(others):
        radius = max(float(np.median(own)), min(radius, float(np.quantile(others, _BETWEEN))))
    return radius if radius > 0 else None


def estimated_radius(z: Array, whitening: Whitening) -> float:
    """Twice the median distance of outliers, z `(n, d)`, to their nearest others; 0 of fewer than two.

    Without a calibration there are only outliers to go by. Some of those stand alone, so the median is taken and not the tail;
    and twice, since a few rows of a group lie closer to each other than the group is wide. Where only directions count it is at
    most 0.5, an angle of 29 degrees: outliers that are all on their own would else be one group.
    """
    rows = whitening.apply(z)
    rows = rows[np.asarray(np.isfinite(rows).all(axis=1))]
    radius = 2 * float(np.median(_nearest(rows))) if len(rows) > 1 else 0.0
    return min(radius, _WIDEST) if whitening.unit and whitening.matrix is None else radius


def _nearest(rows: Matrix, hidden: Callable[[Places], Array] | None = None) -> Matrix:
    """Distances of rows to their nearest others; of many rows, 1,000 are asked, spread evenly over them.

    Args:
        rows: `(n, d)`.
        hidden: which others a part of the rows does not see, bool `(part, n)`. One that sees none is left out.
    """
    asked = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _ASKED)).astype(np.int64))
    nearest = np.empty(len(asked))
    step = max(1, _CELLS // max(len(rows), 1))
    for first in range(0, len(asked), step):
        part = asked[first : first + step]
        squares = _squares(rows[part], rows)
        squares[np.arange(len(part)), part] = np.inf
        if hidden is not None:
            squares[hidden(part)] = np.inf
        nearest[first : first + step] = np.sqrt(squares.min(axis=1))
    return nearest[np.isfinite(nearest)]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Where rows belong.

    Attributes:
        places: int64 `(n,)`: which leader each row joins, counted over the old ones and then the new ones; -1 for none.
        distances: float64 `(n,)`, to that leader; 0 for a new leader's own row.
        founders: int64 `(new,)`: the rows that became leaders, in order.
        links: int64 `(m, 2)`: the leader that a row joined, and another one within whose radius it lies; places as above.
        between: int64 `(m,)`: which row that is.
    """

    places: Places
    distances: Matrix
    founders: Places
    links: Places
    between: Places


def group(
    rows: Matrix, leaders: Matrix, radius: float, room: int, stretch: Callable[[Matrix], Matrix] | None = None
) -> Grouping:
    """Let each row, in order, join the nearest leader within the radius, or else become one.

    Cut into several calls, with the leaders that came of each given to the next, the answer is the same.

    Args:
        rows: whitened, `(n, d)`; one that is not finite joins nothing.
        leaders: whitened, `(k, d)`.
        radius: of a group.
        room: new leaders there may be; rows beyond it that are near no leader join nothing.
        stretch: what the radius of a leader is multiplied by, see `Whitening.stretch`.
    """
    count, known = len(rows), len(leaders)
    limits, known_limits = (
        np.square(radius * (np.ones(len(each)) if stretch is None else stretch(each))) for each in (rows, leaders)
    )
    places = np.full(count, -1)
    nearest = np.full(count, np.inf)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
    near = _within(rows, finite, leaders, known_limits)
    # The nearest leader of each row; of two that are as near, the older one, whatever order they were found in.
    order = np.lexsort((near.leaders, near.squares, near.rows))
    first = order[np.unique(near.rows[order], return_index=True)[1]]
    places[near.rows[first]], nearest[near.rows[first]] = near.leaders[first], near.squares[first]
    every = [near]
    founders: list[int] = []
    apart = np.flatnonzero(finite & (places < 0))
    while len(apart) and len(founders) < room:
        founder = int(apart[0])
        # Rows that came before it have found their place already: a later leader takes nothing from them.
        squares = np.square(rows[founder:] - rows[founder]).sum(axis=1)
        within = np.flatnonzero(squares <= limits[founder])
        later = within + founder
        every.append(_Near(later, np.full(len(later), known + len(founders)), squares[within]))
        closer = every[-1].squares < nearest[later]
        nearest[later[closer]] = squares[within[closer]]
        places[later[closer]] = known + len(founders)
        founders.append(founder)
        apart = apart[(apart > founder) & (places[apart] < 0)]
    between, others = np.concatenate([each.rows for each in every]), np.concatenate([each.leaders for each in every])
    two = places[between] != others
    links = np.stack([places[between], others], axis=1)[two]
    return Grouping(places, np.sqrt(nearest), np.array(founders, np.int64), links, between[two])


@dataclass(frozen=True, slots=True)
class _Near:
    """Rows and leaders within the radius of each other: both by place, int64 `(m,)`, and squared distances float64 `(m,)`."""

    rows: Places
    leaders: Places
    squares: Matrix


def _within(rows: Matrix, finite: NDArray[np.bool_], leaders: Matrix, limits: Matrix) -> _Near:
    """Which leaders each row is near to: at most so far, squared, from each of them."""
    found = [_Near(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    # A product in single precision finds who may be near, with room for its rounding; what decides is in double precision, and
    # does not depend on how many rows are asked at once.
    quick, others = rows.astype(np.float32), leaders.astype(np.float32).T
    sizes, halves = np.einsum("ij,ij->i", rows, rows) / 2, np.einsum("ij,ij->i", leaders, leaders) / 2
    offsets = (halves - limits / 2).astype(np.float32)
    step = max(1, _CELLS // max(len(leaders), 1))
    for first in range(0, len(rows) if len(leaders) else 0, step):
        part = slice(first, first + step)
        # |a - b|^2 <= l as ab - |b|^2 / 2 + l / 2 >= |a|^2 / 2.
        nearness = quick[part] @ others
        nearness -= offsets
        least = sizes[part] - _ROUNDING * (sizes[part] + halves.max())
        near, which = np.nonzero(nearness >= least.astype(np.float32)[:, None])
        for some in np.array_split(np.arange(len(near)), len(near) // _PAIRS + 1):
            row, leader = near[some] + first, which[some]
            squares = np.square(rows[row] - leaders[leader]).sum(axis=1)
            within = finite[row] & (squares <= limits[leader])
            found.append(_Near(row[within], leader[within], squares[within]))
    return _Near(*(np.concatenate(each) for each in zip(*((n.rows, n.leaders, n.squares) for n in found), strict=True)))


def _squares(rows: Matrix, others: Matrix) -> Matrix:
    """Squared distances `(n, m)`."""
    # |a - b|^2 as |a|^2 + |b|^2 - 2ab: one matrix product in place of rows x leaders x width differences.
    squares: Matrix = np.einsum("ij,ij->i", rows, rows)[:, None] + np.einsum("ij,ij->i", others, others)
    squares -= 2 * (rows @ others.T)
    np.maximum(squares, 0, out=squares)
    return squares
