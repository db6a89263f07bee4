"""Samples as users have them, written as a service takes them: JSON, and tensors in base64 where that is shorter."""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from hoverboard.client.described import TensorInfo

__all__ = ["TENSOR_FROM", "SampleBatch", "Samples", "to_json"]


class DataTable(Protocol):
    """Columns by name: a DataFrame of pandas or polars, a Table of pyarrow."""

    @property
    def columns(self) -> Any:
        """The names, or (of pyarrow, which has `column_names`) the columns."""

    def __getitem__(self, name: Any, /) -> Any:
        """A column."""


Samples = Sequence[Any] | Mapping[str, Any] | NDArray[Any] | DataTable
"""Samples in one of three forms:

- an array, `(n, ...)`: n samples of a one-input model, the first axis is always theirs;
- a list: each element a sample, which is a value, an array or a text of a one-input model, or a mapping by input name;
- a mapping: input name -> column, an array `(n, ...)` or a list of n values. A DataFrame (pandas, polars) or a Table (pyarrow)
  is one, too.
"""

TENSOR_FROM: Final = 1024
"""Numbers from which on an array goes as a tensor. Written here and read by the service, 1,024 float32 take 63 us and 5.5 KB as
a tensor, 73 us and 10.8 KB as JSON; 65,536 take 1.4 ms and 5.1 ms. Of 512 the tensor takes longer: 48 us against 39."""

_MISSING: Final = frozenset({"NAType", "NaTType"})
"""What pandas, which is not imported here, has for a missing value beside None and NaN."""
_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Samples of one call, looked through but not yet written.

    Attributes:
        n: how many.
        rows: samples in row form, an array or a list; None in column form.
        columns: columns by input name; None in row form.
    """

    n: int
    rows: NDArray[Any] | Sequence[Any] | None
    columns: Mapping[str, NDArray[Any] | Sequence[Any]] | None

    @classmethod
    def of(cls, samples: Samples) -> SampleBatch:
        """Look samples through.

        Raises:
            TypeError: they are in none of the three forms.
            ValueError: there are none, or columns are not equally long.
        """
        if isinstance(samples, Mapping):
            return cls._of_columns(samples)
        if hasattr(samples, "columns") and hasattr(samples, "__getitem__"):
            return cls._of_columns(_columns(samples))
        samples = _column(samples)
        if isinstance(samples, str | bytes) or not isinstance(samples, Sequence | np.ndarray):
            raise TypeError(
                f"samples: expected an array, a list of samples or a mapping of columns, got {type(samples).__name__}; "
                "one sample goes in a list"
            )
        if isinstance(samples, np.ndarray) and not samples.ndim:
            raise ValueError(
                "samples: expected an array with an axis of samples, got a number; one sample goes in a list"
            )
        if not len(samples):
            raise ValueError("samples: expected at least one")
        first = samples[0]
        if isinstance(first, Mapping) and any(isinstance(value, np.ndarray) for value in first.values()):
            names = first.keys()
            if all(isinstance(sample, Mapping) and sample.keys() == names for sample in samples):
                return cls._of_columns({name: [sample[name] for sample in samples] for name in names})
        return cls(len(samples), _stacked(samples), None)

    @classmethod
    def _of_columns(cls, columns: Mapping[str, Any]) -> SampleBatch:
        if not columns:
            raise ValueError("samples: expected a column for each input, got none")
        columns = {name: _column(column) for name, column in columns.items()}
        for name, column in columns.items():
            if isinstance(column, str | bytes) or not isinstance(column, Sequence | np.ndarray):
                raise TypeError(f"samples: column {name!r}: expected an array or a list, got {type(column).__name__}")
            if isinstance(column, np.ndarray) and not column.ndim:
                raise ValueError(f"samples: column {name!r}: expected an array with an axis of samples, got a number")
        lengths = {name: len(column) for name, column in columns.items()}
        n = next(iter(lengths.values()))
        for name, length in lengths.items():
            if length != n:
                raise ValueError(f"samples: column {name!r}: expected {n} values as in the first column, got {length}")
        if not n:
            raise ValueError("samples: expected at least one")
        return cls(n, None, {name: _stacked(column) for name, column in columns.items()})

    @property
    def wants_inputs(self) -> bool:
        """Whether it takes the version's inputs to write them: tensors need a name and the right dtype."""
        parts = [self.rows] if self.columns is None else self.columns.values()
        return any(_is_tensor(part) for part in parts)

    def part(self, start: int, stop: int) -> SampleBatch:
        """Some of them."""
        stop = min(stop, self.n)
        if self.columns is not None:
            columns = {name: column[start:stop] for name, column in self.columns.items()}
            return SampleBatch(stop - start, None, columns)
        assert self.rows is not None  # noqa: S101 - one of the two is there
        return SampleBatch(stop - start, self.rows[start:stop], None)

    def params(self, inputs: Sequence[TensorInfo] = ()) -> dict[str, msgspec.Raw]:
        """`instances` or `inputs` of a call, as JSON text.

        Args:
            inputs: of the version, where `wants_inputs`; what is not among them, or would not arrive as it is, goes as JSON,
                so that the server says what is wrong with it and where.
        """
        if self.columns is None:
            tensor = _tensor(self.rows, inputs[0]) if len(inputs) == 1 else None
            if tensor is None:
                return {"instances": msgspec.Raw(to_json(self.rows))}
            return {"inputs": msgspec.Raw(to_json({inputs[0].name: tensor}))}
        by_name = {spec.name: spec for spec in inputs}
        tensors = {name: _tensor(column, by_name.get(name)) for name, column in self.columns.items()}
        columns = {name: column if tensors[name] is None else tensors[name] for name, column in self.columns.items()}
        return {"inputs": msgspec.Raw(to_json(columns))}


