"""Times as records have them: microseconds since the epoch, and the milliseconds in the ids of samples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from hoverboard.contract.signature import Array

__all__ = ["micros", "nearest_time", "time_of", "times_ms"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_US: Final = 253_370_764_800_000_000  # the year 9999: later times fit Postgres, but no Python datetime


def times_ms(ids: bytes | Array) -> Array:
    """Milliseconds since the epoch in UUIDv7s, whose first 48 bits they are; int64 `(n,)`.

    Args:
        ids: 16 bytes each.
    """
    high = np.frombuffer(ids, ">u8")[::2]
    return (high >> np.uint64(16)).astype(np.int64)


def time_of(at_us: int) -> datetime:
    """A time, exactly.

    Raises:
        OverflowError: no calendar has it.
    """
    return _EPOCH + timedelta(microseconds=at_us)


def nearest_time(at_us: int) -> datetime:
    """A time; what no calendar has, since a clock was never set, is moved to its end."""
    return time_of(min(max(at_us, 0), _LATEST_US))


def micros(at: datetime) -> int:
    """Microseconds since the epoch."""
    return (at - _EPOCH) // timedelta(microseconds=1)
