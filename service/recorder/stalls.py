"""Why Postgres does not do what it was asked: a second connection may know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from hoverboard.database.connect import Connection
from hoverboard.database.failures import transient

__all__ = ["cause"]

_PATIENCE_S: Final = 3.0
_BLOCKERS: Final = """
    select pid, coalesce(usename, 'unknown') as role
    from unnest(pg_blocking_pids($1)) as pid left join pg_stat_activity using (pid)
    order by pid limit 1
"""
_SILENT: Final = "Postgres lets nobody else in, either: it is stopped, or very slow"
_UNKNOWN: Final = "Postgres is not done with what it was asked"
_SLOW: Final = "Postgres is not done with what it was asked, and nobody's lock is in the way"


async def cause(database: Callable[[], Awaitable[Connection]], pid: int) -> str:
    """A part of a sentence, within a few seconds.

    Args:
        database: opens a connection.
        pid: of the Postgres process that is not done.
    """
    try:
        async with asyncio.timeout(_PATIENCE_S):
            connection = await database()
            try:
                row = await connection.fetchrow(_BLOCKERS, pid)
            finally:
                # Whatever it was asked: closing would wait for a server that does not answer.
                connection.terminate()
    except Exception as error:  # noqa: BLE001 - whoever asks goes on measuring, whatever is wrong here
        return _SILENT if transient(error) else _UNKNOWN
    if row is None:
        return _SLOW
    return (
        f"a lock is in the way that process {row['pid']} of Postgres holds, for the role {row['role']} "
        f"(select pg_terminate_backend({row['pid']}) ends it)"
    )
