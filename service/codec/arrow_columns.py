"""Arrow columns, as Parquet files hold them, straight to the arrays of a call: checked all at once, never value by value.

Only what is plainly right goes this way, as in `json_fast`: what is unusual (decimals, timestamps) or wrong
is looked at as the JSON values that the rows stand for, which says exactly what is at fault and where.
"""

from __future__ import annotations

import base64
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hoverboard.codec.bounds import Bounds, bounds_of
from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec

__all__ = ["ArrowDecoder", "ArrowRows", "Refused", "Unusual", "jsonable"]

_EXACT = 2**53  # beyond it, a float may stand for several whole numbers


class Unusual(Exception):
    """Values of a kind that only their JSON form can judge."""


class Refused(Exception):
    """Some value breaks the contract; which one, and how, is for the exact way to say."""


@dataclass(frozen=True, slots=True, eq=False)
class ArrowRows(Sequence[Any]):
    """Consecutive rows, a column an input; one by one they are the JSON instances that they stand for.

    Attributes:
        columns: input name -> its values, all equally many.
        bare: whether an instance is the bare value of the one input.
    """

    columns: Mapping[str, pa.Array]
    bare: bool

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> ArrowRows: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return ArrowRows({name: column[index] for name, column in self.columns.items()}, self.bare)
        return self[index : index + 1].instances()[0]

    def take(self, rows: Sequence[int]) -> ArrowRows:
        """Some of the rows."""
        if len(rows) == len(self):
            return self
        return ArrowRows(
            {name: column.take(pa.array(rows, pa.int64())) for name, column in self.columns.items()}, self.bare
        )

    def instances(self) -> list[Any]:
        """Every row as a JSON value; NaN and infinities, which JSON lacks, as they are."""
        columns = {name: _json_values(column) for name, column in self.columns.items()}
        if self.bare:
            (values,) = columns.values()
            return values
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class ArrowDecoder:
    """Arrow columns to the arrays of one signature."""

    def __init__(self, signature: Signature) -> None:
        self._specs = signature.inputs
        self._bounds = [bounds_of(spec) for spec in signature.inputs]

    def columns(self, rows: ArrowRows) -> tuple[Array, ...]:
        """One array per input, each `(n, *shape)`, equal to what the rows' JSON values would become.

        Raises:
            Unusual, Refused: see there.
        """
        return tuple(
            _column(rows.columns[spec.name], spec, bounds, bare=rows.bare)
            for spec, bounds in zip(self._specs, self._bounds, strict=True)
        )

    def lengths(self, rows: ArrowRows) -> list[Hashable] | None:
        """For each row, what must be equal for rows to share a call: the lengths along variable inputs.

        None where only the JSON values tell, as with nulls.
        """
        columns = [rows.columns[spec.name] for spec in self._specs if spec.variable]
        if not columns:
            return [()] * len(rows)
        lengths = [_lengths(column) for column in columns]
        known = [each for each in lengths if each is not None]
        return list(zip(*known, strict=True)) if len(known) == len(lengths) else None


def _lengths(column: pa.Array) -> list[int] | None:
    """How long each list is; None with nulls, and where lists within them differ, which then tell calls apart as well."""
    if not _is_list(column.type) or column.null_count:
        return None
    within = column.flatten()
    while _is_list(within.type):
        if within.null_count or len(pc.unique(pc.list_value_length(within))) > 1:
            return None
        within = within.flatten()
    lengths: list[int] = pc.list_value_length(column).to_pylist()
    return lengths


def jsonable(value: Any) -> Any:
    """An Arrow value as the JSON value that the codec takes.

    Bytes become `{"b64": ...}`; a decimal, as Spark and Snowflake write numbers, an integer where it is whole, else the
    nearest float64.
    """
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list):
        return [jsonable(item) for item in value]
    return value


def _json_values(column: pa.Array) -> list[Any]:
    values = column.to_pylist()
    return [jsonable(value) for value in values] if _holds_others(column.type) else values


