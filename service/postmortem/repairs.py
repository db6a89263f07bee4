"""What is odd about how inputs were written, and how it is put back: a unit, exchanged columns, their order, an input that is missing.

A caller that changes how it writes an input has rows from before, or some that it writes as ever: a row is put back where it is more
like the usual ones then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.postmortem.shapes import MANY, Shape, exchanged, missing, scaled
from hoverboard.postmortem.table import Field, Table

__all__ = ["ExchangeRepair", "FillRepair", "InputPlace", "InputRepair", "OrderRepair", "UnitRepair", "repair_of"]

_INPUT: Final = "input "
_MISSING: Final = "missing"
_UNUSUAL: Final = 0.2
"""A value that fewer of the usual rows have may be one that stands for none."""


@dataclass(frozen=True, slots=True)
class InputPlace:
    """One number of a sample.

    Attributes:
        tensor: the input.
        element: of its flattened samples; None for all of them.
    """

    tensor: str
    element: int | None

    def __str__(self) -> str:
        """As a person names it."""
        return self.tensor if self.element is None else f"{self.tensor}[{self.element}]"

    def of(self, column: Array) -> slice | list[int]:
        """Where it is in a flattened column of its input."""
        return slice(None) if self.element is None or column.size == len(column) else [self.element]


@dataclass(frozen=True, slots=True)
class UnitRepair:
    """A factor that a number is divided by, once an offset is taken off it.

    Attributes:
        place: of the number, or all of an input's, which are summed up to be compared.
        factor, offset: them.
        usual: the number that is usual.
    """

    place: InputPlace
    factor: float
    usual: float
    offset: float = 0.0

    def __str__(self) -> str:
        """In words."""
        sign = "less" if self.offset > 0 else "plus"
        name = f"{self.place} {sign} {abs(self.offset):.5g}" if self.offset else f"{self.place}"
        if self.offset and self.factor == 1:
            return name
        if self.factor >= 1:
            return f"{name} divided by {self.factor:g}"
        return f"{name} multiplied by {1 / self.factor:g}"

    def applied(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """Columns `(rows, *shape)` as they would be in the usual unit; whole numbers are rounded."""
        column = columns[self.place.tensor]
        flat = _flat(column)
        fixed, place = flat.copy(), self.place.of(column)
        fixed[:, place] = (flat[:, place] - self.offset) / self.factor
        # A factor makes numbers as many times larger; where zero is another one, that means nothing.
        scale = np.asarray if self.offset else _logs
        sums = (scale(each[:, place].sum(axis=1)) for each in (flat, fixed))
        before, after = (np.abs(each - scale(np.array(self.usual))) for each in sums)
        flat[after < before] = fixed[after < before]
        return {**columns, self.place.tensor: _shaped(flat, column)}


@dataclass(frozen=True, slots=True)
class ExchangeRepair:
    """Two numbers that are exchanged.

    Attributes:
        one, other: where they are.
        usual: of each, the number that is usual and how far numbers are spread around it.
    """

    one: InputPlace
    other: InputPlace
    usual: tuple[tuple[float, float], tuple[float, float]]

    def __str__(self) -> str:
        """In words."""
        return f"{self.one} and {self.other} exchanged"

    def applied(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """Columns `(rows, *shape)` with each number where the other one was."""
        there = {place.tensor: columns[place.tensor] for place in (self.one, self.other)}
        fixed = {name: _flat(column) for name, column in there.items()}
        one, other = (fixed[place.tensor][:, place.of(there[place.tensor])].copy() for place in (self.one, self.other))
        (one_usual, one_spread), (other_usual, other_spread) = self.usual
        before = np.abs(one - one_usual) / one_spread + np.abs(other - other_usual) / other_spread
        after = np.abs(other - one_usual) / one_spread + np.abs(one - other_usual) / other_spread
        crossed = after < before
        for place, ours, theirs in ((self.one, one, other), (self.other, other, one)):
            fixed[place.tensor][:, place.of(there[place.tensor])] = np.where(crossed, theirs, ours)
        return {**columns, **{name: _shaped(flat, there[name]) for name, flat in fixed.items()}}


@dataclass(frozen=True, slots=True)
class OrderRepair:
    """All numbers of an input in another order, which undoes itself.

    Attributes:
        tensor: the input.
        order: of its numbers.
        usual: the mean of each.
    """

    tensor: str
    order: tuple[int, ...]
    usual: tuple[float, ...]

    def __str__(self) -> str:
        """In words."""
        return f"the numbers of {self.tensor} in their usual order"

    def applied(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """Columns `(rows, *shape)` with each number at its usual place."""
        column = columns[self.tensor]
        flat = _flat(column)
        fixed = flat[:, list(self.order)]
        like = fixed @ np.array(self.usual) > flat @ np.array(self.usual)
        flat[like] = fixed[like]
        return {**columns, self.tensor: _shaped(flat, column)}


@dataclass(frozen=True, slots=True)
class FillRepair:
    """What an input is given where it has none.

    Attributes:
        place: of it.
        odd: the value that stands for none, beside NaN and an empty text; None for no other.
        usual: what it is given.
    """

    place: InputPlace
    odd: float | None
    usual: float | str

    def __str__(self) -> str:
        """In words."""
        usual = f"{self.usual:g}" if isinstance(self.usual, float) else repr(self.usual)
        return f"{self.place} filled with its usual {usual}"

    def applied(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """Columns `(rows, *shape)` with a usual value where there was none."""
        column = columns[self.place.tensor]
        if isinstance(self.usual, str):
            flat = column.reshape(len(column), -1).copy()
            flat[flat == b""] = self.usual.encode()
            return {**columns, self.place.tensor: flat.reshape(column.shape)}
        flat = _flat(column)
        part = flat[:, self.place.of(column)]
        part[np.isnan(part) | (part == self.odd)] = self.usual
        flat[:, self.place.of(column)] = part
        return {**columns, self.place.tensor: _shaped(flat, column)}


InputRepair = UnitRepair | ExchangeRepair | OrderRepair | FillRepair


def repair_of(table: Table, rows: NDArray[np.bool_], signature: Signature) -> InputRepair | None:
    """What would put the inputs of some rows back; None where nothing says what is wrong with them.

    Args:
        table: with its usual rows.
        rows: bool `(rows,)`, the bad ones.
        signature: of the version that answered them.
    """
    lost = missing(table, rows)  # as `hypotheses` asks, in this order
    if lost is not None:
        return _filled(table, lost.field, lost.value, signature)
    crossed = exchanged(table, rows)
    if crossed is not None:
        return _put_back(crossed, table, signature)
    shape = scaled(table, rows)
    if shape is None or shape.factor is None:
        return _filled_where_missing(table, rows, signature)
    place = _place(shape.field, signature)
    if place is None:
        return None
    fields = _numeric(table)
    many = len(fields) > MANY
    numbers = np.nansum([_usual(field, table) for field in fields if many or field.name == shape.field], axis=0)
    return UnitRepair(
        InputPlace(place.tensor, None) if many else place, shape.factor, float(np.nanmedian(numbers)), shape.offset
    )


def _put_back(shape: Shape, table: Table, signature: Signature) -> InputRepair | None:
    one = _place(shape.field, signature)
    if one is None:
        return None
    if shape.order is not None:
        fields = _numeric(table)
        size = int(np.prod([dim or 1 for dim in _spec(signature, one.tensor).shape], dtype=np.int64))
        # The order of fields is that of the numbers only where there is a field for each.
        its = all((place := _place(field.name, signature)) and place.tensor == one.tensor for field in fields)
        if not its or not len(fields) == size == len(shape.order):
            return None
        return OrderRepair(one.tensor, shape.order, tuple(float(np.nanmean(_usual(each, table))) for each in fields))
    other = None if shape.other is None else _place(shape.other, signature)
    if other is None:
        return None
    spreads = [
        _spread(_usual(field, table)) for name in (shape.field, shape.other) if (field := table.field(name or ""))
    ]
    return ExchangeRepair(one, other, (spreads[0], spreads[1]))


def _numeric(table: Table) -> list[Field]:
    """Inputs whose numbers are known."""
    return [field for field in table.fields if field.kind == "input" and field.numbers is not None]


def _usual(field: Field, table: Table) -> NDArray[np.float64]:
    """The numbers of a field in the usual rows."""
    numbers = np.zeros(len(table)) if field.numbers is None else field.numbers
    return numbers[table.base & ~table.bad].astype(np.float64)


def _spread(numbers: NDArray[np.float64]) -> tuple[float, float]:
    """What is in the middle, and how far the middle 80% are apart."""
    low, middle, high = (float(each) for each in np.nanquantile(numbers, [0.1, 0.5, 0.9]))
    return middle, max(high - low, 1e-9)


def _logs(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(np.abs(numbers), 1e-12))


def _filled_where_missing(table: Table, rows: NDArray[np.bool_], signature: Signature) -> FillRepair | None:
    """Of the input that most rows have no number or text in, by the baseline's own bin for that."""
    for field in table.fields:
        if field.kind == "input" and _MISSING in field.values:
            lost = field.codes[rows] == field.values.index(_MISSING)
            if lost.mean() > 1 - _UNUSUAL:
                return _filled(table, field.name, None, signature)
    return None


