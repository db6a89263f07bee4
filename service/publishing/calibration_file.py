"""Calibration files: rows of a model's inputs with the label of each, as npz, parquet, csv or jsonl."""

from __future__ import annotations

import base64
import csv
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from service.errors import InvalidParams, PublishError
from service.rpc.arrays import Codec
from service.rpc.exact import column_from_tensor
from service.types import STRING, Array, Signature, TensorSpec

__all__ = ["LABEL", "CalibrationRows", "read_calibration"]

LABEL: Final = "label"
_CHUNK: Final = 1000


@dataclass(frozen=True, slots=True)
class CalibrationRows:
    """Samples as a version takes them.

    Attributes:
        columns: one per input in the signature's order, `(n, *shape)`; object arrays of bytes for strings.
        labels: what each sample is, as it stands in the file (names or class indexes); None without labels.
    """

    columns: tuple[Array, ...]
    labels: Sequence[Any] | None = None

    def __len__(self) -> int:
        return len(self.columns[0])


def read_calibration(path: Path, signature: Signature, *, label: str = LABEL) -> CalibrationRows:
    """Read a file, and hold every row against the contract that calls are held against.

    The file has a column per input and one named `label`; other columns are ignored. A model with one input takes the
    only other column, whatever its name.

    Raises:
        PublishError: the file is empty, unreadable, of another format, lacks a column, or has a row that the service
            would refuse; one sentence that names the place.
    """
    readers: Mapping[str, Callable[[Path, Signature, str], dict[str, Any]]] = {
        ".npz": _npz,
        ".parquet": _parquet,
        ".pq": _parquet,
        ".csv": _csv,
        ".jsonl": _jsonl,
        ".ndjson": _jsonl,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise PublishError(f"{path}: the extension must be one of {', '.join(readers)}")
    try:
        found = reader(path, signature, label)
    except (OSError, EOFError, ValueError, csv.Error, zipfile.BadZipFile) as error:
        raise PublishError(f"{path}: {_first_line(error)}") from error
    labels = None if label in _names(signature) else found.pop(label, None)
    values = _inputs(path, signature, found)
    rows = {len(column) for column in (*values, *([] if labels is None else [labels]))}
    if rows == {0}:
        raise PublishError(f"{path}: holds no rows")
    if len(rows) != 1:
        raise PublishError(f"{path}: columns differ in length: {', '.join(map(str, sorted(rows)))}")
    return CalibrationRows(_columns(path, signature, values), None if labels is None else list(labels))


def _names(signature: Signature) -> list[str]:
    return [spec.name for spec in signature.inputs]


def _inputs(path: Path, signature: Signature, found: Mapping[str, Any]) -> list[Any]:
    if not found:
        raise PublishError(f"{path}: holds no rows")
    wanted = _names(signature)
    if len(wanted) == 1 and wanted[0] not in found and len(found) == 1:
        return list(found.values())
    for name in wanted:
        if name not in found:
            raise PublishError(f"{path}: has no column {name!r} for the model's input; it has {', '.join(found)}")
    return [found[name] for name in wanted]


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
            raise PublishError(f"{path}: {place}: expected {details['expected']}, got {details['got']}") from error
    for spec, column in zip(signature.inputs, zip(*pieces, strict=True), strict=True):
        if len({piece.shape[1:] for piece in column}) > 1:
            raise PublishError(f"{path}: samples of {spec.name} differ in shape: give calibration samples of one shape")
    return tuple(np.concatenate(column) for column in zip(*pieces, strict=True))


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


def _decoded(signature: Signature, part: Sequence[Any]) -> tuple[Array, ...]:
    if len(part) == 1:
        instances = [_jsonable(value) for value in _list(part[0])]
    else:
        names = _names(signature)
        instances = [dict(zip(names, map(_jsonable, row), strict=True)) for row in zip(*map(_list, part), strict=True)]
    columns, _ = Codec(signature).decode_instances_json(msgspec.json.encode(instances))
    return columns


def _list(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return [_jsonable(item) for item in value] if isinstance(value, list) else value


def _place(pointer: str, start: int) -> str:
    """A pointer into a chunk as a row of the file."""
    parts = pointer.strip("/").split("/")
    if parts[0] == "instances" and len(parts) > 1 and parts[1].isdecimal():
        return "/".join([f"row {start + int(parts[1])}", *parts[2:]])
    return f"rows {start} on, {parts[0]}"


def _npz(path: Path, signature: Signature, label: str) -> dict[str, Any]:  # noqa: ARG001 - one signature for all readers
    arrays = np.load(path, allow_pickle=False)
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise PublishError(f"{path}: expected an archive of named arrays (numpy.savez)")
    with arrays:
        found = {name: arrays[name] for name in arrays.files}
    for name, array in found.items():
        if array.ndim == 0:
            raise PublishError(f"{path}: {name}: expected an array with a row for each sample, got a single value")
    return found


def _parquet(path: Path, signature: Signature, label: str) -> dict[str, Any]:  # noqa: ARG001 - see above
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        return {name: table.column(name).to_pylist() for name in table.column_names}
    except pa.ArrowException as error:
        raise PublishError(f"{path}: {_first_line(error)}") from error


def _csv(path: Path, signature: Signature, label: str) -> dict[str, Any]:
    csv.field_size_limit(1 << 28)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        names = list(reader.fieldnames or ())
        rows = list(reader)
    for number, row in enumerate(rows):
        if None in row or None in row.values():
            raise PublishError(f"{path}: row {number}: its cells are not as many as the header's")
    texts = {label, *(spec.name for spec in signature.inputs if spec.dtype == STRING)}
    only = signature.inputs[0]
    if len(signature.inputs) == 1 and only.dtype == STRING:
        texts |= set(names)
    return {name: [row[name] if name in texts else _cell(row[name]) for row in rows] for name in names}


def _cell(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _jsonl(path: Path, signature: Signature, label: str) -> dict[str, Any]:  # noqa: ARG001 - see above
    rows = list(_objects(path, label))
    names: dict[str, None] = {name: None for row in rows for name in row}
    for number, row in enumerate(rows):
        missing = names.keys() - row.keys()
        if missing:
            raise PublishError(f"{path}: row {number}: {min(missing)} is missing")
    return {name: [row[name] for row in rows] for name in names}


def _objects(path: Path, label: str) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(line for line in file if not line.isspace()):
            try:
                row = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise PublishError(f"{path}: row {number}: {error}") from error
            if not isinstance(row, dict):
                raise PublishError(f"{path}: row {number}: expected an object with the inputs and {label!r}")
            yield row


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
