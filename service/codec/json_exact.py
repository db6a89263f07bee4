"""The slow and exact way from JSON values to one input's column: accepts all that is right, and points at what is not."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hoverboard.codec.bounds import bounds_of
from hoverboard.codec.error_words import contract, excerpt, kind, noun, plural, pointer
from hoverboard.codec.tensors import from_b64, tensor_from
from hoverboard.contract.signature import STRING, Array, TensorSpec
from hoverboard.errors import InvalidParams, Violation

__all__ = ["ColumnBuilder", "TooLarge", "column_from_tensor"]

# Below it, another split costs more than it saves.
_ONE_BY_ONE = 16
_FINITE = sys.float_info.max
_EXACT = 2**53  # from here on, not every whole number is a float64


class _Refused(Exception):
    """One element breaks the contract; the walker that knows its place turns this into `InvalidParams`."""

    def __init__(self, expected: str, got: str, violation: Violation) -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got
        self.violation = violation

    def at(self, place: str) -> InvalidParams:
        return InvalidParams(place, self.expected, self.got, violation=self.violation)


class ColumnBuilder:
    """Collects the samples of one input in one call.

    Samples of a variable dimension must agree within a call; the first sample settles each such dimension.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._bounds = bounds_of(spec)
        self._leaf = _leaf_check(spec)
        self._dims: list[int | None] = list(spec.shape)
        self._least = spec.least
        self._settled_by: dict[int, str] = {}
        self._all_plain = _bulk_check(spec)
        self._parts: list[Array] = []

    def add(self, value: Any, place: str) -> None:
        """Take one sample's value for this input.

        Raises:
            InvalidParams: pointing at the element, below `place`, that breaks the contract.
        """
        try:
            self._parts.append(self._sample(value, place)[np.newaxis])
        except InvalidParams as refusal:
            refusal.input_name = self._spec.name
            raise

    def add_all(self, values: Sequence[Any], place: Callable[[int], str], first: int = 0) -> None:
        """Take many samples' values: together where they are plain, else half by half, in the end one by one.

        Args:
            place: the pointer to a row.
            first: the row of the first value.
        """
        # A million plain samples with one bad among them: the halves without it are taken at once.
        together = self._together(values, place(first))
        if together is not None:
            self._parts.append(together)
        elif len(values) <= _ONE_BY_ONE:
            for row, value in enumerate(values, first):
                self.add(value, place(row))
        else:
            half = len(values) // 2
            self.add_all(values[:half], place, first)
            self.add_all(values[half:], place, first + half)

    def column(self) -> Array:
        """All samples, `(n, *shape)`; dimensions that no sample settled, those of empty arrays, are as small as may be."""
        # Only now: an empty array settles no dimension, and a later sample may have.
        shape = self._shape()
        return np.concatenate([part.reshape(len(part), *shape) for part in self._parts])

    def _shape(self) -> list[int]:
        return [least if dim is None else dim for dim, least in zip(self._dims, self._least, strict=True)]

    def _together(self, values: Sequence[Any], place: str) -> Array | None:
        """Many samples at once, or None where each must be looked at."""
        level = values
        dims: list[int] = []
        for dim in self._dims:
            lengths = set(map(len, level)) if set(map(type, level)) == {list} else set()
            if len(lengths) != 1 or not (lengths == {dim} or self._may_settle(len(dims), max(lengths))):
                return None
            dims.append(lengths.pop())
            level = list(itertools.chain.from_iterable(level))
        if not level or not self._all_plain(level):
            return None
        for axis, length in enumerate(dims):
            self._settle(axis, length, place)
        return np.array(level, dtype=self._spec.dtype).reshape(len(values), *dims)

    def _may_settle(self, axis: int, length: int) -> bool:
        most = self._spec.max_length
        return self._dims[axis] is None and self._least[axis] <= length and (most is None or length <= most)

    def _sample(self, value: Any, place: str) -> Array:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, Mapping) and self._spec.dtype != STRING:
            array = tensor_from(value, self._spec, self._bounds, place, self._dims)
            for axis, length in enumerate(array.shape):
                self._settle(axis, length, place)
            return array
        flat: list[Any] = []
        if self._spec.shape == (1,) and not isinstance(value, list | tuple):
            flat.append(self._checked(value, [], place))
        else:
            self._walk(value, 0, [], flat, place)
        dtype = object if self._spec.dtype == STRING else self._spec.dtype
        return np.array(flat, dtype=dtype).reshape(self._shape())

    def _walk(self, value: Any, axis: int, path: list[int], flat: list[Any], place: str) -> None:
        if axis == len(self._dims):
            flat.append(self._checked(value, path, place))
            return
        if not isinstance(value, list | tuple):
            raise InvalidParams(pointer(place, path), self._array_words(axis), kind(value), violation="shape")
        self._match_length(len(value), axis, path, place)
        if axis + 1 == len(self._dims):
            self._walk_last(value, path, flat, place)
            return
        for index, item in enumerate(value):
            self._walk(item, axis + 1, [*path, index], flat, place)

    def _walk_last(self, values: Sequence[Any], path: list[int], flat: list[Any], place: str) -> None:
        if self._all_plain(values):
            flat.extend(values)
            return
        index = 0
        try:
            for index, value in enumerate(values):  # noqa: B007 (the handler below reads it)
                flat.append(self._leaf(value))
        except _Refused as refusal:
            raise refusal.at(pointer(place, [*path, index])) from None
        except InvalidParams:
            raise _located(values[index], pointer(place, [*path, index])) from None

    def _checked(self, value: Any, path: list[int], place: str) -> Any:
        try:
            return self._leaf(value)
        except _Refused as refusal:
            raise refusal.at(pointer(place, path)) from None
        except InvalidParams:
            raise _located(value, pointer(place, path)) from None

    def _match_length(self, length: int, axis: int, path: list[int], place: str) -> None:
        expected_length = self._dims[axis]
        if expected_length == length:
            return
        if expected_length is None:
            self._settle(axis, length, pointer(place, path))
            return
        words = f"{expected_length} {plural(self._spec, axis)}"
        if axis in self._settled_by:
            words += f" as in {self._settled_by[axis]}"
        raise InvalidParams(pointer(place, path), words, str(length), violation="shape")

    def _settle(self, axis: int, length: int, place: str) -> None:
        if self._spec.shape[axis] is not None or self._dims[axis] is not None:
            return
        most = self._spec.max_length
        if most is not None and self._spec.dtype != STRING and length > most:
            words = f"at most {most} {plural(self._spec, axis)}"
            raise InvalidParams(place, words, str(length), violation="too_long")
        if length < self._least[axis]:
            words = f"at least {self._least[axis]} {plural(self._spec, axis)}"
            raise InvalidParams(place, words, str(length), violation="too_short")
        # From now on every sample of the call has to have it: they become one array.
        self._dims[axis] = length
        self._settled_by[axis] = place

    def _array_words(self, axis: int) -> str:
        count = self._spec.shape[axis]
        return f"an array of {'' if count is None else f'{count} '}{plural(self._spec, axis)}"


