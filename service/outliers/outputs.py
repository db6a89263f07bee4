"""Scores from the logits alone: max-softmax, energy and generalised entropy. Nothing is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array
from hoverboard.outliers.features import Features, Labels, Matrix, never_nan

__all__ = [
    "EnergyParameters",
    "GenParameters",
    "MspParameters",
    "energy_score",
    "fit_energy",
    "fit_gen",
    "fit_msp",
    "gen_score",
    "msp_score",
    "without_energy",
]

_GAMMA: Final = 0.1
_TOP: Final = 100


@dataclass(frozen=True, slots=True)
class MspParameters:
    """1 - max p (Hendrycks and Gimpel, 2017). It has none."""


@dataclass(frozen=True, slots=True)
class EnergyParameters:
    """-T logsumexp(l / T) (Liu et al., 2020).

    Attributes:
        temperature: T.
    """

    temperature: float


@dataclass(frozen=True, slots=True)
class GenParameters:
    """Sum over the `top` largest p of p^gamma (1 - p)^gamma (Liu, Lochman and Zach, 2023).

    Attributes:
        gamma: the exponent.
        top: M, how many of the largest probabilities count.
    """

    gamma: float
    top: int


def fit_msp(features: Features, labels: Labels | None) -> MspParameters:  # noqa: ARG001 - nothing to fit
    return MspParameters()


def fit_energy(features: Features, labels: Labels | None) -> EnergyParameters:  # noqa: ARG001 - see above
    return EnergyParameters(1.0)


def fit_gen(features: Features, labels: Labels | None) -> GenParameters:  # noqa: ARG001 - see above
    return GenParameters(_GAMMA, min(_TOP, features.get("logits").shape[1]))


def without_energy(features: Features, labels: Labels | None) -> str | None:  # noqa: ARG001 - one signature for all
    """Why energy says nothing here: of log-probabilities it is 0, whatever the sample."""
    energy = -_log_sum_exp(_logits(features.get("logits")))
    energy = energy[np.isfinite(energy)]  # a row that cannot be scored says nothing about the others
    if energy.size and np.ptp(energy) < 1e-3:
        return "the model gives probabilities, whose energy is the same for every sample"
    return None


def msp_score(features: Features, parameters: MspParameters) -> NDArray[np.float32]:  # noqa: ARG001 - see above
    """1 - max p, summed over the other classes so that it keeps its precision near 0."""
    others = _others(_logits(features.get("logits")))
    with np.errstate(invalid="ignore"):
        return never_nan(others / (1 + others))


def energy_score(features: Features, parameters: EnergyParameters) -> NDArray[np.float32]:
    t = parameters.temperature
    return never_nan(-t * _log_sum_exp(_logits(features.get("logits")) / t))


def gen_score(features: Features, parameters: GenParameters) -> NDArray[np.float32]:
    logits = _logits(features.get("logits"))
    others = _others(logits)
    with np.errstate(invalid="ignore"):
        p = np.exp(logits - logits.max(axis=1, keepdims=True)) / (1 + others[:, None])
        rest = 1 - p
        # 1 - max p as a sum: gamma = 0.1 would blow up what a difference of two near-equal numbers loses.
        rest[np.arange(len(p)), logits.argmax(axis=1)] = others / (1 + others)
        largest = np.argpartition(-p, parameters.top - 1, axis=1)[:, : parameters.top]
        terms = np.take_along_axis(p, largest, axis=1) * np.take_along_axis(rest, largest, axis=1)
        return never_nan((terms**parameters.gamma).sum(axis=1))


def _logits(logits: Array) -> Matrix:
    """float64, rows with NaN or Infinity as all NaN."""
    wide: Matrix = logits.astype(np.float64)
    bad = ~np.isfinite(wide).all(axis=1)
    if bad.any():
        wide[bad] = np.nan
    return wide


def _others(logits: Matrix) -> Matrix:
    """Sum over the classes but the largest of exp(l - max l), `(n,)`: (1 - max p) / max p."""
    relative = np.exp(logits - logits.max(axis=1, keepdims=True))
    relative[np.arange(len(relative)), logits.argmax(axis=1)] = 0
    others: Matrix = relative.sum(axis=1)
    return others


def _log_sum_exp(logits: Matrix) -> Matrix:
    total: Matrix = logits.max(axis=1) + np.log1p(_others(logits))
    return total