def to_json(value: Any) -> bytes:
    """JSON text of plain values, NumPy's among them: bytes, and text that is no UTF-8, become `{"b64": ...}`, NaN null.

    Raises:
        TypeError: there is something else in it.
        ValueError: there is an infinity in it, which JSON does not have: it would arrive as a missing number.
    """
    try:
        text = orjson.dumps(value, default=_plain, option=_OPTIONS)
    except orjson.JSONEncodeError as error:
        if isinstance(error.__cause__, TypeError):  # of `_plain`: better words for it than orjson's
            raise error.__cause__ from None
        # Lone surrogates stand for bytes that were no UTF-8: they are looked for only once orjson has stumbled on one.
        text = orjson.dumps(_bytes_in_b64(value), default=_plain, option=_OPTIONS)
    # orjson writes NaN, infinity and None alike, and looking for an infinity takes longer than writing: only where there may be one.
    if b"null" in text and _has_infinity(value):
        raise ValueError("samples: infinity cannot be written as JSON; give numbers as an array")
    return text


def _columns(table: Any) -> dict[str, Any]:
    """The columns of a DataFrame or a Table."""
    names = list(getattr(table, "column_names", table.columns))
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"samples: expected columns that are named as the inputs are, got {name!r}")
        if names.count(name) > 1:
            raise ValueError(f"samples: column {name!r} is there {names.count(name)} times")
    return {name: table[name] for name in names}


def _column(values: Any) -> Any:
    """A column of pandas, polars or pyarrow as an array of numbers or a list; anything else as it is."""
    if isinstance(values, list | np.ndarray) or not hasattr(values, "to_numpy"):
        return values
    array = values.to_numpy()
    # Of all else the library knows best what a value is: a category's text, a missing one.
    if isinstance(array, np.ndarray) and array.dtype.kind in "biuf":
        return array
    for name in ("to_pylist", "to_list", "tolist"):
        if hasattr(values, name):
            return getattr(values, name)()
    return values


def _stacked(values: Any) -> NDArray[Any] | Sequence[Any]:
    """A list of equal arrays as one array; anything else as it is."""
    if isinstance(values, np.ndarray):
        return _usual(values)
    if isinstance(values[0], np.ndarray):
        values = [_usual(value) if isinstance(value, np.ndarray) else value for value in values]
    first = values[0]
    # One dtype too: stacking would turn whole numbers into floats, and those may be refused.
    if isinstance(first, np.ndarray) and all(
        isinstance(value, np.ndarray) and value.shape == first.shape and value.dtype == first.dtype for value in values
    ):
        return np.stack(values)
    return list(values)


