"""Rows of samples in blocks that memory has room for, however many they are and however large."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any, Final

import numpy as np

from hoverboard.contract.signature import STRING, Signature
from hoverboard.database.connect import Connection

__all__ = ["MOST_BYTES", "BlockReader", "bytes_of", "rows_for"]

MOST_BYTES: Final = 16 << 20
"""Of what was sent and answered, in one block, as `bytes_of` counts it: unless one row alone has more."""
_MOST_ROWS: Final = 4096
_AT_ONCE: Final = 128
_AT_FIRST: Final = 16
_OF_JSON: Final = 4
"""Python's strings and numbers take several times the room of the JSON that they are read from."""
_SENT: Final = ("vector", "tensors", "outputs", "output_tensors")
_ASSUMED_DIMENSION: Final = 1024
_ASSUMED_TEXT: Final = 256


class BlockReader:
    """Reads rows, and cuts them into blocks: the same ones whichever row it began with, if that began a block.

    Args:
        most_rows: of a block.

    Attributes:
        most_rows: as given.
        rows: how many the last statement gave.
        last: the last of them; None before the first.
    """

    def __init__(self, most_rows: int) -> None:
        self.most_rows = most_rows
        self._block: list[Any] = []
        self._bytes = 0
        self._largest = MOST_BYTES // _AT_FIRST
        self.rows = 0
        self.last: Any = None

    async def read(self, connection: Connection, sql: str, *values: Any) -> AsyncIterator[list[Any]]:
        """The blocks that become full by the rows of a statement; what remains begins the next one.

        Args:
            sql: its rows have `inputs`, and any of `vector`, `tensors`, `outputs` and `output_tensors`.
        """
        # Not all at once: nobody knows how large texts are until they are here. Those before tell.
        at_once = max(1, min(_AT_ONCE, MOST_BYTES // self._largest))
        self.rows, self._largest = 0, 1
        async for row in connection.cursor(sql, *values, prefetch=at_once):
            size = bytes_of(row)
            if self._block and (len(self._block) == self.most_rows or self._bytes + size > MOST_BYTES):
                yield self.rest()
            self._block.append(row)
            self._bytes += size
            self._largest = max(self._largest, size)
            self.rows, self.last = self.rows + 1, row

    def rest(self) -> list[Any]:
        """What is in no block yet, which ends with it."""
        block, self._block, self._bytes = self._block, [], 0
        return block


def bytes_of(row: Any) -> int:
    """About what a row's inputs and outputs take."""
    return _OF_JSON * len(row["inputs"] or "") + sum(len(row.get(name) or b"") for name in _SENT)


def rows_for(signature: Signature) -> int:
    """How many rows of a signature's inputs a block may have, as far as that says how large they are."""
    size = 0
    for spec in signature.inputs:
        elements = math.prod(_ASSUMED_DIMENSION if dim is None else dim for dim in spec.shape)
        size += elements * (_ASSUMED_TEXT if spec.dtype == STRING else np.dtype(spec.dtype).itemsize)
    return max(1, min(_MOST_ROWS, MOST_BYTES // max(1, size)))
