"""The formats of calibration files: each as columns by name, with every row that is damaged named."""

from __future__ import annotations

import csv
import json
import zipfile
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from hoverboard.codec.cells import csv_header, value_of
from hoverboard.errors import PublishError

__all__ = ["read_columns"]

_WORDS: Final = {"": None, "NaN": None, "nan": None, "True": True, "False": False}
"""What pandas writes for what JSON has other words for."""

_Reader = Callable[[Path, Callable[[Sequence[str]], Collection[str]]], dict[str, Any]]


def read_columns(path: Path, texts: Callable[[Sequence[str]], Collection[str]]) -> dict[str, Any]:
    """The columns of a file, arrays or lists, by name.

    Args:
        path: .npz, .parquet, .csv or .jsonl.
        texts: given all names, those whose cells are texts as they stand; asked for where a format has no types.

    Raises:
        PublishError: the file is unreadable, of another format, or damaged; one sentence that names the place.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise PublishError(f"{path}: the extension must be one of {', '.join(_READERS)}")
    try:
        return reader(path, texts)
    except (OSError, EOFError, ValueError, csv.Error, zipfile.BadZipFile) as error:
        raise PublishError(f"{path}: {_first_line(error)}") from error


def _npz(path: Path, texts: object) -> dict[str, Any]:
    del texts
    arrays = np.load(path, allow_pickle=False)
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise PublishError(f"{path}: expected an archive of named arrays (numpy.savez)")
    with arrays:
        found = {name: arrays[name] for name in arrays.files}
    for name, array in found.items():
        if array.ndim == 0:
            raise PublishError(f"{path}: {name}: expected an array with a row for each sample, got a single value")
    return found


def _parquet(path: Path, texts: object) -> dict[str, Any]:
    del texts
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        _unique(path, pq.read_schema(path).names)
        table = pq.read_table(path)
        return {name: table.column(name).to_pylist() for name in table.column_names}
    except pa.ArrowException as error:
        raise PublishError(f"{path}: {_first_line(error)}") from error


def _csv(path: Path, texts: Callable[[Sequence[str]], Collection[str]]) -> dict[str, Any]:
    csv.field_size_limit(1 << 28)
    names, delimiter = csv_header(path)
    _unique(path, names)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, strict=True, delimiter=delimiter))
    for number, row in enumerate(rows):
        if None in row or None in row.values():
            raise PublishError(f"{path}: row {number} (counted from 0): its cells are not as many as the header's")
    kept = texts(names)
    return {name: [row[name] if name in kept else _cell(row[name]) for row in rows] for name in names}


def _cell(text: str) -> Any:
    """A cell that is no text: JSON, or a number or a missing value as other programs write them."""
    stripped = text.strip()
    return _WORDS[stripped] if stripped in _WORDS else value_of(text)


def _jsonl(path: Path, texts: object) -> dict[str, Any]:
    del texts
    rows = list(_objects(path))
    names: dict[str, None] = {name: None for row in rows for name in row}
    for number, row in enumerate(rows):
        missing = names.keys() - row.keys()
        if missing:
            raise PublishError(f"{path}: row {number} (counted from 0): {min(missing)} is missing")
    return {name: [row[name] for row in rows] for name in names}


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        lines = (line.removeprefix(BOM_UTF8) for line in file)
        for number, line in enumerate(line for line in lines if line.strip()):
            try:
                row = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise PublishError(f"{path}: row {number} (counted from 0): {error}") from error
            if not isinstance(row, dict):
                raise PublishError(
                    f"{path}: row {number} (counted from 0): expected an object with the inputs and the label"
                )
            names: list[str] = json.loads(line, object_pairs_hook=lambda pairs: [name for name, _ in pairs])
            if len(names) != len(row):
                _unique(path, names, f"row {number} (counted from 0): ")
            yield row


def _unique(path: Path, names: Sequence[str], place: str = "") -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PublishError(f"{path}: {place}{twice[0]!r} is there {Counter(names)[twice[0]]} times")


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__


_READERS: Final[Mapping[str, _Reader]] = {
    ".npz": _npz,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
}
