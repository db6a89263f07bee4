"""UUIDv7 (RFC 9562) for a whole batch at once."""

from __future__ import annotations

import os
import time

import numpy as np

__all__ = ["sample_ids"]


def sample_ids(n: int, now: float | None = None) -> bytes:
    """Make n UUIDv7.

    Args:
        n: how many.
        now: seconds since the epoch.

    Returns:
        16 bytes each, concatenated: 48 bits of Unix milliseconds, version, 12 random bits, variant, 62 random bits.
    """
    milliseconds = int((time.time() if now is None else now) * 1000)
    ids = np.frombuffer(os.urandom(16 * n), dtype=np.uint8).reshape(n, 16).copy()
    ids[:, :6] = np.frombuffer(milliseconds.to_bytes(6, "big"), dtype=np.uint8)
    ids[:, 6] = (ids[:, 6] & 0x0F) | 0x70
    ids[:, 8] = (ids[:, 8] & 0x3F) | 0x80
    return ids.tobytes()
