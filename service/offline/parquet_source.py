"""Parquet: a column an input; list columns hold vectors, binary columns bytes, decimals are numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from hoverboard.codec.arrow_columns import ArrowRows
from hoverboard.codec.file_columns import ColumnPlan, plan_columns, refuse_repeated
from hoverboard.contract.signature import Signature
from hoverboard.errors import ConfigError
from hoverboard.offline.rows import RowChunk, RowFault, RowPosition

__all__ = ["ParquetSource", "open_parquet", "streamed"]

_BUFFER: Final = 1 << 20
"""Of a column at a time: a row group may be larger than memory, and a mapped file counts as memory as far as it was read."""


def streamed(path: Path) -> pq.ParquetFile:
    """A file that is read from its beginning to its end, in memory that does not grow with it.

    Raises:
        ArrowInvalid, OSError: it cannot be read.
    """
    # What Arrow reads ahead it keeps until the last row.
    return pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)


def open_parquet(path: Path, signature: Signature, keep: Sequence[str], *, keep_all: bool) -> ParquetSource:
    """Match a file's columns with the model's inputs.

    Raises:
        ConfigError: no parquet file, a name that two columns share, or a column that is needed and missing.
    """
    try:
        names = pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{path} is not a readable parquet file: {error}") from error
    refuse_repeated(path, names)
    return ParquetSource(path, plan_columns(signature, names, keep=keep, keep_all=keep_all))


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

    def reached(self, position: RowPosition) -> int:
        return position.rows

    def chunks(self, start: RowPosition, rows: int) -> Iterator[RowChunk]:
        with streamed(self.path) as file:
            groups, skip = _groups_from(file, start.rows)
            at = start.rows
            batches = _batches(file, groups, rows, list(self.plan.columns), skip)
            while True:
                try:
                    batch = next(batches, None)
                except (pa.ArrowException, OSError) as error:
                    raise ConfigError(_damaged(self.path, file, at, error)) from error
                if batch is None:
                    return
                at += batch.num_rows
                yield self._chunk(batch, RowPosition(at))

    def _chunk(self, batch: pa.RecordBatch, after: RowPosition) -> RowChunk:
        rows = ArrowRows({name: batch.column(column) for name, column in self.plan.inputs.items()}, self.plan.bare)
        kept = {name: batch.column(name) for name in self.plan.keep}
        try:
            # Parquet does not check that texts are UTF-8, and one that is not would end the run wherever it is first read.
            batch.validate(full=True)
        except pa.ArrowInvalid:
            return _readable(rows, kept, _faults(batch, after.rows - batch.num_rows), after)
        return RowChunk(rows, kept, after)


def _faults(batch: pa.RecordBatch, first: int) -> dict[str, dict[int, RowFault]]:
    """Column name -> index of a row in the batch -> why its value there cannot be read."""
    faults: dict[str, dict[int, RowFault]] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        # Of a dictionary every row would hold all the values.
        values = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for row in range(len(values)):
            try:
                # Not a slice: those of lists are checked together with the values of the rows around them.
                values.take(pa.array([row])).validate(full=True)
            except pa.ArrowInvalid:
                words = f"Row {first + row} cannot be read: its {name!r} is not UTF-8"
                faults.setdefault(name, {})[row] = RowFault("", words, lost=True)
    return faults


def _readable(
    rows: ArrowRows, kept: dict[str, pa.Array], faults: dict[str, dict[int, RowFault]], after: RowPosition
) -> RowChunk:
    """A chunk of which some values cannot be read: their rows are faults, and what is kept of those is null."""
    by_row = {row: fault for column in faults.values() for row, fault in column.items()}
    good = [row for row in range(len(rows)) if row not in by_row]
    instances: list[Any] = [by_row.get(row) for row in range(len(rows))]
    for row, instance in zip(good, rows.take(good).instances(), strict=True):
        instances[row] = instance
    for name, bad in faults.items():
        if name in kept:
            column = kept[name]
            kept[name] = column.take(pa.array([None if row in bad else row for row in range(len(column))], pa.int64()))
    return RowChunk(instances, kept, after)


def _damaged(path: Path, file: pq.ParquetFile, row: int, error: Exception) -> str:
    """In words what cannot be read on from `row`, of which Arrow only says how, such as `Unexpected end of stream`."""
    groups, _ = _groups_from(file, row)
    where = f"row group {groups[0]} of {file.metadata.num_row_groups}, after row {row}" if groups else "its end"
    return f"{path} is damaged: {where} cannot be read: {error}"


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
        # A run that goes on begins within a row group, which can only be read from its start.
        dropped = min(skip, batch.num_rows)
        skip -= dropped
        if dropped < batch.num_rows:
            yield batch.slice(dropped)
