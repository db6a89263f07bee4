"""Arrays as frames hold them: a dtype's name, a shape and the bytes, little-endian; texts as a list."""

from __future__ import annotations

from typing import Any

import numpy as np

from hoverboard.contract.signature import STRING, Array

__all__ = ["Column", "column_array", "float_dtype", "pack_column"]

Column = tuple[str, list[int], bytes | list[bytes | None]]
"""(dtype, shape with the rows first, data): raw bytes, or for dtype `string` a flat list, None where redacted."""

# NumPy makes both of these anew each time, in Python.
_NAMES: dict[np.dtype[Any], str] = {}
_DTYPES: dict[str, np.dtype[Any]] = {}


def float_dtype(data: bytes, rows: int) -> type[np.float32 | np.float64]:
    """What the numbers of a field such as `BatchRecord.value` are: journals of older versions have float32 only."""
    # By size and not by a field: journals from before there were two hold no such field.
    return np.float64 if rows and len(data) == 8 * rows else np.float32


def pack_column(array: Array) -> Column:
    """An array whose rows come first, as it is journaled."""
    if array.dtype == object:
        return STRING, list(array.shape), array.ravel().tolist()
    name = _NAMES.get(array.dtype) or _NAMES.setdefault(array.dtype, array.dtype.name)
    return name, list(array.shape), array.tobytes()


def column_array(column: Column) -> Array:
    """The array again, read-only where it is numeric; strings are objects of `bytes`, None where redacted."""
    dtype, shape, data = column
    if isinstance(data, list):
        flat: np.ndarray[Any, Any] = np.empty(len(data), dtype=object)
        # Not np.array(data), which would cut zero bytes off the end of each text.
        flat[:] = data
        return flat.reshape(shape)
    found = _DTYPES.get(dtype)
    if found is None:
        found = _DTYPES[dtype] = np.dtype(dtype)
    return np.frombuffer(data, found).reshape(shape)
