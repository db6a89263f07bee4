"""Which rows a version has seen before: a client that tries again must not raise an alarm by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from hoverboard.contract.signature import Array

__all__ = ["REMEMBERED", "Seen"]

REMEMBERED: Final = 32_768
"""Rows that are surely remembered; up to twice as many are."""


class Seen:
    """Remembers hashes of the latest rows of one version."""

    __slots__ = ("_earlier", "_latest")

    def __init__(self) -> None:
        self._latest: set[int] = set()
        self._earlier: set[int] = set()

    def fresh(self, columns: Sequence[Array]) -> Array:
        """Which rows are new, bool `(rows,)`; they are remembered from now on.

        Args:
            columns: one array per input, `(rows, ...)`.
        """
        rows = len(columns[0])
        # Column by column: slicing each row out of each array would take longer than the rest together.
        keys = [_keys(column, rows) for column in columns]
        found = np.ones(rows, bool)
        for row, key in enumerate(map(hash, zip(*keys, strict=True))):
            if key in self._latest or key in self._earlier:
                found[row] = False
            else:
                self._remember(key)
        return found

    def _remember(self, key: int) -> None:
        self._latest.add(key)
        if len(self._latest) >= REMEMBERED:
            # Two generations, so that the oldest half goes at once: dropping single rows would need their order.
            self._earlier, self._latest = self._latest, set()


def _keys(column: Array, rows: int) -> list[bytes] | list[tuple[bytes, ...]]:
    """Something hashable for each row."""
    if column.dtype == object:
        return [tuple(row) for row in column.reshape(rows, -1).tolist()]
    data = column.tobytes()
    size = len(data) // rows
    # Rows of other shapes can have the same bytes.
    shape = repr(column.shape[1:]).encode()
    return [data[place : place + size] + shape for place in range(0, len(data), size)] if size else [shape] * rows
