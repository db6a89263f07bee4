"""Batch records whose arrays can be joined, as arrays of all their rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hoverboard.contract.signature import NUMERIC_DTYPES, STRING, Array
from hoverboard.journal.batch_forms import answered, form, joined
from hoverboard.journal.columns import Column, float_dtype
from hoverboard.journal.records import BatchRecord, CallPart
from hoverboard.recorder.rows.layout import Layout, Unencodable, is_vector

__all__ = ["BatchGroup", "Side", "alike"]

Side = Literal["columns", "outputs"]


def alike(record: BatchRecord, layout: Layout) -> Any:
    """Equal for records whose arrays can be joined: their forms are equal but for the lengths of vectors."""
    *same, _, _, sizes = form(record)
    vector = None if layout.vector is None else layout.vector[1]
    return *same, _shapes(record.columns, vector), _shapes(record.outputs, 0), sizes


def _shapes(columns: Sequence[Column], vector: int | None) -> Any:
    return tuple(
        [
            (dtype, "vector") if place == vector and is_vector((dtype, shape, data)) else (dtype, *shape[1:])
            for place, (dtype, shape, data) in enumerate(columns)
        ]
    )


class BatchGroup:
    """Records that are `alike`, none of them without rows.

    Attributes:
        first: one of them.
        rows: of all of them.
        ids: the sample ids, `(rows,)` of 16 bytes each.
        calls: whose rows, in order.
    """

    def __init__(self, records: Sequence[BatchRecord]) -> None:
        self.first = records[0]
        self._records = records
        self._counts = np.array([record.rows for record in records])
        self.rows = int(self._counts.sum())
        self._record_of = np.repeat(np.arange(len(records)), self._counts)
        self.ids = self._joined("sample_ids", "V16")
        self.calls: Sequence[CallPart] = [call for record in records for call in record.calls]
        sizes = np.array([call.rows for call in self.calls], dtype=np.int64)
        self._check("calls", int(sizes.sum()))
        # Nearly always a call has one row: then what is of calls is of rows as it stands, and nothing has to be taken.
        single = len(self.calls) == self.rows and bool((sizes == 1).all())
        self._call_of = None if single else np.repeat(np.arange(len(sizes)), sizes)

    def numbers(self, name: str, dtype: Any) -> Array | None:
        """`(rows,)`: a field of raw bytes; None where the records have none."""
        return None if getattr(self.first, name) is None else self._joined(name, dtype)

    def floats(self, name: str) -> Array | None:
        """The same for a field that is float32, or float64 where the model's output is."""
        data = getattr(self.first, name)
        return None if data is None else self._joined(name, float_dtype(data, self.first.rows))

    def of_batches(self, name: str) -> Array:
        """`(rows,)`: a number that a batch has, int64."""
        return np.array([getattr(record, name) for record in self._records], np.int64)[self._record_of]

    @property
    def batch_ids(self) -> Array:
        """`(rows,)` of 16 bytes each."""
        ids = np.frombuffer(b"".join([record.batch_id for record in self._records]), "V16")
        if len(ids) != len(self._records):
            raise Unencodable(f"batch_id: {len(ids)} for {len(self._records)} batches")
        return ids[self._record_of]

    def each(self, of_calls: Any) -> Any:
        """An Arrow array of one value a row, from one of a value a call."""
        return of_calls if self._call_of is None else of_calls.take(pa.array(self._call_of))

    @cached_property
    def answered(self) -> Array | None:
        """Whether a row was answered, bool `(rows,)`: False with an error; None where all were."""
        return answered(self._records)

    def column(self, side: Side, place: int) -> Array:
        """`(rows, *shape)`: one input or output."""
        columns = [getattr(record, side)[place] for record in self._records]
        _, (_, *shape), _ = columns[0]
        return _flat(columns).reshape(self.rows, *shape)

    def vector(self, side: Side, place: int) -> tuple[Array, Array]:
        """One input or output whose length may differ from batch to batch: float32, flat; and the length of each row's."""
        columns = [getattr(record, side)[place] for record in self._records]
        lengths = np.array([shape[1] for _, shape, _ in columns], np.int64)[self._record_of]
        flat = _flat(columns)
        if len(flat) != lengths.sum():
            raise Unencodable(f"{side}/{place}: {len(flat)} elements, {lengths.sum()} by its shapes")
        return flat.astype(np.float32, copy=False), lengths

    def _joined(self, name: str, dtype: Any) -> Array:
        values = np.frombuffer(b"".join([getattr(record, name) for record in self._records]), dtype)
        self._check(name, len(values))
        return values

    def _check(self, name: str, count: int) -> None:
        if count != self.rows:
            raise Unencodable(f"{name}: {count} for {self.rows} rows")


def _flat(columns: Sequence[Column]) -> Array:
    if columns[0][0] not in {STRING, *NUMERIC_DTYPES}:
        raise Unencodable("a column of an unknown dtype")
    return joined(columns)
