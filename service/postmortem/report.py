"""What a postmortem says, as one value: text, JSON, Markdown and pages are renderings of it.

The keys of its JSON are the names here. Times are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

__all__ = [
    "Report",
    "ReportedAside",
    "ReportedBad",
    "ReportedCause",
    "ReportedEvent",
    "ReportedExample",
    "ReportedHistogram",
    "ReportedOnset",
    "ReportedSlice",
    "ReportedTimeline",
    "ReportedWho",
]  # fmt: skip


class ReportedEvent(msgspec.Struct, frozen=True):
    """Something that happened in the window.

    Attributes:
        belief: the share of belief that the change began within one bin of it, 0 to 1; None for what comes of a change and
            does not make one: an alarm, a gap.
    """

    at: datetime
    kind: str
    subject: str
    detail: str
    belief: float | None


class ReportedOnset(msgspec.Struct, frozen=True):
    """Since when: the likeliest time and the bounds of the 90% set.

    Attributes:
        end: when it was over; None where it goes on.
        last: when the last row came, where rows have ended: none has come since, and many should have. None while they come.
        log10_bayes: evidence for a change against none.
        bin_s: seconds of one bin of the counts, which `at` is the begin of.
        events: what happened then, the likeliest first, and what came of it.
    """

    at: datetime
    earliest: datetime
    latest: datetime
    end: datetime | None
    log10_bayes: float
    bin_s: float
    events: Sequence[ReportedEvent]
    last: datetime | None = None


class ReportedBad(msgspec.Struct, frozen=True):
    """How much.

    Attributes:
        rows: bad rows since the onset, or of the whole window without one, each counted for 1 / incl_prob.
        low, high: bounds of that, 95%, where not every row was recorded.
        of: all rows of the same time.
        share: of bad rows in them.
        usual_share: of bad rows among the usual ones; None where there are none.
        recorded: rows in the database that these are estimated from.
        usual_of: which rows the usual ones are, such as `in the time before`; None where there are none.
        usual_rows, usual_bad: all of the usual ones, and the bad ones of them, whose share that is; None where there are none.
        allowed_share: the share that is too much however usual it is, such as the one that versions promise of outliers; None
            where nobody has said so.
        allowed_by: who says so, in words.
    """

    rows: float
    low: float
    high: float
    of: float
    share: float
    usual_share: float | None
    recorded: int
    usual_of: str | None = None
    allowed_share: float | None = None
    allowed_by: str | None = None
    usual_rows: float | None = None
    usual_bad: float | None = None


class ReportedAside(msgspec.Struct, frozen=True):
    """Rows of the usual time that do not count as usual: their time, `from` and `to` in JSON, how many, how many bad, and why."""

    start: datetime = msgspec.field(name="from")
    end: datetime = msgspec.field(name="to")
    rows: float
    bad: float
    why: str


class ReportedWho(msgspec.Struct, frozen=True):
    """One value of who sent or answered rows: `explained` is its share of the excess of bad rows, with its lower 95% bound."""

    field: str
    value: str
    rows: float
    bad_rows: float
    share: float
    explained: float
    explained_low: float


class ReportedSlice(msgspec.Struct, frozen=True):
    """Rows that share one value or two, see `slices.ExplainedSlice`."""

    where: Mapping[str, str]
    rows: float
    bad_rows: float
    explained: float
    explained_low: float
    odds_low: float
    q: float


class ReportedCause(msgspec.Struct, frozen=True):
    """One answer to why, see `causes.LikelyCause`."""

    kind: str
    subject: str
    weight: float
    evidence: str
    confirmed: bool | None
    undo: str


class ReportedExample(msgspec.Struct, frozen=True):
    """A recorded row, with what was answered and what it truly was.

    Attributes:
        neighbours: the nearest recorded rows that are not bad.
        distance: from the row that it is a neighbour of; None for the row itself.
        picture: a `data:` URI of the input that is an image, as a PNG; None where there is none, or it was hidden.
    """

    sample_id: str
    at: datetime
    version: int | None
    label: str | None
    value: float | None
    p_value: float | None
    true_label: str | None
    tags: Mapping[str, Any] | None
    inputs: str | None
    distance: float | None = None
    neighbours: Sequence[ReportedExample] = ()
    picture: str | None = None


class ReportedTimeline(msgspec.Struct, frozen=True):
    """All rows by time, each for 1 / incl_prob.

    Attributes:
        bin_s: seconds of a bin.
        at: where each begins; where one does not follow the one before it, nobody asked about the time between.
        rows, bad: of each.
        events: what happened meanwhile, in order; of many, those that may have to do with it.
    """

    bin_s: float
    at: Sequence[datetime]
    rows: Sequence[float]
    bad: Sequence[float]
    events: Sequence[ReportedEvent]


class ReportedHistogram(msgspec.Struct, frozen=True):
    """Of one thing about each row: the shares of the usual rows, and of the bad ones, that have each value."""

    field: str
    values: Sequence[str]
    usual: Sequence[float]
    bad: Sequence[float]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found out.

    Attributes:
        about: kind of bad row, as `--about` has it.
        summary: the first sentences.
        start, end: of the time that was looked at; `from` and `to` in JSON.
        usual: begin and end of the usual time; None where it is the window's time outside of the incident.
        where, unless: conditions that held, and those that did not: name -> values.
        set_aside: rows of the usual time that do not count as usual.
        comparison: which rows the window's were compared with, in words.
        changed: whether there are more bad rows than usual, or than there may be at any time; False on a quiet day.
        onset: None for a quiet day, and where it is not known when the change began.
        timeline: of the usual time and the one looked at.
        histograms: of the features that differ.
        examples: `strangest` and `typical` bad rows.
        unknown: what cannot be known, in sentences.
        next: commands worth typing now.
        sql: the statement behind each figure, by name.
        looked_at: rows that were read one by one.
        seconds: that it took.
    """

    model: str
    about: str
    summary: str
    start: datetime = msgspec.field(name="from")
    end: datetime = msgspec.field(name="to")
    usual: tuple[datetime, datetime] | None
    set_aside: Sequence[ReportedAside] = []
    comparison: str
    changed: bool
    where: Mapping[str, str]
    unless: Mapping[str, Sequence[str]] = {}
    onset: ReportedOnset | None
    bad: ReportedBad
    who: Sequence[ReportedWho]
    slices: Sequence[ReportedSlice]
    causes: Sequence[ReportedCause]
    timeline: ReportedTimeline
    histograms: Sequence[ReportedHistogram]
    examples: Mapping[str, Sequence[ReportedExample]]
    unknown: Sequence[str]
    next: Sequence[str]
    sql: Mapping[str, str]
    looked_at: int
    seconds: float
