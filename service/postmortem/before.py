"""Usual times that nobody named: the last one with rows before a window, and the last one that keeps a promise."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

import numpy as np

from hoverboard.contract.times import nearest_time
from hoverboard.postmortem.bounds import EPOCH
from hoverboard.postmortem.ceilings import Ceiling
from hoverboard.postmortem.counting import RecordedShare, bin_width
from hoverboard.postmortem.question import About
from hoverboard.postmortem.window import RecordedWindow

__all__ = ["last_quiet", "last_with_rows"]

_DAY: Final = timedelta(days=1)
_ENOUGH: Final = 30
_SECOND: Final = timedelta(seconds=1)


async def last_with_rows(recording: RecordedShare, usual: RecordedWindow) -> RecordedWindow:
    """The usual time or, where the model has no rows in it, as long a time until its last row of the day before."""
    if await recording.last_row(usual.start, usual.end) is not None:
        return usual
    first = max(usual.end - _DAY, EPOCH)
    last = None if first >= usual.start else await recording.last_row(first, usual.start)
    if last is None:
        return usual
    end = min(last.replace(microsecond=0) + _SECOND, usual.start)
    return replace(usual, start=max(end - (usual.end - usual.start), first), end=end)


async def last_quiet(
    recording: RecordedShare, about: About, usual: RecordedWindow, limit: Ceiling
) -> RecordedWindow | None:
    """The last time of the day before another one, as long as it by about, that has no more bad rows than promised."""
    first = max(usual.start - _DAY, EPOCH)
    if first >= usual.start:
        return None
    day = replace(usual, start=first, end=usual.start)
    width = bin_width(day.end - day.start)
    counts = (await recording.count(about, day, width)).counts
    # Of whole bins, so that what is counted again is the same.
    each = max(1, -(-(usual.end - usual.start) // width))
    ends = np.arange(len(counts.rows), each - 1, -each)
    rows, bad = (np.array([one[end - each : end].sum() for end in ends]) for one in (counts.rows, counts.bad))
    good = np.flatnonzero((rows >= _ENOUGH) & (bad <= limit.share * rows))
    if not len(good):
        return None
    end = int(ends[good[0]])
    start, until = (nearest_time(int(counts.start_us[at])) for at in (end - each, end - 1))
    return replace(usual, start=max(start, first), end=min(until + width, usual.start))
