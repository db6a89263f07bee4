"""Parquet: a column an input; list columns hold vectors, binary columns bytes, decimals are numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hoverboard.contract.signature import Signature
from hoverboard.errors import ConfigError
from hoverboard.offline.columns import ColumnPlan, jsonable, plan_columns, refuse_repeated
from hoverboard.offline.rows import RowChunk, RowPosition

__all__ = ["ParquetSource", "open_parquet"]


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
        with pq.ParquetFile(self.path, memory_map=True) as file:
            groups, skip = _groups_from(file, start.rows)
            at = start.rows
            for batch in _batches(file, groups, rows, list(self.plan.columns), skip):
                at += batch.num_rows
                yield self._chunk(batch, RowPosition(at))

    def _chunk(self, batch: pa.RecordBatch, after: RowPosition) -> RowChunk:
        columns = {name: _values(batch.column(column)) for name, column in self.plan.inputs.items()}
        if self.plan.bare:
            (instances,) = columns.values()
        else:
            names = tuple(columns)
            instances = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        kept = {name: batch.column(name) for name in self.plan.keep}
        return RowChunk(instances, kept, after)


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
    return [jsonable(value) for value in values] if _holds_others(column.type) else values


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


def _holds_others(kind: pa.DataType) -> bool:
    """Whether a column holds bytes or decimals, whose Python values are none of JSON's."""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return pa.types.is_decimal(kind) or (hasattr(kind, "value_type") and _holds_others(kind.value_type))
