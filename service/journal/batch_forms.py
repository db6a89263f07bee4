"""Which batch records can be read together."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from hoverboard.journal.records import BatchRecord

__all__ = ["form"]

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
