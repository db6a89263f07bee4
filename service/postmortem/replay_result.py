"""What a replay found: one value, of which everything that is shown or kept is a rendering."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from hoverboard.version import __version__

__all__ = [
    "KINDS",
    "Flags",
    "Labelled",
    "Move",
    "NoiseFloor",
    "OutcomeCount",
    "ReplayExample",
    "ReplayIncumbent",
    "ReplayResult",
    "ReplaySide",
    "SignTest",
    "Speed",
]

KINDS: Final = ("same", "changed", "fixed", "broken", "noise", "failed")
"""What can become of a sample. By its code it is of one kind, the first that fits: `noise`, the incumbent differs from its own record;
on labelled samples `broken` or `fixed`; else `changed` or `same`. To give no answer is to change it, and never right. `failed` is no
code: it counts samples to which the candidate gives no answer, whatever their kind."""


class ReplaySide(msgspec.Struct, frozen=True):
    """One of the two versions: its number and the SHA-256 of its artifact."""

    version: int
    weights_sha256: str


class ReplayIncumbent(ReplaySide, frozen=True):
    """A version that had answered some of the rows."""

    rows: int


class OutcomeCount(msgspec.Struct, frozen=True):
    """Rows of one kind: how many were replayed, and for how many they stand (the sum of 1 / incl_prob)."""

    rows: int
    estimate: float


class NoiseFloor(msgspec.Struct, frozen=True):
    """What counts as no difference of numbers: at most `absolute + relative * |recorded|`, or at most `quantile`.

    Attributes:
        of: what the numbers are: `value`, `outputs`, or for classes `confidence`.
        absolute, relative: of the incumbent's golden samples.
        quantile: the 99.9% quantile, over samples, of the largest difference between the record and the incumbent run again.
        runs: how often it was run again.
        differing: samples in which it differs from its own record beyond that.
    """

    of: str
    absolute: float
    relative: float
    quantile: float
    runs: int
    differing: int


class SignTest(msgspec.Struct, frozen=True):
    """A sign test: `more` and `less` rows that speak one way and the other, and the two-sided mid-p value."""

    more: int
    less: int
    mid_p: float


class Labelled(msgspec.Struct, frozen=True):
    """Samples with a label.

    Attributes:
        rows: how many, without those that are `noise`.
        incumbent, candidate: shares that are right (1 / incl_prob as weight), or mean absolute errors of a regression, of the
            samples that both answered.
        mcnemar: broken against fixed.
        failed: broken ones to which the candidate gives no answer.
    """

    rows: int
    incumbent: float | None
    candidate: float | None
    mcnemar: SignTest
    failed: int = 0


class Flags(msgspec.Struct, frozen=True):
    """What both versions find strange; None for one without calibration.

    Attributes:
        incumbent, candidate: shares of outliers, weighted by 1 / incl_prob.
        appeared, vanished: rows that only the candidate, and only the record, calls outliers.
        incumbent_median, candidate_median: of the p-values.
    """

    incumbent: float | None
    candidate: float | None
    appeared: int
    vanished: int
    incumbent_median: float | None
    candidate_median: float | None


class Move(msgspec.Struct, frozen=True):
    """Rows whose label went from one to another."""

    before: str
    after: str
    rows: int
    estimate: float


class ReplayExample(msgspec.Struct, frozen=True):
    """One sample whose answer differs; answers as a person reads them, inputs shortened."""

    sample_id: str
    at: datetime
    kind: str
    recorded: str
    again: str | None
    candidate: str
    truth: str | None
    inputs: dict[str, str]


class Speed(msgspec.Struct, frozen=True):
    """Rows a second in this process, both warm and by turns over the same rows; None where a version was not loaded for this run."""

    incumbent: float | None
    candidate: float | None


class ReplayResult(msgspec.Struct, frozen=True):
    """A comparison of two versions on recorded samples.

    Attributes:
        model: its name.
        incumbent: the version that had answered most of the rows.
        incumbents: all that had answered, the one above first; each row is compared with the one that had answered it.
        candidate: the version in question.
        start, end: of the time.
        where, unless: conditions that all hold, and of which none does.
        labelled_only, issue, without_issues, without_outliers: the choice of samples.
        rows: samples replayed.
        left_out: why others were not -> how many.
        noise_floor: below it, numbers are the same.
        kinds: of the rows, all of `KINDS`: each row is of one, and those of `failed` are of another, too.
        sign_test: samples in which only the candidate differs from the record, against those in which only the incumbent
            does: whether the candidate changes more than repetition does.
        numbers_differing: rows whose numbers (for classes: confidence) differ beyond the floor.
        labelled, flags, speed: see there.
        moves: the largest moves of labels, from the record's to the candidate's.
        examples: some of each kind that differs, the largest differences first.
        seconds: all of it took.
        software: the Hoverboard that compared them.
        label_sources, without_label_sources: whose labels count, and whose do not.
    """

    model: str
    incumbent: ReplaySide
    incumbents: list[ReplayIncumbent]
    candidate: ReplaySide
    start: datetime
    end: datetime
    where: dict[str, str]
    unless: dict[str, tuple[str, ...]]
    labelled_only: bool
    issue: int | None
    without_issues: tuple[int, ...]
    without_outliers: bool
    rows: int
    left_out: dict[str, int]
    noise_floor: NoiseFloor
    kinds: dict[str, OutcomeCount]
    sign_test: SignTest
    numbers_differing: int
    labelled: Labelled
    flags: Flags
    moves: list[Move]
    examples: list[ReplayExample]
    speed: Speed
    seconds: float
    software: str = __version__
    label_sources: tuple[str, ...] = ()
    without_label_sources: tuple[str, ...] = ()

    def builtins(self) -> dict[str, Any]:
        """JSON-ready."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found
