"""`real[]` and `text[]` in the form that binary COPY takes: pgpq's own `real[]` takes three times as long.

An array is big-endian words of 4 bytes: 1 (dimensions), 0 (no nulls), 700 (the type `real`), its length, 1 (index of the
first element); then for each element 4 (its bytes) and the float32. Of `text[]` the type is 25, and elements are UTF-8.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from hoverboard.contract.signature import Array

__all__ = ["ARRAYS", "real_arrays", "text_arrays"]

ARRAYS: Final = pa.large_binary()
"""The Arrow type of a `real[]` or `text[]`."""

_DIMENSIONS, _NO_NULLS, _REAL, _FIRST_INDEX, _ELEMENT_BYTES = 1, 0, 700, 1, 4
_TEXT: Final = 25
_HEAD: Final = 5
_WORD: Final = np.dtype(">u4")


def real_arrays(values: Array, lengths: Array) -> Any:
    """`ARRAYS` of one array a row.

    Args:
        values: float32, of all rows, one after the other.
        lengths: int64 `(rows,)`: how many are each row's.
    """
    rows = len(lengths)
    words = values.view(np.uint32)
    ends = np.cumsum(_HEAD + 2 * lengths)
    offsets = np.concatenate([[0], ends]) * _WORD.itemsize
    # A version nearly always answers with vectors of one length: a plain matrix, and no index for each element.
    alike = rows > 0 and bool((lengths == lengths[0]).all())
    data = _alike(words, rows, int(lengths[0])) if alike else _unlike(words, lengths, ends)
    return pa.LargeBinaryArray.from_buffers(ARRAYS, rows, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def text_arrays(texts: Sequence[str], indexes: Array, lengths: Array) -> Any:
    """`ARRAYS` of one array of texts a row.

    Args:
        texts: those that there are, without NUL.
        indexes: which of them, of all rows one after the other.
        lengths: int64 `(rows,)`: how many are each row's.
    """
    elements = [struct.pack(">i", len(data)) + data for data in (text.encode() for text in texts)]
    chosen = [elements[index] for index in indexes.tolist()]
    rows, start = [], 0
    for length in lengths.tolist():
        head = struct.pack(">5i", _DIMENSIONS, _NO_NULLS, _TEXT, length, _FIRST_INDEX)
        rows.append(head + b"".join(chosen[start : start + length]))
        start += length
    return pa.array(rows, ARRAYS)


def _alike(words: Array, rows: int, length: int) -> Array:
    data = np.empty((rows, _HEAD + 2 * length), _WORD)
    data[:, :_HEAD] = (_DIMENSIONS, _NO_NULLS, _REAL, length, _FIRST_INDEX)
    data[:, _HEAD::2] = _ELEMENT_BYTES
    data[:, _HEAD + 1 :: 2] = words.reshape(rows, length)
    return data


def _unlike(words: Array, lengths: Array, ends: Array) -> Array:
    data = np.full(int(ends[-1]) if len(ends) else 0, _ELEMENT_BYTES, _WORD)
    starts = ends - _HEAD - 2 * lengths
    for place, word in enumerate((_DIMENSIONS, _NO_NULLS, _REAL)):
        data[starts + place] = word
    data[starts + 3] = lengths
    data[starts + 4] = _FIRST_INDEX
    heads = _HEAD * np.repeat(np.arange(1, len(lengths) + 1), lengths)
    data[heads + 2 * np.arange(len(words)) + 1] = words
    return data
