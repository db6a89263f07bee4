"""Memory that floods took, given back to the system once they are over."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import Final

__all__ = ["Tidying"]

# Less is not worth a pause, and is soon needed again.
_SPARE_BYTES: Final = 64 << 20
_GAIN_BYTES: Final = 16 << 20
_SHORTEST_S: Final = 10.0
_LONGEST_S: Final = 640.0
_STATM: Final = Path("/proc/self/statm")


class Tidying:
    """Looks at how much memory this process takes, and has glibc give back what is free where it is much more than once.

    glibc keeps what was freed between pieces that are not. To give it back takes up to 20 ms for 100 MB, in which nobody
    is answered: so it is done every 10 s at most, and more seldom where it gains little. It does nothing where the system
    is no Linux with glibc.
    """

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        self._least = sys.maxsize
        self._wait = _SHORTEST_S
        self._next = 0.0

    def look(self) -> None:
        """Tidy up if there may be something to gain."""
        now = time.monotonic()
        if self._trim is None or now < self._next:
            return
        before = _resident()
        self._least = min(self._least, before)
        if before > self._least + _SPARE_BYTES:
            self._trim(0)
            gained = before - _resident() > _GAIN_BYTES
            # Where trimming gained little, the memory is in use or in pieces: it would gain little again.
            self._wait = _SHORTEST_S if gained else min(_LONGEST_S, self._wait * 2)
            self._next = now + self._wait


def _resident() -> int:
    """Bytes of this process that are in memory."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
