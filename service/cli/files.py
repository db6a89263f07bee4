"""Files that a command is given: samples, labels, contracts, instances."""

from __future__ import annotations

import csv
import itertools
import tomllib
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from hoverboard.codec.cells import csv_header, reason_of, value_of
from hoverboard.errors import ConfigError
from hoverboard.rpc.explain import no_json, no_utf8

__all__ = ["NUMBERS", "decoded", "read_contract", "read_labels", "read_request", "read_samples"]

_MOST_SAMPLES: Final = 10_000
_PARSE_ERROR: Final = "Parse error: "
_OPENINGS: Final = (b"{", b"[", b'"')
_SHOWN: Final = 60
"""Characters of a text in an error."""
NUMBERS: Final = ("NaN", "Infinity", "-Infinity")
"""What JavaScript and Python write as numbers, and JSON does not have."""


def read_samples(path: Path) -> list[Any]:
    """The first 10,000 rows of a file, in row form: bare values where it has one column, objects where it has more.

    Raises:
        ConfigError: the file is of another format, or not what its extension says.
    """
    readers = {
        ".jsonl": _jsonl_rows,
        ".ndjson": _jsonl_rows,
        ".json": _json_rows,
        ".csv": _csv_rows,
        ".npz": _npz_rows,
        ".parquet": _parquet_rows,
        ".pq": _parquet_rows,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{path}: the extension must be one of {', '.join(readers)}")
    return reader(path)


def _jsonl_rows(path: Path) -> list[Any]:
    with path.open("rb") as file:
        # Only so many are used, and a file of samples may be larger than memory.
        lines = itertools.islice((line for line in file if not line.isspace()), _MOST_SAMPLES)
        return [
            decoded(line.removeprefix(BOM_UTF8), f"{path}, row {row} (counted from 0)")
            for row, line in enumerate(lines)
        ]


def _json_rows(path: Path) -> list[Any]:
    rows = _params(decoded(path.read_bytes().removeprefix(BOM_UTF8), str(path))).get("instances")
    if not isinstance(rows, list):
        raise ConfigError(f"{path}: expected a list of rows, or a request with instances")
    return rows[:_MOST_SAMPLES]


def _csv_rows(path: Path) -> list[Any]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            _, delimiter = csv_header(path)
            rows = list(itertools.islice(csv.DictReader(file, strict=True, delimiter=delimiter), _MOST_SAMPLES))
        except csv.Error as error:
            raise ConfigError(f"{path}: {reason_of(error)}") from error
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error
    for number, row in enumerate(rows):
        if None in row or None in row.values():
            raise ConfigError(f"{path}, row {number} (counted from 0): its cells are not as many as the header's")
    return _rows({name: [value_of(row[name]) for row in rows] for name in (rows[0] if rows else ())})


def _npz_rows(path: Path) -> list[Any]:
    import numpy as np

    try:
        # A pickle runs code when it is loaded.
        with np.load(path, allow_pickle=False) as arrays:
            return _rows({name: arrays[name][:_MOST_SAMPLES].tolist() for name in arrays.files})
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _parquet_rows(path: Path) -> list[Any]:
    import pyarrow as pa

    from hoverboard.codec.arrow_columns import jsonable
    from hoverboard.offline.parquet_source import streamed

    try:
        with streamed(path) as file:
            batch = next(file.iter_batches(batch_size=_MOST_SAMPLES), None)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        columns = {} if batch is None else batch.to_pydict()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: holds a text that is not UTF-8") from error
    return _rows({name: [jsonable(value) for value in values] for name, values in columns.items()})


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[Any]:
    if len(columns) == 1:
        return list(*columns.values())
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def read_labels(path: Path) -> list[str]:
    """Class names by index, from a JSON list of strings or from lines of text.

    Raises:
        ConfigError: no UTF-8, or a name that is empty, no string, or there twice; its line or place is named.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is no UTF-8: save it as UTF-8") from error
    listed = text.lstrip().startswith("[")
    labels = decoded(text.encode(), str(path)) if listed else [line.strip() for line in text.rstrip().splitlines()]
    seen: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        place = f"{path}: label {number}" if listed else f"{path}:{number}"
        if not isinstance(label, str) or not label or not label.isprintable():
            raise ConfigError(f"{place}: {label!r}, expected a name, one a line and no empty lines")
        if label in seen:
            raise ConfigError(f"{place}: {label!r} stands there already, as number {seen[label]}")
        seen[label] = number
    if not labels:
        raise ConfigError(f"{path}: holds no label")
    return list(labels)


def read_contract(path: Path) -> dict[str, Any]:
    """Limits by input name, from TOML or JSON.

    Raises:
        ConfigError: malformed, or not a table of tables.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        limits_by_input = decoded(text.encode(), str(path)) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is no UTF-8: save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(limits_by_input, dict) or not all(
        isinstance(limits, dict) for limits in limits_by_input.values()
    ):
        raise ConfigError(f"{path}: expected a table of limits for each input name")
    return limits_by_input


def read_request(text: bytes, place: str, *, lines: bool = False) -> dict[str, Any]:
    """`instances` or `inputs`, and whatever else of a predict call a text holds.

    A text is a JSON-RPC request, its params, a list of instances, one instance, or one instance a line.

    Args:
        text: what was read.
        place: names it in errors.
        lines: take it line by line, whatever it looks like.

    Raises:
        ConfigError: it is none of these.
    """
    text = text.removeprefix(BOM_UTF8)
    rows = [line for line in text.splitlines() if line.strip()]
    if not rows:
        raise ConfigError(f"{place}: holds no instance")
    if lines:
        return {
            "instances": [_instance(row, f"{place}, row {index} (counted from 0)") for index, row in enumerate(rows)]
        }
    try:
        return _params(decoded(text, place))
    except ConfigError as error:
        # What is no JSON as a whole may be a value a line; text that begins like none is named as it stands.
        if len(rows) > 1 and text.lstrip().startswith(_OPENINGS):
            return read_request(text, place, lines=True)
        raise ConfigError(f"{error}{_as_text(rows[0])}") from error


def _instance(row: bytes, place: str) -> Any:
    try:
        return decoded(row, place)
    except ConfigError as error:
        raise ConfigError(f"{error}{_as_text(row)}") from error


def _as_text(row: bytes) -> str:
    """How to write a line that was probably meant as a text; nothing where it was not, or where it is JSON by itself."""
    try:
        text = row.decode().strip()
        decoded(row, "")
    except UnicodeDecodeError:
        return ""
    except ConfigError:
        if row.strip().startswith(_OPENINGS) or text in NUMBERS:
            return ""
        quoted = msgspec.json.encode(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...").decode()
        return f"; if it is a text, quote it for JSON, one text a line: {quoted}"
    return ""


def _params(body: Any) -> dict[str, Any]:
    if isinstance(body, list):
        return {"instances": body}
    if not isinstance(body, dict):
        return {"instances": [body]}
    if isinstance(body.get("params"), dict):
        body = body["params"]
    if "instances" in body or "inputs" in body:
        return dict(body)
    return {"instances": [body]}


def decoded(text: bytes, place: str) -> Any:
    """The value of a JSON text.

    Raises:
        ConfigError: it is none; the words name the mistake as the server would.
    """
    try:
        return msgspec.json.decode(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{place}: {no_utf8(text).message.removeprefix(_PARSE_ERROR)}; save it as UTF-8") from error
    except RecursionError:
        raise ConfigError(f"{place}: nested too deeply") from None
    except msgspec.DecodeError as error:
        # Without a place it is cut off, or holds a number that no float64 does; the decoder's own words say as much.
        reason = no_json(text, str(error)).message if "(byte " in str(error) else str(error)
        raise ConfigError(f"{place}: no JSON: {reason.removeprefix(_PARSE_ERROR)}") from error