def column_from_tensor(value: Mapping[str, Any], spec: TensorSpec, place: str) -> Array:
    """A whole column from one tensor object whose shape has the sample axis first.

    Raises:
        InvalidParams: a string input, or anything that `tensor_from` refuses.
    """
    try:
        return _tensor_column(value, spec, place)
    except InvalidParams as refusal:
        refusal.input_name = spec.name
        raise


def _tensor_column(value: Mapping[str, Any], spec: TensorSpec, place: str) -> Array:
    # Strings differ in length, so that no bytes could be told apart.
    if spec.dtype == STRING:
        raise InvalidParams(place, "an array of strings", "an object", violation="type")
    array = tensor_from(value, spec, bounds_of(spec), place, (None, *spec.shape))
    most = spec.max_length
    for axis, length in enumerate(array.shape[1:]):
        if spec.shape[axis] is None and most is not None and length > most:
            words = f"at most {most} along axis {axis + 1}"
            raise InvalidParams(f"{place}/shape", words, str(length), violation="too_long")
        if length < spec.least[axis]:
            words = f"at least {spec.least[axis]} along axis {axis + 1}"
            raise InvalidParams(f"{place}/shape", words, str(length), violation="too_short")
    return array


def _located(value: Any, place: str) -> InvalidParams:
    """The refusal of a `{"b64": ...}`, once its place is known."""
    try:
        from_b64(value, place)
    except InvalidParams as refusal:
        return refusal
    return InvalidParams(place, "a string", kind(value), violation="type")


def _misfit(value: Any) -> Violation:
    """What is wrong with a value that is no element."""
    return "shape" if isinstance(value, list | tuple) else "type"


