"""Tensors of one sample as bytes, in the layout of safetensors, which clients of many languages read.

The layout, all little-endian: 8 bytes, the length of the header; the header, a JSON object padded with spaces to a
multiple of 8 bytes, `{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}`; the buffers, one
after the other, each row-major, `data_offsets` counted from the end of the header.

Text has no dtype there. A tensor `name` of strings is two: `name`, the bytes of all its elements one after the other
(`U8`), and `name.ends`, where each of them ends (`I64`, in the tensor's own shape).

The library of that name writes one sample at a time, and orders tensors by dtype: for 64 rows of 8 x 8 floats it takes 340 us
where `pack_rows` takes 12, and rows that are there already would differ from new ones. It reads what is written here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from string import ascii_lowercase
from typing import Any, Final

import numpy as np

from hoverboard.contract.signature import NUMERIC_DTYPES, Array

__all__ = ["ENDS", "pack", "pack_rows", "unpack"]

ENDS: Final = ".ends"
# A letter and the bits, such as `F32`.
_DTYPES: Final = {name: name[0].upper() + name.lstrip(ascii_lowercase) for name in NUMERIC_DTYPES} | {"bool": "BOOL"}
_NAMES: Final = {code: name for name, code in _DTYPES.items()}
_ALIGNMENT: Final = 8


def pack(tensors: Mapping[str, Array]) -> bytes:
    """The tensors of one sample as bytes.

    Args:
        tensors: by name, any shape; of a dtype in `NUMERIC_DTYPES`, or objects of `bytes`.
    """
    numeric: dict[str, Array] = {}
    for name, array in tensors.items():
        if array.dtype == object:
            elements = array.ravel().tolist()
            ends = np.cumsum([len(element) for element in elements], dtype=np.int64)
            numeric[name] = np.frombuffer(b"".join(elements), np.uint8)
            numeric[name + ENDS] = ends.reshape(array.shape)
        else:
            numeric[name] = array
    header = _header({name: (array.dtype, array.shape) for name, array in numeric.items()})
    return b"".join([header, *(array.tobytes() for array in numeric.values())])


def pack_rows(columns: Mapping[str, Array]) -> Array:
    """The tensors of many samples of the same shapes: uint8 `(rows, bytes)`, row-major, each row what `pack` gives for it.

    Args:
        columns: numeric, by name, each `(rows, *shape)`.
    """
    header = _header({name: (column.dtype, column.shape[1:]) for name, column in columns.items()})
    rows = len(next(iter(columns.values())))
    parts = [np.frombuffer(header, np.uint8), *(_bytes(column) for column in columns.values())]
    matrix = np.empty((rows, sum(part.shape[-1] for part in parts)), np.uint8)
    start = 0
    for part in parts:
        end = start + part.shape[-1]
        matrix[:, start:end] = part
        start = end
    return matrix


def unpack(data: bytes) -> dict[str, Array]:
    """The tensors again, read-only.

    Raises:
        ValueError: these bytes are not in the layout.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    tensors: dict[str, Array] = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        count = math.prod(entry["shape"])
        flat = np.frombuffer(data[8 + length + begin : 8 + length + end], _NAMES[entry["dtype"]], count)
        tensors[name] = flat.reshape(entry["shape"])
    for name in [name for name in tensors if name + ENDS in tensors]:
        tensors[name] = _strings(tensors[name].tobytes(), tensors.pop(name + ENDS))
    return tensors


def _header(tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> bytes:
    entries: dict[str, Any] = {}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": _DTYPES[dtype.name], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    # The format wants its buffers aligned, so that readers can map them as they are.
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _bytes(column: Array) -> Array:
    size = math.prod(column.shape[1:]) * column.dtype.itemsize
    return np.frombuffer(column.tobytes(), np.uint8).reshape(len(column), size)


def _strings(data: bytes, ends: Array) -> Array:
    flat: np.ndarray[Any, Any] = np.empty(ends.size, dtype=object)
    begin = 0
    for index, end in enumerate(ends.ravel().tolist()):
        flat[index] = data[begin:end]
        begin = end
    return flat.reshape(ends.shape)
