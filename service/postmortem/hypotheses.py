"""The hypotheses about a rise of bad rows: a caller, a version, a process, an odd input, something new, load, labels, a drift.

Who sent or answered a row comes before what was sent: where an odd input comes from one caller, the caller is the cause, and the
input its evidence. The other way round it would be the caller's fault that it sends most of the traffic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from hoverboard.postmortem.cells import Cells, Draw, Matrix, exposure_of
from hoverboard.postmortem.hypothesis import Hypothesis, HypothesisKind, Moment, words_of
from hoverboard.postmortem.mix import mix_of
from hoverboard.postmortem.refused import fault_of
from hoverboard.postmortem.sent import LEAST_BAD, SEPARATES, SentCell, came, sent_cells, sent_hypotheses, separation
from hoverboard.postmortem.shapes import moved
from hoverboard.postmortem.slices import ExplainedSlice, rows_of
from hoverboard.postmortem.table import OURS, Field, Table

__all__ = ["hypotheses"]

_WHO: Final[dict[str, HypothesisKind]] = {
    "tag": "caller",
    "caller": "caller",
    "process": "machine",
    "version": "version",
    "role": "version",
}
_ALL: Final = 0.98
_BUSY: Final = 0.15
_BROUGHT: Final = 0.25
"""Share of the excess that inputs must bring along to speak for whoever answered them."""
_WORSE: Final = 0.3
"""Share of the excess of a class whose rows were bad less often before: a class of which only more come is as good as ever."""
_NEARLY_ALL: Final = 0.9
_OF_LABELLING: Final = ("label source", "label delay")
_MORE_OF_A_CLASS: Final = "nothing to undo: see whether there truly are more of them, and train on the new mix if so"


def hypotheses(draw: Draw, moment: Moment, found: Sequence[ExplainedSlice]) -> Iterator[Hypothesis]:
    """All that can be said of a draw, for `causes` to choose from."""
    cells = sent_cells(draw, found)
    yield from _who(draw, moment, cells)
    yield from sent_hypotheses(draw, cells)
    yield from _labels(draw, cells)
    yield from _load(draw, moment)


def _who(draw: Draw, moment: Moment, cells: Sequence[SentCell]) -> Iterator[Hypothesis]:
    table = draw.table
    # Why a call was refused is written down, so that nobody has to be suspected; the reason says whose calls they are.
    broken = any(name == "refused" and fault_of(value)[0] == "schema" for cell in cells for name, value in cell.where)
    for field in table.fields:
        if field.kind not in _WHO:
            continue
        counts = draw.count(field)
        exposure = exposure_of(draw, [field], counts)
        alone = Cells.of(draw, counts, exposure, alike=field.kind in OURS)
        if (broken and field.kind in ("tag", "caller")) or _is_a_version(table, field):
            continue
        yield from _who_alone(draw, moment, field, alone)
        for what in cells:
            inside = rows_of(table, what.where) & ~table.base & table.bad
            bad = np.bincount(field.codes[inside], minlength=len(field.values)).astype(np.float64)
            yield from _who_and_what(draw, moment, field, alone=alone, bad=bad, what=what)


def _is_a_version(table: Table, field: Field) -> bool:
    """Whether the roles of an incident are but other names of its versions: then the versions are told."""
    version = table.field("version")
    if field.kind != "role" or version is None:
        return False
    now = ~table.base
    pairs = len(np.unique(version.codes[now].astype(np.intp) * len(field.values) + field.codes[now]))
    return pairs <= len(np.unique(version.codes[now]))


def _who_alone(draw: Draw, moment: Moment, field: Field, cells: Cells) -> Iterator[Hypothesis]:
    g = cells.g(draw.phi)
    for code in _top(cells, g):
        bad, expected = float(cells.bad[code]), float(cells.expected[code])
        yield from _of_who(
            draw, moment, field, code=code, cell=(bad, expected, float(g[code])), looked_at=len(field.values)
        )


def _who_and_what(
    draw: Draw, moment: Moment, field: Field, *, alone: Cells, bad: Matrix, what: SentCell
) -> Iterator[Hypothesis]:
    """The value that has nearly all bad rows of a cell, and more of them than its share of all rows.

    What the cell says against no change, and what it says beyond that about whose rows they are.
    """
    code = int(bad.argmax())
    k, whole = float(bad[code]), float(bad.sum())
    ours = field.kind in OURS
    share = _share_since(draw, field, code) if ours else float(alone.expected[code] / max(alone.expected.sum(), 1e-9))
    enough = k >= 0.67 * whole + 0.33 * what.expected and k >= LEAST_BAD
    if code == 0 or not enough or k <= whole * share or alone.bad[code] <= alone.expected[code] or share > _ALL:
        return
    rest = whole - k
    g = 2 * (k * math.log(k / (whole * share)) + (rest * math.log(rest / (whole * (1 - share))) if rest else 0.0))
    most = "nearly all" if k >= _NEARLY_ALL * alone.bad[code] else f"{k:,.0f}"
    words = f", {most} of them with {words_of(what.where)}"
    cell = (k, min(float(alone.expected[code]), what.expected), what.g + g / draw.phi)
    looked_at = what.looked_at * len(field.values)
    # Neither a version nor a process makes more rows of a kind come: that it came when they did is chance.
    timed = not (ours and came(draw, what))
    told = float(alone.bad[code]), float(alone.expected[code])
    yield from _of_who(
        draw, moment, field, code=code, cell=cell, looked_at=looked_at, words=words, told=told, timed=timed
    )


def _share_since(draw: Draw, field: Field, code: int) -> float:
    """A value's share of the rows of an incident since its first one: rows from before say when it came, and not what it does."""
    table = draw.table
    here = (field.codes == code) & ~table.base
    since = ~table.base & (table.at_us >= table.at_us[here].min())
    return float(table.weight[here].sum() / table.weight[since].sum())


