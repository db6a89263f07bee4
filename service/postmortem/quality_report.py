"""What `hoverboard quality` answers, as one value: the command prints it, as JSON or as tables."""

from __future__ import annotations

from datetime import datetime

import msgspec

from hoverboard.postmortem.calibration import Method
from hoverboard.postmortem.estimates import Estimate

__all__ = [
    "AgeCount",
    "ConfidenceQuality",
    "ErrorQuality",
    "KindCount",
    "LabelQuality",
    "QualityReport",
    "ReliabilityBin",
    "SourceCount",
    "VersionDifference",
    "VersionQuality",
]


class AgeCount(msgspec.Struct, frozen=True, kw_only=True):
    """Rows by how long ago they were asked.

    Attributes:
        age: in words, such as `1 h to 1 d`.
        rows: recorded answers.
        labelled: those whose label has come.
    """

    age: str
    rows: int
    labelled: int


class KindCount(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one kind of sample.

    Attributes:
        kind: `ordinary`, `outlier` or `low margin`.
        traffic_share: of all answers, by 1 / incl_prob.
        labelled_share: of those with a label.
        labelled: how many these are.
        right: share of right answers; None without labels, and for a regression.
    """

    kind: str
    traffic_share: float
    labelled_share: float
    labelled: int
    right: Estimate | None


class SourceCount(msgspec.Struct, frozen=True, kw_only=True):
    """Labels by who said so; of a sample only the latest label counts.

    Attributes:
        source: `labels.source`.
        labelled: answers that are judged by it.
        right: the share of right ones, each weighed by 1 / incl_prob; None for a regression.
    """

    source: str
    labelled: int
    right: float | None


class LabelQuality(msgspec.Struct, frozen=True, kw_only=True):
    """One label, among the labelled answers.

    Attributes:
        label: a class.
        said: answers that said it.
        held: answers of which it was true.
        precision: share of right ones among those that said it; None for none.
        recall: share of those of which it was true that said it; None for none.
        known: whether it is one of the version's labels.
    """

    label: str
    said: int
    held: int
    precision: Estimate | None
    recall: Estimate | None
    known: bool


class ReliabilityBin(msgspec.Struct, frozen=True, kw_only=True):
    """Labelled answers of one tenth of confidence.

    Attributes:
        low, high: of the bin.
        rows: labelled answers in it.
        confidence: their mean.
        right: share of right ones.
    """

    low: float
    high: float
    rows: int
    confidence: float
    right: Estimate


class ConfidenceQuality(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy without labels, and how far confidences can be trusted.

    Attributes:
        mean: of the published confidences over all answers; None for a multi-label version, which publishes none of the whole answer.
        estimate: mean of the calibrated confidences over all answers, labelled or not; without labels the published ones, and
            then without an interval.
        method: how they were calibrated: `published` (not at all), `logistic` or `isotonic`.
        fitted_rows: labelled answers that it was learned from, those of thirty days before the window included.
        ece: expected calibration error of the published confidences over ten bins; None without labels.
        ece_by_chance: what a perfectly calibrated version would show on so few rows.
        reliability: the bins.
    """

    mean: float | None
    estimate: Estimate | None
    method: Method
    fitted_rows: int
    ece: float | None
    ece_by_chance: float | None
    reliability: list[ReliabilityBin]


class ErrorQuality(msgspec.Struct, frozen=True, kw_only=True):
    """How far a regression was off, in the unit of what it answers.

    Attributes:
        absolute: mean of |answer - truth|.
        squared: mean of its square.
        root_squared: root of that.
        bias: mean of answer - truth: above 0 where it answers too much.
    """

    absolute: Estimate
    squared: Estimate
    root_squared: Estimate
    bias: Estimate


class VersionQuality(msgspec.Struct, frozen=True, kw_only=True):
    """One version in a window.

    Attributes:
        version, weights_sha256: which; one number with other weights is another version.
        task: of its manifest; None where that does not say.
        rows: recorded answers.
        traffic: how many answers these stand for, the sum of 1 / incl_prob.
        labelled: answers whose label has come and can be compared.
        labelled_traffic: how many answers these stand for.
        effective: how many of equal weight would tell as much.
        left_out: labelled answers that cannot be compared, such as a number given for a class.
        accuracy: share of right answers of all traffic, each kind of sample weighing what it is of all answers.
        labelled_accuracy: the same as if labelled answers were a random sample.
        error: for a regression.
        confidence: for a classification or a multi-label version.
        delay_s: median and 90% quantile of the seconds from a sample to its first label, of those that have come.
        ages, kinds, sources, labels: the same rows by these.
    """

    version: int
    weights_sha256: str
    task: str | None
    rows: int
    traffic: float
    labelled: int
    labelled_traffic: float
    effective: float
    left_out: int
    accuracy: Estimate | None
    labelled_accuracy: Estimate | None
    error: ErrorQuality | None
    confidence: ConfidenceQuality | None
    delay_s: tuple[float, float] | None
    ages: list[AgeCount]
    kinds: list[KindCount]
    sources: list[SourceCount]
    labels: list[LabelQuality]

    @property
    def labelled_share(self) -> float:
        """Of the recorded answers."""
        return self.labelled / self.rows if self.rows else 0.0


class VersionDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A version beside the one before it in the window.

    Attributes:
        version, against: their numbers.
        of: `accuracy` or `absolute error`.
        difference: of the first less the second.
        comparable: whether about as many labels have come of both.
    """

    version: int
    against: int
    of: str
    difference: Estimate
    comparable: bool


class QualityReport(msgspec.Struct, frozen=True, kw_only=True):
    """How good a model's answers of a window were.

    Attributes:
        model: its name.
        start, end: of the window, by when samples came; the end is excluded.
        asked_at: when it was read: other labels may come later.
        source: whose labels count; None for the latest of anybody.
        within_s: seconds within which a label must have come; None for any time.
        where, unless: conditions that all hold, and of which none does.
        part: of the rows that were read, below 1 where there are very many; labels are all read.
        versions: by number.
        differences: between versions that follow each other.
        notes: what to know before believing it, a sentence or two each.
        next: commands worth typing now.
    """

    model: str
    start: datetime = msgspec.field(name="from")
    end: datetime = msgspec.field(name="to")
    asked_at: datetime
    source: str | None
    within_s: float | None
    where: dict[str, str]
    unless: dict[str, tuple[str, ...]]
    part: float
    versions: list[VersionQuality]
    differences: list[VersionDifference]
    notes: list[str]
    next: list[str]
