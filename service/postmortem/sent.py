"""What was sent: the cells of inputs, words, groups and refusals that hold most of the excess, and the cause that each speaks for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.times import time_of
from hoverboard.postmortem.cells import Cells, Draw, excess_g
from hoverboard.postmortem.hypothesis import Hypothesis, HypothesisKind, Where, words_of
from hoverboard.postmortem.refused import fault_of
from hoverboard.postmortem.shapes import MANY, Shape, exchanged, missing, moved, outside, scaled
from hoverboard.postmortem.slices import ExplainedSlice, rows_of
from hoverboard.postmortem.table import EXOGENOUS, Field, Table

__all__ = ["LEAST_BAD", "SEPARATES", "SentCell", "came", "sent_cells", "sent_hypotheses", "separation"]

SEPARATES: Final = 10.8
"""Chi-squared that rows of an incident must differ by from the others of it: p = 0.001."""
LEAST_BAD: Final = 5
"""Bad rows that a cell must have to be worth a hypothesis."""
_FEWEST: Final = 30
_TOP: Final = 4
_MOST: Final = 6
_LEAST_SHARE: Final = 0.25
_MOVED: Final = 0.12
_NO_CATEGORY: Final = ("absent", "missing", "other")
_WORSE: Final = 0.3
_HOUR_US: Final = 3_600_000_000
_WHILE_US: Final = _HOUR_US // 3
_BEFORE: Final = 0.25
"""Share of its way that an input has gone before rows become bad, which is none where it changed at once."""
_EARLY: Final = 0.7
_MOST_SCORE: Final = 8.0
_SENT: Final = 0.8
_ALIKE: Final = 0.67


@dataclass(frozen=True, slots=True, eq=False)
class SentCell:
    """A cell of what was sent or answered."""

    where: Where
    bad: float
    expected: float
    g: float
    looked_at: int


def sent_cells(draw: Draw, found: Sequence[ExplainedSlice]) -> list[SentCell]:
    """The cells of what was sent that hold most of the excess, single ones and pairs that were found as slices."""
    cells: list[SentCell] = []
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
            if code >= first and enough and counted.bad[code] >= LEAST_BAD:
                where = ((field.name, field.values[code]),)
                cells.append(
                    SentCell(where, float(counted.bad[code]), float(counted.expected[code]), float(g[code]), 1)
                )
    kinds = {field.name: field.kind for field in draw.table.fields}
    for each in found:
        parts = tuple(part for part in each.where if kinds.get(part[0]) in EXOGENOUS)
        if len(parts) == 2:
            cells.append(_cell(draw, parts))
    cells = _said_otherwise(draw.table, cells, kinds)
    cells.sort(key=lambda cell: -cell.g)
    # Three words of one sentence say one thing: some of each kind.
    kept = [cell for kind in EXOGENOUS for cell in [each for each in cells if kinds[each.where[0][0]] == kind][:_TOP]]
    kept.sort(key=lambda cell: -cell.g)
    return [replace(cell, looked_at=looked_at ** len(cell.where)) for cell in kept[:_MOST]]


def _said_otherwise(table: Table, cells: Sequence[SentCell], kinds: Mapping[str, str]) -> list[SentCell]:
    """Without groups whose rows an input or a word tells as well: that they are alike explains nothing."""
    bad = table.bad & ~table.base
    groups = [cell for cell in cells if kinds[cell.where[0][0]] == "cluster"]
    others = [cell for cell in cells if kinds[cell.where[0][0]] != "cluster"]
    held = [rows_of(table, cell.where) & bad for cell in others]
    for group in groups:
        mine = rows_of(table, group.where) & bad
        if not any((rows & mine).sum() >= _ALIKE * max(mine.sum(), rows.sum()) for rows in held):
            others.append(group)
    return others


def _cell(draw: Draw, where: Where) -> SentCell:
    inside = rows_of(draw.table, where)
    counts = np.bincount(draw.group[inside], minlength=4).astype(np.float64)[:, np.newaxis]
    cells = Cells.of(draw, counts)
    return SentCell(where, float(cells.bad[0]), float(cells.expected[0]), float(cells.g(draw.phi)[0]), 1)


def sent_hypotheses(draw: Draw, cells: Sequence[SentCell]) -> Iterator[Hypothesis]:
    """Schema, novelty or drift: what is odd about the rows of a cell."""
    table = draw.table
    drifted = _drifted(table)
    for cell in cells:
        inside = rows_of(table, cell.where) & ~table.base & table.bad
        of = (
            f"{cell.bad:,.0f} of {draw.bad_now:,.0f} bad rows have {words_of(cell.where)}, usually {cell.expected:,.0f}"
        )
        if not came(draw, cell):
            # As many rows as ever have these values, and more of them are bad: that is the model's doing, not theirs.
            continue
        apart = separation(draw, rows_of(table, cell.where))
        # All good rows have what everything has moved to.
        moved_ = any(name == field.name for field, _ in drifted for name, _ in cell.where)
        if apart < SEPARATES * draw.phi + 2 * math.log(max(cell.looked_at, 1)) and not moved_:
            continue  # good rows of the same time have them as often: by chance no usual row that is bad had
        kind, subject, words = _more_often(draw, cell) or _told(table, cell, inside, drifted)
        yield Hypothesis(
            *(kind, subject, cell.where, cell.bad, cell.expected, cell.g, cell.looked_at, 0.0, f"{of}; {words}"),
            words=words,
        )


def _more_often(draw: Draw, cell: SentCell) -> tuple[HypothesisKind, str, str] | None:
    """Of categories that there always were, which come more often with the same share of bad rows: the mix has shifted."""
    table = draw.table
    for name, value in cell.where:
        field = table.field(name)
        if field is None or field.kind != "input" or field.numbers is not None or value in _NO_CATEGORY:
            return None
        if value.startswith(("below ", "above ")):
            return None
    counts = np.bincount(draw.group[rows_of(table, cell.where)], minlength=4).astype(np.float64)
    if counts[2] < LEAST_BAD:
        return None
    now, before = (float(each) for each in draw.rows(counts))
    usual = now * counts[2] / max(before, 1.0) / draw.weights[0] * draw.weights[2]
    if float(excess_g(counts[:1], np.array([usual]), 1 / counts[2])[0]) / draw.phi > _WORSE * cell.g:
        return None
    shares = before / max(draw.rows_before, 1.0), now / max(draw.rows_now, 1.0)
    words = f"they are {shares[1]:.1%} of all rows and were {shares[0]:.1%}, with about the same share of bad ones"
    return "upstream", cell.where[0][0], words


def _told(
    table: Table, cell: SentCell, inside: NDArray[np.bool_], drifted: Sequence[tuple[Field, float]]
) -> tuple[HypothesisKind, str, str]:
    field = table.field(cell.where[0][0])
    if field is not None and field.kind == "refusal":
        return _refused(table, cell, inside)
    # Nothing drifts to 0 at once; nor to where another input is, or by the factor of a unit, but by chance.
    shape = missing(table, inside, blank=bool(drifted))
    if shape is None and not (drifted and _gradual(table, drifted[0][0])):
        shape = exchanged(table, inside) or scaled(table, inside)
    if drifted and shape is None:
        # All of the traffic has moved: what is odd about the bad rows is odd about the good ones.
        moved_, by = drifted[0]
        way = "up" if by > 0 else "down"
        words = f"{moved_.name} has moved {way} in good rows, too, by {abs(by):.0%} of the usual ones"
        return "upstream", moved_.name, words
    if shape is None:
        for name, value in cell.where:
            one = table.field(name)
            if one is not None and _beyond(table, one, one.values.index(value)):
                shape = Shape(name, "lies outside of what the baseline has")
    if shape is not None:
        return "schema", shape.field, f"{shape.field} {shape.words}{_senders(table, inside)}"
    name = field.name if field is not None else ""
    return (
        "novelty",
        words_of(cell.where) or name,
        "their inputs are well-formed, and of a kind that there was not before",
    )


def _refused(table: Table, cell: SentCell, inside: NDArray[np.bool_]) -> tuple[HypothesisKind, str, str]:
    """What was broken, since when and whose calls they are: as the calls say it, so that nothing has to be guessed."""
    kind, subject, words = fault_of(cell.where[0][1])
    first = time_of(int(table.at_us[inside].min()))
    words = f"{words}, the first at {first:%Y-%m-%d %H:%M:%S} UTC"
    return kind, subject, words + _senders(table, inside)


def _senders(table: Table, inside: NDArray[np.bool_]) -> str:
    """Whose rows they are, where nearly all are of one caller who sends far fewer of the others."""
    words = ""
    for field in table.fields:
        if field.kind not in ("tag", "caller"):
            continue
        counts = np.bincount(field.codes[inside])
        code, share = int(counts.argmax()), float(counts.max() / counts.sum())
        others = field.codes[~inside]
        if code and share >= _SENT and float((others == code).mean() if len(others) else 0.0) < 0.5 * share:
            words += f"; {share:.0%} of them are sent by {field.name} {field.values[code]}"
    return words


def _beyond(table: Table, field: Field, code: int) -> bool:
    if sum(each.kind == "input" for each in table.fields) > MANY:
        return False  # ink where there never was any is another picture
    usual = field.codes[table.base & ~table.bad]
    return outside(table, field, code) and (len(usual) == 0 or float((usual == code).mean()) < 0.01)


def _drifted(table: Table) -> list[tuple[Field, float]]:
    """Inputs whose good rows have moved, the farthest first."""
    found = [(field, moved(table, field)) for field in table.fields if field.kind == "input"]
    return sorted((each for each in found if abs(each[1]) > _MOVED), key=lambda each: -abs(each[1]))


def _gradual(table: Table, field: Field) -> bool:
    """Whether an input moved over time, and not at once: before rows became bad, or still after that."""
    if field.numbers is None:
        return False
    some = np.isfinite(field.numbers)
    at, numbers = table.at_us[some], field.numbers[some].astype(np.float64)
    began = int(table.at_us[~table.base].min())
    usual = table.base[some] & (at < began - _HOUR_US)
    parts = (
        table.base[some] & (at >= began - _WHILE_US) & (at < began),
        (at >= began) & (at < began + _WHILE_US),
        ~table.base[some] & (at >= began + _WHILE_US),
    )
    if min(int(part.sum()) for part in (usual, *parts)) < _FEWEST:
        return False
    low, middle, high = np.quantile(numbers[usual], [0.1, 0.5, 0.9])
    scores = np.clip((numbers - middle) / max(high - low, 1e-9), -_MOST_SCORE, _MOST_SCORE)
    before, early, late = (float(scores[part].mean() - scores[usual].mean()) for part in parts)
    return before > _BEFORE * late > 0 or before < _BEFORE * late < 0 or early / (late or 1.0) < _EARLY


def came(draw: Draw, cell: SentCell) -> bool:
    """Whether more rows than usual have the values of a cell, at least half as many more as are bad."""
    if not draw.totals[2:].any():
        return True
    inside = rows_of(draw.table, cell.where)
    counts = np.bincount(draw.group[inside], minlength=4).astype(np.float64)
    now, before = draw.rows(counts)
    ratio = draw.rows_now / max(draw.rows_before, 1.0)
    more = float(now) - float(before) * ratio
    return bool(more >= 0.5 * (cell.bad - cell.expected) * draw.weights[0])


def separation(draw: Draw, inside: NDArray[np.bool_]) -> float:
    """How well some rows tell bad rows of the incident from the others of it: G of the four counts, as drawn.

    Where nearly all rows are bad, the others are those of the usual time.
    """
    other = 1 if draw.totals[1] >= _FEWEST or not draw.totals[3] else 3
    a, c = (float((inside & (draw.group == group)).sum()) for group in (0, other))
    table = np.array([[a, draw.totals[0] - a], [c, draw.totals[other] - c]])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / max(table.sum(), 1.0)
    if a * expected[1, 0] <= c * expected[0, 0]:
        return 0.0
    return float(2 * (table * np.log(np.where(table > 0, table, 1.0) / np.where(table > 0, expected, 1.0))).sum())
