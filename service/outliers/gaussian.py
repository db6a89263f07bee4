"""Mahalanobis++ and relative Mahalanobis++ (arXiv 2505.18032): distances under one shared covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array
from hoverboard.outliers.features import (
    WIDEST,
    Features,
    Labels,
    Matrix,
    check_shapes,
    chunks,
    finite_rows,
    never_nan,
    row_squares,
)
from hoverboard.outliers.prepare import Preparation, ledoit_wolf

__all__ = [
    "GaussianParameters",
    "RelativeParameters",
    "fit_mahalanobis",
    "fit_relative",
    "mahalanobis_score",
    "relative_score",
    "without_covariance",
    "without_relative",
]

_RIDGE: Final = 1e-5  # of the mean variance: what float32 can still tell apart
_SMALLEST: Final = 1e-10  # mean variance on the unit sphere below which there is only rounding


@dataclass(frozen=True, slots=True)
class GaussianParameters:
    """min over c of |(u - centre) matrix - means_c|^2, with u = z / max(|z|, 1e-12) where `unit`, else z.

    Attributes:
        unit: whether rows are divided by their norm.
        centre: float32 `(d,)`.
        matrix: float32 `(d, d)`; whitens: the shared within-class covariance becomes the identity.
        means: float32 `(C, d)`, the class means, whitened.
    """

    unit: bool
    centre: Array
    matrix: Array
    means: Array

    def __post_init__(self) -> None:
        d = len(self.centre)
        check_shapes(centre=(self.centre, (d,)), matrix=(self.matrix, (d, d)), means=(self.means, (len(self.means), d)))


@dataclass(frozen=True, slots=True)
class RelativeParameters:
    """The distance to the nearest class less that to all data as one Gaussian.

    Attributes:
        classes: as for Mahalanobis++.
        background: the same with one mean, that of all rows, and the covariance around it.
    """

    classes: GaussianParameters
    background: GaussianParameters

    @property
    def unit(self) -> bool:
        """Whether rows are divided by their norm; both distances are taken of the same rows."""
        return self.classes.unit

    def __post_init__(self) -> None:
        check_shapes(background=(self.background.matrix, self.classes.matrix.shape))


def fit_mahalanobis(features: Features, labels: Labels | None) -> GaussianParameters:
    """Fit class means and the shared covariance on the rows of `finite_rows`, of which there is at least one.

    The covariance is shrunk (`ledoit_wolf`) and given a small ridge, so that it has an inverse whatever the rows.
    Without labels, or where no class has two rows, all rows are one class.
    """
    z = features.get("z")
    good = finite_rows(z, unit=features.unit)
    preparation = Preparation.of(z[good], unit=features.unit)
    rows = preparation.apply(z[good])
    classes = _classes(rows, None if labels is None else labels[good])
    # Not weighted by class: a rare class is as normal as a frequent one.
    means = np.stack([rows[classes == index].mean(axis=0) for index in range(classes.max() + 1)])
    matrix = _whitening(rows - means[classes], len(means))
    return GaussianParameters(
        preparation.unit,
        preparation.centre,
        (matrix / preparation.scale[:, None]).astype(np.float32),
        (means @ matrix).astype(np.float32),
    )


def mahalanobis_score(features: Features, parameters: GaussianParameters) -> NDArray[np.float32]:
    z = features.get("z")
    distances = np.empty(len(z))
    for part in chunks(len(z), max(parameters.means.shape)):
        distances[part] = _distances(z[part], parameters)
    return never_nan(distances)


def fit_relative(features: Features, labels: Labels | None) -> RelativeParameters:
    return RelativeParameters(fit_mahalanobis(features, labels), fit_mahalanobis(features, None))


def relative_score(features: Features, parameters: RelativeParameters) -> NDArray[np.float32]:
    z = features.get("z")
    distances = np.empty(len(z))
    with np.errstate(invalid="ignore"):
        for part in chunks(len(z), max(parameters.classes.means.shape)):
            distances[part] = _distances(z[part], parameters.classes) - _distances(z[part], parameters.background)
    return never_nan(distances)


def without_covariance(features: Features, labels: Labels | None) -> str | None:  # noqa: ARG001 - one signature for all
    """Why no covariance is fitted."""
    if features.width <= WIDEST:
        return None
    return f"{features.width:,} features are too many for a covariance (at most {WIDEST:,})"


def without_relative(features: Features, labels: Labels | None) -> str | None:
    """Why there is nothing relative here."""
    if (wide := without_covariance(features, labels)) is not None:
        return wide
    if labels is None or len(np.unique(labels)) < 2:
        return "with a single class the nearest class is all the data"
    return None


def _classes(rows: Matrix, labels: Labels | None) -> Labels:
    """Class of each row, numbered from 0 without gaps; all 0 where no variance within classes could be seen."""
    if labels is None:
        return np.zeros(len(rows), np.int64)
    names, classes = np.unique(labels, return_inverse=True)
    return classes.astype(np.int64) if len(names) < len(rows) else np.zeros(len(rows), np.int64)


def _whitening(residuals: Matrix, classes: int) -> Matrix:
    """W `(d, d)` with W W' the inverse of the residuals' covariance, each class having cost a degree of freedom."""
    n, d = residuals.shape
    covariance = ledoit_wolf(residuals) * (n / max(n - classes, 1))
    variance = max(float(np.trace(covariance)) / d, _SMALLEST)
    covariance.flat[:: d + 1] += _RIDGE * variance
    if np.trace(covariance) < d * _SMALLEST:
        covariance.flat[:: d + 1] += _SMALLEST
    whitening: Matrix = np.linalg.inv(np.linalg.cholesky(covariance)).T
    return whitening


def _distances(z: Array, parameters: GaussianParameters) -> Matrix:
    """Squared distance to the nearest mean `(n,)`; NaN where z is not finite, or has no direction."""
    raw = Preparation(parameters.unit, parameters.centre, np.ones_like(parameters.centre)).apply(z)
    with np.errstate(invalid="ignore", over="ignore"):
        rows = raw @ parameters.matrix.astype(np.float64)
        means = parameters.means.astype(np.float64)
        # |a - b|^2 as |a|^2 + |b|^2 - 2ab: one matrix product in place of rows x classes x width differences.
        nearest = (row_squares(means) - 2 * (rows @ means.T)).min(axis=1)
        distances: Matrix = np.maximum(row_squares(rows) + nearest, 0)
    return distances