def _of_who(
    draw: Draw,
    moment: Moment,
    field: Field,
    *,
    code: int,
    cell: tuple[float, float, float],
    looked_at: int,
    words: str = "",
    told: tuple[float, float] | None = None,
    timed: bool = True,
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
    if not timed:
        pass
    elif kind == "version":
        timing, belief = moment.timing(("deployment",), value, int(draw.table.at_us[here].min()))
    elif kind == "caller" and everything:
        timing, belief = moment.timing((), value, int(draw.table.at_us[here].min()))
    elif kind == "machine":
        timing, belief = moment.timing(("start", "death"), value, None)
    subject = f"{field.name} {value}" if field.kind in ("tag", "label") else value
    # Of the value itself: with something odd about its rows fewer are usual.
    its, usual = (bad, expected) if told is None or everything else told
    evidence = (
        f"{its:,.0f} of {draw.bad_now:,.0f} bad rows are of {field.name} {value}, which would usually have {usual:,.0f}"
        f"{words}; the others have {draw.bad_now - its:,.0f}"
    )
    if belief is not None and belief > 0.05:
        evidence += f"; with {belief:.0%} belief it began within a minute of what happened to {field.name} {value}"
    if kind == "version" and everything:
        mix = mix_of(draw)
        if mix is not None and mix.more >= _BROUGHT * (bad - expected):
            # Under another version the same inputs would have come.
            timing -= mix.g
            evidence += f"; but what was sent has changed so that {mix.more:,.0f} more would be bad whoever answers"
    yield Hypothesis(kind, subject, ((field.name, value),), bad, expected, g, looked_at, timing, evidence, everything)


def _top(cells: Cells, g: Matrix, count: int = 2) -> list[int]:
    order = np.argsort(-g, kind="stable")
    return [int(code) for code in order[:count] if code > 0 and g[code] > 0 and cells.bad[code] >= LEAST_BAD]


def _labels(draw: Draw, what: Sequence[SentCell]) -> Iterator[Hypothesis]:
    """A class, or a kind of label, that comes more often with the same share of bad rows; or a source whose labels are wrong."""
    sent = max((separation(draw, rows_of(draw.table, each.where)) for each in what), default=0.0)
    for field in draw.table.fields:
        if field.kind != "label":
            continue
        counts = draw.count(field)
        cells = Cells.of(draw, counts)
        own = Cells.of(draw, counts, draw.rows(counts))
        g = cells.g(draw.phi)
        more = field.name != "label source"
        for code in _top(cells, g):
            bad, expected = float(cells.bad[code]), float(cells.expected[code])
            worse = float(own.bad[code] - own.expected[code])
            if more and worse > _WORSE * (bad - expected) and float(own.g(draw.phi)[code]) > SEPARATES:
                continue  # not more of them, but worse ones: that is no shift of labels
            here = field.codes == code
            # Where what was sent tells wrong answers from right ones, who labelled them does not make them wrong.
            if field.name in _OF_LABELLING and sent > max(separation(draw, here), SEPARATES * draw.phi):
                continue
            everything = bad > 0.98 * draw.bad_now
            how = "come more often than they did" if more else "are wrong more often, or more of all"
            yield Hypothesis(
                "labels",
                f"{field.name} {field.values[code]}",
                ((field.name, field.values[code]),),
                bad,
                expected,
                float(g[code]),
                len(field.values),
                6.0 if everything else 0.0,
                f"{bad:,.0f} of {draw.bad_now:,.0f} bad rows have {field.name} {field.values[code]}, usually {expected:,.0f}; "
                f"such rows {how}",
                everything,
                undo="" if field.name in _OF_LABELLING else _MORE_OF_A_CLASS,
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
    place = int(np.searchsorted(counts.start_us, onset.at_us, side="right")) - 1
    before = counts.rows[max(0, place - 60) : max(place - 3, 0)]
    after = counts.rows[place + 2 : place + 17]
    return float(after.mean() / max(before.mean(), 1e-9)) if len(before) and len(after) else 1.0
