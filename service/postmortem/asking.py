"""A question answered: counts, the onset, the rows that are looked at, and what the statistics say of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from hoverboard.contract.times import micros, nearest_time, time_of
from hoverboard.database.connect import Connection
from hoverboard.errors import ConfigError
from hoverboard.postmortem.bounds import clipped, recorded_days
from hoverboard.postmortem.causes import NOTHING_USUAL, LikelyCause, causes
from hoverboard.postmortem.cells import Cells, Draw, exposure_of
from hoverboard.postmortem.charts import histograms, timeline
from hoverboard.postmortem.commands import next_commands
from hoverboard.postmortem.confirming import Confirmer
from hoverboard.postmortem.counting import Progress, RecordedShare, WindowCounts, bin_width, require_model
from hoverboard.postmortem.drawing import Drawn, draw
from hoverboard.postmortem.drifting import began_to_move
from hoverboard.postmortem.examples import examples
from hoverboard.postmortem.onset import Onset, onset
from hoverboard.postmortem.question import KINDS, About, Question
from hoverboard.postmortem.recorded import recorded_versions
from hoverboard.postmortem.report import (
    Report,
    ReportedBad,
    ReportedCause,
    ReportedEvent,
    ReportedExample,
    ReportedOnset,
    ReportedSlice,
    ReportedWho,
)
from hoverboard.postmortem.slices import ExplainedSlice, slices
from hoverboard.postmortem.table import WHO, BinnedCounts, Event, Refusal, Table
from hoverboard.postmortem.unknown import unknown
from hoverboard.postmortem.window import RecordedWindow
from hoverboard.postmortem.wording import summary
from hoverboard.versions.baseline import Baseline
from hoverboard.watch.drift_table import find_baseline

__all__ = ["postmortem"]

_DAY: Final = timedelta(days=1)
_MOST_WHO: Final = 8
_MOST_EVENTS: Final = 8
_Z: Final = 1.96
_WORSE: Final = 1.1


@dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """One kind of bad row over a time.

    Attributes:
        about: the kind.
        usual: the usual time with its counts; None where it is within the window.
        window: the time looked at, with its counts.
        onset: of both together.
    """

    about: About
    usual: tuple[RecordedWindow, WindowCounts] | None
    window: RecordedWindow
    counted: WindowCounts
    onset: Onset | None

    @property
    def counts(self) -> BinnedCounts:
        """Of the usual time and the window, one after the other."""
        return self.counted.counts if self.usual is None else WindowCounts.joined([self.usual[1], self.counted]).counts

    @property
    def compared(self) -> bool:
        """Whether there are rows of the usual time, where one was named."""
        return self.usual is None or bool(self.usual[1].counts.rows.sum())

    def split(self, table: Table) -> Table:
        """Its rows with those outside of the incident counted to the usual time."""
        return table if self.onset is None else self.onset.split(table)


async def postmortem(
    connection: Connection, question: Question, now: datetime, told: Progress, confirmer: Confirmer | None = None
) -> Report:
    """Answer a question.

    Args:
        connection: as of `reading`.
        question: what is asked.
        now: the time of asking.
        told: of progress.
        confirmer: runs rows of likely causes once more; None for statistics alone.

    Raises:
        ConfigError: nothing was recorded of the model, or of that time; or the times make no sense.
    """
    began = time.monotonic()
    versions = await recorded_versions(connection, question.model)
    await require_model(connection, question.model, versions)
    recording = RecordedShare(connection, question.model, versions, told, question.blanked)
    looked = await _chosen(recording, question, now)
    events = await recording.events(looked.window)
    baseline = await _baseline(recording)
    usual = None if looked.usual is None else (looked.usual[0], looked.usual[1].counts)
    drawn = await draw(recording, looked.about, baseline, usual, (looked.window, looked.counted.counts))
    told("Comparing", 0.0)
    # Seconds of NumPy; Postgres should not wait for an answer to its keepalives meanwhile.
    found, who, answers = await asyncio.to_thread(_compared, looked, drawn, events, await _refusals(recording, looked))
    if confirmer is not None and drawn is not None:
        answers = await confirmer.confirmed(recording, looked.about, looked.split(drawn.table), answers)
    bad = _bad(looked)
    return Report(
        model=question.model,
        about=str(looked.about),
        summary=summary(
            *(question.model, looked.about, looked.onset, bad, answers[0] if answers else None),
            compared=looked.compared,
        ),
        start=looked.window.start,
        end=looked.window.end,
        usual=None if looked.usual is None else (looked.usual[0].start, looked.usual[0].end),
        where=dict(question.where),
        onset=_reported_onset(looked, _began(looked, drawn, answers), events),
        bad=bad,
        who=who,
        slices=[_reported_slice(each) for each in found],
        causes=[_reported_cause(each) for each in answers],
        timeline=timeline(looked.counts, looked.onset, events),
        histograms=[]
        if drawn is None or (looked.onset is None and not found)
        else histograms(looked.split(drawn.table), found, answers),
        examples=await _examples(recording, looked, drawn),
        unknown=await unknown(
            recording,
            looked.window,
            drawn,
            bad,
            about=looked.about,
            compared=baseline is not None,
            rows=float(looked.counted.counts.rows.sum()),
        ),
        next=next_commands(
            question,
            looked.about,
            looked.window,
            looked.onset,
            answers=answers,
            found=found,
            versions=recording.numbers,
        ),
        sql=recording.sql,
        looked_at=0 if drawn is None else len(drawn.table),
        seconds=round(time.monotonic() - began, 3),
    )


async def _chosen(recording: RecordedShare, question: Question, now: datetime) -> _Looked:
    """The times and the kind that were asked for, or what has changed most."""
    windows = question.windows(now)
    kinds = [about for kind in KINDS if not (about := About.of(kind)).unknown_of(question.where)]
    if question.about is not None:
        kinds = [question.about]
        if names := question.about.unknown_of(question.where):
            raise ConfigError(
                f"--where {names[0]}: of {question.about.words} that is not recorded; leave it out, or ask about another kind"
            )
    if windows is None:
        since = await recording.alarm_onset() if question.about in (None, About("outliers")) else None
        if since is not None:
            # As if somebody had asked about the time since, which is counted by the finer the shorter it is.
            kinds = [About("outliers")]
            windows = question.between(since, min(now, since + _DAY))
        else:
            windows = None, question.window(now - _DAY, now)
    usual, window = await _recordable(recording, *windows)
    looked = [found for kind in kinds if (found := await _look(recording, kind, usual, window)) is not None]
    # One whose limit nobody can tell, such as what is slow where nothing was answered, has no rows.
    if not any(each.counted.counts.rows.sum() for each in looked):
        if question.about is not None and question.about.kind == "wrong":
            raise ConfigError(
                f"nobody has labelled samples of {window}, so none can be told to be wrong: `hoverboard label` takes labels"
            )
        if question.about is not None and not looked:
            raise ConfigError(
                f"nothing is recorded of the usual time, which says from when on answers are {question.about}: name one with --against"
            )
        raise ConfigError(await _nothing(recording, window))
    return max(looked, key=_strength)


async def _recordable(
    recording: RecordedShare, usual: RecordedWindow | None, window: RecordedWindow
) -> tuple[RecordedWindow | None, RecordedWindow]:
    """As much of both times as there are days on record: only those can be counted, and a report should not begin before them.

    Raises:
        ConfigError: nothing of the window is.
    """
    days = await recorded_days(recording.connection)
    there = clipped(window, days)
    if there is None:
        raise ConfigError(await _nothing(recording, window))
    if usual is None:
        return None, there
    # Of a usual time without days on record the end will do: there is nothing usual then, whatever its length.
    return clipped(usual, days) or replace(usual, start=max(usual.start, usual.end - _DAY)), there


def _strength(looked: _Looked) -> tuple[float, float]:
    """What has changed most comes first; on a quiet day, what there is most of among kinds that mean harm."""
    if looked.onset is not None:
        return looked.onset.log10_bayes, 0.0
    return -1.0, float(looked.about.kind == "outliers")


async def _look(
    recording: RecordedShare, about: About, usual: RecordedWindow | None, window: RecordedWindow
) -> _Looked | None:
    limited = await recording.limited(about, usual or window)
    if limited is None:
        return None
    width = bin_width(window.end - (usual or window).start)
    before = None if usual is None else (usual, await recording.count(limited, usual, width))
    counted = await recording.count(limited, window, width)
    both = counted if before is None else WindowCounts.joined([before[1], counted])
    return _Looked(limited, before, window, counted, onset(both.counts))


async def _nothing(recording: RecordedShare, window: RecordedWindow) -> str:
    span = await recording.span()
    there_is = "nothing is in the database"
    if span is not None:
        there_is = (
            f"there are samples from {span[0]:%Y-%m-%d %H:%M} to {span[1]:%Y-%m-%d %H:%M} UTC: see --from and --to"
        )
    return f"nothing was recorded of {window}; {there_is}"


async def _baseline(recording: RecordedShare) -> Baseline | None:
    """Of the newest version that has one: its bins are what inputs are compared in."""
    for version in reversed(recording.versions):
        found = await find_baseline(recording.connection, version.id)
        if found is not None:
            return found
    return None


async def _refusals(recording: RecordedShare, looked: _Looked) -> list[Refusal]:
    """Where calls were refused before the onset and since."""
    if looked.about.kind != "refusals" or looked.onset is None:
        return []
    first = looked.window.start if looked.usual is None else looked.usual[0].start
    since = time_of(looked.onset.at_us)
    end = looked.window.end if looked.onset.end_us is None else time_of(looked.onset.end_us)
    if not first < since < end:
        return []
    return await recording.refusals(
        replace(looked.window, start=first, end=since), replace(looked.window, start=since, end=end)
    )


def _compared(
    looked: _Looked, drawn: Drawn | None, events: Sequence[Event], refusals: Sequence[Refusal]
) -> tuple[list[ExplainedSlice], list[ReportedWho], list[LikelyCause]]:
    if not looked.compared and looked.onset is None:
        return [], [], [NOTHING_USUAL]
    if drawn is None:
        return [], [], []
    table = looked.split(drawn.table)
    # A quiet day has nothing that would have to differ.
    differs = looked.onset is not None and bool((table.bad & ~table.base).any())
    found = slices(table) if differs else []
    answers = causes(drawn.table, looked.counts, looked.onset, events, found, refusals=refusals)
    return found, _who(table) if differs else [], answers


async def _examples(
    recording: RecordedShare, looked: _Looked, drawn: Drawn | None
) -> Mapping[str, Sequence[ReportedExample]]:
    if drawn is None or (looked.onset is None and looked.usual is None):
        return {}
    first = looked.window.start if looked.usual is None else looked.usual[0].start
    return await examples(recording, looked.split(drawn.table), (first, looked.window.end))


def _who(table: Table) -> list[ReportedWho]:
    """Values of who sent or answered, by their share of the excess (Adtributor's explanatory power)."""
    drawn = Draw.of(table)
    excess = max(drawn.bad_now - drawn.expected, 1.0)
    everywhere = float(table.weight[table.bad & ~table.base].sum() / max(table.weight[~table.base].sum(), 1e-9))
    found = []
    for field in table.fields:
        if field.kind not in WHO or len(field.values) < 3:
            continue
        counts = drawn.count(field)
        cells = Cells.of(drawn, counts, exposure_of(drawn, [field], counts))
        error = _Z * np.sqrt(drawn.phi * cells.bad + cells.expected**2 * cells.error)
        for code in np.argsort(-(cells.bad - cells.expected))[:2].tolist():
            here = (field.codes == code) & ~table.base
            bad = float(table.weight[here & table.bad].sum())
            rows = float(table.weight[here].sum())
            explained = float((cells.bad[code] - cells.expected[code]) / excess)
            # What most rows have, bad or not, says nothing of who they are.
            if code and explained > 0.05 and rows and bad / rows > _WORSE * everywhere:
                low = max(explained - float(error[code]) / excess, 0.0)
                told = (field.name, field.values[code], rows, bad, bad / rows, min(explained, 1.0), min(low, 1.0))
                found.append(ReportedWho(*told))
    return sorted(found, key=lambda each: -each.explained)[:_MOST_WHO]


def _bad(looked: _Looked) -> ReportedBad:
    """Totals since the onset, or of the whole window."""
    counts = looked.counts
    at = counts.start_us
    first = looked.window.start if looked.onset is None else time_of(looked.onset.at_us)
    inside = at >= micros(first) - counts.width_us + 1
    if looked.onset is not None and looked.onset.end_us is not None:
        inside &= at < looked.onset.end_us
    # The usual time may end within the bin that the other begins with.
    if looked.usual is not None and micros(first) > micros(looked.window.start) - counts.width_us:
        inside[: len(looked.usual[1].counts.rows)] = False
    rows, bad = float(counts.rows[inside].sum()), float(counts.bad[inside].sum())
    before = float(counts.rows[~inside].sum())
    usual = float(counts.bad[~inside].sum()) / before if before else None
    # The variance of the part by that of the whole: bad rows are kept alike at all times.
    whole = max(float(looked.counted.counts.bad.sum()), 1.0)
    error = _Z * (looked.counted.bad_variance * min(bad / whole, 1.0)) ** 0.5
    return ReportedBad(
        rows=bad,
        low=max(bad - error, 0.0),
        high=bad + error,
        of=rows,
        share=bad / rows if rows else 0.0,
        usual_share=usual,
        recorded=looked.counted.recorded,
    )


def _began(looked: _Looked, drawn: Drawn | None, answers: Sequence[LikelyCause]) -> Onset | None:
    """When it began: of a drift when its input did, since rows become bad when it has moved far."""
    if looked.onset is None or drawn is None or answers[0].kind != "upstream":
        return looked.onset
    return began_to_move(drawn.table, answers[0].subject, looked.counts, looked.onset)


def _reported_onset(looked: _Looked, found: Onset | None, events: Sequence[Event]) -> ReportedOnset | None:
    if found is None:
        return None
    counts = looked.counts
    near = [
        ReportedEvent(nearest_time(event.at_us), event.kind, event.subject, event.detail, belief)
        for event in events
        if (belief := found.near(counts, event.at_us)) >= 0.01
    ]
    return ReportedOnset(
        at=nearest_time(found.at_us),
        earliest=nearest_time(found.earliest_us),
        latest=nearest_time(found.latest_us),
        end=None if found.end_us is None else nearest_time(found.end_us),
        log10_bayes=float(found.log10_bayes),
        bin_s=counts.width_us / 1e6,
        events=sorted(near, key=lambda each: -each.belief)[:_MOST_EVENTS],
    )


def _reported_cause(found: LikelyCause) -> ReportedCause:
    return ReportedCause(found.kind, found.subject, found.weight, found.evidence, found.confirmed, found.undo)


def _reported_slice(found: ExplainedSlice) -> ReportedSlice:
    return ReportedSlice(
        dict(found.where),
        found.rows,
        found.bad_rows,
        found.explained,
        found.explained_low,
        found.odds_low,
        found.q,
    )
