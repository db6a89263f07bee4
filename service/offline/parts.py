"""Scored rows as jsonl or parquet: encoded chunk by chunk, written part by part, merged into one file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from hoverboard.contract.signature import Signature
from hoverboard.errors import ConfigError
from hoverboard.offline.rows import RowFault, RowPosition, ScoredChunk
from hoverboard.offline.schema import prediction_fields

__all__ = ["JsonlParts", "ParquetParts", "PartFormat", "open_format"]

E = TypeVar("E")

_LINES: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


class PartFormat(Protocol[E]):
    """One output format; `E` is what an encoded chunk is in it."""

    def check_kept(self, names: Collection[str]) -> None:
        """Raise ConfigError where a kept column has the name of one that the run adds."""

    def encode(self, chunk: ScoredChunk) -> E:
        """The rows of a chunk in the format's own form."""

    def size(self, encoded: E) -> int:
        """Bytes that an encoded chunk takes in memory."""

    def write(self, path: Path, encoded: Sequence[E]) -> None:
        """Write encoded chunks, in order, as one part."""

    def merge(self, parts: Sequence[Path], path: Path) -> None:
        """Write the rows of all parts, in order, as the finished file."""


def open_format(
    output: Path, signature: Signature, *, outputs: bool, prefix: str, about: Mapping[str, str]
) -> PartFormat[Any]:
    """The format that an output's extension names: .parquet, .jsonl or .ndjson.

    Args:
        output: the path to write to.
        signature: of the version that answers.
        outputs: whether predictions carry whole outputs.
        prefix: put before the name of every field of a prediction.
        about: facts about the run for the file's own metadata, where the format has such a thing.

    Raises:
        ConfigError: the extension names no format.
    """
    fields = tuple(prediction_fields(signature, outputs=outputs))
    match output.suffix.lower():
        case ".jsonl" | ".ndjson":
            return JsonlParts(fields, prefix)
        case ".parquet" | ".pq":
            return ParquetParts(fields, prefix, about)
    raise ConfigError(f"{output}: the extension must be .parquet, .jsonl or .ndjson")


@dataclass(frozen=True, slots=True)
class JsonlParts:
    """One object a row: the kept columns, then the prediction's fields, or `error`."""

    fields: tuple[pa.Field, ...]
    prefix: str = ""

    def check_kept(self, names: Collection[str]) -> None:
        _refuse_collisions(names, self.fields, self.prefix)

    def encode(self, chunk: ScoredChunk) -> bytes:
        self.check_kept(chunk.kept)
        return b"".join(map(_json_line, self._records(chunk)))

    def size(self, encoded: bytes) -> int:
        return len(encoded)

    def write(self, path: Path, encoded: Sequence[bytes]) -> None:
        path.write_bytes(b"".join(encoded))

    def merge(self, parts: Sequence[Path], path: Path) -> None:
        with path.open("wb") as whole:
            for part in parts:
                # Lines need no common schema: parts are only put one behind the other.
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole, 1 << 20)

    def _records(self, chunk: ScoredChunk) -> Iterator[dict[str, Any]]:
        kept = {name: _plain(values) for name, values in chunk.kept.items()}
        for row, (prediction, fault) in enumerate(zip(chunk.predictions, chunk.faults, strict=True)):
            record = {name: values[row] for name, values in kept.items()}
            record.update((self.prefix + name, value) for name, value in (prediction or {}).items())
            if fault is not None:
                record[self.prefix + "error"] = {"pointer": fault.pointer, "message": fault.message}
            yield record


def _refuse_collisions(names: Collection[str], fields: Sequence[pa.Field], prefix: str) -> None:
    for name in (*(one.name for one in fields), "error"):
        if prefix + name in names:
            raise ConfigError(
                f"the kept column {prefix + name!r} has the name of one that predictions add; "
                "give those a prefix, such as --prefix predicted_"
            )


