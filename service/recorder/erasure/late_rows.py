"""Rows that come after their erasure: journaled before it, drained after it.

They meet the tombstone in the transaction that copies them, so that a journal cannot bring a subject back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.recorder.erasure.erase import SQL, delete, latest_erasure
from hoverboard.recorder.erasure.tombstones import Tombstone
from hoverboard.recorder.rows.plain import uuids

__all__ = ["Drained", "apply_tombstones"]

_SQL: Final = {**SQL, **statements(__file__)}
_PATIENCE_S: Final = 3600.0
"""For statements that may go through whole tables."""


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
        await _erase(connection, number, "erase_samples", samples)


async def _apply_wide(connection: Connection, tombstone: Tombstone, drained: Drained) -> None:
    number, at, actor = tombstone.id, tombstone.at, tombstone.actor
    first, last = drained.first, min(drained.last, at)
    if tombstone.kind == "age":
        about = tombstone.before, tombstone.model
        await _erase(connection, number, "erase_older", *about, first, last, number, at, actor)
        return
    # By the values and not by the digest alone: nearly always there is none, and then nothing has to be deleted.
    tag = tombstone.tag_key, tombstone.tag_digest
    for row in await connection.fetch(_SQL["drained_values"], *tag, first, last, timeout=_PATIENCE_S):
        tagged = tombstone.tag_key, row["value"], tombstone.model
        await _erase(connection, number, "erase_tagged", number, *tagged, at, actor, first, last)


async def _erase(connection: Connection, number: int, statement: str, *arguments: Any) -> None:
    """Run a statement that erases, and add what it deletes to the count of the erasure `number`."""
    rows = sum((await delete(connection, statement, *arguments)).values())
    if rows:
        await connection.execute(_SQL["count_erased"], number, rows)
