"""Files of rows: jsonl, csv and parquet, read in bounded memory from any position reached before."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.errors import ConfigError
from service.scoring.columns import ColumnPlan, cell, jsonable, plan_columns
from service.scoring.rows import Chunk, Position, RowFault, RowSource
from service.types import Signature

__all__ = ["CsvSource", "JsonlSource", "ParquetSource", "open_source"]

_LONGEST_CELL: Final = 256 << 20


def open_source(path: Path, signature: Signature, *, keep: Sequence[str] = (), keep_all: bool = False) -> RowSource:
    """Open a file of rows by its extension: .parquet, .jsonl, .ndjson or .csv.

    Raises:
        ConfigError: the file is missing, of another format, unreadable, or lacks a column that is needed.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    match path.suffix.lower():
        case ".parquet" | ".pq":
            return _open_parquet(path, signature, keep, keep_all)
        case ".jsonl" | ".ndjson":
            return JsonlSource(path, plan_columns(signature, None, keep=keep, keep_all=keep_all))
        case ".csv":
            names = _header(path)
            return CsvSource(path, names, plan_columns(signature, names, keep=keep, keep_all=keep_all), signature)
    raise ConfigError(f"{path}: the extension must be .parquet, .jsonl, .ndjson or .csv")


def _open_parquet(path: Path, signature: Signature, keep: Sequence[str], keep_all: bool) -> ParquetSource:
    try:
        names = pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{path} is not a readable parquet file: {error}") from error
    return ParquetSource(path, plan_columns(signature, names, keep=keep, keep_all=keep_all))


@dataclass(frozen=True, slots=True)
class JsonlSource:
    """One JSON value a line: an instance, or an object that holds one. Blank lines are no rows."""

    path: Path
    plan: ColumnPlan

    @property
    def total(self) -> int:
        return self.path.stat().st_size

    @property
    def kept(self) -> Sequence[str]:
        return self.plan.keep

    def reached(self, position: Position) -> int:
        return position.offset

    def chunks(self, start: Position, rows: int) -> Iterator[Chunk]:
        with self.path.open("rb") as file:
            file.seek(start.offset)
            at = start
            while lines := list(itertools.islice(_filled(file), rows)):
                at = Position(at.rows + len(lines), file.tell())
                yield self._chunk(lines, at)

    def _chunk(self, lines: list[bytes], after: Position) -> Chunk:
        records = [_record(line) for line in lines]
        return Chunk([self.plan.instance(record) for record in records], self._kept(records), after)

    def _kept(self, records: list[Any]) -> dict[str, list[Any]]:
        objects = [record if isinstance(record, dict) else {} for record in records]
        if self.plan.keep_all:
            names: dict[str, None] = {name: None for record in objects for name in record}
            return {name: [record.get(name) for record in objects] for name in names}
        return {name: [record.get(name) for record in objects] for name in self.plan.keep}


