"""The rows that are looked at closely: all bad ones up to a number, and a part of the others that is the same each time.

Odds ratios do not mind that there are fewer of the others; totals are by weight.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np

from hoverboard.contract.times import time_of
from hoverboard.database.statements import statements
from hoverboard.postmortem.counting import RecordedShare
from hoverboard.postmortem.encoding import Encoder
from hoverboard.postmortem.question import About
from hoverboard.postmortem.recorded import rows_for, uuid_at
from hoverboard.postmortem.shown import shown
from hoverboard.postmortem.table import BinnedCounts, Table
from hoverboard.postmortem.window import RecordedWindow
from hoverboard.versions.baseline import Baseline

__all__ = ["Drawn", "draw"]

_SQL: Final = statements(__file__)
MOST_BAD: Final = 60_000
MOST_OTHERS: Final = 60_000
_WHOLE: Final = 65_536
_SCANNED: Final = 100_000
"""Rows that one statement reads: enough for a quick join, and little enough to be done in a second."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Rows of a window and of its usual time.

    Attributes:
        table: their fields.
        bad_share, other_share: of the bad rows and of the others that were drawn.
        missing: rows whose inputs are not what was sent, by reason.
    """

    table: Table
    bad_share: float
    other_share: float
    missing: dict[str, int]


async def draw(
    recording: RecordedShare,
    about: About,
    baseline: Baseline | None,
    usual: tuple[RecordedWindow, BinnedCounts] | None,
    now: tuple[RecordedWindow, BinnedCounts],
) -> Drawn | None:
    """Read and encode rows; None where there are none.

    Args:
        recording: of the model.
        about: which rows are bad.
        baseline: whose bins inputs are compared in.
        usual: the usual time and its counts; None where it is within the window.
        now: the window.
    """
    windows = [(False, *now)] if usual is None else [(True, *usual), (False, *now)]
    bad = sum(float(counts.bad.sum()) for _, _, counts in windows)
    rows = sum(float(counts.rows.sum()) for _, _, counts in windows)
    limits = [_limit(MOST_BAD, bad), _limit(MOST_OTHERS, rows - bad)]
    shares = (limits[0] / _WHOLE, limits[1] / _WHOLE)
    encoder = Encoder(recording.versions, baseline, about.kind, recording.blanked)
    seen, whole = 0.0, sum(len(counts.rows) for _, _, counts in windows)
    for base, window, counts in windows:
        for start, end, bins in _ranges(window, counts):
            recording.told("reading rows", seen / whole)
            seen += bins
            async for some in _read(recording, about, window, (start, end), limits):
                encoder.add(some, shares, base=base)
            if about.kind == "refusals":
                values = (recording.model, start, end, window.tags, limits[0])
                refused = await recording.fetch("refused rows", _SQL["draw_refusals"], *values)
                encoder.add_refusals(refused, shares[0], base=base)
    if not encoder.rows:
        return None
    return Drawn(encoder.table(), *shares, dict(encoder.missing))


async def _read(
    recording: RecordedShare,
    about: About,
    window: RecordedWindow,
    time: tuple[datetime, datetime],
    limits: Sequence[int],
) -> AsyncIterator[list[Any]]:
    """The drawn rows of a time in blocks: what a block's inputs need is bounded, whatever a minute holds."""
    tags, version, label, caller, process = window.conditions

    def values(start: datetime, end: datetime) -> tuple[Any, ...]:
        return (
            *(window.model, start, end, tags, version, label, caller, process),
            *(recording.ids, recording.ids_of(version), about.kind, about.above, about.label),
            *(uuid_at(start), uuid_at(end, round_up=True), *limits),
        )

    recording.sql["drawn rows"] = shown(_SQL["draw"], values(window.start, window.end))
    size = min(rows_for(version.signature) for version in recording.versions)
    block: list[Any] = []
    async for row in recording.connection.cursor(_SQL["draw"], *values(*time), prefetch=size):
        block.append(row)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def _limit(most: int, rows: float) -> int:
    """Below which two bytes of an id must be, so that about so many rows are drawn; not those that the policy `sampled` draws by."""
    return _WHOLE if rows <= most else max(1, round(_WHOLE * most / rows))


def _ranges(window: RecordedWindow, counts: BinnedCounts) -> Iterator[tuple[datetime, datetime, int]]:
    """Pieces of a window of not many more rows than one statement should read, and how many bins each has."""
    start, rows, first = window.start, 0.0, 0
    for place, more in enumerate(counts.rows.tolist()):
        if rows and rows + more > _SCANNED:
            at = time_of(int(counts.start_us[place]))
            yield start, at, place - first
            start, rows, first = at, 0.0, place
        rows += more
    yield start, window.end, max(1, len(np.atleast_1d(counts.rows)) - first)
