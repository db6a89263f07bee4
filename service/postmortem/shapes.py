"""What is odd about the inputs of bad rows: a unit, a constant, exchanged columns, values that there never were, or a drift.

Bad rows of an incident are compared with the usual time, field by field; where the numbers were kept by their quantiles, else by
the baseline's bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.postmortem.factors import named_units, unit_factor
from hoverboard.postmortem.offsets import OFFSETS, unit_offset
from hoverboard.postmortem.table import Field, Table

__all__ = ["MANY", "Shape", "exchanged", "missing", "moved", "outside", "scaled"]

Rows = NDArray[np.bool_]
Matrix = NDArray[np.float64]

_QUANTILES: Final = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
_LEAST: Final = 8
MANY: Final = 16
"""More inputs than a table has: the pixels of an image, or a vector."""
_SAME: Final = 0.93  # cosine
_FEWEST: Final = 20


@dataclass(frozen=True, slots=True)
class Shape:
    """Something wrong with how inputs are written.

    Attributes:
        field: the name of the first one.
        words: what is wrong, the end of a sentence that begins with the input's name.
        factor, offset: by which its numbers are larger, and what is added to them then; the factor is None where it is no other unit.
        value: that most of its rows have; None where they are absent, or have many.
        other: the name of the field that it is exchanged with.
        order: of many fields, the place at which each one usually is.
    """

    field: str
    words: str
    factor: float | None = None
    offset: float = 0.0
    value: float | None = None
    other: str | None = None
    order: tuple[int, ...] | None = None


def missing(table: Table, inside: Rows, *, blank: bool = False) -> Shape | None:
    """The input that is absent, or has one value, in most rows and seldom otherwise; None where there is none.

    Args:
        table: with its usual rows.
        inside: bool `(rows,)`, the bad rows of the incident to look at.
        blank: whether 0 is the only such value.
    """
    fields, usual = _to_compare(table)
    return _missing(fields, inside, usual, blank=blank) if inside.sum() >= _LEAST else None


def exchanged(table: Table, inside: Rows) -> Shape | None:
    """Two inputs of which each looks as the other one usually does; of many, such as pixels, their order."""
    fields, usual = _to_compare(table)
    return _exchanged(fields, inside, usual) if inside.sum() >= _LEAST else None


def scaled(table: Table, inside: Rows) -> Shape | None:
    """The input that comes in another unit, or of which a part of the rows does: see `unit_factor`."""
    fields, usual = _to_compare(table)
    return _scaled(fields, inside, usual) if inside.sum() >= _LEAST else None


def _to_compare(table: Table) -> tuple[list[Field], Rows]:
    usual = table.base & ~table.bad
    return [field for field in table.fields if field.kind == "input"], usual if usual.any() else ~table.bad


def outside(table: Table, field: Field, code: int) -> bool:
    """Whether a value is none that the baseline has: missing, another category, or far below or above all of its numbers.

    Just beyond them is nothing that a unit would do.
    """
    value = field.values[code]
    if field.kind != "input" or not (
        code == 0 or value in ("missing", "other") or value.startswith(("below ", "above "))
    ):
        return False
    if field.numbers is None or not value.startswith(("below ", "above ")):
        return True
    usual = field.numbers[table.base & ~table.bad & np.isfinite(field.numbers)]
    here = field.numbers[(field.codes == code) & ~table.base & table.bad]
    if not len(usual) or not len(here):
        return True
    low, high = np.quantile(usual, [0.01, 0.99])
    beyond = max(float(np.median(here)) - high, low - float(np.median(here)))
    return bool(beyond > 0.5 * (high - low))


def moved(table: Table, field: Field) -> float:
    """How far the good rows of a field have moved: what was the lower quartile and what was the upper one, in shares of usual rows.

    The lesser of both, so that all of the traffic must have moved, and not a part of it that is new; 0 where they moved to
    different sides. Of categories it is the share that changed, by two.
    """
    size = len(field.values)
    ours, theirs = (
        np.bincount(field.codes[part & ~table.bad], minlength=size).astype(np.float64)
        for part in (~table.base, table.base)
    )
    few = min(ours.sum(), theirs.sum())
    if few < _FEWEST:
        return 0.0
    ours_rows, theirs_rows = ours.sum(), theirs.sum()
    ours, theirs = ours / ours_rows, theirs / theirs_rows
    if not any(value.startswith(("below ", "above ")) for value in field.values):
        # Of few rows the shares of categories differ by chance, by so much in sum.
        chance = np.sqrt(theirs * (1 - theirs) * (1 / ours_rows + 1 / theirs_rows)).sum()
        return max(0.0, float(np.abs(ours - theirs).sum() - 2 * chance)) / 4
    edges = np.arange(size + 1)
    of_ours, of_theirs = (np.concatenate([[0.0], np.cumsum(each)]) for each in (ours, theirs))
    shifts = []
    for level in (0.25, 0.75):
        # Where this share of today's rows lies below, how many of the usual ones did?
        place = np.interp(level, of_ours + edges * 1e-12, edges)
        shifts.append(float(np.interp(place, edges, of_theirs)) - level)
    low, high = sorted(shifts, key=abs)
    # Twice the standard error of a quartile's place is no move.
    return low if low * high > 0 and abs(low) > 2 * (0.25 * 0.75 / few) ** 0.5 else 0.0


def _missing(fields: Sequence[Field], inside: Rows, usual: Rows, *, blank: bool) -> Shape | None:
    """The input that is absent, or has one and the same value, in most rows and seldom otherwise."""
    found: list[tuple[float, Shape]] = []
    strange = 0
    for field in fields:
        lost = float((field.codes[inside] == 0).mean()), float((field.codes[usual] == 0).mean())
        if lost[0] >= 0.6 and lost[1] < 0.2:
            found.append((lost[0] - lost[1] + 1, Shape(field.name, f"is absent in {lost[0]:.0%} of them")))
        elif field.numbers is not None:
            value, share = _commonest(field.numbers[inside])
            rate = float((field.numbers[usual] == value).mean())
            if share >= 0.6 and rate < 0.2 and not (blank and value):
                found.append((share - rate, Shape(field.name, f"is {value:g} in {share:.0%} of them", value=value)))
            elif share < 0.6:
                strange += _far(field, inside, usual)
    # Where the other inputs are strange as well, it is another kind of sample and not one with a hole.
    if not found or (len(fields) > MANY and strange > len(fields) / 8):
        return None
    return max(found, key=lambda each: each[0])[1]


def _far(field: Field, inside: Rows, usual: Rows) -> bool:
    """Whether the middle half of some rows has left the middle 80% of the usual ones."""
    ours, theirs = _quantiles(field, inside), _quantiles(field, usual)
    if ours is None or theirs is None:
        return False
    return bool(ours[1] > theirs[4] or ours[3] < theirs[0])


def _commonest(numbers: NDArray[np.float32]) -> tuple[float, float]:
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return 0.0, 0.0
    values, counts = np.unique(known, return_counts=True)
    return float(values[counts.argmax()]), float(counts.max()) / len(numbers)


def _scaled(fields: Sequence[Field], inside: Rows, usual: Rows) -> Shape | None:
    """See `scaled`. Many inputs, such as pixels, have one unit: the sum of all of them is looked at."""
    numeric = [field for field in fields if field.numbers is not None]
    best: tuple[float, Shape] | None = None
    if len(numeric) > MANY:
        every = np.stack([field.numbers for field in numeric if field.numbers is not None])
        # Of unit length each, so that a few in the usual unit do not outweigh those in a small one.
        units = every / np.maximum(np.sqrt(np.nansum(every.astype(np.float64) ** 2, axis=0)), 1e-9)
        ours_, theirs_ = (np.nanmean(units[:, rows], axis=1) for rows in (inside, usual))
        # In another unit it is the same picture: a picture of something else has its ink elsewhere.
        alike = float(ours_ @ theirs_ / max(np.linalg.norm(ours_) * np.linalg.norm(theirs_), 1e-9))
        numeric = [replace(numeric[0], numbers=np.asarray(every.sum(axis=0), np.float32))] if alike > _SAME else []
    for field in numeric:
        if field.numbers is None:
            continue
        found = unit_factor(field.numbers[inside], field.numbers[usual], len(numeric))
        if found is not None and (best is None or found[1] > best[0]):
            factor, odds = found
            many = f"{factor:g} times" if factor > 1 else f"1/{1 / factor:g} of"
            named = f": {units}" if (units := named_units(factor)) else ""
            best = (odds, Shape(field.name, f"is {many} what it usually is, as in another unit{named}", factor))
        other = unit_offset(field.numbers[inside], field.numbers[usual], len(numeric))
        if other is not None and (best is None or other[1] > best[0]):
            unit, odds = other
            many = "what it usually is" if unit[0] == 1 else f"{unit[0]:.4g} times what it usually is"
            sign = "plus" if unit[1] > 0 else "minus"
            words = f"is {many} {sign} {abs(unit[1]):.5g}, as in another unit: {OFFSETS[unit]}"
            best = (odds, Shape(field.name, words, unit[0], offset=unit[1]))
    return None if best is None else best[1]


def _exchanged(fields: Sequence[Field], inside: Rows, usual: Rows) -> Shape | None:
    """Two inputs of which each looks as the other one usually does."""
    numeric = [field for field in fields if field.numbers is not None]
    pairs = [(f, _quantiles(f, inside), _quantiles(f, usual)) for f in numeric]
    known = [(f, ours, theirs) for f, ours, theirs in pairs if ours is not None and theirs is not None]
    if len(known) < 2:
        return None
    ours, theirs = np.stack([each[1] for each in known]), np.stack([each[2] for each in known])
    scale = np.maximum(theirs[:, -1] - theirs[:, 0], 1e-3 * np.abs(theirs).max(axis=1) + 1e-9)
    # (i, j): how far the bad rows' i is from the usual j, in spreads of j.
    distance = np.abs(ours[:, np.newaxis] - theirs[np.newaxis]).mean(axis=2) / scale[np.newaxis]
    own = np.diagonal(distance)
    crossed = distance + distance.T
    np.fill_diagonal(crossed, np.inf)
    i, j = np.unravel_index(int(crossed.argmin()), crossed.shape)
    if len(known) > MANY:
        return _many_exchanged(known, distance)
    if crossed[i, j] < 0.5 and own[i] > 1 and own[j] > 1:
        one, other = known[i][0].name, known[j][0].name
        return Shape(one, f"looks as {other} usually does, and the other way round", other=other)
    return None


def _many_exchanged(known: Sequence[tuple[Field, Matrix, Matrix]], distance: Matrix) -> Shape | None:
    """Of many inputs, such as pixels: rows and columns of a square, or their order turned round."""
    count = len(known)
    side = round(count**0.5)
    places = np.arange(count)
    orders = {"their order is turned round": places[::-1]}
    if side * side == count:
        orders["rows and columns are exchanged"] = places.reshape(side, side).T.ravel()
    own = float(np.median(distance[places, places]))
    for words, order in orders.items():
        error = float(np.median(distance[places, order]))
        moved_ = order != places
        if error < 0.5 * own and float(distance[places, order][moved_].mean()) < 0.6 * float(
            distance[places, places][moved_].mean()
        ):
            turned = tuple(order.tolist())
            return Shape(known[0][0].name, f"and the others look as if {words}", order=turned)
    return None


def _quantiles(field: Field, rows: Rows) -> Matrix | None:
    numbers = field.numbers
    if numbers is None:
        return None
    known = numbers[rows]
    known = known[np.isfinite(known)]
    return np.quantile(known.astype(np.float64), _QUANTILES) if len(known) >= _LEAST else None