def _filled(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline():
        if not line.isspace():
            yield line


def _record(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        return RowFault("", f"The line is no JSON: {error}")


@dataclass(frozen=True, slots=True)
class CsvSource:
    """Comma-separated values in UTF-8 with a header line; a vector is a cell that holds a JSON array."""

    path: Path
    names: Sequence[str]
    plan: ColumnPlan
    signature: Signature

    @property
    def total(self) -> int:
        return self.path.stat().st_size

    @property
    def kept(self) -> Sequence[str]:
        return self.plan.keep

    def reached(self, position: Position) -> int:
        return position.offset

    def chunks(self, start: Position, rows: int) -> Iterator[Chunk]:
        with self.path.open("rb") as file:
            file.seek(start.offset)
            lines = _CountedLines(file)
            csv.field_size_limit(_LONGEST_CELL)
            reader = csv.reader(lines)
            if not start.offset:
                next(reader, None)
            at = Position(start.rows, start.offset)
            while cells := self._cells(reader, rows):
                at = Position(at.rows + len(cells), start.offset + lines.bytes)
                yield self._chunk(cells, at)

    def _cells(self, reader: Iterator[list[str]], rows: int) -> list[list[str]]:
        try:
            return list(itertools.islice((row for row in reader if row), rows))
        except csv.Error as error:
            raise ConfigError(f"{self.path}: {error}") from error

    def _chunk(self, cells: list[list[str]], after: Position) -> Chunk:
        specs = {spec.name: spec for spec in self.signature.inputs}
        places = {name: self.names.index(column) for name, column in self.plan.inputs.items()}
        faults = [self._fault(row) for row in cells]
        instances: list[Any] = []
        for row, fault in zip(cells, faults, strict=True):
            values = fault or {name: cell(row[place], specs[name]) for name, place in places.items()}
            instances.append(next(iter(values.values())) if self.plan.bare and isinstance(values, dict) else values)
        sound = [None if fault else row for row, fault in zip(cells, faults, strict=True)]
        return Chunk(instances, self._kept(sound), after)

    def _fault(self, row: list[str]) -> RowFault | None:
        if len(row) != len(self.names):
            return RowFault("", f"The row has {len(row)} cells, the header {len(self.names)}")
        try:
            "".join(row).encode()
        except UnicodeEncodeError:
            return RowFault("", "The row is not UTF-8")
        return None

    def _kept(self, cells: list[list[str] | None]) -> dict[str, list[Any]]:
        places = {name: self.names.index(name) for name in self.plan.keep}
        return {name: [row and row[place] for row in cells] for name, place in places.items()}


@dataclass(slots=True)
class _CountedLines:
    """Lines of a file as text, and how many bytes they took."""

    file: BinaryIO
    bytes: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.file.readline()
        if not line:
            raise StopIteration
        self.bytes += len(line)
        return line.decode("utf-8-sig" if self.file.tell() == len(line) else "utf-8", errors="surrogateescape")


def _header(path: Path) -> list[str]:
    with path.open("rb") as file:
        names = next(csv.reader(_CountedLines(file)), [])
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ConfigError(f"{path}: the header names {min(repeated)!r} more than once")
    return names


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """A parquet file: a column an input; list columns hold vectors, binary columns bytes."""

    path: Path
    plan: ColumnPlan

    @property
    def total(self) -> int:
        return int(pq.read_metadata(self.path).num_rows)

    @property
    def kept(self) -> Sequence[str]:
        return self.plan.keep

    def reached(self, position: Position) -> int:
        return position.rows

    def chunks(self, start: Position, rows: int) -> Iterator[Chunk]:
        with pq.ParquetFile(self.path, memory_map=True) as file:
            groups, skip = _groups_from(file, start.rows)
            at = start.rows
            for batch in _batches(file, groups, rows, list(self.plan.columns), skip):
                at += batch.num_rows
                yield self._chunk(batch, Position(at))

    def _chunk(self, batch: pa.RecordBatch, after: Position) -> Chunk:
        columns = {name: _values(batch.column(column)) for name, column in self.plan.inputs.items()}
        if self.plan.bare:
            (instances,) = columns.values()
        else:
            names = tuple(columns)
            instances = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        kept = {name: batch.column(name) for name in self.plan.keep}
        return Chunk(instances, kept, after)


def _groups_from(file: pq.ParquetFile, row: int) -> tuple[list[int], int]:
    """The row groups that hold `row` and what follows, and how many rows of the first to skip."""
    sizes = [file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups)]
    first = 0
    while first < len(sizes) and row >= sizes[first]:
        row -= sizes[first]
        first += 1
    return list(range(first, len(sizes))), row


def _batches(
    file: pq.ParquetFile, groups: list[int], rows: int, columns: list[str], skip: int
) -> Iterator[pa.RecordBatch]:
    if not groups:
        return
    for batch in file.iter_batches(batch_size=rows, row_groups=groups, columns=columns):
        dropped = min(skip, batch.num_rows)
        skip -= dropped
        if dropped < batch.num_rows:
            yield batch.slice(dropped)


def _values(column: pa.Array) -> list[Any]:
    """The JSON values of a column; vectors of one length go by NumPy, ten times quicker than value by value."""
    vectors = _equal_vectors(column)
    if vectors is not None:
        return vectors
    values = column.to_pylist()
    return [jsonable(value) for value in values] if _holds_bytes(column.type) else values


def _equal_vectors(column: pa.Array) -> list[Any] | None:
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None
    if not _plain_number(kind.value_type) or column.null_count or not len(column):
        return None
    flat = column.flatten()
    lengths = pc.unique(pc.list_value_length(column))
    if flat.null_count or len(lengths) != 1:
        return None
    return list(flat.to_numpy(zero_copy_only=False).reshape(len(column), lengths[0].as_py()).tolist())


def _plain_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return hasattr(kind, "value_type") and _holds_bytes(kind.value_type)