def _holds_others(kind: pa.DataType) -> bool:
    """Whether a column holds bytes or decimals, whose Python values are none of JSON's."""
    if _is_binary(kind) or pa.types.is_decimal(kind):
        return True
    return hasattr(kind, "value_type") and _holds_others(kind.value_type)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _column(column: pa.Array, spec: TensorSpec, bounds: Bounds, *, bare: bool) -> Array:
    n = len(column)
    dims: list[int] = []
    while _is_list(column.type):
        # `flatten` would leave null lists out, and move every row behind them.
        if len(dims) == len(spec.shape) or column.null_count:
            raise Unusual
        dims.append(_one_length(column))
        column = column.flatten()
    if dims:
        _check_dims(dims, spec)
    elif spec.shape == (1,):
        dims = [1]  # the bare value will do
    if len(dims) != len(spec.shape):
        raise Unusual
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if spec.dtype == STRING:
        if bare and spec.name == "b64" and _is_binary(column.type):
            raise Unusual  # {"b64": ...} is then an instance by input name
        flat: Array = _strings(column, spec)
    else:
        flat = _numbers(column, spec, bounds)
    shaped: Array = flat.reshape(n, *dims)
    return shaped


def _one_length(column: pa.Array) -> int:
    """How long each of some lists is. Of empty ones nothing tells how long the lists within them would be."""
    if pa.types.is_fixed_size_list(column.type):
        length = int(column.type.list_size)
    else:
        ends = pc.min_max(pc.list_value_length(column)).as_py()
        length = int(ends["min"]) if ends["min"] == ends["max"] else 0
    if not length:
        raise Unusual
    return length


def _check_dims(dims: Sequence[int], spec: TensorSpec) -> None:
    most = spec.max_length if spec.dtype != STRING else None  # of a string it bounds the bytes
    for length, dim, least in zip(dims, spec.shape, spec.least, strict=False):
        if not length:
            raise Unusual  # nothing tells how long the rest is
        if (
            (dim is not None and length != dim)
            or length < least
            or (dim is None and most is not None and length > most)
        ):
            raise Refused


def _numbers(column: pa.Array, spec: TensorSpec, bounds: Bounds) -> Array:
    """Numbers and booleans in the spec's dtype."""
    kind = column.type
    if pa.types.is_boolean(kind) or spec.dtype == "bool":
        if not (pa.types.is_boolean(kind) and spec.dtype == "bool") or spec.allowed is not None:
            raise Unusual
        if column.null_count:
            raise Refused
        return np.array(column.to_numpy(zero_copy_only=False))
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise Unusual
    if column.null_count and (spec.finite or bounds.integral):
        raise Refused
    values: Array = column.to_numpy(zero_copy_only=False)
    if bounds.integral:
        values = _whole(values)
        good = values
    else:
        values, good = _reals(values, spec, bounds)
    if len(good) and not _within(good, bounds):
        raise Refused
    if spec.allowed is not None and not set(np.unique(values).tolist()) <= set(spec.allowed):
        raise Refused
    # A copy also where the dtype is the same: Arrow's memory is the file's, and read-only.
    return values.astype(spec.dtype)


def _reals(values: Array, spec: TensorSpec, bounds: Bounds) -> tuple[Array, Array]:
    """Floats, and those of them that limits are about: the finite ones."""
    # By way of float64, as JSON numbers go: an integer that went to float32 at once might round another way.
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    if finite.all():
        return values, values
    if spec.finite:
        raise Refused
    # An infinity that the file holds is taken as in a tensor object; only limits may be against it.
    endless = values[np.isinf(values)]
    if len(endless) and not (bounds.low <= endless.min() and endless.max() <= bounds.high):
        raise Refused
    return values, values[finite]


def _whole(values: Array) -> Array:
    """The integers that floats stand for."""
    if values.dtype.kind != "f":
        return values
    values = values.astype(np.float64)
    whole = np.isfinite(values) & (np.trunc(values) == values) & (np.abs(values) <= _EXACT)
    if not whole.all():
        raise Refused
    return values.astype(np.int64)


def _within(values: Array, bounds: Bounds) -> bool:
    low, high = values.min().item(), values.max().item()
    return bool(bounds.low <= low and high <= bounds.high and -bounds.overflow < low and high < bounds.overflow)


def _strings(column: pa.Array, spec: TensorSpec) -> Array:
    """Texts as UTF-8, and bytes as they are: an object array of `bytes`."""
    if not (_is_text(column.type) or _is_binary(column.type)):
        raise Unusual
    if column.null_count:
        raise Refused
    if _is_text(column.type):
        try:
            column.validate(full=True)  # of what is no UTF-8 nothing stands in a file's way until here
        except pa.ArrowInvalid:
            raise Unusual from None
    data = column.cast(pa.large_binary())
    if spec.max_length is not None and len(data) and pc.max(pc.binary_length(data)).as_py() > spec.max_length:
        raise Refused
    if spec.allowed is not None:
        allowed = {str(value).encode() for value in spec.allowed}
        if not set(pc.unique(data).to_pylist()) <= allowed:
            raise Refused
    return np.array(data.to_pylist(), dtype=object)
