"""The hypotheses about a rise of bad rows: a caller, a version, a process, an odd input, something new, load, labels, a drift.

Who sent or answered a row comes before what was sent: where an odd input comes from one caller, the caller is the cause, and the
input its evidence. The other way round it would be the caller's fault that it sends most of the traffic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from hoverboard.postmortem.cells import Cells, Draw, Matrix, exposure_of
from hoverboard.postmortem.onset import Onset
from hoverboard.postmortem.shapes import MANY, Shape, exchanged, missing, moved, outside, scaled
from hoverboard.postmortem.slices import ExplainedSlice, rows_of
from hoverboard.postmortem.table import EXOGENOUS, OURS, BinnedCounts, Event, Field, Table

__all__ = ["Hypothesis", "Moment", "hypotheses"]

Where = tuple[tuple[str, str], ...]
HypothesisKind = Literal["version", "caller", "schema", "machine", "novelty", "load", "labels", "upstream", "none"]
_WHO: Final[dict[str, HypothesisKind]] = {
    "tag": "caller",
    "caller": "caller",
    "process": "machine",
    "version": "version",
    "role": "version",
    "label": "labels",
}
_LEAST_BAD: Final = 5
_ALL: Final = 0.98
_TOP: Final = 4
_LEAST_SHARE: Final = 0.25
_MOVED: Final = 0.12
_BUSY: Final = 0.15


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """More rows are bad in one cell, and nowhere else.

    Attributes:
        kind: of cause.
        subject: what is at fault.
        where: the cell; empty for all rows.
        bad, expected: bad rows of the incident in it, and as many as there would usually be.
        g: evidence against no change, in units of chi-squared.
        looked_at: how many cells it was picked from.
        timing: twice the logarithm of the odds that it gains because something happened at the onset.
        evidence: one sentence.
        whole: whether it says that all rows changed, as "none of these" does, and differs from it by timing alone.
    """

    kind: HypothesisKind
    subject: str
    where: Where
    bad: float
    expected: float
    g: float
    looked_at: int
    timing: float
    evidence: str
    whole: bool = False

    @property
    def excess(self) -> float:
        """Bad rows beyond what is usual."""
        return self.bad - self.expected


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """When it began, and what happened around then."""

    counts: BinnedCounts
    onset: Onset | None
    events: tuple[Event, ...]

    def timing(self, kinds: Sequence[str], subject: str, seen_us: int | None) -> tuple[float, float | None]:
        """Twice the log odds by which an event at the onset is no coincidence, and the belief that it was then.

        Args:
            kinds: of events.
            subject: of the event, or one of its words.
            seen_us: when it was first seen in the rows, which counts where there is no such event.
        """
        if self.onset is None:
            return 0.0, None
        times = [each.at_us for each in self.events if each.kind in kinds and subject in each.subject.split()]
        if not times and seen_us is not None:
            times = [seen_us]
        if not times:
            return 0.0, None
        belief = max(self.onset.near(self.counts, at_us) for at_us in times)
        # By chance an event falls within a step of the onset in three of all bins, for each event that there was.
        chance = min(1.0, 3 * len(times) / max(len(self.counts.rows), 1))
        return 2 * math.log(max(belief, 1e-3) / chance), belief


@dataclass(frozen=True, slots=True, eq=False)
class _What:
    """A cell of what was sent or answered."""

    where: Where
    bad: float
    expected: float
    g: float
    looked_at: int


def hypotheses(draw: Draw, moment: Moment, found: Sequence[ExplainedSlice]) -> Iterator[Hypothesis]:
    """All that can be said of a draw, for `causes` to choose from."""
    cells = _what(draw, found)
    yield from _who(draw, moment, cells)
    yield from _inputs(draw, cells)
    yield from _labels(draw)
    yield from _load(draw, moment)


def _who(draw: Draw, moment: Moment, cells: Sequence[_What]) -> Iterator[Hypothesis]:
    table = draw.table
    for field in table.fields:
        if field.kind not in _WHO or field.name == "label":
            continue
        counts = draw.count(field)
        exposure = exposure_of(draw, [field], counts)
        alone = Cells.of(draw, counts, exposure, alike=field.kind in OURS)
        if field.kind != "label":
            yield from _who_alone(draw, moment, field, alone)
        for what in cells:
            inside = rows_of(table, what.where) & ~table.base & table.bad
            bad = np.bincount(field.codes[inside], minlength=len(field.values)).astype(np.float64)
            yield from _who_and_what(draw, moment, field, alone=alone, bad=bad, what=what)


def _who_alone(draw: Draw, moment: Moment, field: Field, cells: Cells) -> Iterator[Hypothesis]:
    g = cells.g(draw.phi)
    for code in _top(cells, g):
        bad, expected = float(cells.bad[code]), float(cells.expected[code])
        yield from _of_who(
            draw, moment, field, code=code, cell=(bad, expected, float(g[code])), looked_at=len(field.values)
        )


def _who_and_what(
    draw: Draw, moment: Moment, field: Field, *, alone: Cells, bad: Matrix, what: _What
) -> Iterator[Hypothesis]:
    """The value that has nearly all bad rows of a cell, and more of them than its share of all rows.

    What the cell says against no change, and what it says beyond that about whose rows they are.
    """
    code = int(bad.argmax())
    k, whole = float(bad[code]), float(bad.sum())
    share = float(alone.expected[code] / max(alone.expected.sum(), 1e-9))
    enough = k >= 0.67 * whole + 0.33 * what.expected and k >= _LEAST_BAD
    if code == 0 or not enough or k <= whole * share or alone.bad[code] <= alone.expected[code] or share > _ALL:
        return
    rest = whole - k
    g = 2 * (k * math.log(k / (whole * share)) + (rest * math.log(rest / (whole * (1 - share))) if rest else 0.0))
    words = f", nearly all of them with {_words(what.where)}"
    cell = (k, min(float(alone.expected[code]), what.expected), what.g + g / draw.phi)
    looked_at = what.looked_at * len(field.values)
    yield from _of_who(draw, moment, field, code=code, cell=cell, looked_at=looked_at, words=words)


def _of_who(
    draw: Draw,
    moment: Moment,
    field: Field,
    *,
    code: int,
    cell: tuple[float, float, float],
    looked_at: int,
    words: str = "",
) -> Iterator[Hypothesis]:
    kind, value = _WHO[field.kind], field.values[code]
    bad, expected, g = cell
    here = field.codes == code
    everything = bool(here[~draw.table.base].mean() > _ALL)
    if everything and (not draw.table.base.any() or here[draw.table.base].mean() > _ALL):
        return  # it was the only one before, too
    if everything:
        # It has all rows there are, and only the time of its coming tells it from a rise everywhere.
        bad, expected = draw.bad_now, draw.expected
        g = float(Cells.of(draw, draw.totals[:, np.newaxis]).g(draw.phi)[0])
    timing, belief = 0.0, None
    if kind == "version":
        timing, belief = moment.timing(("deployment",), value, int(draw.table.at_us[here].min()))
    elif kind == "caller" and everything:
        timing, belief = moment.timing((), value, int(draw.table.at_us[here].min()))
    elif kind == "machine":
        timing, belief = moment.timing(("start", "death"), value, None)
    subject = f"{field.name} {value}" if field.kind in ("tag", "label") else value
    evidence = (
        f"{bad:,.0f} of {draw.bad_now:,.0f} bad rows are of {field.name} {value}, which would usually have {expected:,.0f}"
        f"{words}; the others have {draw.bad_now - bad:,.0f}"
    )
    if belief is not None and belief > 0.05:
        evidence += f"; with {belief:.0%} belief it began within a minute of what happened to {field.name} {value}"
    yield Hypothesis(kind, subject, ((field.name, value),), bad, expected, g, looked_at, timing, evidence, everything)


def _top(cells: Cells, g: Matrix, count: int = 2) -> list[int]:
    order = np.argsort(-g, kind="stable")
    return [int(code) for code in order[:count] if code > 0 and g[code] > 0 and cells.bad[code] >= _LEAST_BAD]


def _what(draw: Draw, found: Sequence[ExplainedSlice]) -> list[_What]:
    """The cells of what was sent that hold most of the excess, single ones and pairs that were found as slices."""
    cells: list[_What] = []
    looked_at = 0
    fields = [field for field in draw.table.fields if field.kind in EXOGENOUS]
    excess = draw.bad_now - draw.expected
    for field in fields:
        counted = Cells.of(draw, draw.count(field))
        g = counted.g(draw.phi)
        looked_at += len(field.values)
        first = 1 if field.kind in ("word", "cluster") else 0
        for code in np.argsort(-g)[:2].tolist():
            enough = counted.bad[code] - counted.expected[code] >= _LEAST_SHARE * excess
            if code >= first and enough and counted.bad[code] >= _LEAST_BAD:
                where = ((field.name, field.values[code]),)
                cells.append(_What(where, float(counted.bad[code]), float(counted.expected[code]), float(g[code]), 1))
    kinds = {field.name: field.kind for field in draw.table.fields}
    for each in found:
        parts = tuple(part for part in each.where if kinds.get(part[0]) in EXOGENOUS)
        if len(parts) == 2:
            cells.append(_cell(draw, parts))
    cells.sort(key=lambda cell: -cell.g)
    return [replace(cell, looked_at=looked_at ** len(cell.where)) for cell in cells[:_TOP]]


def _cell(draw: Draw, where: Where) -> _What:
    inside = rows_of(draw.table, where)
    counts = np.bincount(draw.group[inside], minlength=4).astype(np.float64)[:, np.newaxis]
    cells = Cells.of(draw, counts)
    return _What(where, float(cells.bad[0]), float(cells.expected[0]), float(cells.g(draw.phi)[0]), 1)


def _inputs(draw: Draw, cells: Sequence[_What]) -> Iterator[Hypothesis]:
    """Schema, novelty or drift: what is odd about the rows of a cell."""
    table = draw.table
    drifted = _drifted(table)
    for cell in cells:
        inside = rows_of(table, cell.where) & ~table.base & table.bad
        of = f"{cell.bad:,.0f} of {draw.bad_now:,.0f} bad rows have {_words(cell.where)}, usually {cell.expected:,.0f}"
        if not _came(draw, cell):
            # As many rows as ever have these values, and more of them are bad: that is the model's doing, not theirs.
            continue
        kind, subject, words = _told(table, cell, inside, drifted)
        yield Hypothesis(
            kind, subject, cell.where, cell.bad, cell.expected, cell.g, cell.looked_at, 0.0, f"{of}{words}"
        )


def _told(
    table: Table, cell: _What, inside: NDArray[np.bool_], drifted: Sequence[tuple[Field, float]]
) -> tuple[HypothesisKind, str, str]:
    field = table.field(cell.where[0][0])
    if drifted:
        # All of the traffic has moved: what is odd about the bad rows is odd about the good ones.
        moved_, by = drifted[0]
        way = "up" if by > 0 else "down"
        words = f"; {moved_.name} has moved {way} in good rows, too, by {abs(by):.0%} of the usual ones"
        return "upstream", moved_.name, words
    shape = missing(table, inside) or exchanged(table, inside) or scaled(table, inside)
    if shape is None:
        for name, value in cell.where:
            one = table.field(name)
            if one is not None and _beyond(table, one, one.values.index(value)):
                shape = Shape(name, "lies outside of what the baseline has")
    if shape is not None:
        return "schema", shape.field, f"; {shape.field} {shape.words}"
    name = field.name if field is not None else ""
    return (
        "novelty",
        _words(cell.where) or name,
        "; their inputs are well-formed, and of a kind that there was not before",
    )


def _beyond(table: Table, field: Field, code: int) -> bool:
    if sum(each.kind == "input" for each in table.fields) > MANY:
        return False  # ink where there never was any is another picture
    usual = field.codes[table.base & ~table.bad]
    return outside(table, field, code) and (len(usual) == 0 or float((usual == code).mean()) < 0.01)


def _drifted(table: Table) -> list[tuple[Field, float]]:
    """Inputs whose good rows have moved, the farthest first."""
    found = [(field, moved(table, field)) for field in table.fields if field.kind == "input"]
    return sorted((each for each in found if abs(each[1]) > _MOVED), key=lambda each: -abs(each[1]))


def _came(draw: Draw, cell: _What) -> bool:
    """Whether more rows than usual have the values of a cell, at least half as many more as are bad."""
    if not draw.totals[2:].any():
        return True
    inside = rows_of(draw.table, cell.where)
    counts = np.bincount(draw.group[inside], minlength=4).astype(np.float64)
    now, before = draw.rows(counts)
    ratio = draw.rows_now / max(draw.rows_before, 1.0)
    more = float(now) - float(before) * ratio
    return bool(more >= 0.5 * (cell.bad - cell.expected) * draw.weights[0])


def _labels(draw: Draw) -> Iterator[Hypothesis]:
    """A class that comes more often with the same share of bad rows, or labels of one source or kind that are wrong."""
    for field in draw.table.fields:
        if field.kind != "label":
            continue
        counts = draw.count(field)
        cells = Cells.of(draw, counts)
        own = Cells.of(draw, counts, draw.rows(counts))
        g = cells.g(draw.phi)
        for code in _top(cells, g):
            bad, expected = float(cells.bad[code]), float(cells.expected[code])
            answered = field.name == "label"
            if answered and float(own.g(draw.phi)[code]) > 0.3 * float(g[code]):
                continue  # not more of them, but worse ones: that is no shift of labels
            everything = bad > 0.98 * draw.bad_now
            how = "come more often than they did" if answered else "are wrong more often, or more of all"
            evidence = f"{bad:,.0f} of {draw.bad_now:,.0f} bad rows have {field.name} {field.values[code]}, usually {expected:,.0f}; such rows {how}"
            timing = 6.0 if everything else 0.0
            yield Hypothesis(
                "labels",
                f"{field.name} {field.values[code]}",
                ((field.name, field.values[code]),),
                bad,
                expected,
                float(g[code]),
                len(field.values),
                timing,
                evidence,
                everything,
            )


def _load(draw: Draw, moment: Moment) -> Iterator[Hypothesis]:
    """Good rows, too, wait longer or run in larger batches."""
    busy = [(field, moved(draw.table, field)) for field in draw.table.fields if field.kind == "bucket"]
    busy = [each for each in busy if each[1] > _BUSY]
    if not busy:
        return
    field, by = max(busy, key=lambda each: each[1])
    pace = _pace(moment)
    cells = Cells.of(draw, draw.totals[:, np.newaxis])
    evidence = (
        f"{draw.bad_now:,.0f} bad rows where {draw.expected:,.0f} are usual, while {field.name} rose for good rows, too: "
        f"by {by:.0%} of the usual ones" + (f"; {pace:.1f} times the traffic of the hour before" if pace > 1.2 else "")
    )
    timing = 8.0 + (6.0 if pace > 1.5 else 0.0)
    g = float(cells.g(draw.phi)[0])
    yield Hypothesis(
        "load", field.name, (), float(cells.bad[0]), float(cells.expected[0]), g, 1, timing, evidence, True
    )


def _pace(moment: Moment) -> float:
    """Rows a minute in the first quarter of an hour after the onset by those of the hour before."""
    onset, counts = moment.onset, moment.counts
    if onset is None:
        return 1.0
    place = int(np.searchsorted(counts.start_us, onset.at_us))
    before = counts.rows[max(0, place - 60) : max(place - 3, 0)]
    after = counts.rows[place + 2 : place + 17]
    return float(after.mean() / max(before.mean(), 1e-9)) if len(before) and len(after) else 1.0


def _words(where: Where) -> str:
    return " and ".join(f"{name} {value}" for name, value in where)