def _filled(table: Table, name: str, odd: float | None, signature: Signature) -> FillRepair | None:
    place, field = _place(name, signature, texts=True), table.field(name)
    if place is None or field is None:
        return None
    usual = table.base & ~table.bad
    if field.numbers is not None:
        known = field.numbers[usual & np.isfinite(field.numbers)]
        known = known[known != odd]
        return FillRepair(place, odd, float(np.quantile(known, 0.5, method="nearest"))) if len(known) else None
    value = _commonest(field, usual)
    return None if value is None or odd is not None else FillRepair(place, None, value)


def _commonest(field: Field, usual: NDArray[np.bool_]) -> str | None:
    counts = np.bincount(field.codes[usual], minlength=len(field.values))
    counts[0] = 0
    value = field.values[int(counts.argmax())]
    return None if not counts.any() or value in ("other", _MISSING) else value


def _place(name: str, signature: Signature, *, texts: bool = False) -> InputPlace | None:
    """Where a field's numbers come from; None for one that is not read off one number (or text) of fixed place."""
    name = name.removeprefix(_INPUT)
    spec = next((each for each in signature.inputs if name == each.name or name.startswith(f"{each.name}[")), None)
    if spec is None or spec.variable:
        return None
    if spec.dtype == STRING:
        return InputPlace(spec.name, None) if texts and name == spec.name else None
    if np.dtype(spec.dtype).kind not in "fiu":
        return None
    if name == spec.name:
        return InputPlace(spec.name, None)
    index = tuple(int(each) for each in name[len(spec.name) + 1 : -1].split(","))
    return InputPlace(spec.name, int(np.ravel_multi_index(index, [dim or 1 for dim in spec.shape])))


def _spec(signature: Signature, name: str) -> TensorSpec:
    return next(each for each in signature.inputs if each.name == name)


def _flat(column: Array) -> NDArray[np.float64]:
    """A copy `(rows, elements)`."""
    return column.reshape(len(column), -1).astype(np.float64)


def _shaped(flat: NDArray[np.float64], column: Array) -> Array:
    """Numbers in the type and the shape of a column; whole ones are rounded."""
    whole = flat if column.dtype.kind == "f" else np.round(flat)
    return np.asarray(whole.astype(column.dtype).reshape(column.shape))
