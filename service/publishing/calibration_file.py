"""Calibration files: rows of a model's inputs with the label of each, as npz, parquet, csv or jsonl."""

from __future__ import annotations

import base64
import difflib
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from hoverboard.codec.arrays import Codec
from hoverboard.codec.json_exact import column_from_tensor
from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.errors import InvalidParams, PublishError
from hoverboard.publishing.calibration_formats import read_columns

__all__ = ["LABEL", "CalibrationRows", "read_calibration"]

LABEL: Final = "label"
_CHUNK: Final = 1000


@dataclass(frozen=True, slots=True)
class CalibrationRows:
    """Samples for `publish(calibration=...)` as arrays, in place of a file.

        rows = hoverboard.CalibrationRows((images,), digits)
        hoverboard.publish(model, name="digits", models_dir="models", labels=list("0123456789"), calibration=rows)

    Attributes:
        columns: one array `(n, *shape)` for each input of the model, in the order of its manifest and of the input's dtype;
            object arrays of bytes for strings.
        labels: what each sample is: names, or indexes of classes. None without labels.
        notes: what a person should know of them, a sentence each.
    """

    columns: tuple[Array, ...]
    labels: Sequence[Any] | Array | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.columns[0])


def read_calibration(
    path: Path, signature: Signature, *, label: str = LABEL, ignore: Collection[str] = ()
) -> CalibrationRows:
    """Read a file, and hold every row against the contract that calls are held against.

    The file has a column per input and one named `label`; any other is refused unless it is named to be ignored, since a
    misspelt one would be missed. A model with one input takes the only other column, whatever its name. A missing value
    is NaN where the input is declared with `finite = false`.

    Args:
        path: .npz, .parquet, .csv or .jsonl.
        signature: the version's.
        label: the column with the label of each row.
        ignore: columns that are neither.

    Raises:
        PublishError: the file is empty, unreadable, of another format, lacks a column or has one too many, or has a row
            that the service would refuse; one sentence that names the place.
    """
    found = read_columns(path, lambda names: _texts(signature, label, names))
    for name in ignore:
        if name not in found:
            raise PublishError(f"{path}: has no column {name!r} to ignore; it has {', '.join(found)}")
    found = {name: column for name, column in found.items() if name not in ignore}
    labels = None if label in _names(signature) else found.pop(label, None)
    values = _inputs(path, signature, found, label)
    rows = {len(column) for column in (*values, *([] if labels is None else [labels]))}
    if rows == {0}:
        raise PublishError(f"{path}: holds no rows")
    if len(rows) != 1:
        raise PublishError(f"{path}: columns differ in length: {', '.join(map(str, sorted(rows)))}")
    return CalibrationRows(_columns(path, signature, values), None if labels is None else list(labels))


def _names(signature: Signature) -> list[str]:
    return [spec.name for spec in signature.inputs]


def _texts(signature: Signature, label: str, names: Collection[str]) -> Collection[str]:
    """Columns whose cells are texts; a model of one text takes any column for it."""
    only = signature.inputs[0]
    if len(signature.inputs) == 1 and only.dtype == STRING:
        return names
    return {label, *(spec.name for spec in signature.inputs if spec.dtype == STRING)}


def _inputs(path: Path, signature: Signature, found: Mapping[str, Any], label: str) -> list[Any]:
    if not found:
        raise PublishError(f"{path}: holds no rows")
    wanted = _names(signature)
    if len(wanted) == 1 and wanted[0] not in found and len(found) == 1:
        return list(found.values())
    spare = [name for name in found if name not in wanted]
    for name in wanted:
        if name not in found:
            raise PublishError(
                f"{path}: has no column {name!r} for the model's input{_closest(name, spare)}; it has {', '.join(found)}"
            )
    if spare:
        known = [*(name for name in wanted if name not in found), label]
        raise PublishError(
            f"{path}: column {spare[0]!r} is no input of the model{_closest(spare[0], known)}: rename it, or name it to be "
            f"ignored (--ignore-column {shlex.quote(spare[0])}, in Python ignore_columns); inputs: {', '.join(wanted)}"
        )
    return [found[name] for name in wanted]


def _closest(name: str, others: Sequence[str]) -> str:
    """The one that was probably meant, in words; nothing where none is like it."""
    folded = {other.strip().casefold(): other for other in others}
    close = difflib.get_close_matches(name.strip().casefold(), folded, n=1)
    return f" (is {folded[close[0]]!r} meant?)" if close else ""


