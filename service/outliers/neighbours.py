"""Distance to the k-th nearest of some fitted rows (Sun et al., Deep nearest neighbors, 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array
from hoverboard.outliers.features import Features, Labels, check_shapes, chunks, finite_rows, never_nan, row_squares
from hoverboard.outliers.prepare import Preparation

__all__ = ["KnnParameters", "fit_knn", "knn_score"]

_ROWS: Final = 5000
_NUMBERS: Final = 4_000_000  # of the bank, 8 MB
_SHARE: Final = 1000  # k is this part of the bank, as in the paper
_LARGEST: Final = 60_000.0  # what float16 holds
_NEAR: Final = 2.0**-8
"""Distances below this part of the rows' size are one: the bank's float16 and a graph's float32 tell them apart no better.

Rows that are the same, as those of a model of categories are, would else differ by nothing but rounding, which the graph
and the calibration do not share.
"""


@dataclass(frozen=True, slots=True)
class KnnParameters:
    """|u - its k-th nearest row of the bank|, u = (z / max(|z|, 1e-12) - centre) / scale; not divided by |z| unless `unit`.

    Attributes:
        unit: whether rows are divided by their norm.
        centre: float32 `(d,)`.
        scale: float32 `(d,)`.
        bank: float16 `(N, d)`, fitted rows, prepared in the same way.
        k: from 1 to N.
        floor: the least distance there is; 0 for a version published before there was one.
    """

    unit: bool
    centre: Array
    scale: Array
    bank: Array
    k: int
    floor: float = 0.0

    def __post_init__(self) -> None:
        d = self.bank.shape[-1]
        check_shapes(centre=(self.centre, (d,)), scale=(self.scale, (d,)), bank=(self.bank, (len(self.bank), d)))
        if not 1 <= self.k <= len(self.bank):
            raise ValueError(f"k is {self.k} of {len(self.bank)} rows")


def fit_knn(features: Features, labels: Labels | None) -> KnnParameters:  # noqa: ARG001 - one signature for all
    """Keep up to 5,000 of the rows of `finite_rows`, drawn at random but always the same ones."""
    z = features.get("z")
    z = z[finite_rows(z, unit=features.unit)]
    preparation = Preparation.of(z, unit=features.unit)
    most = max(1, min(_ROWS, _NUMBERS // z.shape[1]))
    if len(z) > most:
        z = z[np.sort(np.random.default_rng(0).choice(len(z), most, replace=False))]
    bank = np.clip(preparation.apply(z), -_LARGEST, _LARGEST).astype(np.float16)
    size = float(np.sqrt(row_squares(bank).mean()))
    return KnnParameters(
        preparation.unit,
        preparation.centre,
        preparation.scale,
        bank,
        k=max(1, round(len(bank) / _SHARE)),
        floor=max(_NEAR * size, 1e-6),
    )


def knn_score(features: Features, parameters: KnnParameters) -> NDArray[np.float32]:
    z = features.get("z")
    preparation = Preparation(parameters.unit, parameters.centre, parameters.scale)
    bank = parameters.bank.astype(np.float64)
    squares = row_squares(bank)
    distances = np.empty(len(z))
    with np.errstate(invalid="ignore", over="ignore"):
        for part in chunks(len(z), max(bank.shape)):
            rows = preparation.apply(z[part])
            squared_distances = row_squares(rows)[:, np.newaxis] - 2 * (rows @ bank.T) + squares
            nearest = np.partition(squared_distances, parameters.k - 1, axis=1)[:, parameters.k - 1]
            distances[part] = np.maximum(np.sqrt(np.maximum(nearest, 0)), parameters.floor)
    return never_nan(distances)
