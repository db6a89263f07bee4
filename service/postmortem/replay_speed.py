"""How many rows a second versions answer here, side by side: both warm, by turns, over the same rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from statistics import median
from typing import Final

from hoverboard.offline.rows import RowChunk, RowPosition, RowSource
from hoverboard.offline.scorer import Scorer

__all__ = ["speeds"]

_CHUNKS: Final = 8
"""As many calls as an offline run has under way."""
_WARM_S: Final = 1.0
_ROUNDS: Final = 5
_MOST_S: Final = 4.0


async def speeds(sides: Sequence[tuple[Scorer, RowSource]], bucket: int) -> list[float]:
    """Rows a second of each, the median of some rounds; empty where there are no rows.

    Each first answers all of these rows once without being timed: what a first call pays is no property of a version. Then
    they take turns, each round in the other order, so that a busy machine is as busy for both.

    Args:
        sides: versions that are live, each with the same rows as it takes them.
        bucket: rows of one call.
    """
    warm: list[tuple[RowChunk, ...]] = []
    began = time.monotonic()
    for chunks in zip(*(source.chunks(RowPosition(), bucket) for _, source in sides), strict=False):
        for (scorer, _), chunk in zip(sides, chunks, strict=True):
            await scorer.score(chunk)
        warm.append(chunks)
        if len(warm) == _CHUNKS or time.monotonic() - began > _WARM_S:
            break
    rows = sum(len(chunks[0].instances) for chunks in warm)
    if not rows:
        return []
    seconds: list[list[float]] = [[] for _ in sides]
    began = time.monotonic()
    for number in range(_ROUNDS):
        order = range(len(sides))
        for place in order if number % 2 == 0 else reversed(order):
            at = time.perf_counter()
            await asyncio.gather(*(sides[place][0].score(chunks[place]) for chunks in warm))
            seconds[place].append(time.perf_counter() - at)
        if time.monotonic() - began > _MOST_S:
            break
    return [round(rows / median(each), 1) for each in seconds]
