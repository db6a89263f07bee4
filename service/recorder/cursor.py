"""How far each journal is in Postgres: one row a journal, moved in the transaction that inserts the rows.

The position that a chunk is read from is only ever taken from the locked row. So two recorders cannot both record
it, and a commit that nobody confirmed is resolved by looking.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Final
from uuid import UUID

import asyncpg

from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.journal.chunk import Position

__all__ = ["Cursor", "ensure", "lock", "move", "read"]

_SQL: Final = statements(__file__)


@dataclass(frozen=True, slots=True)
class Cursor:
    """One row of `recorder_cursor`.

    Attributes:
        journal: whose.
        process: that writes it, such as `engine-0`.
        position: to read on at.
        gap_generation: of the last of its counted gaps that is in Postgres.
        executed: rows that its batches ran.
        recorded: samples that were inserted.
        finished: whether all of it is in Postgres and nobody can add to it.
    """

    journal: UUID
    process: str
    position: Position
    gap_generation: int = 0
    executed: int = 0
    recorded: int = 0
    finished: bool = False


async def ensure(connection: Connection, journal: UUID, process: str) -> None:
    """Make a journal's row, at its beginning, where there is none. Not within a transaction: others must see it."""
    await connection.execute(_SQL["insert_cursor"], journal, process)


async def lock(connection: Connection, journal: UUID) -> Cursor | None:
    """A journal's row, which is this transaction's own from now on; waits for whoever has it. None where there is none."""
    row = await connection.fetchrow(_SQL["lock_cursor"], journal)
    # `for update`: this waits for a commit in doubt, and then tells how it ended.
    return None if row is None else _cursor(row)


async def move(connection: Connection, cursor: Cursor) -> None:
    """Write a locked row back."""
    await connection.execute(
        _SQL["move_cursor"],
        cursor.journal,
        cursor.process,
        *astuple(cursor.position),
        cursor.gap_generation,
        cursor.executed,
        cursor.recorded,
        cursor.finished,
    )


async def read(connection: Connection, journals: Iterable[UUID]) -> dict[UUID, Cursor]:
    """The rows of these journals as last committed, for those that have one."""
    rows = await connection.fetch(_SQL["read_cursors"], list(journals))
    return {row["journal"]: _cursor(row) for row in rows}


def _cursor(row: asyncpg.Record) -> Cursor:
    position = Position(row["segment"], row["position"], row["seq"], row["records"])
    return Cursor(
        row["journal"],
        row["process"],
        position,
        row["gap_generation"],
        row["executed"],
        row["recorded"],
        row["finished_at"] is not None,
    )
