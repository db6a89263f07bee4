"""The one connection that questions are asked by: it may read and nothing else, and no statement keeps the database for long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from hoverboard.config import Settings
from hoverboard.database.connect import Connection, connected, place
from hoverboard.database.failures import sentence
from hoverboard.database.migrate import require_current
from hoverboard.database.statements import statements
from hoverboard.errors import DatabaseUnavailable
from hoverboard.postgres.endpoint import embedded_url

__all__ = ["STATEMENT_TIMEOUT_S", "reading"]

STATEMENT_TIMEOUT_S: Final = 30.0
"""Seconds that one statement may take unless a question says otherwise."""
_SQL: Final = statements(__file__)


@asynccontextmanager
async def reading(
    settings: Settings, *, application: str, statement_timeout_s: float = STATEMENT_TIMEOUT_S
) -> AsyncIterator[Connection]:
    """A connection in a read-only transaction that sees the database as it is now, whatever is recorded meanwhile.

    It steps down to the role `reader` where its login is a member of it. Of a login that may only read, or is `recorder`, that is
    not asked: the transaction writes nothing anyway. The transaction ends with this context; no question should hold it for
    hours, since Postgres cannot clean up behind it.

    Args:
        settings: name the database, or the data directory of a running service whose embedded Postgres is meant.
        application: shown in `pg_stat_activity`.
        statement_timeout_s: after which Postgres gives a statement up.

    Raises:
        ConfigError: no database is named and the embedded one does not run, or the URL makes no sense.
        DatabaseUnavailable: nobody answers, the login or the schema will not do, or a statement took too long.
    """
    # The embedded one as `psql` reaches it: `recorder` may log in there, but is no member of `reader`.
    url = settings.database_url.get_secret_value() or embedded_url(settings.data_dir)
    async with connected(url, application=application, role=None, command_timeout_s=None) as connection:
        try:
            await connection.execute(_SQL["step_down"])
            await require_current(connection)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(_SQL["limit_statements"], str(round(statement_timeout_s * 1000)))
                yield connection
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ConnectionError) as error:
            raise DatabaseUnavailable(f"{place(url)}: {sentence(error)}") from error
