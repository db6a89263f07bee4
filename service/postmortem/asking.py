"""A question answered: counts, the onset, the rows that are looked at, and what the statistics say of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import msgspec
import numpy as np

from hoverboard.contract.times import micros, nearest_time, time_of
from hoverboard.database.connect import Connection
from hoverboard.postmortem.before import last_quiet
from hoverboard.postmortem.bounds import EPOCH
from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.ceilings import Ceiling, ceiling
from hoverboard.postmortem.charts import histograms, timeline
from hoverboard.postmortem.choosing import Inquiry, choose, narrowed
from hoverboard.postmortem.commands import next_commands
from hoverboard.postmortem.comparing import answering, compare
from hoverboard.postmortem.confirming import Confirmer
from hoverboard.postmortem.counting import Progress, RecordedShare, require_model
from hoverboard.postmortem.drawing import Drawn, draw
from hoverboard.postmortem.drifting import began_to_move
from hoverboard.postmortem.examples import examples
from hoverboard.postmortem.onset import Onset
from hoverboard.postmortem.question import Question
from hoverboard.postmortem.recorded import recorded_versions
from hoverboard.postmortem.report import (
    Report,
    ReportedAside,
    ReportedBad,
    ReportedCause,
    ReportedEvent,
    ReportedExample,
    ReportedOnset,
    ReportedSlice,
)
from hoverboard.postmortem.slices import ExplainedSlice
from hoverboard.postmortem.table import Event, Table
from hoverboard.postmortem.undoing import undone
from hoverboard.postmortem.unknown import unknown
from hoverboard.postmortem.window import RecordedWindow
from hoverboard.postmortem.wording import share, summary
from hoverboard.versions.baseline import Baseline
from hoverboard.watch.drift_table import find_baseline

__all__ = ["postmortem"]

_MOST_EVENTS: Final = 8
_MOST_SINCE: Final = 3
_Z: Final = 1.96
_BEFORE: Final = timedelta(minutes=5)
"""How long before a time, or its onset, something may have happened that has to do with it: people round times down."""
_SILENCE_US: Final = 60_000_000
_MISSED: Final = 30
"""Rows that should have come in a silence before anybody says that they have ended."""


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
    looked = await choose(recording, question, now)
    events = await recording.events(_around(looked))
    baseline = await _baseline(recording)
    usual = None if looked.usual is None else (looked.usual[0], looked.usual[1].counts)
    now_ = (looked.window, looked.counted.counts)
    drawn = await draw(recording, looked.about, baseline, usual, now_, aside=looked.aside)
    if drawn is not None:
        looked = await asyncio.to_thread(narrowed, looked, drawn.table)
    told("Comparing", 0.0)
    table = None if drawn is None else looked.split(drawn.table)
    limit = ceiling(looked.about, versions if drawn is None else answering(versions, drawn.table))
    bad = _bad(looked, limit)
    # Seconds of NumPy; Postgres should not wait for an answer to its keepalives meanwhile.
    compared = await asyncio.to_thread(compare, looked, table, events, bad, limit)
    answers = compared.answers
    if confirmer is not None and table is not None:
        answers = await confirmer.confirmed(recording, looked.about, table, answers)
    span = await recording.span()
    onset = _reported_onset(looked, _began(looked, drawn, answers), events, None if span is None else span[1])
    strange, against = await _strange(recording, looked, limit)
    changed, found = compared.changed or compared.beyond is not None, compared.found
    return Report(
        model=question.model,
        about=str(looked.about),
        summary=summary(
            *(question.model, looked.about, _since(looked, onset), bad, answers[0] if answers else None),
            compared=looked.compared,
            changed=compared.changed,
            beyond=compared.beyond is not None,
            where=looked.window.written,
        ),
        changed=changed,
        start=looked.window.start,
        end=looked.window.end,
        usual=None if looked.usual is None else (looked.usual[0].start, looked.usual[0].end),
        set_aside=_set_aside(looked),
        comparison=looked.comparison,
        where=dict(question.where),
        unless=dict(question.unless),
        onset=onset,
        bad=bad,
        who=compared.who,
        slices=[_reported_slice(each) for each in found],
        causes=list(map(_reported_cause, answers, undone(answers, question, recording.numbers))),
        timeline=timeline(looked.counted.counts if looked.aside else looked.counts, looked.onset, events),
        histograms=[] if table is None or (looked.onset is None and not found) else histograms(table, found, answers),
        examples={} if not changed and looked.usual is None else await _examples(recording, looked, table),
        unknown=[
            *strange,
            *await unknown(
                recording,
                looked.window,
                drawn,
                bad,
                about=looked.about,
                compared=baseline is not None,
                rows=float(looked.counted.counts.rows.sum()),
            ),
        ],
        next=next_commands(
            question,
            looked.about,
            looked.window,
            looked.onset,
            changed=changed,
            answers=answers,
            found=found,
            who=compared.who,
            versions=recording.numbers,
            first=None if span is None else span[0],
            against=against,
        ),
        sql=recording.sql,
        looked_at=0 if drawn is None else len(drawn.table),
        seconds=round(time.monotonic() - began, 3),
    )


async def _baseline(recording: RecordedShare) -> Baseline | None:
    """Of the newest version that has one: its bins are what inputs are compared in."""
    for version in reversed(recording.versions):
        found = await find_baseline(recording.connection, version.id)
        if found is not None:
            return found
    return None


def _around(looked: Inquiry) -> RecordedWindow:
    """The window, and some time before it or before its onset: what was done then shows in rows only later."""
    starts = [looked.window.start, *([] if looked.onset is None else [time_of(looked.onset.earliest_us)])]
    before = max(_BEFORE, timedelta(microseconds=2 * looked.counts.width_us))
    return replace(looked.window, start=min(starts) - min(before, min(starts) - EPOCH))


async def _strange(
    recording: RecordedShare, looked: Inquiry, limit: Ceiling | None
) -> tuple[list[str], RecordedWindow | None]:
    """A sentence that the usual time was an incident itself, if it was, and a time that is worth comparing with instead."""
    if looked.told_usual is None:
        return [], None
    window, counts = looked.told_usual
    bad, rows = float(counts.bad.sum()), float(counts.rows.sum())
    told = []
    if limit is not None and limit.exceeded(bad, rows):
        told.append(
            f"The usual time was an incident itself: {bad:,.0f} of {rows:,.0f} rows of {window} are bad ({share(bad / rows)}), "
            f"though {limit.words}. --against names another one."
        )
    if looked.dismissed is not None and looked.onset is not None:
        # What the window had before it began.
        return told, replace(window, start=looked.window.start, end=nearest_time(looked.onset.at_us))
    return told, None if limit is None or not told else await last_quiet(recording, looked.about, window, limit)


async def _examples(
    recording: RecordedShare, looked: Inquiry, table: Table | None
) -> Mapping[str, Sequence[ReportedExample]]:
    if table is None:
        return {}
    first = looked.window.start if looked.usual is None else looked.usual[0].start
    return await examples(recording, table, (first, looked.window.end))


def _bad(looked: Inquiry, limit: Ceiling | None) -> ReportedBad:
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
    usual_bad = float(counts.bad[~inside].sum())
    usual = usual_bad / before if before else None
    # The variance of the part by that of the whole: bad rows are kept alike at all times.
    whole = max(float(looked.counted.counts.bad.sum()), 1.0)
    error = _Z * (looked.counted.bad_variance * min(bad / whole, 1.0)) ** 0.5
    kept = counts.bad if counts.kept_bad is None else counts.kept_bad
    return ReportedBad(
        rows=bad,
        low=max(bad - error, float(kept[inside].sum())),
        high=bad + error,
        of=rows,
        share=bad / rows if rows else 0.0,
        usual_share=usual,
        recorded=looked.counted.recorded,
        usual_of=None if usual is None else looked.usual_of,
        allowed_share=None if limit is None else limit.share,
        allowed_by=None if limit is None else limit.words,
        usual_rows=before or None,
        usual_bad=None if usual is None else usual_bad,
    )


def _set_aside(looked: Inquiry) -> list[ReportedAside]:
    """Within the usual time, of whose first bin it may have a part."""
    if looked.usual is None:
        return []
    start, end = looked.usual[0].start, looked.usual[0].end
    return [
        ReportedAside(
            max(nearest_time(each.begin_us), start), min(nearest_time(each.end_us), end), each.rows, each.bad, each.why
        )
        for each in looked.left_out
    ]


def _began(looked: Inquiry, drawn: Drawn | None, answers: Sequence[LikelyCause]) -> Onset | None:
    """When it began: of a drift when its input did, since rows become bad when it has moved far."""
    if looked.onset is None or drawn is None or answers[0].kind != "upstream":
        return looked.onset
    return looked.told(began_to_move(drawn.table, answers[0].subject, looked.counts, looked.onset)) or looked.onset


def _silent(looked: Inquiry, found: Onset, last: datetime | None) -> datetime | None:
    """When the last row came, where none has come since though many should have; None where rows come.

    Args:
        last: recorded row of all, whatever was asked about.
    """
    counts = looked.counts
    some = np.flatnonzero(counts.rows)
    if found.end_us is not None or not len(some):
        return None
    end_us = int(counts.start_us[some[-1]]) + counts.width_us
    silence = micros(looked.window.end) - end_us
    pace = float(counts.rows[counts.start_us >= found.at_us].sum()) / max(end_us - found.at_us, 1)
    if silence < _SILENCE_US or silence * pace < _MISSED:
        return None
    end = nearest_time(end_us)
    return end if last is None else min(last, end)


def _reported_onset(
    looked: Inquiry, found: Onset | None, events: Sequence[Event], last: datetime | None
) -> ReportedOnset | None:
    if found is None:
        return None
    counts = looked.counts
    end_us = found.end_us or micros(looked.window.end)
    near, since = [], []
    for event in events:
        told = ReportedEvent(nearest_time(event.at_us), event.kind, event.subject, event.detail, None)
        if event.consequence:
            since += [told] if found.at_us <= event.at_us < end_us else []
        elif (belief := found.near(counts, event.at_us)) >= 0.01:
            near.append((belief, msgspec.structs.replace(told, belief=belief)))
    near.sort(key=lambda each: -each[0])
    return ReportedOnset(
        at=nearest_time(found.at_us),
        earliest=nearest_time(found.earliest_us),
        latest=nearest_time(found.latest_us),
        end=None if found.end_us is None else nearest_time(found.end_us),
        log10_bayes=float(found.log10_bayes),
        bin_s=counts.width_us / 1e6,
        events=[each for _, each in near[:_MOST_EVENTS]] + since[:_MOST_SINCE],
        last=_silent(looked, found, last),
    )


def _since(looked: Inquiry, told: ReportedOnset | None) -> ReportedOnset | None:
    """Since when rows are bad, which totals are of: what made them so may have begun before."""
    if looked.onset is None or told is None:
        return None
    return msgspec.structs.replace(told, at=nearest_time(looked.onset.at_us))


def _reported_cause(found: LikelyCause, undo: str) -> ReportedCause:
    return ReportedCause(found.kind, found.subject, found.weight, found.evidence, found.confirmed, undo)


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
