"""What a batch costs: l(b), the execution time of each bucket, and the choices that follow from it.

Only execution time goes in, never queueing, which would feed back (Clipper issue 222). Seconds throughout.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

__all__ = ["CostModel", "followed", "ladder", "useful_buckets"]

_RISE: Final = 1.15  # a smaller bucket is kept if the next one kept costs at least this much more
_SMOOTHING: Final = 0.05  # weight of one observation; a burst of noise fades within some 50 batches


def followed(average: float, seconds: float) -> float:
    """A moving average with one more observation in it."""
    return average + _SMOOTHING * (seconds - average)


def ladder(largest: int) -> list[int]:
    """Candidate buckets 1, 2, 4, ... up to and including `largest`."""
    sizes = [1]
    while sizes[-1] * 2 <= largest:
        sizes.append(sizes[-1] * 2)
    return sizes if sizes[-1] == largest else [*sizes, largest]


def useful_buckets(timings: Mapping[int, float]) -> list[int]:
    """Drop the buckets that buy nothing.

    The largest stays. Going down, a bucket stays only if padding it up to the next one kept would cost 15% more.

    Args:
        timings: bucket -> seconds.

    Returns:
        The kept buckets, ascending.
    """
    kept: list[int] = []
    for size in sorted(timings, reverse=True):
        if not kept or timings[kept[-1]] > _RISE * timings[size]:
            kept.append(size)
    return kept[::-1]


class CostModel:
    """l(b) of one live version, measured at load and followed ever since.

    Args:
        timings: bucket -> seconds, of the kept buckets.
    """

    __slots__ = ("_seconds", "_sizes")

    def __init__(self, timings: Mapping[int, float]) -> None:
        self._seconds = dict(timings)
        self._sizes = sorted(timings)

    @property
    def largest(self) -> int:
        """The largest bucket in use."""
        return self._sizes[-1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The buckets in use, ascending."""
        return tuple(self._sizes)

    def seconds(self, bucket: int) -> float:
        """l(bucket) as it stands now."""
        return self._seconds[bucket]

    def observe(self, bucket: int, seconds: float) -> None:
        """Take one execution into account."""
        old = self._seconds.get(bucket)
        if old is not None:  # a bucket that was dropped, or lowered away while its batch ran, is of no use any more
            self._seconds[bucket] = followed(old, seconds)

    def bucket_for(self, rows: int) -> int:
        """The smallest bucket that holds `rows`, or the largest there is."""
        sizes = self._sizes  # replaced by the execution thread when memory runs out
        return sizes[min(bisect_left(sizes, rows), len(sizes) - 1)]

    def predict(self, rows: int) -> float:
        """Seconds to execute `rows` with nothing ahead of them."""
        if rows <= 0:
            return 0.0
        largest = self._sizes[-1]
        if rows <= largest:
            return self._seconds[self.bucket_for(rows)]
        full, rest = divmod(rows, largest)
        return full * self._seconds[largest] + (self._seconds[self.bucket_for(rest)] if rest else 0.0)

    def choose(self, waiting: int) -> tuple[int, int]:
        """How many of `waiting` rows to take now, and the bucket for them.

        Pads up where that costs less a row than running the next smaller bucket full and keeping the rest.
        """
        if waiting >= self.largest:
            return self.largest, self.largest
        up = self.bucket_for(waiting)
        down = max((size for size in self._sizes if size <= waiting), default=up)
        if down >= up or self._seconds[up] / waiting < self._seconds[down] / down:
            return waiting, up
        return down, down

    def largest_within(self, seconds: float) -> int | None:
        """The largest bucket that executes within `seconds`, or None."""
        return max((size for size in self._sizes if self._seconds[size] <= seconds), default=None)

    def lower_to(self, bucket: int) -> bool:
        """Stop using `bucket` and larger ones, after it ran out of memory; False if none would be left."""
        kept = [size for size in self._sizes if size < bucket]
        if not kept:
            return False
        self._sizes = kept
        return True
