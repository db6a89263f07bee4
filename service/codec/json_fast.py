"""The fast way from JSON bytes to columns: typed decoders built once per signature.

They accept only what is plainly well-formed. Whatever they refuse goes the exact way, which either accepts it (an
integral float for an integer, a tensor object) or says what is wrong with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from hoverboard.codec.bounds import Bounds, bounds_of
from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec

__all__ = ["Columns", "NotPlain", "column_decoder", "row_decoder"]

Columns = tuple[tuple[Array, ...], int]
_Build = Callable[[Any], Array]
_ROW = re.compile(r"\$\[(\d+)\]")
_CELL = re.compile(r"\$\.(.+?)\[(\d+)\]")
_INT64 = (-(2**63), 2**63 - 1)


class NotPlain(Exception):
    """Not for the fast way; the exact way decides.

    Args:
        suspect: the sample at which the decoder stopped, where it said so.
        name: the input it belongs to, in column form.
    """

    def __init__(self, suspect: int | None = None, name: str | None = None) -> None:
        super().__init__(suspect, name)
        self.suspect = suspect
        self.name = name


def row_decoder(signature: Signature) -> Callable[[Any], Columns] | None:
    """A decoder of `instances` JSON, or None where the signature has no plain form."""
    plans = [_plan(spec) for spec in signature.inputs]
    if any(plan is None for plan in plans):
        return None
    types, builds = zip(*(plan for plan in plans if plan is not None), strict=True)
    if len(types) == 1:
        return _one_input_rows(types[0], builds[0])
    row_type = _struct(signature, types)
    if row_type is None:
        return None
    decode = msgspec.json.Decoder(_list_of(row_type)).decode
    astuple = msgspec.structs.astuple

    def rows(raw: Any) -> Columns:
        samples = _decoded(decode, raw)
        values = zip(*map(astuple, samples), strict=True)
        return tuple(build(list(column)) for build, column in zip(builds, values, strict=True)), len(samples)

    return rows


def column_decoder(signature: Signature) -> Callable[[Any], Columns] | None:
    """A decoder of `inputs` JSON, or None where the signature has no plain form."""
    plans = [_plan(spec) for spec in signature.inputs]
    if any(plan is None for plan in plans):
        return None
    types, builds = zip(*(plan for plan in plans if plan is not None), strict=True)
    arrays = [_list_of(element) for element in types]
    columns_type = _struct(signature, arrays)
    if columns_type is None:
        return None
    decode = msgspec.json.Decoder(columns_type).decode
    astuple = msgspec.structs.astuple

    def columns(raw: Any) -> Columns:
        values = astuple(_decoded(decode, raw))
        n = len(values[0])
        if n == 0 or any(len(column) != n for column in values):
            raise NotPlain
        return tuple(build(column) for build, column in zip(builds, values, strict=True)), n

    return columns


def _one_input_rows(element: Any, build: _Build) -> Callable[[Any], Columns]:
    decode = msgspec.json.Decoder(_list_of(element)).decode

    def rows(raw: Any) -> Columns:
        samples = _decoded(decode, raw)
        return (build(samples),), len(samples)

    return rows


def _list_of(element: Any) -> Any:
    return list[element]


def _decoded(decode: Callable[[Any], Any], raw: Any) -> Any:
    try:
        samples = decode(raw)
    except msgspec.ValidationError as error:
        raise _stopped_at(str(error)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise NotPlain from None
    if not samples:
        raise NotPlain
    return samples


def _stopped_at(text: str) -> NotPlain:
    """Where msgspec stopped, from its words: it keeps the place nowhere else."""
    path = text.rpartition(" - at `")[2]  # the last one: a client's own member names may stand before it
    row = _ROW.match(path)
    if row is not None:
        return NotPlain(int(row[1]))
    cell = _CELL.match(path)
    return NotPlain() if cell is None else NotPlain(int(cell[2]), cell[1])


def _struct(signature: Signature, types: Sequence[Any]) -> Any:
    """A struct with one required field per input; None where msgspec takes a name for none, such as one with a quote."""
    fields = [(f"input_{index}", kind) for index, kind in enumerate(types)]
    names = {f"input_{index}": spec.name for index, spec in enumerate(signature.inputs)}
    try:
        return msgspec.defstruct("Row", fields, rename=names, forbid_unknown_fields=True)
    except ValueError:
        return None


def _plan(spec: TensorSpec) -> tuple[Any, _Build] | None:
    """The type of one sample's value and how a list of such values becomes a column."""
    if spec.dtype == STRING:
        return _string_plan(spec)
    if spec.allowed is not None:
        return None
    element = _element_type(spec.dtype, bounds_of(spec))
    if not spec.finite and spec.dtype.startswith("float"):
        element = element | None  # null stands for NaN, which NumPy makes of it
    # Samples of one number come bare nearly always; `[x]` takes the exact way.
    if spec.shape == (1,):
        return element, _scalar_column(spec.dtype)
    return _nested(element, spec), _number_column(spec)


def _string_plan(spec: TensorSpec) -> tuple[Any, _Build] | None:
    if spec.shape not in ((), (1,)):
        return None
    if spec.allowed is not None:
        return Literal[tuple(str(value) for value in spec.allowed)], _string_column(spec)
    return str, _string_column(spec)


def _element_type(dtype: str, bounds: Bounds) -> Any:
    if dtype == "bool":
        return bool
    if bounds.integral:
        # msgspec takes no limits beyond int64; NumPy refuses what is then too large for uint64.
        low, high = (end if _INT64[0] <= end <= _INT64[1] else None for end in (bounds.low, bounds.high))
        return Annotated[int, Meta(ge=low, le=high)]
    limits: dict[str, Any] = {}
    if math.isfinite(bounds.low):
        limits["ge"] = bounds.low
    elif math.isfinite(bounds.overflow):
        limits["gt"] = -bounds.overflow
    if math.isfinite(bounds.high):
        limits["le"] = bounds.high
    elif math.isfinite(bounds.overflow):
        limits["lt"] = bounds.overflow
    return Annotated[float, Meta(**limits)] if limits else float


def _nested(element: Any, spec: TensorSpec) -> Any:
    for dim, least in reversed(list(zip(spec.shape, spec.least, strict=True))):
        length = Meta(min_length=least, max_length=spec.max_length if dim is None else dim)
        element = Annotated[list[element], length]
    return element


def _scalar_column(dtype: str) -> _Build:
    def build(values: list[Any]) -> Array:
        try:
            return np.array(values, dtype=dtype).reshape(-1, 1)
        except OverflowError:
            raise NotPlain from None

    return build


def _number_column(spec: TensorSpec) -> _Build:
    dtype, rank, variable = spec.dtype, len(spec.shape) + 1, spec.variable

    def build(values: list[Any]) -> Array:
        try:
            array = np.array(values, dtype=dtype)
        except (ValueError, OverflowError):
            raise NotPlain from None
        # NumPy makes fewer dimensions of ragged or empty lists; the exact way says which it was.
        if variable and (array.ndim != rank or 0 in array.shape):
            raise NotPlain
        return array

    return build


def _string_column(spec: TensorSpec) -> _Build:
    most, shape = spec.max_length, (-1,) if spec.shape == () else (-1, 1)

    def build(values: list[str]) -> Array:
        column = np.array([text.encode() for text in values], dtype=object)
        if most is not None and any(len(data) > most for data in column):
            raise NotPlain
        return column.reshape(shape)

    return build