def _bulk_check(spec: TensorSpec) -> Callable[[Sequence[Any]], bool]:
    """The function that says of many elements at once whether all are plainly right; a no means nothing."""
    bounds = bounds_of(spec)
    if spec.dtype == STRING or spec.allowed is not None:
        # Each string has a length and perhaps a list to be in: there is no short cut.
        return lambda _: False
    if spec.dtype == "bool":
        return lambda values: set(map(type, values)) <= {bool}
    low, high, kinds = max(bounds.low, -_FINITE), min(bounds.high, _FINITE), {int} if bounds.integral else {int, float}
    overflow = bounds.overflow

    def plain(values: Sequence[Any]) -> bool:
        if not values or not set(map(type, values)) <= kinds:
            return False
        smallest, largest = min(values), max(values)
        within = low <= smallest and largest <= high and -overflow < smallest and largest < overflow
        # A NaN compares with nothing, and so slips past both ends; no sum hides it.
        return bool(within and math.isfinite(sum(values)))

    return plain


def _leaf_check(spec: TensorSpec) -> Callable[[Any], Any]:
    """The function that checks one element and answers it as it goes into the array."""
    if spec.dtype == STRING:
        return _string_check(spec)
    check = _numeric_check(spec)
    if spec.allowed is None:
        return check
    allowed, words = set(spec.allowed), f"one of {list(spec.allowed)}"

    def among(value: Any) -> Any:
        checked = check(value)
        if checked not in allowed:
            raise _Refused(words, excerpt(value), "not_allowed")
        return checked

    return among


def _numeric_check(spec: TensorSpec) -> Callable[[Any], Any]:
    if spec.dtype == "bool":
        return _boolean
    return _integer_check(spec) if bounds_of(spec).integral else _real_check(spec)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Refused("a boolean", kind(value), _misfit(value))
    return value


def _integer_check(spec: TensorSpec) -> Callable[[Any], int]:
    bounds, article = bounds_of(spec), noun(spec)
    low, high = bounds.low, bounds.high
    words = contract(spec, low, high)

    def integer(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise _Refused(article, kind(value), _misfit(value))
        if not isinstance(value, int | np.integer) and not (math.isfinite(value) and value == int(value)):
            raise _Refused(article, excerpt(value), "range" if isinstance(value, TooLarge) else "type")
        if not isinstance(value, int | np.integer) and not -_EXACT <= value <= _EXACT:
            words_exact = f"{article} without point or exponent, since beyond 2^53 a float is not exact"
            raise _Refused(words_exact, excerpt(value), "type")
        if not low <= value <= high:
            raise _Refused(words, excerpt(value), "range")
        return int(value)

    return integer


def _real_check(spec: TensorSpec) -> Callable[[Any], float]:
    bounds, article = bounds_of(spec), noun(spec)
    low, high, overflow = bounds.low, bounds.high, bounds.overflow
    words, fits = contract(spec, low, high), f"{article} that fits {spec.dtype}"

    def real(value: Any) -> float:
        if value is None and not spec.finite:
            return math.nan  # JSON has no other word for it
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise _Refused(article, kind(value), _misfit(value))
        try:
            number = float(value)
        except OverflowError:
            raise _Refused(fits, excerpt(value), "range") from None
        if math.isfinite(number):
            if not -overflow < number < overflow:
                raise _Refused(fits, excerpt(value), "range")
        elif isinstance(value, TooLarge):
            raise _Refused(fits, excerpt(value), "range")
        elif spec.finite:
            raise _Refused("a finite number", excerpt(value), "not_finite")
        if number < low or number > high:
            raise _Refused(words, excerpt(value), "range")
        return number

    return real


def _string_check(spec: TensorSpec) -> Callable[[Any], bytes]:
    allowed = None if spec.allowed is None else {str(value).encode() for value in spec.allowed}
    most = spec.max_length

    def string(value: Any) -> bytes:
        if isinstance(value, str):
            data = _utf8(value)
        elif isinstance(value, bytes):
            data = value
        elif isinstance(value, Mapping):
            data = from_b64(value, "")
        else:
            raise _Refused("a string", kind(value), _misfit(value))
        if most is not None and len(data) > most:
            raise _Refused(f"at most {most} bytes of UTF-8", f"{len(data)} bytes", "too_long")
        if allowed is not None and data not in allowed:
            words = f"one of {list(spec.allowed or ())}"
            raise _Refused(words, excerpt(data.decode(errors="replace")), "not_allowed")
        return data

    return string


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _Refused("a string of Unicode text", "a lone surrogate", "encoding") from None


class TooLarge(float):
    """A JSON number beyond float64's range: infinite here, yet not Infinity, which is no JSON.

    Attributes:
        text: the number as it came.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> float:
        """The value of a JSON number, told apart from infinity where it is too large."""
        value = float(text)
        if math.isfinite(value):
            return value
        large = cls(value)
        large.text = text
        return large

    def __repr__(self) -> str:
        return self.text
