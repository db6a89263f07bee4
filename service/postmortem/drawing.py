"""The rows that are looked at closely: all bad ones up to a number, and a part of the others that is the same each time.

Odds ratios do not mind that there are fewer of the others; totals are by weight.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
import numpy as np

from hoverboard.contract.times import time_of
from hoverboard.database.statements import statements
from hoverboard.postmortem.blocks import BlockReader, bytes_of, rows_for
from hoverboard.postmortem.counting import WHOLE, RecordedShare, pieces
from hoverboard.postmortem.encoding import Encoder
from hoverboard.postmortem.question import About
from hoverboard.postmortem.recorded import uuid_at
from hoverboard.postmortem.shown import shown
from hoverboard.postmortem.table import BinnedCounts, Table
from hoverboard.postmortem.window import RecordedWindow
from hoverboard.versions.baseline import Baseline

__all__ = ["Drawn", "draw"]

_SQL: Final = statements(__file__)
MOST_BAD: Final = 60_000
MOST_OTHERS: Final = 60_000
MOST_BYTES: Final = 1 << 30
"""Of the inputs of the bad rows that are read, and of those of the others: of wide rows fewer are, so that it takes no minutes."""
_FEWEST: Final = 3000
_LOOKED_AT: Final = 5


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
    *,
    aside: bool = False,
) -> Drawn | None:
    """Read and encode rows; None where there are none.

    Args:
        recording: of the model.
        about: which rows are bad.
        baseline: whose bins inputs are compared in.
        usual: the usual time and its counts; None where it is within the window.
        now: the window.
        aside: whether the usual rows are those of `usual` that are none of `now`.
    """
    windows = [(False, *now)] if usual is None else [(True, *usual), (False, *now)]
    # Of the same time: those that are looked at come first, so that the others are known by what they are not.
    windows = windows[::-1] if aside else windows
    looked_at: set[bytes] = set()
    bad = sum(float(counts.bad.sum()) for _, _, counts in windows)
    rows = sum(float(counts.rows.sum()) for _, _, counts in windows)
    room = max(_FEWEST, MOST_BYTES // await _size(recording, about, windows))
    limits = [_limit(min(MOST_BAD, room), bad), _limit(min(MOST_OTHERS, room), rows - bad)]
    shares = (limits[0] / WHOLE, limits[1] / WHOLE)
    encoder = Encoder(recording.versions, baseline, about.kind, recording.blanked)
    reader = BlockReader(min(rows_for(version.signature) for version in recording.versions))
    seen, whole = timedelta(), sum((window.end - window.start for _, window, _ in windows), timedelta())
    for base, window, counts in windows:
        narrow = _narrow(window, rows, limits)
        for start, end in pieces(window, _width(counts)):
            recording.told("Reading rows", seen / whole)
            seen += end - start
            async for some in _read(recording, about, window, (start, end), limits, reader=reader, narrow=narrow):
                if aside and not base:
                    looked_at.update(row["id"].bytes for row in some)
                rows_ = [row for row in some if row["id"].bytes not in looked_at] if aside and base else some
                encoder.add(rows_, shares, base=base)
            if about.kind == "refusals":
                values = (recording.model, start, end, window.tags, limits[0], window.excluded[0])
                refused = await recording.fetch("refused rows", _SQL["draw_refusals"], *values)
                if aside and base:
                    refused = [row for row in refused if not _has_tags(row["tags"], now[0])]
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
    *,
    reader: BlockReader,
    narrow: bool,
) -> AsyncIterator[Sequence[Any]]:
    """The drawn rows of a time in blocks: what a block's inputs need is bounded, whatever a minute holds."""
    tags, version, label, caller, process = window.conditions

    def values(start: datetime, end: datetime) -> tuple[Any, ...]:
        return (
            *(window.model, start, end, tags, version, label, caller, process),
            *(recording.ids, recording.ids_of(version), about.kind, about.above, about.label),
            *(uuid_at(start), uuid_at(end, round_up=True), *limits, *recording.excluded(window)),
        )

    recording.sql["drawn rows"] = shown(_SQL["draw"], (*values(window.start, window.end), None))
    parts: list[list[UUID] | None] = [None]
    if narrow:
        ids = sorted(await _found(recording, about, time, limits))
        parts = [ids[first : first + reader.most_rows] for first in range(0, len(ids), reader.most_rows)]
    for part in parts:
        async for block in reader.read(recording.connection, _SQL["draw"], *values(*time), part):
            yield block
    if rest := reader.rest():
        yield rest


async def _size(
    recording: RecordedShare, about: About, windows: Sequence[tuple[bool, RecordedWindow, BinnedCounts]]
) -> int:
    """About how many bytes the inputs of a row have: of a few rows of some of the times when there were any."""
    sizes = [1]
    for _, window, counts in windows if about.kind != "refusals" else ():
        bins = np.flatnonzero(counts.rows)
        for at in bins[np.linspace(0, len(bins) - 1, _LOOKED_AT if len(bins) else 0).astype(np.intp)].tolist():
            start = time_of(int(counts.start_us[at]))
            start, end = max(start, window.start), min(start + _width(counts), window.end)
            ids = (uuid_at(start), uuid_at(end, round_up=True))
            rows = await recording.connection.fetch(_SQL["some_inputs"], recording.model, start, end, *ids)
            sizes += [bytes_of(row) for row in rows]
    return max(1, sum(sizes) // len(sizes))


async def _found(
    recording: RecordedShare, about: About, time: tuple[datetime, datetime], limits: Sequence[int]
) -> set[UUID]:
    """Ids of rows that may be drawn: one narrow table is read for each, and nothing is joined."""
    bad, others = limits
    fetch = recording.connection.fetch
    if about.kind == "wrong":
        return {row["id"] for row in await fetch(_SQL["find_labelled"], *time, max(limits))}
    rows = await fetch(_SQL["find_samples"], recording.model, *time, others)
    if about.kind == "errors":
        return {row["id"] for row in rows} | recording.errors.between(*time, bad)
    if about.kind == "outliers":
        rows += await fetch(_SQL["find_outliers"], recording.ids, *time, bad)
    elif about.kind != "refusals":
        rows += await fetch(_SQL["find_answers"], recording.ids, *time, bad, about.above, about.label)
    return {row["id"] for row in rows}


def _narrow(window: RecordedWindow, rows: float, limits: Sequence[int]) -> bool:
    """Whether rows are found first, and joined when they are known to be drawn; otherwise all rows of a time are joined.

    Conditions are about several tables.
    """
    return not window.written and rows * limits[1] / WHOLE <= 2 * MOST_OTHERS


def _has_tags(document: str | None, window: RecordedWindow) -> bool:
    given = msgspec.json.decode(document) if document else {}
    return all(given.get(name) == value for name, value in msgspec.json.decode(window.tags or "{}").items())


def _limit(most: int, rows: float) -> int:
    """Below which two bytes of an id must be, so that about so many rows are drawn; not those that the policy `sampled` draws by."""
    return WHOLE if rows <= most else max(1, round(WHOLE * most / rows))


def _width(counts: BinnedCounts) -> timedelta:
    return timedelta(microseconds=counts.width_us)
