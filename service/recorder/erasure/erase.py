"""Erasing what was recorded: of one sample, of a subject, or of all before a time; and keeping it erased.

An erasure deletes what is in the tables and leaves a tombstone. Rows that were journaled before it and are drained
after it meet the tombstone in the transaction that copies them: a journal cannot bring a subject back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.recorder.erasure.tombstones import Kind, Tombstone, digest_of
from hoverboard.recorder.rows.plain import uuids

__all__ = [
    "TABLES",
    "Drained",
    "Erased",
    "ErasureRequest",
    "apply_tombstones",
    "erase",
    "latest_erasure",
    "share_erasing",
    "tombstones_since",
]

TABLES: Final = ("samples", "predictions", "outliers", "labels", "rejections")
_SQL: Final = statements(__file__)
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
    """

    id: int
    at: datetime
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Drained:
    """What a chunk brought, for tombstones to look at.

    Attributes:
        first, last: no row of it is earlier or later.
        sample_ids: of its samples, 16 bytes each.
        labelled: sample ids of its labels.
    """

    first: datetime
    last: datetime
    sample_ids: bytes
    labelled: Sequence[UUID]


async def share_erasing(connection: Connection) -> None:
    """Keep erasures waiting until the end of the connection's transaction, which brings rows: see `apply_tombstones`."""
    await connection.execute(_SQL["share_erasing"])


async def latest_erasure(connection: Connection) -> tuple[int, datetime] | None:
    """Number and time of the last tombstone; None without any."""
    row = await connection.fetchrow(_SQL["latest_erasure"])
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
        await connection.execute(_SQL["lock_erasing"], timeout=_PATIENCE_S)
        # Once the lock is held, not before: what is answered while this waits is meant, too.
        at = await connection.fetchval(_SQL["erasure_time"], now)
        key, value = request.tag or (None, None)
        number = await connection.fetchval(
            _SQL["insert_erasure"],
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
        row = await _delete(connection, request, number, at)
        rows = {table: int(row[table]) for table in TABLES}
        await connection.execute(_SQL["count_erased"], number, sum(rows.values()))
    return Erased(number, at, rows)


async def _delete(connection: Connection, request: ErasureRequest, number: int, at: datetime) -> asyncpg.Record:
    if request.sample_id is not None:
        row = await connection.fetchrow(_SQL["erase_samples"], [request.sample_id], timeout=_PATIENCE_S)
    elif request.tag is not None:
        key, value = request.tag
        row = await connection.fetchrow(
            _SQL["erase_tagged"], number, key, value, request.model, at, request.actor, timeout=_PATIENCE_S
        )
    else:
        row = await connection.fetchrow(
            _SQL["erase_older"],
            request.before,
            request.model,
            *_EVER,
            number,
            at,
            request.actor,
            timeout=_PATIENCE_S,
        )
    assert row is not None  # noqa: S101 - a select of counts has a row
    return row


async def tombstones_since(connection: Connection, number: int, samples: Sequence[UUID]) -> list[Tombstone]:
    """The tombstones after that one, in order; of single samples only those of these, since there may be millions."""
    return [Tombstone.of(row) for row in await connection.fetch(_SQL["erasures_since"], number, samples)]


async def apply_tombstones(connection: Connection, drained: Drained) -> None:
    """Delete what a chunk has just brought and an earlier erasure means; in the transaction that copied it.

    That transaction shares the lock `hoverboard.erasing`, so every erasure is either seen here or sees these rows. What is
    deleted is added to the count of the erasure that meant it.
    """
    latest = await latest_erasure(connection)
    if latest is None:
        return
    # Labels name a sample that may have been erased long before; all else can only be older than the erasure.
    earlier = drained.first <= latest[1]
    sampled = uuids(drained.sample_ids) if earlier else []
    await _erase_samples(connection, [*drained.labelled, *sampled])
    if earlier:
        for row in await connection.fetch(_SQL["wide_erasures_since"], drained.first):
            await _apply_wide(connection, Tombstone.of(row), drained)


async def _erase_samples(connection: Connection, ids: Sequence[UUID]) -> None:
    """What comes of a sample that was erased by itself, by its tag or by its model's age; its labels however late."""
    if not ids:
        return
    by_erasure: dict[int, list[UUID]] = {}
    for row in await connection.fetch(_SQL["erased_samples"], ids):
        by_erasure.setdefault(row["id"], []).append(row["sample_id"])
    for number, samples in by_erasure.items():
        await _count(connection, number, await connection.fetchrow(_SQL["erase_samples"], samples))


async def _apply_wide(connection: Connection, tombstone: Tombstone, drained: Drained) -> None:
    last = min(drained.last, tombstone.at)
    if tombstone.kind == "age":
        row = await connection.fetchrow(
            _SQL["erase_older"],
            tombstone.before,
            tombstone.model,
            drained.first,
            last,
            tombstone.id,
            tombstone.at,
            tombstone.actor,
            timeout=_PATIENCE_S,
        )
    else:
        row = await connection.fetchrow(
            _SQL["erase_tagged_drained"],
            tombstone.id,
            tombstone.tag_key,
            tombstone.tag_digest,
            tombstone.model,
            drained.first,
            last,
            tombstone.at,
            tombstone.actor,
            timeout=_PATIENCE_S,
        )
    await _count(connection, tombstone.id, row)


async def _count(connection: Connection, number: int, row: asyncpg.Record | None) -> None:
    rows = 0 if row is None else sum(int(row[table]) for table in TABLES)
    if rows:
        await connection.execute(_SQL["count_erased"], number, rows)
