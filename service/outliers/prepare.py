"""What happens to z before distances: onto the unit sphere, or standardised; and the covariance they are taken under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from hoverboard.contract.signature import Array
from hoverboard.outliers.features import Matrix, finite_rows

__all__ = ["TINY", "Preparation", "ledoit_wolf"]

TINY: Final = 1e-12
"""The norm below which a row of z counts as zero and stays where it is."""
_CONSTANT: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Preparation:
    """u = (z / max(|z|, TINY) - centre) / scale, without the division by the norm where `unit` is False.

    Attributes:
        unit: whether rows are divided by their norm.
        centre: float32 `(d,)`, the mean.
        scale: float32 `(d,)`, all ones where `unit`; else the standard deviation, and for a constant column its size.
    """

    unit: bool
    centre: Array
    scale: Array

    @classmethod
    def of(cls, z: Array, *, unit: bool) -> Preparation:
        """Fit on finite rows `(n, d)`, n >= 1."""
        rows = _sphere(z, unit=unit)
        centre = rows.mean(axis=0)
        scale = np.ones_like(centre)
        if not unit:
            size = np.maximum(np.abs(centre), TINY)
            spread = rows.std(axis=0)
            scale = np.where(spread > _CONSTANT * size, spread, np.maximum(size, 1.0))
        return cls(unit, centre.astype(np.float32), np.maximum(scale, TINY).astype(np.float32))

    def apply(self, z: Array) -> Matrix:
        """Rows `(n, d)` prepared, float64; NaN where they cannot be fitted on: see `finite_rows`."""
        prepared: Matrix = (_sphere(z, unit=self.unit) - self.centre) / self.scale
        return prepared


def _sphere(z: Array, *, unit: bool) -> Matrix:
    rows: Matrix = z.astype(np.float64)
    if not unit:
        return rows
    with np.errstate(invalid="ignore"):
        on_sphere: Matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)
    on_sphere[~finite_rows(z, unit=True)] = np.nan
    return on_sphere


def ledoit_wolf(rows: Matrix) -> Matrix:
    """The covariance `(d, d)` of centred rows `(n, d)`, shrunk to a multiple of the identity.

    (1 - r) S + r mu I with S = X'X / n, mu = tr S / d and r the intensity that minimises the expected squared error
    (Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004).
    """
    n, d = rows.shape
    sample: Matrix = rows.T @ rows / n
    mean = float(np.trace(sample)) / d
    squared = float((sample**2).sum())
    distance = squared - d * mean**2
    fourth = float(((rows**2).sum(axis=1) ** 2).sum())
    # The noise of the sample covariance can be no more than its whole distance from the target.
    noise = min((fourth / n - squared) / n, distance)
    intensity = noise / distance if distance > 0 else 1.0
    shrunk: Matrix = (1 - intensity) * sample
    shrunk.flat[:: d + 1] += intensity * mean
    return shrunk
