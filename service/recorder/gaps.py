"""What is missing from Postgres, counted: rows of the table `gaps`, written in the transaction that skips it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from hoverboard.database.statements import statements
from hoverboard.database.text import storable

__all__ = ["EXPIRED", "QUARANTINED", "Gap", "insert_gaps", "list_gaps"]

EXPIRED: Final = "expired"
QUARANTINED: Final = "quarantined"
_SQL: Final = statements(__file__)
_MOST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One row; fields as the table's columns, None for unknown."""

    reason: str
    model: str | None = None
    version: int | None = None
    frames: int | None = None
    records: int | None = None
    executed: int | None = None
    flagged: int | None = None
    first_at: datetime | None = None
    last_at: datetime | None = None
    segment: int | None = None
    position: int | None = None
    detail: str | None = None


async def insert_gaps(
    connection: asyncpg.Connection[asyncpg.Record], journal: UUID, process: str, gaps: Sequence[Gap]
) -> None:
    """Write gaps of a journal that `process` wrote."""
    rows = [
        (
            journal,
            process,
            *map(
                _storable,
                (
                    gap.model,
                    gap.version,
                    gap.reason,
                    gap.frames,
                    gap.records,
                    gap.executed,
                    gap.flagged,
                    gap.first_at,
                    gap.last_at,
                    gap.segment,
                    gap.position,
                    gap.detail,
                ),
            ),
        )
        for gap in gaps
    ]
    if rows:
        await connection.executemany(_SQL["insert_gap"], rows)


async def list_gaps(connection: asyncpg.Connection[asyncpg.Record], days: int) -> list[asyncpg.Record]:
    """Gaps of the last days, summed by `reason`, `model` and `version`: `records`, `gaps`, `last`, `detail`; the latest first."""
    return await connection.fetch(_SQL["list_gaps"], days)


def _storable(value: object) -> object:
    """A gap must be written whatever it speaks of: what no column can hold is cut to what it can."""
    if isinstance(value, int):
        return max(-_MOST, min(value, _MOST))
    return storable(value) if isinstance(value, str) else value
