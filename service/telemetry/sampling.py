"""Log lines that a flood of events must not multiply."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Sampler"]

_SECONDS: Final = 1.0


class Sampler:
    """At most so many lines a second; the next one says how many were left out.

    Args:
        most: lines a second.
        clock: seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._until = 0.0
        self._lines = 0
        self._left_out = 0

    def next(self) -> int | None:
        """How many lines were left out since the last one, where one may be written now; else None."""
        now = self._clock()
        if now >= self._until:
            self._until, self._lines = now + _SECONDS, 0
        if self._lines >= self._most:
            self._left_out += 1
            return None
        self._lines += 1
        # Told with the next line that is written, so that a reader knows that there were more.
        left_out, self._left_out = self._left_out, 0
        return left_out
