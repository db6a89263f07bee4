"""Text and JSON columns as Arrow arrays that Postgres takes: neither `text` nor `jsonb` can hold a NUL."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hoverboard.contract.signature import Array
from hoverboard.database.text import REPLACEMENT, storable, storable_json

__all__ = ["json_objects", "json_values", "tags_column", "text_column"]

_TEXT: Final = pa.large_string()
_encode = msgspec.json.Encoder().encode


def text_column(values: Sequence[str | None]) -> Any:
    """large_string, NULs replaced."""
    column = pa.array(values, _TEXT)
    # Looked for in the bytes of all values at once: nearly always there is none.
    data = column.buffers()[2]
    if data is not None and b"\0" in data.to_pybytes():
        return pc.replace_substring(column, "\0", REPLACEMENT)
    return column


def tags_column(values: Sequence[bytes | None]) -> Any:
    """large_string of JSON objects, NULs in them replaced.

    Raises:
        ValueError: something with a NUL in it that is no JSON.
    """
    if not any(values):
        return pa.nulls(len(values), _TEXT)
    return pa.array([value and storable_json(value) for value in values], _TEXT)


def json_objects(members: Mapping[str, Any], rows: int) -> Any:
    """large_string: one JSON object a row.

    Args:
        members: name -> large_string of JSON values, one a row; None for null in all rows.
        rows: how many.
    """
    if not members:
        return pa.nulls(rows, _TEXT)
    parts: list[Any] = []
    for name, values in members.items():
        parts.append(_literal(("," if parts else "{") + json.dumps(storable(name)) + ":"))
        parts.append(_literal("null") if values is None else values)
    joined = pc.binary_join_element_wise(*parts, _literal("}"), _literal(""))
    return pa.repeat(joined, rows) if isinstance(joined, pa.Scalar) else joined


def json_values(column: Array) -> Any:
    """large_string: one JSON value a row, exact.

    Numbers are written with the fewest digits that tell them from all others of their dtype. JSON has no NaN, no
    Infinity and (in `jsonb`) no negative zero: these are the strings "NaN", "Infinity", "-Infinity" and "-0", which
    `::real` and `::float8` read as well as numbers.

    Args:
        column: `(rows,)` or `(rows, 1)` of numbers; `(rows, ...)` objects of `bytes`, None where redacted.
    """
    if column.dtype == object:
        squeezed = column[:, 0] if column.shape[1:] == (1,) else column
        return pa.array([_encode(_plain(value)) for value in squeezed], _TEXT)
    flat = column.reshape(len(column))
    if column.dtype.kind != "f":
        return pa.array(flat).cast(_TEXT)
    # pyarrow writes no float16; a float32 holds each of them.
    numbers = pa.array(flat.astype(np.float32) if column.dtype.itemsize == 2 else flat).cast(_TEXT)
    # Negative zero too: `jsonb` keeps numbers as decimals, which have none.
    special = ~np.isfinite(flat) | ((flat == 0) & np.signbit(flat))
    return numbers if not special.any() else pc.if_else(pa.array(special), pa.array(map(_named, flat), _TEXT), numbers)


def _literal(text: str) -> Any:
    return pa.scalar(text, _TEXT)


def _named(number: float) -> str:
    if np.isnan(number):
        return '"NaN"'
    sign = "-" if np.signbit(number) else ""
    return f'"{sign}{"Infinity" if np.isinf(number) else "0"}"'


def _plain(value: Any) -> Any:
    """A string as it travels: bytes that are no UTF-8, and here those with a NUL too, are `{"b64": ...}`."""
    if isinstance(value, bytes):
        if b"\0" not in value:
            try:
                return value.decode()
            except UnicodeDecodeError:
                pass
        return {"b64": base64.b64encode(value).decode()}
    return [_plain(item) for item in value] if isinstance(value, np.ndarray) else value
