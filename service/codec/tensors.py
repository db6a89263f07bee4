"""`{"b64": ..., "dtype": ..., "shape": [...]}`: little-endian tensors inside JSON, and `{"b64": ...}`: bytes."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hoverboard.codec.bounds import Bounds
from hoverboard.codec.error_words import contract, excerpt, kind, token
from hoverboard.contract.signature import NUMERIC_DTYPES, Array, TensorSpec
from hoverboard.errors import InvalidParams, Violation

__all__ = ["from_b64", "tensor_from"]

_MEMBERS = ("b64", "dtype", "shape")
_MOST_AROUND_NOTHING = 1_000_000


def from_b64(value: Mapping[str, Any], place: str) -> bytes:
    """The bytes that `{"b64": ...}` stands for.

    Raises:
        InvalidParams: no `b64` member, another member beside it, or no valid base64.
    """
    if "b64" not in value:
        raise InvalidParams(place, 'a string or {"b64": ...}', _object(value), violation="type")
    for name in value:
        if name != "b64":
            words = "only the member b64", "another member"
            raise InvalidParams(f"{place}/{token(name)}", *words, violation=_misfit(value))
    return _decoded(value["b64"], f"{place}/b64")


def tensor_from(
    value: Mapping[str, Any], spec: TensorSpec, bounds: Bounds, place: str, shape: Sequence[int | None]
) -> Array:
    """The array that a tensor object stands for, in the spec's dtype.

    Args:
        shape: the wanted shape; None for a dimension that may be anything.

    Raises:
        InvalidParams: a member is missing or wrong, sizes disagree, or an element breaks the contract; that one's index
            is into the decoded tensor, since a pointer cannot go there.
    """
    dtype, dims = _header(value, spec, place, shape)
    data = _decoded(value["b64"], f"{place}/b64")
    expected = math.prod(dims) * dtype.itemsize
    if len(data) != expected:
        words = f"{expected} bytes for {dtype.name} {list(dims)}"
        raise InvalidParams(f"{place}/b64", words, f"{len(data)} bytes", violation="encoding")
    # Booleans as bytes first: NumPy would take any byte but 0 for true.
    array = np.frombuffer(data, dtype=np.uint8 if dtype.name == "bool" else dtype).reshape(dims)
    _check_elements(array, spec, bounds, place)
    # Also makes a copy that can be written to; the decoded bytes cannot.
    return array.astype(spec.dtype)


def _header(
    value: Mapping[str, Any], spec: TensorSpec, place: str, shape: Sequence[int | None]
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    if value and value.keys().isdisjoint(_MEMBERS):
        # Most likely an input's name, misspelt or of another model.
        expected = f"the value of the input {spec.name!r}, or an object with b64, dtype and shape"
        raise InvalidParams(place, expected, _object(value), violation=_misfit(value))
    for name in value:
        if name not in _MEMBERS:
            words = "one of b64, dtype, shape", "an unknown member"
            raise InvalidParams(f"{place}/{token(name)}", *words, violation=_misfit(value))
    for name in _MEMBERS:
        if name not in value:
            words = "b64, dtype and shape together", "nothing"
            raise InvalidParams(f"{place}/{name}", *words, violation=_misfit(value))
    return _dtype(value["dtype"], spec, f"{place}/dtype"), _shape(value["shape"], shape, f"{place}/shape")


def _object(value: Mapping[str, Any]) -> str:
    """An object in words: what it is called by, cut."""
    return f"an object with the member {str(next(iter(value)))[:40]!r}" if value else "an empty object"


def _misfit(value: Mapping[str, Any]) -> Violation:
    """What is wrong with an object's members: without `b64` it was hardly meant for a tensor or bytes."""
    return "encoding" if "b64" in value else "type"


def _dtype(name: Any, spec: TensorSpec, place: str) -> np.dtype[Any]:
    known = isinstance(name, str) and name in NUMERIC_DTYPES and (name == "bool") == (spec.dtype == "bool")
    if not known or not np.can_cast(name, spec.dtype, casting="safe"):
        got = excerpt(name) if isinstance(name, str) else kind(name)
        raise InvalidParams(place, f"{spec.dtype}, or a dtype that fits into it", got, violation="type")
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype.newbyteorder("<")


def _shape(dims: Any, wanted: Sequence[int | None], place: str) -> tuple[int, ...]:
    text = "[" + ", ".join("any" if dim is None else str(dim) for dim in wanted) + "]"
    if not isinstance(dims, list | tuple):
        raise InvalidParams(place, f"the shape {text}", kind(dims), violation="encoding")
    whole = all(type(dim) is int and dim >= 0 for dim in dims)
    fits = len(dims) == len(wanted) and all(want in (None, dim) for dim, want in zip(dims, wanted, strict=True))
    if not whole or not fits:
        raise InvalidParams(place, f"the shape {text}", excerpt(str(list(dims))), violation="shape")
    rest = math.prod(dim for dim in dims if dim)
    if 0 in dims and rest > _MOST_AROUND_NOTHING:
        # It costs the caller no byte, and the graph perhaps an array of that size.
        words = f"dimensions of a tensor without elements whose product, but for 0, is at most {_MOST_AROUND_NOTHING:,}"
        raise InvalidParams(place, words, excerpt(str(list(dims))), violation="shape")
    return tuple(dims)


def _decoded(text: Any, place: str) -> bytes:
    if not isinstance(text, str):
        raise InvalidParams(place, "a base64 string", kind(text), violation="encoding")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidParams(place, "a base64 string", "a string that is not base64", violation="encoding") from None


def _check_elements(array: Array, spec: TensorSpec, bounds: Bounds, place: str) -> None:
    """Refuse the first element that breaks the contract; its pointer goes on into the decoded tensor."""
    if spec.dtype == "bool":
        _refuse_first(array > 1, array, place, "a boolean (0 or 1)", "range")
        return
    if array.dtype.kind == "f" and spec.finite:
        _refuse_first(~np.isfinite(array), array, place, "a finite number", "not_finite")
    if spec.min is not None or spec.max is not None:
        low, high = (np.asarray(end).astype(array.dtype) if math.isfinite(end) else end for end in _ends(bounds, array))
        words = contract(spec, bounds.low, bounds.high)
        _refuse_first((array < low) | (array > high), array, place, words, "range")
    if spec.allowed is not None:
        allowed = np.asarray([v for v in spec.allowed if not isinstance(v, str)]).astype(spec.dtype)
        words = f"one of {list(spec.allowed)}"
        _refuse_first(~np.isin(array.astype(spec.dtype), allowed), array, place, words, "not_allowed")


def _ends(bounds: Bounds, array: Array) -> tuple[float, float]:
    """The bounds, as far as the array's own (perhaps narrower) dtype can express them."""
    if array.dtype.kind == "f":
        return bounds.low, bounds.high
    info = np.iinfo(array.dtype)
    low = -math.inf if bounds.low < info.min else math.ceil(bounds.low)
    high = math.inf if bounds.high > info.max else math.floor(bounds.high)
    return low, high


def _refuse_first(bad: Array, array: Array, place: str, expected: str, violation: Violation) -> None:
    if bad.any():
        where = np.unravel_index(int(np.argmax(bad)), array.shape)
        index = [int(part) for part in where]
        words = f"{expected} at index {index}"
        raise InvalidParams(f"{place}/b64", words, excerpt(array[where].item()), violation=violation)
