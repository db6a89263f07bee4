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


def _suits(features: Features, labels: Labels | None) -> str | None:  # noqa: ARG001 - one signature for all
    return None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to score a sample.

    Attributes:
        name: as in manifests, records and metrics.
        words: what it looks at, for people.
        needs: which of `Features` it reads.
        parameters: the class of what `fit` returns.
    """

    name: str
    words: str
    needs: Needs
    parameters: type[Any]
    _fit: Callable[[Features, Labels | None], Any]
    _score: Callable[[Features, Any], NDArray[np.float32]]
    _unsuited: Callable[[Features, Labels | None], str | None] = _suits

    def unsuited(self, features: Features, labels: Labels | None) -> str | None:
        """Why it cannot be fitted on these rows, in words; None where it can."""
        there = dict(features.parts()).get(self.needs)
        if there is None or there.shape[1] == 0:
            return f"there are no {_NAMES[self.needs]}"
        unit = self.needs == "z" and features.unit
        if not finite_rows(there, missing=self.needs == "inputs", unit=unit).any():
            too_large = ", or small enough to have a direction in float32" if unit else ""
            return f"no row of the {_NAMES[self.needs]} is free of NaN and Infinity{too_large}"
        return self._unsuited(features, labels)

    def fit(self, features: Features, labels: Labels | None) -> Any:
        """Parameters from fitting rows; `unsuited` must have passed.

        Args:
            features: n rows.
            labels: int64 `(n,)`, the class of each; None where there are no classes.
        """
        return self._fit(features, labels)

    def score(self, features: Features, parameters: Any) -> NDArray[np.float32]:
        """float32 `(n,)`, never NaN."""
        return self._score(features, parameters)


_NAMES: Final = {"z": "features", "logits": "logits", "inputs": "numeric inputs"}

# Each backend writes these formulas once more; it finds them by the class of the parameters, so that a detector is added here.
CANDIDATES: Final = (
    Candidate(
        "mahalanobis",
        "distance of the features' direction to the nearest class, in within-class standard deviations (Mahalanobis++)",
        "z",
        gaussian.GaussianParameters,
        gaussian.fit_mahalanobis,
        gaussian.mahalanobis_score,
        gaussian.without_covariance,
    ),
    Candidate(
        "relative_mahalanobis",
        "that distance less the one to all classes taken as a whole (relative Mahalanobis++)",
        "z",
        gaussian.RelativeParameters,
        gaussian.fit_relative,
        gaussian.relative_score,
        gaussian.without_relative,
    ),
    Candidate(
        "tails",
        "how far out in the tails of what was seen each numeric input lies, summed",
        "inputs",
        tails.TailsParameters,
        tails.fit_tails,
        tails.tails_score,
    ),
    Candidate(
        "gen",
        "generalised entropy of the predicted probabilities",
        "logits",
        outputs.GenParameters,
        outputs.fit_gen,
        outputs.gen_score,
    ),
    Candidate(
        "energy",
        "free energy of the logits",
        "logits",
        outputs.EnergyParameters,
        outputs.fit_energy,
        outputs.energy_score,
        outputs.without_energy,
    ),
    Candidate(
        "msp",
        "one minus the largest predicted probability",
        "logits",
        outputs.MspParameters,
        outputs.fit_msp,
        outputs.msp_score,
    ),
    Candidate(
        "knn",
        "distance of the features' direction to the k-th nearest sample seen",
        "z",
        neighbours.KnnParameters,
        neighbours.fit_knn,
        neighbours.knn_score,
    ),
)
"""In order of preference where nothing tells them apart: what separates well elsewhere first, what costs most last."""

BY_NAME: Final = {candidate.name: candidate for candidate in CANDIDATES}
