"""How many rows there were and how many were bad, minute by minute: of all rows, as Postgres counts them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.times import micros, time_of
from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.errors import ConfigError
from hoverboard.postmortem.question import About
from hoverboard.postmortem.recorded import RecordedVersion, uuid_at
from hoverboard.postmortem.shown import shown
from hoverboard.postmortem.table import BinnedCounts, Event
from hoverboard.postmortem.window import RecordedWindow

__all__ = ["WHOLE", "CountedErrors", "Progress", "RecordedShare", "WindowCounts", "bin_width", "draw_of", "pieces"]

_SQL: Final = statements(__file__)
_MOST_BINS: Final = 1500
_WIDTHS_S: Final = (1, 10, 60, 300, 900, 3600, 6 * 3600, 86_400)
_PIECE_S: Final = 0.3
_LONGEST_PIECE: Final = timedelta(hours=3)
_LEAST_LONGEST: Final = 4
_MOST_PIECES: Final = 240

_MOST_ERRORS: Final = 240_000
"""Enough to draw from, four times as many as are drawn."""
WHOLE: Final = 65_536
"""How many values `draw_of` has."""

_Step = tuple[str, str, tuple[Any, ...]]
"""The name of a figure, its SQL, and its values, of which the second and third are the time."""
Progress = Callable[[str, float], None]
"""Told what is being done, and how much of it is, 0 to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowCounts:
    """Rows by time, and how exactly they are known.

    Attributes:
        counts: of all rows.
        recorded: rows that are in the database, of which `counts` are estimates.
        rows_variance, bad_variance: of the totals, by Horvitz and Thompson: the sum of (1 - p) / p^2.
    """

    counts: BinnedCounts
    recorded: int
    rows_variance: float
    bad_variance: float

    @classmethod
    def joined(cls, parts_: Sequence[WindowCounts]) -> WindowCounts:
        """Of several times, one after the other."""
        names = ("start_us", "rows", "bad", "kept_rows", "kept_bad")
        joined = (np.concatenate([getattr(part.counts, name) for part in parts_]) for name in names)
        return cls(
            BinnedCounts(*joined),
            sum(part.recorded for part in parts_),
            sum(part.rows_variance for part in parts_),
            sum(part.bad_variance for part in parts_),
        )

    def outside(self, begin_us: int, end_us: int) -> WindowCounts:
        """The same without the rows of bins that begin within a time."""
        kept = (self.counts.start_us < begin_us) | (self.counts.start_us >= end_us)
        names = ("rows", "bad", "kept_rows", "kept_bad")
        left = (getattr(self.counts, name) * kept for name in names)
        return replace(self, counts=BinnedCounts(self.counts.start_us, *left))

    def without(self, part: WindowCounts) -> WindowCounts:
        """Of the same time, without the rows of a part of it."""
        names = ("rows", "bad", "kept_rows", "kept_bad")
        rest = (np.maximum(getattr(self.counts, name) - getattr(part.counts, name), 0.0) for name in names)
        return WindowCounts(
            BinnedCounts(self.counts.start_us, *rest),
            self.recorded - part.recorded,
            max(self.rows_variance - part.rows_variance, 0.0),
            max(self.bad_variance - part.bad_variance, 0.0),
        )


def draw_of(id_: UUID) -> int:
    """The two bytes of an id that rows are drawn by, 0 to `WHOLE` - 1: not those that the policy `sampled` keeps rows by."""
    return id_.bytes[11] * 256 + id_.bytes[10]


@dataclass(slots=True)
class CountedErrors:
    """Samples without an answer, as far as they were counted: all of them, or a part where there are too many.

    Attributes:
        below: `draw_of` of those that are here.
        ids: theirs.
    """

    below: int = WHOLE
    ids: list[UUID] = field(default_factory=list)

    def add(self, ids: Sequence[UUID]) -> None:
        """Keep some more."""
        self.ids += ids
        while len(self.ids) > _MOST_ERRORS:
            self.below //= 2
            self.ids = [each for each in self.ids if draw_of(each) < self.below]

    def between(self, start: datetime, end: datetime, below: int) -> set[UUID]:
        """Those of a time that are drawn."""
        first, last = _ids(start, end)
        return {each for each in self.ids if first <= each < last and draw_of(each) < below}


class _Sums:
    """What one statement counts, by bins.

    Args:
        start_us: int64 `(bins,)`, microseconds.
    """

    def __init__(self, start_us: NDArray[np.int64]) -> None:
        self.start_us = start_us
        self.columns = {name: np.zeros(len(start_us)) for name in ("rows", "all_rows", "recorded", "recorded_bad")}
        self.variance = self.all_variance = 0.0

    def __getitem__(self, column: str) -> NDArray[np.float64]:
        return self.columns[column]

    @property
    def recorded(self) -> int:
        return int(self["recorded"].sum())

    def add(self, rows: Sequence[Any]) -> None:
        """Add what is counted of a piece: `bin`, `rows`, `variance`, `recorded`, and of labels `all_rows`, `all_variance` and `recorded_bad`."""
        for row in rows:
            at = int(np.searchsorted(self.start_us, micros(row["bin"])))
            for name, column in self.columns.items():
                column[at] += row.get(name) or 0.0
            self.variance += row["variance"] or 0.0
            self.all_variance += row.get("all_variance") or 0.0