def _columns(path: Path, signature: Signature, values: Sequence[Any]) -> tuple[Array, ...]:
    numeric = all(isinstance(value, np.ndarray) and value.dtype.kind in "fiub" for value in values)
    pieces = []
    for start in range(0, len(values[0]), _CHUNK):
        part = [value[start : start + _CHUNK] for value in values]
        try:
            pieces.append(_tensors(signature, part) if numeric else _decoded(signature, part))
        except InvalidParams as error:
            details = error.details or {}
            place = _place(str(details["pointer"]), start)
            hint = _null_hint(signature, error.input_name) if details["got"] == "null" else ""
            raise PublishError(
                f"{path}: {place}: expected {details['expected']}, got {details['got']}{hint}"
            ) from error
    for spec, column in zip(signature.inputs, zip(*pieces, strict=True), strict=True):
        if len({piece.shape[1:] for piece in column}) > 1:
            raise PublishError(f"{path}: samples of {spec.name} differ in shape: give calibration samples of one shape")
    return tuple(np.concatenate(column) for column in zip(*pieces, strict=True))


def _null_hint(signature: Signature, name: str | None) -> str:
    """What to do about a value that is missing; only floats have one that stands for it."""
    dtype = next((spec.dtype for spec in signature.inputs if spec.name == name), None)
    if dtype == STRING:
        return '; send the empty text ("") where a word is missing'
    if dtype is None or not dtype.startswith("float"):
        return ""
    return "; declare finite = false in the input's contract where a value may be missing"


def _tensors(signature: Signature, arrays: Sequence[Array]) -> tuple[Array, ...]:
    return tuple(_tensor(spec, array) for spec, array in zip(signature.inputs, arrays, strict=True))


def _tensor(spec: TensorSpec, array: Array) -> Array:
    if spec.shape == (1,) and array.ndim == 1:
        array = array[:, np.newaxis]
    if spec.dtype != STRING and not np.can_cast(array.dtype, spec.dtype, casting="safe"):
        with np.errstate(all="ignore"):
            cast = array.astype(spec.dtype)
        # A wider dtype will do as long as its values are ones that the input's dtype has.
        if np.dtype(spec.dtype).kind == "f" or np.array_equal(cast, array):
            array = cast
    text = base64.b64encode(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    tensor = {"b64": text, "dtype": array.dtype.name, "shape": list(array.shape)}
    return column_from_tensor(tensor, spec, f"/{spec.name}")


def _decoded(signature: Signature, given: Sequence[Any]) -> tuple[Array, ...]:
    pairs = [_without_gaps(spec, _list(values)) for spec, values in zip(signature.inputs, given, strict=True)]
    columns = _from_json(signature, [values for values, _ in pairs])
    for column, (_, gaps) in zip(columns, pairs, strict=True):
        if gaps is not None:
            column[gaps.reshape(column.shape)] = np.nan
    return columns


def _without_gaps(spec: TensorSpec, values: list[Any]) -> tuple[list[Any], Array | None]:
    """Values of an input that may be NaN with 0 for what is missing, and where that is; None where nothing is."""
    if spec.finite or spec.dtype == STRING or np.dtype(spec.dtype).kind != "f":
        return values, None
    try:
        every = np.array(values, object)
    except ValueError:
        return values, None  # of several shapes: named when they are decoded
    gaps = np.frompyfunc(lambda value: value is None or value != value, 1, 1)(every).astype(np.bool_)  # noqa: PLR0124 - NaN
    return (np.where(gaps, 0.0, every).tolist(), gaps) if gaps.any() else (values, None)


def _from_json(signature: Signature, part: Sequence[Any]) -> tuple[Array, ...]:
    from hoverboard.codec.arrow_columns import (
        jsonable,
    )  # late: PyArrow comes with the extras, and without them EngineMissing is said

    if len(part) == 1:
        instances = [jsonable(value) for value in _list(part[0])]
    else:
        names = _names(signature)
        instances = [dict(zip(names, map(jsonable, row), strict=True)) for row in zip(*map(_list, part), strict=True)]
    columns, _ = Codec(signature).decode_instances_json(msgspec.json.encode(instances))
    return columns


def _list(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _place(pointer: str, start: int) -> str:
    """A pointer into a chunk as a row of the file."""
    parts = pointer.strip("/").split("/")
    if parts[0] == "instances" and len(parts) > 1 and parts[1].isdecimal():
        return ", ".join([f"row {start + int(parts[1])} (counted from 0)", *parts[2:]])
    return f"rows {start} on (counted from 0), {parts[0]}"
