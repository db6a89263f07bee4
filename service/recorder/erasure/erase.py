"""Erasing what was recorded: of one sample, of a subject, or of all before a time.

An erasure deletes what is in the tables and leaves a tombstone. What is journaled by then and drained later is the business
of `late_rows`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from hoverboard.database.connect import Connection
from hoverboard.database.on_record import forget_conditions
from hoverboard.database.statements import statements
from hoverboard.recorder.erasure.tombstones import Kind, Tombstone, digest_of
from hoverboard.watch.issue_table import replace_leaders

__all__ = ["SQL", "Erased", "ErasureRequest", "delete", "erase", "latest_erasure", "tombstones_since"]

SQL: Final = statements(__file__)
_EVER: Final = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
_PATIENCE_S: Final = 3600.0
"""For statements that may go through whole tables, or wait for a chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureRequest:
    """What somebody wants erased: just one of the first three.

    Attributes:
        sample_id: one sample.
        tag: name and value: a subject.
        before: all before this time.
        model: only of this model; not with `sample_id`.
        actor: who asks.
        reason: why; without naming the subject, since it stays.
    """

    sample_id: UUID | None = None
    tag: tuple[str, str] | None = None
    before: datetime | None = None
    model: str | None = None
    actor: str
    reason: str

    @property
    def kind(self) -> Kind:
        """As the table says it."""
        return "sample" if self.sample_id is not None else "tag" if self.tag is not None else "age"


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did.

    Attributes:
        id: of its tombstone.
        at: when; what was answered before is meant, also where it is not drained yet.
        rows: deleted now, by table.
        replays: of whose conditions values were forgotten.
        mentions: texts that people wrote and that hold the tag's value: table and number of each.
    """

    id: int
    at: datetime
    rows: Mapping[str, int]
    replays: int = 0
    mentions: Sequence[tuple[str, str]] = ()


async def latest_erasure(connection: Connection) -> tuple[int, datetime] | None:
    """Number and time of the last tombstone; None without any."""
    row = await connection.fetchrow(SQL["latest_erasure"])
    return None if row is None else (row["id"], row["at"])


async def erase(connection: Connection, request: ErasureRequest, *, now: datetime) -> Erased:
    """Erase in one transaction: the tombstone and the rows, or nothing.

    Waits for the chunk that is being drained, and lets the next one begin only afterwards.

    Args:
        connection: as `recorder`.
        request: what.
        now: the clock of the machine that serves; of it and the database's clock the later one counts.

    Raises:
        asyncpg.PostgresError, OSError: nothing was erased.
    """
    async with connection.transaction():
        # Alone from here on: a chunk that cannot see the tombstone is committed by now, and its rows are found below.
        await connection.execute(SQL["lock_erasing"], timeout=_PATIENCE_S)
        # Once the lock is held, not before: what is answered while this waits is meant, too.
        at = await connection.fetchval(SQL["erasure_time"], now)
        key, value = request.tag or (None, None)
        number = await connection.fetchval(
            SQL["insert_erasure"],
            at,
            request.kind,
            request.sample_id,
            key,
            None if value is None else digest_of(value),
            request.model,
            request.before,
            request.actor,
            request.reason,
        )
        if request.sample_id is not None:
            rows = await delete(connection, "erase_samples", [request.sample_id])
        elif request.tag is not None:
            rows = await delete(
                connection, "erase_tagged", number, key, value, request.model, at, request.actor, None, None
            )
        else:
            about = request.before, request.model, *_EVER
            rows = await delete(connection, "erase_older", *about, number, at, request.actor)
        # Leaders of issues keep features beside the table of those.
        await replace_leaders(connection)
        replays = await forget_conditions(connection)
        mentions = [] if request.tag is None else await _mentions(connection, request.tag[1])
        await connection.execute(SQL["count_erased"], number, sum(rows.values()))
    return Erased(number, at, rows, replays, mentions)


async def _mentions(connection: Connection, value: str) -> list[tuple[str, str]]:
    """Where people have written a value as a word, and not as a part of another one."""
    word = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)")
    rows = await connection.fetch(SQL["mentions"], value) if value else []
    return [(row["place"], row["id"]) for row in rows if word.search(row["text"])]


async def delete(connection: Connection, statement: str, *arguments: Any) -> Mapping[str, int]:
    """Run one of the statements that erase; returns how many rows went, by table."""
    (row,) = await connection.fetch(SQL[statement], *arguments, timeout=_PATIENCE_S)
    return dict(row)


async def tombstones_since(connection: Connection, number: int, samples: Sequence[UUID]) -> list[Tombstone]:
    """The tombstones after that one, in order; of single samples only those of these, since there may be millions."""
    return [Tombstone.of(row) for row in await connection.fetch(SQL["erasures_since"], number, samples)]
