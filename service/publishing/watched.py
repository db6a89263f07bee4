"""The watch over a model's inputs, fitted and calibrated on the rows that its detector is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array, TensorSpec
from hoverboard.outliers import Calibrated, Features
from hoverboard.outliers.features import Labels
from hoverboard.outliers.input_watch import Watch, set_places, watchable
from hoverboard.outliers.input_watch_fit import fit_scale, fit_watch
from hoverboard.outliers.select import turns_of

__all__ = ["Known", "watchable_columns", "watched"]


@dataclass(frozen=True, slots=True)
class Known:
    """Rows of samples.

    Attributes:
        features: what detectors look at.
        columns: input -> `(rows, ...)`, those that can be watched.
        labels: the class of each; None where there are no classes.
    """

    features: Features
    columns: Mapping[str, Array]
    labels: Labels | None

    def __getitem__(self, rows: NDArray[np.int64]) -> Known:
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Known(self.features[rows], columns, None if self.labels is None else self.labels[rows])

    def turns(self, seed: int) -> list[tuple[Known, Known]]:
        """Parts to fit on, and parts to score, such that none was fitted on what it scores."""
        labels = np.zeros(len(self.features), np.int64) if self.labels is None else self.labels
        return [(self[fitting], self[scoring]) for fitting, scoring in turns_of(labels, seed, self.features.width)]


def watchable_columns(
    inputs: Sequence[TensorSpec], columns: Sequence[Array], rows: NDArray[np.int64]
) -> dict[str, Array]:
    """Some rows of the inputs that can be watched, by name; none where `inputs` is empty."""
    if not inputs:
        return {}
    wanted = {*watchable(inputs)[0], *(spec.name for spec in inputs if set_places(spec))}
    return {spec.name: column[rows] for spec, column in zip(inputs, columns, strict=True) if spec.name in wanted}


def watched(
    inputs: Sequence[TensorSpec],
    detector: Calibrated,
    base: Known,
    held_out: Sequence[tuple[Known, Known]],
    calibration: Known,
    *,
    alpha: float,
) -> Watch:
    """What is watched beside a detector.

    The combined score is calibrated on rows that were never looked at before, so the promise holds however well the
    watch was fitted, and put on the detector's scale.

    Args:
        inputs: the signature's.
        detector: fitted on `base`.
        base: rows to fit on.
        held_out: rows to fit on and others to score: how rare the scores of both are is seen on the latter.
        calibration: rows that calibrate the combined score.
        alpha: see `fit_watch`.
    """
    watch = fit_watch(inputs, base.columns, alpha)
    if watch.watched:
        pairs = [_scored(inputs, detector, base, fitting, scoring, alpha=alpha) for fitting, scoring in held_out]
        scores, strangeness = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        watch = replace(watch, scale=fit_scale(scores, strangeness))
    combined = watch.combined(detector.score(calibration.features), watch.by_input(calibration.columns))
    return replace(watch, calibration=np.sort(combined))


def _scored(
    inputs: Sequence[TensorSpec], detector: Calibrated, base: Known, fitting: Known, scoring: Known, *, alpha: float
) -> tuple[Array, Array]:
    """A detector's scores and the inputs' strangeness."""
    candidate, parameters = detector.candidate, detector.parameters
    # What does not suit a part of the rows is not fitted again: rather scores of rows that it was fitted on than none.
    if fitting is not base and candidate.unsuited(fitting.features, fitting.labels) is None:
        parameters = candidate.fit(fitting.features, fitting.labels)
    by_input = fit_watch(inputs, fitting.columns, alpha).by_input(scoring.columns)
    usual = np.zeros(len(scoring.features))
    return candidate.score(scoring.features, parameters), np.max([usual, *by_input.values()], axis=0)