@dataclass(slots=True)
class RecordedShare:
    """What was recorded of one model, for questions; keeps the SQL of every figure.

    Attributes:
        connection: as of `reading`.
        model: its name.
        versions: all that answered.
        sql: what was asked, by name of the figure.
        told: of progress.
        blanked: inputs of which the recording policy hides single elements.
    """

    connection: Connection
    model: str
    versions: Sequence[RecordedVersion]
    told: Progress
    blanked: Collection[str] = ()
    sql: dict[str, str] = field(default_factory=dict)
    errors: CountedErrors = field(default_factory=CountedErrors)
    _counted: dict[tuple[Any, ...], _Sums] = field(default_factory=dict)

    async def fetch(self, figure: str, sql: str, *values: Any) -> list[Any]:
        """Rows of a statement, which is noted under the name of a figure."""
        self.sql.setdefault(figure, shown(sql, values))
        return await self.connection.fetch(sql, *values)

    @property
    def ids(self) -> list[int]:
        """`model_versions.id` of all versions."""
        return [version.id for version in self.versions]

    @property
    def numbers(self) -> list[int]:
        """Numbers of all versions, ascending."""
        return sorted({version.version for version in self.versions})

    def ids_of(self, number: int | None) -> list[int] | None:
        """Those of one number; None for any."""
        return None if number is None else [each.id for each in self.versions if each.version == number]

    def excluded(self, window: RecordedWindow) -> tuple[list[Any] | None, ...]:
        """As `RecordedWindow.excluded`, with the ids of versions for their numbers."""
        tags, versions, *others = window.excluded
        ids = None if versions is None else [each.id for each in self.versions if each.version in versions]
        return tags, ids, *others

    async def alarm_onset(self, version: int | None) -> datetime | None:
        """Since when the rate of the first raised alarm, of one version or of any, seems to have risen; None where none is raised."""
        rows = await self.fetch("alarm", _SQL["raised_alarm"], self.model, version)
        return (rows[0]["onset_at"] or rows[0]["raised_at"]) if rows else None

    async def span(self) -> tuple[datetime, datetime] | None:
        """The times of the first and the last recorded sample."""
        first = await self.connection.fetchval(_SQL["recorded_from"], self.model)
        last = await self.connection.fetchval(_SQL["recorded_until"], self.model)
        return None if first is None else (first, last)

    async def last_row(self, start: datetime, end: datetime) -> datetime | None:
        """The time of the last recorded sample of a time; None where there is none."""
        found = await self.connection.fetchval(_SQL["last_between"], self.model, start, end, *_ids(start, end))
        return found if found is None else time_of(micros(found))

    async def limited(self, about: About, usual: RecordedWindow) -> About | None:
        """The same with what counts as slow, or as a wrong value; None where nothing in the usual time says so."""
        if about.kind == "slow":
            values: tuple[Any, ...] = (self.ids, usual.start, usual.end)
            rows = await self.fetch("slow above", _SQL["slow_above"], *values)
        elif about.kind == "wrong" and any(version.signature.task == "regression" for version in self.versions):
            values = (self.ids, usual.start, usual.end, *_ids(usual.start, usual.end))
            rows = await self.fetch("wrong above", _SQL["wrong_above"], *values)
        else:
            return about
        return None if rows[0][0] is None else replace(about, above=rows[0][0])

    async def count(self, about: About, window: RecordedWindow, width: timedelta) -> WindowCounts:
        """All rows of a window in bins of a width, which begin at multiples of it."""
        if about.kind == "wrong":
            # Only what has a label can be right or wrong: one statement counts both.
            both = await self._sums(self._bad(about, window, width), about.words, window, width)
            names = ("all_rows", "rows", "recorded", "recorded_bad")
            counts = BinnedCounts(both.start_us, *(both[name] for name in names))
            return WindowCounts(counts, both.recorded, both.all_variance, both.variance)
        all_ = await self._sums(self._rows(window, width), "samples", window, width)
        bad = await self._sums(self._bad(about, window, width), about.words, window, width)
        # A refused call has no sample.
        more = bad.columns if about.kind == "refusals" else dict.fromkeys(bad.columns, 0.0)
        counts = BinnedCounts(
            *(all_.start_us, all_["rows"] + more["rows"], bad["rows"]),
            *(all_["recorded"] + more["recorded"], bad["recorded"]),
        )
        return WindowCounts(counts, all_.recorded, all_.variance, bad.variance)

    async def _sums(self, step: _Step, what: str, window: RecordedWindow, width: timedelta) -> _Sums:
        """What a statement counts, piece by piece; what was counted already is not counted again."""
        figure, sql, values = step
        # Of the window as a whole: what runs is the same in pieces.
        self.sql[figure] = shown(sql, values)
        key = sql, repr(values)
        if key in self._counted:
            return self._counted[key]
        found = _Sums(_bins(window.start, window.end, width))
        for start, end in pieces(window, width):
            self.told(f"Counting {what}", (start - window.start) / (window.end - window.start))
            if sql is _SQL["count_errors"]:
                values = (*values[:-1], self.errors.below)
            rows = await self.connection.fetch(sql, values[0], start, end, *values[3:])
            found.add(rows)
            self.errors.add([each for row in rows for each in row.get("ids") or ()])
        self._counted[key] = found
        return found

    def _rows(self, window: RecordedWindow, width: timedelta) -> _Step:
        tags, version, label, caller, process = window.conditions
        unlike = self.excluded(window)
        if (version, label, process, unlike[1], unlike[2], unlike[4]) == (None,) * 6:
            values = (self.model, window.start, window.end, tags, caller, width, unlike[0], unlike[3])
            return "rows", _SQL["count_samples"], values
        return "rows", _SQL["count_answers"], (*self._conditions(window), width, None, None, *unlike)

    def _bad(self, about: About, window: RecordedWindow, width: timedelta) -> _Step:
        tags, _, _, caller, _ = window.conditions
        figure = f"bad: {about}"
        times = (self.model, window.start, window.end)
        unlike = self.excluded(window)
        if about.kind == "refusals":
            return figure, _SQL["count_refusals"], (*times, tags, width, unlike[0])
        if about.kind == "errors":
            return figure, _SQL["count_errors"], (*times, tags, caller, width, unlike[0], unlike[3], WHOLE)
        values = (*self._conditions(window), width)
        if about.kind == "wrong":
            return figure, _SQL["count_labelled"], (*values, about.above, *unlike)
        if about.kind == "outliers":
            return figure, _SQL["count_outliers"], (*values, *unlike)
        return figure, _SQL["count_answers"], (*values, about.above, about.label, *unlike)

    def _conditions(self, window: RecordedWindow) -> tuple[Any, ...]:
        tags, version, label, caller, process = window.conditions
        chosen = self.ids_of(version)
        return (self.model, window.start, window.end, tags, version, label, caller, process, self.ids, chosen)

    async def events(self, window: RecordedWindow) -> list[Event]:
        """What happened meanwhile; a deployment's subject is its version."""
        rows = await self.fetch("events", _SQL["events"], self.model, window.start, window.end)
        return [
            Event(
                micros(row["at"]),
                row["kind"],
                str(row["version"] or row["subject"]) if row["kind"] == "deployment" else row["subject"],
                row["detail"] or "",
            )
            for row in rows
        ]

    async def gaps(self, window: RecordedWindow) -> list[Any]:
        """What is missing of a window: `reason`, `gaps`, `records`."""
        return await self.fetch("gaps", _SQL["gaps"], self.model, window.start, window.end)


