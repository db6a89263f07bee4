"""UUIDv7 (RFC 9562) for a whole batch at once."""

from __future__ import annotations

import os
import time

import numpy as np

__all__ = ["sample_ids"]

_FIXED = bytes.fromhex("7000 8000000000000000")  # version and variant
_RANDOM = np.frombuffer(bytes.fromhex("000000000000 0fff 3fffffffffffffff"), np.uint64)
"""Where random bits stand; words of eight bytes in memory's order, so that the machine's own does not matter."""


def sample_ids(n: int, now: float | None = None) -> bytes:
    """Make n UUIDv7.

    Args:
        n: how many.
        now: seconds since the epoch.

    Returns:
        16 bytes each, concatenated: 48 bits of Unix milliseconds, version, 12 random bits, variant, 62 random bits.
    """
    milliseconds = int((time.time() if now is None else now) * 1000)
    stamp = np.frombuffer(milliseconds.to_bytes(6, "big") + _FIXED, np.uint64)
    words = np.frombuffer(os.urandom(16 * n), np.uint64).reshape(n, 2)
    return (words & _RANDOM | stamp).tobytes()
