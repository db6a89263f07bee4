"""Arrow columns that several tables have: times, ids, bytes."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from hoverboard.contract.signature import Array

__all__ = ["BYTES", "TIME", "uuid_column"]

TIME: Final = pa.timestamp("us", "UTC")
"""The Arrow type of a `timestamptz`."""
BYTES: Final = pa.large_binary()
"""The Arrow type of a `bytea`."""

_UUID: Final = pa.binary(16)


def uuid_column(ids: Array) -> Any:
    """`(rows,)` of 16 bytes each, as pgpq sends them to a `uuid` column."""
    return pa.FixedSizeBinaryArray.from_buffers(_UUID, len(ids), [None, pa.py_buffer(ids)])
