"""Which kind of bad row and which times a question comes down to, and what they are compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from hoverboard.contract.times import micros
from hoverboard.errors import ConfigError
from hoverboard.postmortem.before import last_with_rows
from hoverboard.postmortem.bounds import clipped, recorded_days
from hoverboard.postmortem.ceilings import Ceiling, ceiling
from hoverboard.postmortem.counting import RecordedShare, WindowCounts, bin_width
from hoverboard.postmortem.onset import Onset, onset
from hoverboard.postmortem.placing import EARLIER_INCIDENT, HAD_BEGUN, SetAside, placed, set_aside
from hoverboard.postmortem.question import KINDS, About, Question
from hoverboard.postmortem.strata import onset_of_a_part
from hoverboard.postmortem.table import BinnedCounts, Table
from hoverboard.postmortem.window import RecordedWindow
from hoverboard.postmortem.wording import share

__all__ = ["Inquiry", "choose", "narrowed"]

_DAY: Final = timedelta(days=1)
_ENOUGH: Final = 30
"""Usual rows that say what is usual."""
_MOST_EARLIER: Final = 5
_CLEAR: Final = 3.0
"""Least evidence, as a power of ten, of a rise that is looked for in the window alone: it is one more look."""
_MOSTLY: Final = 0.5
"""Share of bad rows that leaves nothing within the same time to compare them with."""


@dataclass(frozen=True, slots=True, eq=False)
class Inquiry:
    """One kind of bad row over a time.

    Attributes:
        about: the kind.
        usual: the rows that are usual with their counts; None where they are within the window.
        window: the time looked at, with its counts.
        onset: of both together.
        aside: whether the usual rows are others of the same time, which the conditions leave out.
        left_out: rows of the usual time that are not usual, such as those of incidents that were over before the window.
        shifted: whether the usual time is an earlier one than that just before the window, which has no rows.
        dismissed: a usual time that is none: it has more bad rows than the window had before the onset.
        within: whether no onset is told before the window: somebody named its begin, or the usual time lies apart from it.
    """

    about: About
    usual: tuple[RecordedWindow, WindowCounts] | None
    window: RecordedWindow
    counted: WindowCounts
    onset: Onset | None
    aside: bool = False
    left_out: tuple[SetAside, ...] = ()
    within: bool = False
    shifted: bool = False
    dismissed: tuple[RecordedWindow, WindowCounts] | None = None

    @property
    def counts(self) -> BinnedCounts:
        """Of the usual time and the window, one after the other."""
        return self.counted.counts if self.usual is None else WindowCounts.joined([self.usual[1], self.counted]).counts

    @property
    def comparison(self) -> str:
        """What the rows were compared with, the end of a sentence."""
        if self.usual is None:
            if self.dismissed is not None:
                before, counts = self.dismissed[0], self.dismissed[1].counts
                bad = share(float(counts.bad.sum()) / float(counts.rows.sum()))
                return f"the rest of the same time, and not with {before}, of whose rows {bad} are bad"
            return (
                "the rest of the same time"
                if self.onset is not None
                else "nothing outside of it: one part of the time was compared with another"
            )
        window, counted = self.usual
        rows = f"{counted.counts.rows.sum():,.0f} rows"
        if any(each.why == EARLIER_INCIDENT for each in self.left_out):
            rows += " (without those of an earlier incident)"
        if not self.aside:
            return f"{rows} of {window}" if self.compared else f"{window}, of which nothing is recorded"
        left = " and ".join(f"{name}={value}" for name, value in self.window.where.items() if name not in window.where)
        return f"{rows} of the same time without {left}: of the time before too few are recorded"

    @property
    def usual_of(self) -> str:
        """Whose share is the usual one, the end of a sentence."""
        if self.usual is None:
            return "in the rest of the same time"
        if self.aside:
            return "of the others"
        if self.shifted:
            return "in the last time with rows before"
        return "in the time before" if self.usual[0].end == self.window.start else "in the time that was named as usual"

    @property
    def told_usual(self) -> tuple[RecordedWindow, BinnedCounts] | None:
        """The time before or the one that was named, compared with or not, with its counts; None where there is none."""
        found = self.dismissed or (None if self.aside else self.usual)
        return None if found is None else (found[0], found[1].counts)

    @property
    def compared(self) -> bool:
        """Whether there are rows of the usual time, where one was named."""
        return self.usual is None or bool(self.usual[1].counts.rows.sum())

    def split(self, table: Table) -> Table:
        """Its rows with those outside of the incident counted to the usual time."""
        # What was asked for holds of one side only, and says nothing about why it is bad. Of one answer, every other label is wrong.
        asked = {_field_of(name) for name in self.window.where} if self.aside else set()
        if "label" in self.window.where:
            asked.add("label given")
        table = replace(table, fields=tuple(field for field in table.fields if field.name not in asked))
        table = self.without_left_out(table)
        return table if self.onset is None else self.onset.split(table)

    def without_left_out(self, table: Table) -> Table:
        """Its rows without those that are not usual, such as those of incidents that were over before the window."""
        for each in self.left_out:
            table = each.left(table)
        return table

    def began(self, found: Onset | None) -> Inquiry:
        """The same with an onset, told where there are rows, and none of its rows counted to the usual time."""
        placed_ = None if found is None else self.told(found)
        if found is None or placed_ is None or not self.within or self.usual is None:
            return replace(self, onset=placed_)
        start_us, (window, counted) = micros(self.window.start), self.usual
        # Where it may as well have begun with the window, rows before it are usual: those of chance are no first ones.
        if found.latest_us > start_us:
            return replace(self, onset=placed_)
        rest, aside = set_aside(counted, found.at_us, start_us, HAD_BEGUN)
        left_out = (*self.left_out, aside) if aside.rows else self.left_out
        return replace(self, onset=placed_, usual=(window, rest), left_out=left_out)

    def told(self, found: Onset) -> Onset | None:
        """An onset as it is told, see `placed`."""
        return placed(found, self.counts, micros(self.window.start) if self.within else None)


def narrowed(looked: Inquiry, table: Table) -> Inquiry:
    """The same with an onset of a part of the rows, such as those of one caller, where all of them together have none."""
    if looked.onset is not None or looked.aside or not looked.compared:
        return looked
    found = onset_of_a_part(looked.without_left_out(table), looked.counts)
    return looked if _over(found, looked.window) is not None else looked.began(found)


async def choose(recording: RecordedShare, question: Question, now: datetime) -> Inquiry:
    """The times and the kind that were asked for, or what has changed most."""
    windows = question.windows(now)
    asked_of = [*question.where, *question.unless]
    kinds = [about for kind in KINDS if not (about := About.of(kind)).unknown_of(asked_of)]
    if question.about is not None:
        kinds = [question.about]
        if names := question.about.unknown_of(asked_of):
            raise ConfigError(
                f"--where {names[0]}: of {question.about.words} that is not recorded; leave it out, or ask about another kind"
            )
    if windows is None:
        outliers = question.about in (None, About("outliers"))
        since = await recording.alarm_onset(question.window(now - _DAY, now).version) if outliers else None
        if since is not None:
            # As if somebody had asked about the time since, which is counted by the finer the shorter it is.
            kinds = [About("outliers")]
            windows = question.between(since, min(now, since + _DAY))
        else:
            windows = None, question.window(now - _DAY, now)
    usual, window = await _recordable(recording, *windows)
    named = question.start is not None
    last = usual if usual is None or question.against is not None else await last_with_rows(recording, usual)
    shifted, usual = last != usual, last
    looked = [
        found for kind in kinds if (found := await _look(recording, kind, usual, window, named=named)) is not None
    ]
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
    limits = [ceiling(each.about, recording.versions) for each in looked]
    best = max(zip(looked, limits, strict=True), key=_strength)[0]
    return await _outside(recording, replace(best, shifted=shifted), named=named)


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


async def _outside(recording: RecordedShare, looked: Inquiry, *, named: bool) -> Inquiry:
    """The same, compared with rows from outside where the conditions leave too few usual ones.

    The time before under the same conditions comes first, and if it has too few rows, too, others of the same time.
    """
    window, bad = looked.window, looked.counted.counts
    if not window.where or looked.onset is not None or not bad.bad.sum():
        return looked
    if looked.usual is None:
        if bad.bad.sum() < _MOSTLY * bad.rows.sum():
            return looked
        before = replace(window, start=window.start - (window.end - window.start), end=window.start)
        found = await _look(recording, looked.about, before, window, named=named)
        looked = found or looked
    if looked.usual is not None and looked.usual[1].counts.rows.sum() >= _ENOUGH:
        return looked
    who = [name for name in window.where if name == "caller" or name.startswith("tag.")]
    rest = {name: value for name, value in window.where.items() if who and name not in who}
    wide = replace(window, where=rest)
    width = _width(looked.usual and looked.usual[0], window)
    others = (await recording.count(looked.about, wide, width)).without(looked.counted)
    if others.counts.rows.sum() < _ENOUGH:
        return looked
    return replace(looked, usual=(wide, others), onset=None, aside=True, left_out=())


def _width(usual: RecordedWindow | None, window: RecordedWindow) -> timedelta:
    return bin_width(window.end - (usual or window).start)


def _field_of(condition: str) -> str:
    """The name of the field that a condition is about."""
    return f"tag {condition.removeprefix('tag.')}" if condition.startswith("tag.") else condition


def _strength(candidate: tuple[Inquiry, Ceiling | None]) -> tuple[float, float]:
    """What has changed most comes first, then what there is too much of at all times; on a quiet day outliers."""
    looked, limit = candidate
    if looked.onset is not None:
        return looked.onset.log10_bayes, 0.0
    counts = looked.counted.counts
    bad, rows = float(counts.bad.sum()), float(counts.rows.sum())
    if limit is not None and limit.exceeded(bad, rows):
        return 0.0, bad
    return -1.0, float(looked.about.kind == "outliers")


async def _look(
    recording: RecordedShare, about: About, usual: RecordedWindow | None, window: RecordedWindow, *, named: bool
) -> Inquiry | None:
    """One kind; None where nothing says which rows are of it. `named`: whether somebody named the window's begin."""
    limited = await recording.limited(about, usual or window)
    if limited is None:
        return None
    width = _width(usual, window)
    # The window last: the SQL that a report shows is what was asked last.
    before = None if usual is None else await recording.count(limited, usual, width)
    counted = await recording.count(limited, window, width)
    if usual is None or before is None:
        return Inquiry(limited, None, window, counted, None, within=named).began(onset(counted.counts))
    earlier: list[SetAside] = []
    # Of what was over before the window nobody asked, and beside it what came later would seem to be usual. It is looked for by
    # itself first: two incidents in one count look like minutes that vary much.
    found: Onset | None = None
    for beside in ((), (counted,)):
        found = onset(WindowCounts.joined([before, *beside]).counts)
        while (over := _over(found, window)) is not None and len(earlier) < _MOST_EARLIER:
            before, aside = set_aside(before, *over, EARLIER_INCIDENT)
            earlier.append(aside)
            found = onset(WindowCounts.joined([before, *beside]).counts)
    if _over(found, window) is not None:
        found = None
    within = named or usual.end < window.start
    looked = Inquiry(limited, (usual, before), window, counted, None, left_out=tuple(earlier), within=within)
    looked = looked.began(found)
    return looked if looked.onset is not None else _by_itself(looked)


def _by_itself(looked: Inquiry) -> Inquiry:
    """The same, or the window alone where it holds a clear rise that the time before hides, having as many bad rows itself."""
    found = None if looked.usual is None else onset(looked.counted.counts)
    if looked.usual is None or found is None or found.log10_bayes < _CLEAR:
        return looked
    counts = looked.usual[1].counts
    if counts.bad.sum() <= found.usual_share * counts.rows.sum():
        return looked
    return Inquiry(looked.about, None, looked.window, looked.counted, None, within=True, dismissed=looked.usual).began(
        found
    )


def _over(found: Onset | None, window: RecordedWindow) -> tuple[int, int] | None:
    """Begin and end, in microseconds, of an incident that was over before a window; None of another one."""
    if found is None or found.end_us is None or found.end_us > micros(window.start):
        return None
    return found.earliest_us, found.end_us


async def _nothing(recording: RecordedShare, window: RecordedWindow) -> str:
    span = await recording.span()
    there_is = "nothing is in the database"
    if span is not None:
        there_is = f"there are samples from {span[0].date()} {span[0]:%H:%M} to {span[1].date()} {span[1]:%H:%M} UTC: see --from and --to"
    return f"nothing was recorded of {window}; {there_is}"
