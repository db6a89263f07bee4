"""What differs: values of fields, and pairs of them, that hold more of the bad rows than they should.

A slice must be no accident (a G-test, corrected for clients whose rows come together and for how many cells are looked at), large
enough to care, and it is ranked by the least share of the excess that it explains. Then its rows are taken away, and what
is left is looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.postmortem.cells import Cells, Draw, Matrix, chi2_tail, exposure_of
from hoverboard.postmortem.table import OURS, Field, Table
from hoverboard.watch.statistics import benjamini_hochberg

__all__ = ["ExplainedSlice", "rows_of", "slices"]

FALSE_DISCOVERIES: Final = 0.01
"""Share of false slices that is put up with: on a quiet day the first slice is a false one."""
MOST: Final = 3
"""Slices, at most: what is explained by a fourth is seldom worth a look."""
_LEAST_ODDS: Final = 0.405  # ln 1.5
_LEAST_BAD: Final = 10
_LEAST_SHARE: Final = 0.05
_OF_A_GROUP: Final = 0.67
_KEPT_BY_PAIR: Final = 0.8
_MOST_PAIRED: Final = 40
_Z: Final = 1.96


@dataclass(frozen=True, slots=True)
class ExplainedSlice:
    """Rows that share one value, or two.

    Attributes:
        where: `(field, value)`, one or two.
        rows: of the incident that it holds, by weight.
        bad_rows: the bad ones of them.
        explained: share of the excess of bad rows that is in it, 0 to 1.
        explained_low: its lower 95% bound.
        odds_low: lower 95% bound of how many times likelier a bad row is in it than usual ones let expect.
        q: its p-value, corrected for all cells that were looked at.
    """

    where: tuple[tuple[str, str], ...]
    rows: float
    bad_rows: float
    explained: float
    explained_low: float
    odds_low: float
    q: float


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Cells worth testing, of any fields, side by side.

    Attributes:
        fields: intp `(cells, 2)`, indexes of the table's fields; the second is -1 for a single one.
        codes: intp `(cells, 2)`, their codes.
        cells: their counts.
        grouped: bool `(cells,)`, whether one of the fields is a `cluster`.
    """

    fields: NDArray[np.intp]
    codes: NDArray[np.intp]
    cells: Cells
    grouped: NDArray[np.bool_]

    @classmethod
    def of(cls, parts: Sequence[_Found]) -> _Found:
        """Several as one."""
        names = ("bad", "others", "expected", "error")
        joined = (np.concatenate([getattr(part.cells, name) for part in parts] or [np.zeros(0)]) for name in names)
        empty = [np.zeros((0, 2), np.intp)]
        return cls(
            np.concatenate([part.fields for part in parts] or empty),
            np.concatenate([part.codes for part in parts] or empty),
            Cells(*joined),
            np.concatenate([part.grouped for part in parts] or [np.zeros(0, np.bool_)]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """What the tests say of some cells, `(cells,)` each; those that did not pass have a `rank` of -inf."""

    rank: Matrix
    explained: Matrix
    explained_low: Matrix
    odds_low: Matrix
    q: Matrix


def slices(table: Table) -> list[ExplainedSlice]:
    """What the bad rows of a window have in common, at most three slices, the one that explains most first.

    `base` rows say what is usual; where there are none, the other rows of the window do.
    """
    found: list[ExplainedSlice] = []
    draw = Draw.of(table)
    # Shares are of the whole excess, whichever round a slice is found in.
    excess = draw.bad_now - draw.expected
    while len(found) < MOST and draw.bad_now >= _LEAST_BAD:
        best = _best(draw, excess)
        if best is None:
            break
        found.append(best)
        left = draw.table[~rows_of(draw.table, best.where)]
        draw = Draw.of(left, draw.phi)
    return found


def rows_of(table: Table, where: Sequence[tuple[str, str]]) -> NDArray[np.bool_]:
    """Rows of a table that a slice holds, bool `(rows,)`.

    Raises:
        KeyError: the table has no such field.
    """
    inside = np.ones(len(table), np.bool_)
    for name, value in where:
        field = table.field(name)
        if field is None:
            raise KeyError(name)
        inside &= field.codes == field.values.index(value)
    return inside


def _best(draw: Draw, excess: float) -> ExplainedSlice | None:
    fields = draw.table.fields
    single = _Found.of([_singles(draw, place) for place in range(len(fields))])
    judged = _judge(draw, single, excess, dependent=False)
    pairs = _Found.of(list(_pairs(draw, _worth_pairing(draw, single))))
    paired = _judge(draw, pairs, excess, dependent=True)
    first = int(judged.rank.argmax()) if (judged.rank > -np.inf).any() else None
    second = _refined(draw, first, (single, judged), (pairs, paired))
    if second is not None:
        return _slice(draw, pairs, paired, second)
    return None if first is None else _slice(draw, single, judged, first)


def _singles(draw: Draw, place: int) -> _Found:
    field = draw.table.fields[place]
    counts = draw.count(field)
    cells = Cells.of(draw, counts, exposure_of(draw, [field], counts), alike=field.kind in OURS)
    chosen = np.flatnonzero(_worth(draw, cells.bad) & _said(field) & ~_asked(counts))
    fields = np.column_stack([np.full(len(chosen), place), np.full(len(chosen), -1)])
    grouped = np.full(len(chosen), field.kind == "cluster")
    return _Found(fields, np.column_stack([chosen, np.full(len(chosen), -1)]), _taken(cells, chosen), grouped)


def _pairs(draw: Draw, places: Sequence[int]) -> Iterator[_Found]:
    fields = draw.table.fields
    for i, j in combinations(places, 2):
        one, other = fields[i], fields[j]
        # An answer and another label are what wrong means, and so no reason for it.
        if one.kind == other.kind == "word" or {one.name, other.name} == {"label", "label given"}:
            continue
        shape = (len(one.values), len(other.values))
        flat = (draw.group * shape[0] + one.codes) * shape[1] + other.codes
        counts = np.bincount(flat, minlength=4 * shape[0] * shape[1]).reshape(4, *shape).astype(np.float64)
        asked = _asked(counts.sum(axis=2))[:, np.newaxis] | _asked(counts.sum(axis=1))
        worth = _worth(draw, counts[0]) & _said(one)[:, np.newaxis] & _said(other) & ~asked
        if not worth.any():
            continue
        alike = one.kind in OURS and other.kind in OURS
        cells = Cells.of(draw, counts, exposure_of(draw, [one, other], counts), alike=alike)
        rows, columns = np.nonzero(worth)
        places_ = np.broadcast_to(np.array([i, j]), (len(rows), 2))
        grouped = np.full(len(rows), "cluster" in (one.kind, other.kind))
        yield _Found(places_, np.column_stack([rows, columns]), _taken(cells, (rows, columns)), grouped)


def _worth_pairing(draw: Draw, single: _Found) -> list[int]:
    """The fields that pairs are made of: all, or of very many those that differ most by themselves."""
    count = len(draw.table.fields)
    if count <= _MOST_PAIRED:
        return list(range(count))
    most = np.zeros(count)
    np.maximum.at(most, single.fields[:, 0], single.cells.g(draw.phi, _rise(draw)))
    return sorted(np.argsort(-most, kind="stable")[:_MOST_PAIRED].tolist())


def _worth(draw: Draw, bad: Matrix) -> NDArray[np.bool_]:
    return np.asarray(bad >= max(_LEAST_BAD, _LEAST_SHARE * draw.bad_now))


def _said(field: Field) -> NDArray[np.bool_]:
    """Values that say something: that a word is not in a text, or that nobody knows how long a row waited, says nothing."""
    said = np.ones(len(field.values), np.bool_)
    said[0] = field.kind not in ("word", "cluster", "refusal", "bucket")
    return said


def _asked(counts: Matrix) -> NDArray[np.bool_]:
    """Values that all bad rows have, and no others, now and before: that is what was asked about, and no answer to it."""
    bad, others = counts[[0, 2]], counts[[1, 3]]
    return np.asarray((bad == bad.sum(axis=1, keepdims=True)).all(axis=0) & (others.sum(axis=0) == 0) & bad.all(axis=0))


def _taken(cells: Cells, chosen: object) -> Cells:
    return Cells(*(getattr(cells, name)[chosen] for name in ("bad", "others", "expected", "error")))


def _rise(draw: Draw) -> float:
    """How many times more bad rows there are than expected: what every cell shares that is not the reason."""
    return max(1.0, draw.bad_now / draw.expected) if draw.expected > 0 else 1.0


def _judge(draw: Draw, found: _Found, excess: float, *, dependent: bool) -> _Judged:
    cells, all_bad, phi = found.cells, draw.bad_now, draw.phi
    k = cells.bad
    if not len(k):
        return _Judged(*(np.zeros(0) for _ in range(5)))
    # Beyond what all of them share: a rise everywhere is no slice.
    expected = cells.expected * _rise(draw)
    p = chi2_tail(cells.g(phi, _rise(draw)))
    q = benjamini_hochberg(p)
    if dependent:  # Benjamini and Yekutieli (2001): pairs of the same fields overlap
        q = np.minimum(q * (np.log(len(p)) + 0.5772), 1.0)
    rest = np.maximum(all_bad - k, 0) + 0.5
    outside = np.maximum(all_bad - expected, 0) + 0.5
    odds = np.log((k + 0.5) / rest) - np.log((expected + 0.5) / outside)
    odds_error = np.sqrt(phi * (1 / (k + 0.5) + 1 / rest) + cells.error)
    odds_low = odds - _Z * odds_error
    # With a usual time the excess is counted from it; without one it is what exceeds the slice's share of other rows.
    usual = cells.expected
    whole = np.maximum(excess if draw.expected > 0 else all_bad, k - usual)
    error = np.sqrt(phi * k + usual**2 * cells.error)
    explained = np.clip((k - usual) / np.maximum(whole, 1e-9), 0, 1)
    low = (k - usual - _Z * error) / np.maximum(whole, 1e-9)
    rank = (k - expected - _Z * np.sqrt(phi * k + expected**2 * cells.error)) / np.maximum(whole, 1e-9)
    # A group holds outliers alone, and so is a neater slice than any that says why they are ones.
    rank = np.where(found.grouped & (rank > 0), rank * _OF_A_GROUP, rank)
    passed = (q <= FALSE_DISCOVERIES) & (odds_low > _LEAST_ODDS) & (low > 0) & (rank > 0)
    return _Judged(np.where(passed, rank, -np.inf), explained, np.clip(low, 0, 1), odds_low, q)


def _refined(
    draw: Draw, first: int | None, single: tuple[_Found, _Judged], pairs: tuple[_Found, _Judged]
) -> int | None:
    """The pair that says more than the best single cell, or than any where none passed; None where no pair does."""
    found, judged = pairs
    alone, alone_judged = single
    order = np.argsort(-judged.rank, kind="stable")[:50]
    best = -np.inf if first is None else float(alone_judged.rank[first])
    of_first = None if first is None else (int(alone.fields[first, 0]), int(alone.codes[first, 0]))
    for place in order[judged.rank[order] > -np.inf].tolist():
        parts = [(int(found.fields[place, side]), int(found.codes[place, side])) for side in (0, 1)]
        # A pair keeps most of what its own first condition explains, and the second says something within the first.
        singles = [_explained(alone, alone_judged, part) for part in parts]
        lead = parts[int(np.argmax(singles))] if of_first not in parts else of_first
        least = _KEPT_BY_PAIR * max(singles) if of_first not in parts else _KEPT_BY_PAIR * _of(alone_judged, first)
        if judged.explained[place] < least:
            continue
        if of_first not in parts and judged.rank[place] <= best:
            continue
        other = parts[1] if lead == parts[0] else parts[0]
        if _says_more(draw, lead, other, len(found.fields)):
            return int(place)
    return None


def _of(judged: _Judged, place: int | None) -> float:
    return 0.0 if place is None else float(judged.explained[place])


def _explained(found: _Found, judged: _Judged, part: tuple[int, int] | None) -> float:
    if part is None:
        return 0.0
    here = (found.fields[:, 0] == part[0]) & (found.codes[:, 0] == part[1])
    return float(judged.explained[here].max()) if here.any() else 0.0


def _says_more(draw: Draw, first: tuple[int, int] | None, second: tuple[int, int], looked_at: int) -> bool:
    """Whether a second condition is significant among the rows of the first."""
    if first is None:
        return True
    fields = draw.table.fields
    inside = draw.table[fields[first[0]].codes == first[1]]
    within = Draw.of(inside, draw.phi)
    field = inside.fields[second[0]]
    counts = within.count(field)
    # Bad rows against the others of the same rows: what the first condition has in common with the second says nothing here.
    a, c = counts[0, second[1]], counts[1, second[1]]
    all_bad, all_others = within.totals[0], within.totals[1]
    b, d = all_bad - a, all_others - c
    odds = np.log((a + 0.5) * (d + 0.5) / ((b + 0.5) * (c + 0.5)))
    error = np.sqrt(draw.phi * (1 / (a + 0.5) + 1 / (b + 0.5)) + 1 / (c + 0.5) + 1 / (d + 0.5))
    p = chi2_tail(np.array([(odds / error) ** 2]))[0]
    # As many second conditions were looked at as the cell had partners.
    return bool(odds > _LEAST_ODDS and p * max(1, looked_at) ** 0.5 <= FALSE_DISCOVERIES)


def _slice(draw: Draw, found: _Found, judged: _Judged, place: int) -> ExplainedSlice:
    fields = draw.table.fields
    parts = [(f, c) for f, c in zip(found.fields[place].tolist(), found.codes[place].tolist(), strict=True) if f >= 0]
    where = tuple((fields[f].name, fields[f].values[c]) for f, c in parts)
    inside = rows_of(draw.table, where) & ~draw.table.base
    return ExplainedSlice(
        where,
        float(draw.table.weight[inside].sum()),
        float(draw.table.weight[inside & draw.table.bad].sum()),
        float(judged.explained[place]),
        float(judged.explained_low[place]),
        float(np.exp(judged.odds_low[place])),
        float(judged.q[place]),
    )
