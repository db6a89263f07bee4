"""A column in another unit, and how it is turned back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array, Signature
from hoverboard.postmortem.shapes import MANY, exchanged, missing, scaled
from hoverboard.postmortem.table import Table

__all__ = ["UnitRepair", "repair_of"]

_INPUT: Final = "input "


@dataclass(frozen=True, slots=True)
class UnitRepair:
    """A factor that an input is divided by.

    Attributes:
        tensor: the input.
        element: of its flattened samples, the one that is meant; None for all.
        factor: it.
    """

    tensor: str
    element: int | None
    factor: float

    def __str__(self) -> str:
        """In words."""
        name = self.tensor if self.element is None else f"{self.tensor}[{self.element}]"
        if self.factor >= 1:
            return f"{name} divided by {self.factor:g}"
        return f"{name} multiplied by {1 / self.factor:g}"

    def applied(self, column: Array) -> Array:
        """A column `(rows, *shape)` as it would be in the usual unit; whole numbers are rounded."""
        flat = column.reshape(len(column), -1).astype(np.float64)
        places = slice(None) if self.element is None else [self.element]
        flat[:, places] /= self.factor
        whole = flat if column.dtype.kind == "f" else np.round(flat)
        return np.asarray(whole.astype(column.dtype).reshape(column.shape))


def repair_of(table: Table, rows: NDArray[np.bool_], signature: Signature) -> UnitRepair | None:
    """What would undo another unit; None where nothing says that it is one.

    Args:
        table: with its usual rows.
        rows: bool `(rows,)`, the bad ones.
        signature: of the version that answered them.
    """
    if missing(table, rows) is not None or exchanged(table, rows) is not None:
        return None  # as `hypotheses` asks, in this order
    shape = scaled(table, rows)
    if shape is None or shape.factor is None:
        return None
    name = shape.field.removeprefix(_INPUT)
    spec = next((each for each in signature.inputs if name == each.name or name.startswith(f"{each.name}[")), None)
    numeric = [field for field in table.fields if field.kind == "input" and field.numbers is not None]
    if spec is None or spec.variable or np.dtype(spec.dtype).kind not in "fiu":
        return None
    everything = len(numeric) > MANY
    element = None
    if not everything and name != spec.name:
        index = tuple(int(each) for each in name[len(spec.name) + 1 : -1].split(","))
        element = int(np.ravel_multi_index(index, [dim or 1 for dim in spec.shape]))
    return UnitRepair(spec.name, element, shape.factor)
