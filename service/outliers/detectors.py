"""Every candidate detector by name, in order of preference. All scores: higher is stranger, float32, finite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.outliers import gaussian, neighbours, outputs, tails
from hoverboard.outliers.features import Features, Labels, Needs, finite_rows

__all__ = ["BY_NAME", "CANDIDATES", "Candidate"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to score a sample.

    Attributes:
        name: as in manifests, records and metrics.
        needs: which of `Features` it reads.
        parameters: the class of what `fit` returns.
        fit: parameters from fitting rows, and the class of each, int64 `(n,)`, None where there are no classes;
            `unsuited` must have passed.
        score: float32 `(n,)`, never NaN.
    """

    name: str
    needs: Needs
    parameters: type[Any]
    fit: Callable[[Features, Labels | None], Any]
    score: Callable[[Features, Any], NDArray[np.float32]]
    _unsuited: Callable[[Features, Labels | None], str | None] | None = None

    def unsuited(self, features: Features, labels: Labels | None) -> str | None:
        """Why it cannot be fitted on these rows, in words; None where it can."""
        there = dict(features.parts()).get(self.needs)
        if there is None or there.shape[1] == 0:
            return f"there are no {_NAMES[self.needs]}"
        unit = self.needs == "z" and features.unit
        if not finite_rows(there, missing=self.needs == "inputs", unit=unit).any():
            too_large = ", or small enough to have a direction in float32" if unit else ""
            return f"no row of the {_NAMES[self.needs]} is free of NaN and Infinity{too_large}"
        return None if self._unsuited is None else self._unsuited(features, labels)


_NAMES: Final = {"z": "features", "logits": "logits", "inputs": "numeric inputs"}

# Each backend writes these formulas once more; it finds them by the class of the parameters, so that a detector is added here.
CANDIDATES: Final = (
    Candidate(
        "mahalanobis",
        "z",
        gaussian.GaussianParameters,
        gaussian.fit_mahalanobis,
        gaussian.mahalanobis_score,
        gaussian.without_covariance,
    ),
    Candidate(
        "relative_mahalanobis",
        "z",
        gaussian.RelativeParameters,
        gaussian.fit_relative,
        gaussian.relative_score,
        gaussian.without_relative,
    ),
    Candidate("tails", "inputs", tails.TailsParameters, tails.fit_tails, tails.tails_score),
    Candidate("gen", "logits", outputs.GenParameters, outputs.fit_gen, outputs.gen_score),
    Candidate(
        "energy", "logits", outputs.EnergyParameters, outputs.fit_energy, outputs.energy_score, outputs.without_energy
    ),
    Candidate("msp", "logits", outputs.MspParameters, outputs.fit_msp, outputs.msp_score),
    Candidate("knn", "z", neighbours.KnnParameters, neighbours.fit_knn, neighbours.knn_score),
)
"""In order of preference where nothing tells them apart: what separates well elsewhere first, what costs most last."""

BY_NAME: Final = {candidate.name: candidate for candidate in CANDIDATES}
