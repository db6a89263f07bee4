"""Which outliers are alike: each joins the nearest leader within a radius, else becomes a leader itself.

Leaders never move, so that what belongs together does not depend on what came in between, and a leader's number can stand
for its group for good. This is leader clustering (Hartigan 1975, chapter 3) with the nearest leader in place of the first.
"""

from __future__ import annotations

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

_QUANTILE: Final = 0.99
_ASKED: Final = 1000
_WIDEST: Final = 0.5
_CELLS: Final = 1 << 18

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Whitening:
    """u = (z / max(|z|, 1e-12) - centre) matrix; z is not divided by its norm unless `unit`.

    Attributes:
        unit: as above.
        centre: float64 `(d,)`.
        matrix: float64 `(d, d)`, or None for the identity.
    """

    unit: bool
    centre: Matrix
    matrix: Matrix | None

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
    for parameters in found.values():
        one = parameters.classes if isinstance(parameters, RelativeParameters) else parameters
        if isinstance(one, GaussianParameters) and len(one.centre) == width:
            return Whitening(one.unit, one.centre.astype(np.float64), one.matrix.astype(np.float64))
    # A detector of neighbours knows no covariance, but the scale of each feature.
    for one in found.values():
        if isinstance(one, KnnParameters) and len(one.centre) == width:
            return Whitening(one.unit, one.centre.astype(np.float64), np.diag(1 / one.scale.astype(np.float64)))
    return Whitening(width > 1, np.zeros(width), None)


def calibrated_radius(kept: CalibrationFeatures, whitening: Whitening) -> float | None:
    """The 99% quantile of the distances of a version's calibration samples to the nearest other of their class, whitened.

    None where there are none, or where those of a class are all the same.
    """
    rows, classes = whitening.apply(kept.z), kept.classes
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    nearest = _nearest(rows[finite], classes[finite])
    radius = float(np.quantile(nearest, _QUANTILE)) if len(nearest) else 0.0
    return radius if radius > 0 else None


def published_radius(package: OutlierPackage, whitening: Whitening) -> float | None:
    """The same of the rows that its detector of neighbours keeps, whatever their class: for a version without those samples."""
    for each in package.detectors.values():
        if isinstance(bank := each.parameters, KnnParameters) and len(bank.bank) > 1:
            rows = bank.bank.astype(np.float64) * bank.scale + bank.centre - whitening.centre
            rows = rows if whitening.matrix is None else rows @ whitening.matrix
            radius = float(np.quantile(_nearest(rows), _QUANTILE))
            return radius if radius > 0 else None
    return None


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


def _nearest(rows: Matrix, classes: Array | None = None) -> Matrix:
    """Distances of rows to their nearest others, of their class where there are any; of many rows, 1,000 are asked.

    Those are spread evenly over the rows. One that is alone in its class has no answer, and is left out.
    """
    asked = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _ASKED)).astype(np.int64))
    nearest = np.empty(len(asked))
    step = max(1, _CELLS // max(len(rows), 1))
    for first in range(0, len(asked), step):
        part = asked[first : first + step]
        squares = _squares(rows[part], rows)
        squares[np.arange(len(part)), part] = np.inf
        if classes is not None:
            squares[classes[part][:, None] != classes] = np.inf
        nearest[first : first + step] = np.sqrt(squares.min(axis=1))
    return nearest[np.isfinite(nearest)]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Where rows belong.

    Attributes:
        places: int64 `(n,)`: which leader each row joins, counted over the old ones and then the new ones; -1 for none.
        distances: float64 `(n,)`, to that leader; 0 for a new leader's own row.
        founders: int64 `(new,)`: the rows that became leaders, in order.
    """

    places: Places
    distances: Matrix
    founders: Places


def group(rows: Matrix, leaders: Matrix, radius: float, room: int) -> Grouping:
    """Let each row, in order, join the nearest leader within the radius, or else become one.

    Cut into several calls, with the leaders that came of each given to the next, the answer is the same.

    Args:
        rows: whitened, `(n, d)`; one that is not finite joins nothing.
        leaders: whitened, `(k, d)`.
        radius: of a group.
        room: new leaders there may be; rows beyond it that are near no leader join nothing.
    """
    count, known = len(rows), len(leaders)
    places = np.full(count, -1)
    nearest = np.full(count, np.inf)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
    step = max(1, _CELLS // max(known, 1))
    halves = np.einsum("ij,ij->i", leaders, leaders) / 2
    for first in range(0, count if known else 0, step):
        part = slice(first, first + step)
        # |a - b|^2 = |a|^2 - 2 (ab - |b|^2 / 2): the nearest leader has the largest of what stands in brackets.
        nearness: Matrix = rows[part] @ leaders.T
        nearness -= halves
        places[part] = nearness.argmax(axis=1)
        nearest[part] = np.square(rows[part] - leaders[places[part]]).sum(axis=1)
    nearest[~finite] = np.inf
    limit = radius * radius
    founders: list[int] = []
    apart = np.flatnonzero(finite & (nearest > limit))
    while len(apart) and len(founders) < room:
        founder = int(apart[0])
        # Rows that came before it have found their place already: a later leader takes nothing from them.
        later = np.arange(founder, count)
        squares = np.square(rows[later] - rows[founder]).sum(axis=1)
        closer = later[squares < nearest[later]]
        nearest[closer] = squares[closer - founder]
        places[closer] = known + len(founders)
        founders.append(founder)
        apart = apart[(apart > founder) & (nearest[apart] > limit)]
    places[~(nearest <= limit)] = -1
    return Grouping(places, np.sqrt(nearest), np.array(founders, np.int64))


def _squares(rows: Matrix, others: Matrix) -> Matrix:
    """Squared distances `(n, m)`."""
    # |a - b|^2 as |a|^2 + |b|^2 - 2ab: one matrix product in place of rows x leaders x width differences.
    squares: Matrix = np.einsum("ij,ij->i", rows, rows)[:, None] + np.einsum("ij,ij->i", others, others)
    squares -= 2 * (rows @ others.T)
    np.maximum(squares, 0, out=squares)
    return squares
