"""What a version knows about outliers: its detectors, calibrated, the one chosen among them, and the watch over its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array
from hoverboard.outliers.conformal import p_values, rate_bound, smallest_alpha
from hoverboard.outliers.detectors import BY_NAME, Candidate
from hoverboard.outliers.features import Features, Space, never_nan
from hoverboard.outliers.input_watch import Watch
from hoverboard.outliers.kept import CalibrationFeatures
from hoverboard.outliers.summary import OutlierSummary

__all__ = ["INPUT", "Calibrated", "Looked", "OutlierPackage"]

INPUT: Final = "input "
"""What stands before an input's name where a detector's name would be."""
_MOST_TOLD: Final = 16


@dataclass(frozen=True, slots=True)
class Calibrated:
    """One detector, fitted and calibrated.

    Attributes:
        name: of the candidate.
        parameters: of its own class, see `Candidate.parameters`.
        calibration: float32 `(n,)`, its scores of the calibration points, ascending, finite.
        auroc: mean leave-one-class-out AUROC; None where there were no classes to leave out.
    """

    name: str
    parameters: Any
    calibration: Array
    auroc: float | None = None

    @property
    def candidate(self) -> Candidate:
        return BY_NAME[self.name]

    def score(self, features: Features) -> NDArray[np.float32]:
        """float32 `(rows,)`, higher is stranger."""
        return self.candidate.score(features, self.parameters)

    def p_values(self, scores: Array) -> NDArray[np.float32]:
        """Conformal p-values of scores, float32 `(rows,)`."""
        return p_values(scores, self.calibration)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a version says of some rows.

    Attributes:
        scores: detector -> float32 `(rows,)`; `input NAME` -> its strangeness, where an input is unusual.
        reasons: the input that decided each row's p-value; None where the chosen detector did.
        z: their features, `(rows, d)`; None where the version's detectors look at none.
    """

    scores: Mapping[str, Array]
    reasons: list[str | None]
    z: Array | None = None

    def by_reason(self, detector: str) -> dict[str, list[int]]:
        """Rows by what decided: the detector's name, or `input NAME`."""
        rows_by_name: dict[str, list[int]] = {}
        for row, reason in enumerate(self.reasons):
            rows_by_name.setdefault(detector if reason is None else f"{INPUT}{reason}", []).append(row)
        return rows_by_name


@dataclass(frozen=True, slots=True)
class OutlierPackage:
    """What a version knows about outliers.

    Attributes:
        alpha: a sample is an outlier when its p-value is at most this.
        chosen: name of the detector that runs on every call.
        reason: why that one, one sentence.
        detectors: every one that could be fitted, by name; all calibrated on the same points.
        space: what z is: `features`, `outputs` or `inputs`.
        layer: name of the layer that `features` come from; None for the other spaces.
        fitted: rows that the detectors were fitted on.
        unsuited: name -> why it could not be fitted.
        left_out: how many classes were left out in turn to choose; 0 where none could be.
        notes: what a person should know about how it was made, a sentence each.
        watch: over the inputs, beside the chosen detector; None for a version published before there was one.
        kept: features of the calibration samples, as publishing keeps them; None once it is read back, since they are in a
            file of their own.
    """

    alpha: float
    chosen: str
    reason: str
    detectors: Mapping[str, Calibrated]
    space: Space
    layer: str | None
    fitted: int
    unsuited: Mapping[str, str] = field(default_factory=dict)
    left_out: int = 0
    notes: tuple[str, ...] = ()
    watch: Watch | None = None
    kept: CalibrationFeatures | None = None

    @property
    def detector(self) -> Calibrated:
        """The one that runs on every call."""
        return self.detectors[self.chosen]

    @property
    def calibration(self) -> Array:
        """float32 `(n,)`, ascending: what the calibration points score as calls do, the watch included."""
        # With a watch, calls are scored by the larger of two: their p-values must be taken among scores of that kind.
        return self.detector.calibration if self.watch is None else self.watch.calibration

    @property
    def points(self) -> int:
        """n, the calibration points."""
        return len(self.calibration)

    @property
    def bound(self) -> float:
        """95% upper bound of the share of normal samples that is flagged."""
        return rate_bound(self.points, self.alpha)

    def summary(self) -> dict[str, Any]:
        """JSON-ready, for the manifest."""
        summary = OutlierSummary(
            detector=self.chosen,
            reason=self.reason,
            alpha=self.alpha,
            bound=round(self.bound, 6),
            calibration_points=self.points,
            fitted_on=self.fitted,
            smallest_alpha=round(smallest_alpha(self.points), 9),
            space=self.space,
            layer=self.layer,
            classes_left_out=self.left_out,
            auroc={name: None if d.auroc is None else round(d.auroc, 4) for name, d in self.detectors.items()},
            unsuited=dict(self.unsuited),
            notes=list(self.notes),
            watch=msgspec.UNSET if self.watch is None else self.watch.summary(),
        )
        values: dict[str, Any] = msgspec.to_builtins(summary)
        return values

    def looked_at(self, features: Features, columns: Mapping[str, Array]) -> Looked:
        """All there is to say of some rows.

        Args:
            features: theirs.
            columns: the inputs by name, `(rows, ...)`; not read where there is no watch.
        """
        scores: dict[str, Array] = {name: one.score(features) for name, one in self.detectors.items()}
        by_input = {} if self.watch is None else self.watch.by_input(columns)
        if self.watch is None or not by_input:
            return Looked(scores, [None] * len(features), features.z)
        reasons = self.watch.reasons(scores[self.chosen], by_input)
        # A table may have hundreds of inputs: those that say something are enough to see why.
        telling = sorted(by_input, key=lambda name: -by_input[name].max())[:_MOST_TOLD]
        for name in (name for name in telling if by_input[name].any()):
            scores[f"{INPUT}{name}"] = never_nan(by_input[name])
        return Looked(scores, reasons, features.z)
