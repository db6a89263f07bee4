"""What the columns of `samples` and `predictions` hold, as arrays again: the way back of `recorder.rows`, exact in every form.

What was not recorded whole is named and never made up: `redacted` (an input, or an element of one), `hashed` (nothing but a
digest is there), `lossy` (the shape of a tensor without elements cannot be told), `other inputs` (not those of this signature).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.database.text import storable
from hoverboard.recorder.rows.layout import HASH, InputPlaces
from hoverboard.recorder.rows.tensors import unpack

__all__ = [
    "HASHED",
    "LOSSY",
    "OTHER_INPUTS",
    "REDACTED",
    "DecodedInputs",
    "RawInputs",
    "decode_inputs",
    "decode_outputs",
    "real_array",
]

REDACTED: Final = "redacted"
HASHED: Final = "hashed"
LOSSY: Final = "lossy"
OTHER_INPUTS: Final = "other inputs"
_LACKING: Final = object()
_DIGEST: Final = 64  # hex digits of a SHA-256
# Numbers stay text until their dtype is known: float64 in between would round what is not float64.
_JSON: Final = json.JSONDecoder(parse_float=str, parse_int=str)
_FIRST_VALUE: Final = 6  # words of a `real[]` before its first number; one word of length stands between two


class RawInputs(NamedTuple):
    """The inputs of one row of `samples`.

    Attributes:
        inputs: JSON text.
        vector: as `array_send` gives it.
        tensors: in the layout of safetensors.
    """

    inputs: str | None
    vector: bytes | None
    tensors: bytes | None


@dataclass(frozen=True, slots=True)
class DecodedInputs:
    """Inputs of some rows.

    Attributes:
        columns: input -> `(rows, *shape)` of its dtype, objects of `bytes` for strings; of an input with variable dimensions
            objects, an array a row. Zeros, None for objects, where it is missing.
        missing: input -> whether it is not there as it was sent, bool `(rows,)`.
        why_not: why a row as a whole is not what was sent; "" where it is.
    """

    columns: Mapping[str, Array]
    missing: Mapping[str, Array]
    why_not: Sequence[str]


class _Unusable(Exception):
    """An input that cannot be had again; its argument is the reason."""


def decode_inputs(signature: Signature, rows: Sequence[RawInputs], *, blanked: Collection[str] = ()) -> DecodedInputs:
    """Rows of `samples` as the columns that a call of this signature has.

    Args:
        signature: of the version that answered them.
        rows: theirs.
        blanked: inputs of which the recording policy hides single elements: NaN in them may be what was hidden, also where the
            input may be NaN by its contract.

    """
    return _Decoder(signature, rows, blanked).decoded()


class _Decoder:
    """Decodes rows input by input, and notes the first reason against each row."""

    def __init__(self, signature: Signature, rows: Sequence[RawInputs], blanked: Collection[str]) -> None:
        self._signature = signature
        self._rows = rows
        self._blanked = blanked
        self._places = InputPlaces.of(signature)
        self._why = [""] * len(rows)
        self._missing: dict[str, Array] = {spec.name: np.zeros(len(rows), np.bool_) for spec in signature.inputs}
        self._members = [self._document(row) for row in range(len(rows))]
        self._tensors = [self._unpacked(row) for row in range(len(rows))]

    def decoded(self) -> DecodedInputs:
        found = self._all_members()
        if self._places.vector is not None:
            found[self._places.vector.name] = self._vector(self._places.vector)
        for spec in self._places.tensors:
            found[spec.name] = self._each(spec, self._tensor)
        for spec in self._signature.inputs:
            self._note_blanks(spec, found[spec.name])
        in_order = {spec.name: found[spec.name] for spec in self._signature.inputs}
        return DecodedInputs(in_order, self._missing, self._why)

    def _document(self, row: int) -> Mapping[str, Any]:
        text = self._rows[row].inputs
        document = {} if text is None else _JSON.decode(text)
        if _is_hashed(document, self._rows[row]):
            self._why[row] = HASHED
            return {}
        return document if isinstance(document, dict) else {}

    def _unpacked(self, row: int) -> Mapping[str, Array]:
        data = self._rows[row].tensors
        if data is None or self._why[row]:
            return {}
        try:
            # A signature that was in Postgres has no NUL in its names; here they still have it.
            return {storable(name): tensor for name, tensor in unpack(data).items()}
        except (ValueError, LookupError, TypeError):
            self._why[row] = OTHER_INPUTS
            return {}

    def _refuse(self, row: int, spec: TensorSpec, reason: str) -> None:
        self._missing[spec.name][row] = True
        self._why[row] = self._why[row] or reason

    def _all_members(self) -> dict[str, Array]:
        """Inputs of texts, and those of one number: those of one dtype at once, since wide rows have thousands of them."""
        found: dict[str, Array] = {}
        numerals: defaultdict[str, list[tuple[TensorSpec, list[str | None]]]] = defaultdict(list)
        for spec in self._places.members:
            if spec.dtype == STRING:
                found[spec.name] = self._each(spec, self._text)
            else:
                numerals[spec.dtype].append((spec, self._numerals(spec)))
        for dtype, columns in numerals.items():
            try:
                flat = _numbers(list(chain.from_iterable(values for _, values in columns)), dtype)
            except pa.ArrowInvalid:
                flat = np.concatenate([self._one_by_one(spec, values) for spec, values in columns])
            for (spec, _), column in zip(columns, flat.reshape(len(columns), -1), strict=True):
                found[spec.name] = column.reshape(len(self._rows), *spec.shape)
        return found

    def _numerals(self, spec: TensorSpec) -> list[str | None]:
        """The digits of an input; None where there are none."""
        name = storable(spec.name)
        values = [members.get(name, _LACKING) for members in self._members]
        # Nearly always: without a look at each.
        return values if set(map(type, values)) == {str} else [self._numeral(*each, spec) for each in enumerate(values)]

    def _numeral(self, row: int, value: Any, spec: TensorSpec) -> str | None:
        if isinstance(value, bool):
            return str(value).lower()
        if not isinstance(value, str):
            self._refuse(row, spec, REDACTED if value is None else OTHER_INPUTS)
            return None
        return value

    def _one_by_one(self, spec: TensorSpec, values: Sequence[str | None]) -> Array:
        """Where some digits are none of the dtype."""
        column = np.zeros(len(values), spec.dtype)
        for row, value in enumerate(values):
            try:
                column[row] = _numbers([value], spec.dtype)[0]
            except pa.ArrowInvalid:
                self._refuse(row, spec, OTHER_INPUTS)
        return column

    def _text(self, row: int, spec: TensorSpec) -> Array:
        name = storable(spec.name)
        if name not in self._members[row]:
            raise _Unusable(OTHER_INPUTS)
        value = self._members[row][name]
        # A single text is recorded bare, also where there could be more.
        return _texts([value] if len(spec.shape) == 1 and not isinstance(value, list) else value, spec.shape)

    def _vector(self, spec: TensorSpec) -> Array:
        data = [row.vector for row in self._rows]
        if not spec.variable and len({None if each is None else len(each) for each in data}) == 1 and data[0]:
            # Nearly always: all at once, without a Python object for each sample.
            words = np.frombuffer(b"".join([each for each in data if each]), ">u4").reshape(len(data), -1)
            values = words[:, _FIRST_VALUE::2].astype(np.uint32).view(np.float32)
            if values.shape[1:] == spec.shape:
                return values.astype(spec.dtype, copy=False)
        return self._each(spec, self._own_vector)

    def _own_vector(self, row: int, spec: TensorSpec) -> Array:
        data = self._rows[row].vector
        return self._tensor(row, spec) if data is None else real_array(data).astype(spec.dtype)

    def _tensor(self, row: int, spec: TensorSpec) -> Array:
        tensor = self._tensors[row].get(storable(spec.name))
        if tensor is None:
            raise _Unusable(REDACTED)
        if tensor.dtype != spec.dtype:
            raise _Unusable(OTHER_INPUTS)
        return tensor

    def _each(self, spec: TensorSpec, one: Any) -> Array:
        """A column from `one(row, spec)`, the array of one sample."""
        objects = spec.variable or spec.dtype == STRING
        shape = () if spec.variable else spec.shape
        column: Array = np.zeros((len(self._rows), *shape), object if objects else spec.dtype)  # type: ignore[arg-type]
        if objects:
            column[...] = None
        for row in range(len(self._rows)):
            try:
                sample = one(row, spec)
                if not _fits(sample.shape, spec.shape):
                    raise _Unusable(OTHER_INPUTS)
            except _Unusable as error:
                self._refuse(row, spec, str(error))
            else:
                column[row] = sample if sample.shape or spec.variable else sample[()]
        return column

    def _note_blanks(self, spec: TensorSpec, column: Array) -> None:
        """NaN where no client can have sent it, or where it is what the policy writes over what it hides."""
        if not spec.dtype.startswith("float") or (not spec.finite and spec.name not in self._blanked):
            return
        if spec.variable:
            blank = np.array([sample is not None and np.isnan(sample).any() for sample in column], np.bool_)
        else:
            blank = np.asarray(np.isnan(column).any(axis=tuple(range(1, column.ndim))), np.bool_)
        for row in np.flatnonzero(blank).tolist() if blank.any() else ():
            self._refuse(row, spec, REDACTED)


def decode_outputs(signature: Signature, first: bytes | None, tensors: bytes | None) -> dict[str, Array]:
    """What a version answered to one sample: one array an output, as far as it is there.

    Args:
        signature: the version's.
        first: `predictions.outputs`, as `array_send` gives it.
        tensors: `predictions.output_tensors`.
    """
    found = dict(unpack(tensors)) if tensors is not None else {}
    if first is not None:
        found[signature.outputs[0].name] = real_array(first).astype(signature.outputs[0].dtype)
    return found


def real_array(data: bytes) -> Array:
    """A `real[]` as `array_send` gives it: float32 `(n,)`. An array without elements has no dimension there."""
    return np.frombuffer(data, ">u4")[_FIRST_VALUE::2].astype(np.uint32).view(np.float32)


def _is_hashed(document: Any, row: RawInputs) -> bool:
    # Also where an input has that name and such a text: what cannot be told apart is not to be used.
    if not isinstance(document, dict) or document.keys() != {HASH} or row.vector or row.tensors:
        return False
    digest = document[HASH]
    return isinstance(digest, str) and len(digest) == _DIGEST


def _numbers(values: Sequence[str | None], dtype: str) -> Array:
    """Numbers from their digits, each rounded once; 0 for None."""
    kind = pa.float32() if dtype == "float16" else pa.from_numpy_dtype(np.dtype(dtype))
    column = pa.array(values, pa.string()).cast(kind).fill_null(False if dtype == "bool" else 0)
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype)


def _texts(value: Any, shape: Sequence[int | None]) -> Array:
    """Strings of one sample, objects of `bytes`."""
    sizes: list[int] = []
    level = value
    for place in range(len(shape)):
        if not isinstance(level, list):
            raise _Unusable(REDACTED if level is None else OTHER_INPUTS)
        sizes.append(len(level))
        if not level:
            rest = [dim for dim in shape[place + 1 :] if dim is not None]
            if place + 1 + len(rest) < len(shape):
                raise _Unusable(LOSSY)  # nothing is inside that could say how long it is
            sizes += rest
            break
        level = level[0]
    flat = [_bytes(item) for item in _flattened(value)]
    column: Array = np.empty(len(flat), object)
    column[:] = flat
    try:
        return column.reshape(sizes)
    except ValueError:
        raise _Unusable(OTHER_INPUTS) from None


def _flattened(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _flattened(item)] if isinstance(value, list) else [value]


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error:
            raise _Unusable(OTHER_INPUTS) from None
    raise _Unusable(REDACTED if value is None else OTHER_INPUTS)


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(want in (None, have) for have, want in zip(shape, wanted, strict=True))