async def known_models(connection: Connection) -> list[str]:
    """Names of the models that ever answered."""
    return [row["name"] for row in await connection.fetch(_SQL["models"])]


def bin_width(length: timedelta) -> timedelta:
    """How long a bin is, so that there are not too many of them: a minute for a day."""
    seconds = next((each for each in _WIDTHS_S if length.total_seconds() <= each * _MOST_BINS), _WIDTHS_S[-1])
    # A quarter of an hour is looked at more closely than by fifteen minutes; a day by minutes.
    return timedelta(seconds=seconds)


def pieces(window: RecordedWindow, width: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """A window in pieces, each so long that what is done with it takes about `_PIECE_S`; they meet where a bin begins.

    However many rows there are: what a statement joins by then fits into an untuned `work_mem`, none runs into its
    timeout, and people see that it goes on.
    """
    step, first, end = micros_of(width), micros(window.start), micros(window.end)
    longest = max(_LONGEST_PIECE // width, _LEAST_LONGEST)  # many rows may come after few
    least = max(1, (end - first) // step // _MOST_PIECES)  # each costs something, however short
    at, bins = first // step * step, least
    while at < end:
        began = time.monotonic()
        yield time_of(max(at, first)), time_of(min(at + bins * step, end))
        at += bins * step
        faster = _PIECE_S / max(time.monotonic() - began, _PIECE_S / 8)
        bins = max(least, min(round(bins * faster), longest))


def micros_of(width: timedelta) -> int:
    """A length in microseconds."""
    return width // timedelta(microseconds=1)


def _bins(start: datetime, end: datetime, width: timedelta) -> Any:
    step = micros_of(width)
    return np.arange(micros(start) // step, -(-micros(end) // step), dtype=np.int64) * step


def _ids(start: datetime, end: datetime) -> tuple[Any, Any]:
    return uuid_at(start), uuid_at(end, round_up=True)


async def require_model(connection: Connection, model: str, versions: Sequence[RecordedVersion]) -> None:
    """Refuse a model that nothing was recorded of.

    Raises:
        ConfigError: it is unknown; with the models that there are.
    """
    if not versions:
        known = ", ".join(await known_models(connection)) or "none yet"
        raise ConfigError(f"no model {model!r} has been recorded; recorded models: {known}")