def _json_line(record: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(record, _plain_value, _LINES)
    except TypeError:  # a kept integer past 64 bits, which orjson does not write
        return orjson.dumps({name: _written(value) for name, value in record.items()}, _plain_value, _LINES)


def _written(value: Any) -> Any:
    """A value with its integers past 64 bits as the digits they are."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return orjson.Fragment(str(value))
    if isinstance(value, dict):
        return {name: _written(item) for name, item in value.items()}
    return [_written(item) for item in value] if isinstance(value, list) else value


def _plain_value(value: Any) -> Any:
    """A kept value that orjson does not know (decimals, bytes) as msgspec writes it."""
    return msgspec.to_builtins(value)


def _plain(values: Sequence[Any]) -> Sequence[Any]:
    return values.to_pylist() if isinstance(values, pa.Array) else values


@dataclass(frozen=True, slots=True)
class ParquetParts:
    """A column per kept column and per field of a prediction, and `error`, a struct that is null where all is well."""

    fields: tuple[pa.Field, ...]
    prefix: str = ""
    about: Mapping[str, str] = field(default_factory=dict)

    def check_kept(self, names: Collection[str]) -> None:
        _refuse_collisions(names, self.fields, self.prefix)

    def encode(self, chunk: ScoredChunk) -> pa.Table:
        self.check_kept(chunk.kept)
        columns = {name: _kept_column(values) for name, values in chunk.kept.items()}
        for column in self.fields:
            values = [prediction and prediction.get(column.name) for prediction in chunk.predictions]
            columns[self.prefix + column.name] = pa.array(_arrow_ready(values), column.type)
        columns[self.prefix + "error"] = pa.array([_error(fault) for fault in chunk.faults], _ERROR)
        return pa.table(columns)

    def size(self, encoded: pa.Table) -> int:
        return int(encoded.nbytes)

    def write(self, path: Path, encoded: Sequence[pa.Table]) -> None:
        # Kept jsonl columns may change their types from chunk to chunk; a part has one.
        schema = _common_schema([table.schema for table in encoded])
        schema = _lossless(schema, [table.schema for table in encoded], lambda part, name: encoded[part].column(name))
        table = pa.concat_tables([_as(table, schema) for table in encoded])
        pq.write_table(table.combine_chunks(), path)

    def merge(self, parts: Sequence[Path], path: Path) -> None:
        nothing = self.encode(ScoredChunk([], [], {}, RowPosition()))
        schemas = [pq.read_schema(part) for part in parts]
        schema = _common_schema(schemas or [nothing.schema])
        schema = _lossless(schema, schemas, lambda part, name: pq.read_table(parts[part], columns=[name]).column(name))
        schema = schema.with_metadata({f"hoverboard.{name}": value for name, value in self.about.items()})
        # Part by part: merging takes the memory of one.
        with pq.ParquetWriter(path, schema) as writer:
            for part in parts:
                with pq.ParquetFile(part) as file:
                    writer.write_table(_as(file.read(), schema))


def _arrow_ready(values: list[Any]) -> list[Any]:
    """Outputs of more than one dimension as nested lists, which is how Arrow takes them."""
    if not any(isinstance(value, dict) for value in values):
        return values
    return [value and {name: _nested(item) for name, item in value.items()} for value in values]


def _nested(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) and value.ndim > 1 else value


_ERROR = pa.struct([("pointer", pa.string()), ("message", pa.string())])


def _error(fault: RowFault | None) -> dict[str, str] | None:
    return None if fault is None else {"pointer": fault.pointer, "message": fault.message}


def _kept_column(values: Sequence[Any]) -> pa.Array:
    """A kept column as Arrow values; one that mixes types as the JSON text of its values."""
    if isinstance(values, pa.Array):
        return values
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return _as_text(values)


def _as_text(values: Sequence[Any]) -> pa.Array:
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One schema that all tables can be brought to; a column whose types have nothing in common becomes text."""
    names = dict.fromkeys(name for schema in schemas for name in schema.names)
    return pa.schema([pa.field(name, _common_type(name, schemas)) for name in names])


def _common_type(name: str, schemas: Sequence[pa.Schema]) -> pa.DataType:
    kinds = {schema.field(name).type for schema in schemas if name in schema.names}
    try:
        fields = [pa.schema([pa.field(name, kind)]) for kind in kinds]
        return pa.unify_schemas(fields, promote_options="permissive").field(name).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()


def _lossless(
    schema: pa.Schema, schemas: Sequence[pa.Schema], column: Callable[[int, str], pa.ChunkedArray]
) -> pa.Schema:
    """The schema with text for each column that some part's values do not fit into, such as 2**60 + 1 into a float64."""
    for index, wanted in enumerate(schema):
        others = [
            part for part, own in enumerate(schemas) if wanted.name in own.names and own.field(wanted.name) != wanted
        ]
        try:
            for part in [] if pa.types.is_string(wanted.type) else others:
                column(part, wanted.name).cast(wanted.type)
        except pa.ArrowInvalid:
            schema = schema.set(index, pa.field(wanted.name, pa.string()))
    return schema


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    return pa.table([_column(table, field) for field in schema], schema=schema)


def _column(table: pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    column = table.column(field.name)
    if column.type == field.type:
        return column
    if pa.types.is_string(field.type):
        return _as_text(column.to_pylist())
    return column.cast(field.type)
