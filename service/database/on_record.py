"""Whether samples that somebody has read are still on record: what was erased or has expired since must not be handed on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from hoverboard.contract.times import nearest_time, times_ms
from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements

__all__ = ["ERASED", "EXPIRED", "gone", "last_erasure"]

ERASED: Final = "erased since it was read"
EXPIRED: Final = "expired since it was read"
_SQL: Final = statements(__file__)
_MOST: Final = 20_000
"""Ids that one statement is given: it is done in a fraction of a second."""


async def gone(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Those of some samples that are no longer on record -> `ERASED` or `EXPIRED`."""
    found: dict[UUID, str] = {}
    for start in range(0, len(ids), _MOST):
        some = ids[start : start + _MOST]
        at_ms = times_ms(b"".join([id_.bytes for id_ in some]))
        between = (nearest_time(int(at) * 1000) for at in (at_ms.min(), at_ms.max()))
        for row in await connection.fetch(_SQL["gone"], some, *between):
            found[row["id"]] = ERASED if row["erased"] else EXPIRED
    return found


async def last_erasure(connection: Connection) -> int:
    """The number of the last erasure; 0 before the first. Where it is the same, nothing was erased meanwhile."""
    number: int = await connection.fetchval(_SQL["last_erasure"])
    return number
