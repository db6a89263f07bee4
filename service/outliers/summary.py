"""What a version's manifest says of outliers: written by who publishes it, and read here by everybody else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hoverboard.contract.outlier import DEFAULT_ALPHA
from hoverboard.outliers.conformal import rate_bound
from hoverboard.outliers.features import Space

__all__ = ["OutlierSummary", "WatchSummary", "alpha_of"]


class WatchSummary(msgspec.Struct, frozen=True):
    """Which inputs are watched beside the detector.

    Attributes:
        numbers: those whose numbers are.
        sets: a place that has few values -> how many.
        unwatched: the others -> why not.
    """

    numbers: list[str]
    sets: dict[str, int]
    unwatched: dict[str, str] = msgspec.field(name="not")


class OutlierSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest's `outliers`. All but alpha may be missing, since older versions said less.

    Attributes:
        detector, reason: the chosen one, and why.
        alpha: the share of normal samples that may be called outliers.
        bound: 95% upper bound of that share.
        calibration_points: n, samples that set the level.
        fitted_on: rows that the detectors were fitted on.
        smallest_alpha: that n points can tell.
        space, layer: what the features are, see `OutlierPackage`.
        classes_left_out: in turn, to choose among detectors.
        auroc: detector -> its mean when they were; None where there were no classes.
        unsuited: detector -> why it could not be fitted.
        notes: on how it was made, a sentence each.
        watch: over the inputs; left out of a version published before there was one.
    """

    detector: str = ""
    reason: str = ""
    alpha: float
    bound: float | None = None
    calibration_points: int = 0
    fitted_on: int = 0
    smallest_alpha: float = 0.0
    space: Space = "features"
    layer: str | None = None
    classes_left_out: int = 0
    auroc: dict[str, float | None] = {}
    unsuited: dict[str, str] = {}
    notes: list[str] = []
    watch: WatchSummary | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(cls, manifest: Mapping[str, Any] | None) -> OutlierSummary | None:
        """What a manifest says, JSON-ready as in the catalog; None for one without calibration."""
        # What cannot be read promises nothing: such a version is refused when it is loaded, by comparing it with `outliers.npz`.
        try:
            return msgspec.convert((manifest or {}).get("outliers") or None, OutlierSummary | None)
        except msgspec.ValidationError:
            return None

    @classmethod
    def in_json(cls, manifest: str | bytes) -> OutlierSummary | None:
        """The same of a manifest's text, of which nothing else is read: its labels may be many."""
        try:
            return msgspec.json.decode(manifest, type=_Manifest).outliers
        except msgspec.DecodeError:
            return None

    @property
    def upper_bound(self) -> float:
        """`bound`; for a version from before manifests held it, what follows from its calibration points, 0 without any."""
        return rate_bound(self.calibration_points, self.alpha) if self.bound is None else self.bound

    @property
    def alarm_bound(self) -> float | None:
        """The share of outliers that an alarm tests against; None where none can be told."""
        return self.upper_bound if 0 < self.upper_bound < 1 else None


def alpha_of(manifest: Mapping[str, Any] | None) -> float:
    """The share of normal samples that a version may call outliers."""
    summary = OutlierSummary.of(manifest)
    return DEFAULT_ALPHA if summary is None else summary.alpha


class _Manifest(msgspec.Struct):
    outliers: OutlierSummary | None = None