def _usual(array: NDArray[Any]) -> NDArray[Any]:
    """An array of this machine's byte order and of a dtype that travels, missing where it is masked: whether it goes as JSON or as
    a tensor must not change what arrives.

    Raises:
        TypeError: of a dtype that stands for no input's.
    """
    if isinstance(array, np.ma.MaskedArray):
        if not np.ma.is_masked(array):
            array = array.data
        elif array.dtype.kind == "f":
            array = np.asarray(array.filled(np.nan))
        else:  # whole numbers have no NaN: None is refused by the service, with its place
            array = np.array(array.tolist(), dtype=object)
    if array.dtype.kind in "mM" or (array.dtype.kind == "V" and array.dtype.names):
        raise TypeError(f"samples: expected numbers, texts or bytes, got an array of {array.dtype}")
    if array.dtype.kind == "V" or array.dtype == np.longdouble:  # bfloat16 and its like; more digits than any input has
        array = array.astype(np.float32 if array.dtype.kind == "V" else np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _is_tensor(values: Any) -> bool:
    """Whether numbers are so many that they go as a tensor, or of a kind that JSON does not have."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        return False
    return values.size >= TENSOR_FROM or (values.dtype.kind == "f" and bool(np.isinf(values).any()))


def _tensor(values: Any, spec: TensorInfo | None) -> dict[str, Any] | None:
    """A tensor object in a dtype that the input takes; None for what goes as JSON, or would not arrive as it is."""
    if spec is None or spec.dtype == "string" or not _is_tensor(values):
        return None
    wanted = np.dtype(spec.dtype)
    array = values
    # Booleans and numbers are told apart by the service, and 1.5 is no whole number: as JSON that is said with its place.
    if (array.dtype.kind == "b") != (wanted.kind == "b") or (array.dtype.kind == "f" and wanted.kind != "f"):
        return None
    if not np.can_cast(array.dtype, wanted, casting="safe"):
        with np.errstate(over="ignore"):
            array = values.astype(wanted)
        # A float loses digits, as it would on the way through JSON. What leaves its range, the server has to judge.
        same = np.isinf(array) == np.isinf(values) if wanted.kind == "f" else array == values
        if not same.all():
            return None
    if not array.dtype.isnative or sys.byteorder != "little":
        array = array.astype(array.dtype.newbyteorder("<"))
    text = base64.b64encode(np.ascontiguousarray(array).data).decode()
    return {"b64": text, "dtype": array.dtype.name, "shape": list(values.shape)}


def _plain(value: Any) -> Any:
    """What orjson does not know as something that it does."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray):  # of texts or bytes, not contiguous, or of a dtype that is no plain number
        return value.tolist()
    if value is np.ma.masked:
        return None
    if isinstance(value, np.generic):
        # A longdouble's own value is a longdouble again.
        return float(value) if isinstance(value, np.longdouble) else value.item()
    if type(value).__name__ in _MISSING:
        return None
    raise TypeError(f"samples: expected numbers, texts, bytes, lists and mappings, got {type(value).__name__}")


def _bytes_in_b64(value: Any) -> Any:
    """The same with texts that hold surrogates as bytes again (`os.fsdecode` and `surrogateescape` make such texts)."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return _plain(value.encode(errors="surrogateescape"))
        return value
    if isinstance(value, np.ndarray):  # orjson also stumbles on another byte order
        value = _usual(value)
        value = value.tolist() if value.dtype.kind in "OU" else value
    if isinstance(value, Mapping):
        return {name: _bytes_in_b64(each) for name, each in value.items()}
    return [_bytes_in_b64(each) for each in value] if isinstance(value, list | tuple) else value


def _has_infinity(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return math.isinf(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            return bool(np.isinf(value).any())
        value = value.tolist() if value.dtype.kind == "O" else ()
    if isinstance(value, Mapping):
        return any(map(_has_infinity, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_infinity, value))
