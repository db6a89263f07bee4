"""What is missing from Postgres, counted: rows of the table `gaps`, written in the transaction that skips it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from hoverboard.contract.times import time_of
from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.database.text import storable
from hoverboard.journal.records import GapEntry, GapRecord

__all__ = ["EXPIRED", "QUARANTINED", "Gap", "gaps_of", "insert_gaps", "list_gaps"]

EXPIRED: Final = "expired"
QUARANTINED: Final = "quarantined"
_SQL: Final = statements(__file__)
_MOST: Final = 2**63 - 1
_MINUTE_US: Final = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One row; fields as the table's columns, in the order of `insert_gap`, None for unknown."""

    model: str | None = None
    version: int | None = None
    reason: str
    frames: int | None = None
    records: int | None = None
    executed: int | None = None
    flagged: int | None = None
    first_at: datetime | None = None
    last_at: datetime | None = None
    segment: int | None = None
    position: int | None = None
    detail: str | None = None


def gaps_of(records: Iterable[GapRecord]) -> list[Gap]:
    """What a journal says is missing from it: one gap for each model, version, reason and minute.

    In a storm a journal writes tens of gaps a second, each of which would be a row.

    Raises:
        OverflowError: of a time that no calendar has.
    """
    found: dict[tuple[str | None, int | None, str, int], GapEntry] = {}
    for record in records:
        for entry in record.entries:
            key = entry.model, entry.version, entry.reason, entry.first_us // _MINUTE_US
            found[key] = found[key].plus(entry) if key in found else entry
    return [
        Gap(
            model=entry.model,
            version=entry.version,
            reason=entry.reason,
            records=entry.records,
            executed=entry.executed,
            flagged=entry.flagged,
            first_at=time_of(entry.first_us),
            last_at=time_of(entry.last_us),
        )
        for entry in found.values()
    ]


async def insert_gaps(
    connection: Connection, journal: UUID, process: str, gaps: Iterable[Gap], *, clip: bool = True
) -> None:
    """Write gaps of a journal that `process` wrote.

    Args:
        clip: cut numbers to what a column holds, since a gap must be written whatever a broken record said. Not so for what a
            journal counts itself: a record that does not fit can be put aside.
    """
    rows = [(journal, process, *(_storable(value, clip=clip) for value in astuple(gap))) for gap in gaps]
    if rows:
        await connection.executemany(_SQL["insert_gap"], rows)


async def list_gaps(connection: Connection, days: int) -> list[asyncpg.Record]:
    """Gaps of the last days, summed by `reason`, `model` and `version`: `records`, `gaps`, `last`, `detail`; the latest first."""
    return await connection.fetch(_SQL["list_gaps"], days)


def _storable(value: object, *, clip: bool) -> object:
    if clip and isinstance(value, int):
        return max(-_MOST, min(value, _MOST))
    return storable(value) if isinstance(value, str) else value
