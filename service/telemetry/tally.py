"""Counting in plain Python, carried over to Prometheus a few times a second.

One observation in prometheus-client's multi-process files costs about 2.5 us, here 0.4 us: what is counted for every
call is counted here. A process killed with SIGKILL loses the last quarter of a second.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import Counter, Histogram

__all__ = ["FLUSH_INTERVAL_S", "BulkHistogram", "Flusher", "Tally"]

FLUSH_INTERVAL_S: Final = 0.25


class BulkHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add observations.

        Args:
            counts: how many fell in each bucket, not cumulative; the last is above the highest bound.
            total: their sum.
        """
        self._sum.inc(total)
        for value, count in zip(self._buckets, counts, strict=True):
            if count:
                value.inc(count)


class Tally:
    """Durations of one kind of call; added by one thread, carried over by any one at a time.

    Args:
        bounds: upper bounds of the buckets, without infinity.
        counter: gets the number of observations.
        histogram: gets the observations, in the same buckets.
    """

    __slots__ = ("_bounds", "_counter", "_counts", "_flushed", "_flushed_total", "_histogram", "_total")

    def __init__(self, bounds: tuple[float, ...], counter: Counter, histogram: BulkHistogram) -> None:
        self._bounds = bounds
        self._counter = counter
        self._histogram = histogram
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0
        self._flushed = list(self._counts)
        self._flushed_total = 0.0

    def add(self, seconds: float) -> None:
        """One observation."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._total += seconds

    def flush(self) -> None:
        """Carry over what is new. Only ever reads what `add` writes, so that the two need no lock."""
        # A copy at once: `add` goes on meanwhile, and what it adds is carried over next time.
        counts, total = list(self._counts), self._total
        new = [now - then for now, then in zip(counts, self._flushed, strict=True)]
        if not any(new):
            return
        self._counter.inc(sum(new))
        self._histogram.add(new, max(0.0, total - self._flushed_total))
        self._flushed, self._flushed_total = counts, total


class Flusher:
    """A thread that calls `flush` every quarter of a second, and a last time at the end."""

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush
        self._done = threading.Event()
        # A daemon: a process that ends by an error must not wait for it.
        self._thread = threading.Thread(target=self._run, name="metrics-flush", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.wait(FLUSH_INTERVAL_S):
            try:
                self._flush()
            except OSError:
                continue  # no room, no descriptors: what is counted is carried over next time

    def close(self) -> None:
        """Stop, with a last flush."""
        self._done.set()
        self._thread.join()
        self._flush()
