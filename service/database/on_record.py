"""Whether samples that somebody has read are still on record: what was erased or has expired since must not be handed on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from hoverboard.contract.times import nearest_time, times_ms
from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements

__all__ = ["ERASED", "EXPIRED", "FORGOTTEN", "forget_conditions", "gone", "last_erasure", "share_erasing"]

ERASED: Final = "erased since it was read"
EXPIRED: Final = "expired since it was read"
FORGOTTEN: Final = "(erased or expired)"
"""What a replay's conditions have instead of a value of which no sample is on record any more."""
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


async def share_erasing(connection: Connection) -> None:
    """Keep erasures waiting until the end of the connection's transaction, which brings rows that they may mean."""
    await connection.execute(_SQL["share_erasing"])


async def forget_conditions(connection: Connection) -> int:
    """Forget the tags and callers that replays were about and that no sample of their time has any more.

    Args:
        connection: as `recorder`, in a transaction.

    Returns:
        How many replays there were of such.
    """
    forgotten: dict[int, set[tuple[str, str]]] = {}
    for row in await connection.fetch(_SQL["forgettable"], FORGOTTEN):
        forgotten.setdefault(row["id"], set()).add((row["key"], row["value"]))
    for id_, values in forgotten.items():
        (kept,) = await connection.fetch(_SQL["kept_replay"], id_)
        changed = [msgspec.json.encode(_without(msgspec.json.decode(text), values)).decode() for text in kept]
        await connection.execute(_SQL["change_replay"], id_, *changed)
    return len(forgotten)


def _without(kept: dict[str, Any], values: set[tuple[str, str]]) -> dict[str, Any]:
    """What is kept of a replay, with `FORGOTTEN` for some values of its conditions."""

    def of(key: str, value: Any) -> Any:
        if isinstance(value, list):
            return [of(key, each) for each in value]
        return FORGOTTEN if (key, value) in values else value

    conditions = {name: kept[name] for name in ("where", "unless") if isinstance(kept.get(name), dict)}
    return kept | {name: {key: of(key, value) for key, value in each.items()} for name, each in conditions.items()}
