"""Batch records that can be read together: which they are, and their arrays joined."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from hoverboard.contract.signature import STRING, Array
from hoverboard.journal.columns import Column, column_array
from hoverboard.journal.records import BatchRecord

__all__ = ["answered", "form", "joined"]

# Made once: this is asked of every batch that the recorder reads.
_of_version = attrgetter("model", "version", "weights_sha256", "policy")
_per_row = attrgetter("label_index", "confidence", "value", "p_value", "outlier", "incl_prob", "why")


def form(record: BatchRecord) -> Any:
    """Equal for records that are read in the same way, whatever their rows; there must be some.

    Numbers that may be float32 or float64 are told apart by their size, as `float_dtype` reads them.
    """
    rows = record.rows
    return (
        *_of_version(record),
        tuple(record.redacted),
        tuple([(dtype, *shape[1:]) for dtype, shape, _ in record.columns]),
        tuple([(dtype, *shape[1:]) for dtype, shape, _ in record.outputs]),
        tuple([data if data is None else len(data) // rows for data in _per_row(record)]),
    )


def joined(columns: Sequence[Column]) -> Array:
    """The data of columns of one dtype, flat, one after the other; strings are objects of `bytes`.

    What a forged record has in place of bytes or of a list is left out: then the elements do not fill the shape.
    """
    dtype = columns[0][0]
    if dtype == STRING:
        texts = [text for _, _, data in columns if isinstance(data, list) for text in data]
        return column_array((dtype, [len(texts)], texts))
    return column_array((dtype, [-1], b"".join([data for _, _, data in columns if isinstance(data, bytes)])))


def answered(records: Sequence[BatchRecord]) -> Array | None:
    """Whether each of all their rows was answered, bool `(rows,)`: False with an error; None where all were."""
    if not any(record.failed_rows for record in records):
        return None
    # Failures are few: their places are set, in place of a mask made for each batch.
    rows = np.ones(sum(record.rows for record in records), np.bool_)
    start = 0
    for record in records:
        rows[start + np.array(record.failed_rows, np.intp)] = False
        start += record.rows
    return rows
