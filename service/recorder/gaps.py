"""What is missing from Postgres, counted: rows of the table `gaps`, written in the transaction that skips it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from hoverboard.database.statements import statements
from hoverboard.recorder.rows.text import REPLACEMENT

__all__ = ["EXPIRED", "QUARANTINED", "Gap", "insert_gaps"]

EXPIRED: Final = "expired"
QUARANTINED: Final = "quarantined"
_SQL: Final = statements("queries.sql")
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


def _storable(value: object) -> object:
    """A gap must be written whatever it speaks of: what no column can hold is cut to what it can."""
    if isinstance(value, int):
        return max(-_MOST, min(value, _MOST))
    return value.replace("\0", REPLACEMENT) if isinstance(value, str) else value
