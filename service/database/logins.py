"""The embedded Postgres gets its schema, and the roles that work on it: no connection that records is the superuser's.

| role | is |
|---|---|
| `hoverboard` | the superuser of the cluster; migrates, and is who `hoverboard psql` is |
| `hoverboard_owner` | owns the schema, as on docs/database.md; cannot log in |
| `recorder` | logs in to record and to erase, and may do no more |
| `reader` | may read; cannot log in until somebody says so |
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hoverboard.database.connect import connected, place
from hoverboard.database.failures import FAILURES
from hoverboard.database.migrate import Migration, migrate
from hoverboard.database.statements import statements
from hoverboard.errors import MigrationRefused
from hoverboard.postgres.endpoint import embedded_url
from hoverboard.postgres.passwords import recorder_password

__all__ = ["prepare"]

_SQL = statements(__file__)


async def prepare(data_dir: Path) -> Sequence[Migration]:
    """Migrate the running embedded Postgres of a data directory, and set its roles up; what is so already stays.

    A cluster of an earlier version, in which the superuser owns everything and records, is brought to the same.

    Returns:
        The migrations that were applied now.

    Raises:
        ConfigError, DatabaseUnavailable, MigrationRefused: as of `migrate`.
    """
    url = embedded_url(data_dir)
    applied = await migrate(url)
    async with connected(url, application="hoverboard roles", role=None) as connection:
        try:
            async with connection.transaction():
                # The lock of migrations: two services that start at once must not make a role twice.
                await connection.execute(_SQL["lock_roles"])
                await connection.execute(_SQL["own_schema"])
                # Quoted by Postgres itself: `alter role` takes no parameters.
                await connection.execute(await connection.fetchval(_SQL["let_in"], recorder_password(data_dir)))
        except FAILURES as error:
            raise MigrationRefused(f"{place(url)}: its roles cannot be set up: {error.args[0]}") from error
    return applied
