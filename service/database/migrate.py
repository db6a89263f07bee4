"""`migrations/` into the database: each file once, in order, in a transaction of its own, one migrator at a time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

import asyncpg

from hoverboard.database.connect import Connection, connected, place
from hoverboard.database.failures import FAILURES
from hoverboard.database.statements import statements
from hoverboard.errors import MigrationRefused

__all__ = ["Applied", "Migration", "Status", "migrate", "migrations", "read_migrations", "require_current", "status"]

_APPLICATION: Final = "hoverboard migrate"
_FILE: Final = re.compile(r"(\d{4})_\w+\.sql")
_SQL: Final = statements(__file__)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `migrations/`.

    Attributes:
        version: the number that its name begins with.
        name: of the file.
        sql: its text.
        sha256: of the file, in hex.
    """

    version: int
    name: str
    sql: str = field(repr=False)
    sha256: str


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration that a database has: a row of `schema_migrations`."""

    version: int
    name: str
    sha256: str
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class Status:
    """Where a database stands.

    Attributes:
        applied: what it has, oldest first.
        pending: what it lacks, in order.
    """

    applied: tuple[Applied, ...]
    pending: tuple[Migration, ...]


@cache
def migrations() -> tuple[Migration, ...]:
    """The migrations of this installation: `hoverboard/migrations` in a wheel, `migrations` in a checkout."""
    packaged = Path(__file__).parents[1] / "migrations"
    return read_migrations(packaged if packaged.is_dir() else Path(__file__).parents[2] / "migrations")


def read_migrations(directory: Path) -> tuple[Migration, ...]:
    """The migrations in a directory, in order.

    Raises:
        MigrationRefused: it holds none, another `.sql` file, or numbers that are not 1, 2, 3, ...
    """
    read = []
    for path in sorted(directory.glob("*.sql")):
        name = _FILE.fullmatch(path.name)
        if name is None:
            raise MigrationRefused(f"{path}: expected a name such as 0002_what_it_does.sql")
        content = path.read_bytes()
        read.append(Migration(int(name[1]), path.name, content.decode(), hashlib.sha256(content).hexdigest()))
    if not read:
        raise MigrationRefused(f"there are no migrations in {directory}; this installation is not complete")
    for expected, migration in enumerate(read, 1):
        if migration.version != expected:
            raise MigrationRefused(f"{directory / migration.name}: expected number {expected:04d} here")
    return tuple(read)


async def migrate(url: str, known: Sequence[Migration] | None = None) -> tuple[Migration, ...]:
    """Apply what a database lacks; a second call does nothing, and two at once wait for each other.

    Args:
        url: of the database; the login needs what docs/database.md says.
        known: the migrations; this installation's when left out.

    Returns:
        What was applied now.

    Raises:
        ConfigError, DatabaseUnavailable: as of `connect`.
        MigrationRefused: the schema is newer than `known`, an applied file has changed, or a migration failed; that
            one left nothing behind, those before it are applied.
    """
    known = migrations() if known is None else known
    async with connected(url, application=_APPLICATION, role=None, command_timeout_s=None) as connection:
        try:
            # Held until the connection closes: who comes second waits here, and then finds nothing left to do.
            await connection.execute(_SQL["lock_migrations"])
            pending = _pending(await _applied(connection), known)
            for migration in pending:
                await _apply(connection, migration)
        except FAILURES as error:
            raise MigrationRefused(f"{place(url)}: {error.args[0]}") from error
    return pending


async def status(url: str, known: Sequence[Migration] | None = None) -> Status:
    """Where a database stands; changes nothing, and needs no more than the role `reader`.

    Raises:
        ConfigError, DatabaseUnavailable, MigrationRefused: as of `migrate`.
    """
    async with connected(url, application=_APPLICATION, role=None) as connection:
        try:
            applied = await _applied(connection)
        except asyncpg.PostgresError as error:
            raise MigrationRefused(f"{place(url)}: {error.args[0]}") from error
    return Status(applied, _pending(applied, migrations() if known is None else known))


async def require_current(connection: Connection, known: Sequence[Migration] | None = None) -> None:
    """See that a connection's database has exactly these migrations, before anything is written to it.

    Raises:
        MigrationRefused: it lacks some, has newer ones, or an applied file has changed.
    """
    pending = _pending(await _applied(connection), migrations() if known is None else known)
    if pending:
        raise MigrationRefused(f"the database lacks {pending[0].name}; run `hoverboard migrate`")


async def _applied(connection: Connection) -> tuple[Applied, ...]:
    if not await connection.fetchval(_SQL["has_migrations"]):
        return ()
    return tuple(Applied(**row) for row in await connection.fetch(_SQL["applied_migrations"]))


def _pending(applied: Sequence[Applied], known: Sequence[Migration]) -> tuple[Migration, ...]:
    """What is known and not applied, once both agree on what is applied."""
    if len(applied) > len(known):
        raise MigrationRefused(
            f"the database's schema is at version {applied[-1].version} ({applied[-1].name}) and this Hoverboard knows "
            f"it only up to {known[-1].version}; use the newer Hoverboard that made it",
        )
    # Also where nothing is pending: later files rely on what an applied one did, and not on what it says now.
    for was, now in zip(applied, known, strict=False):
        if was.version != now.version:
            raise MigrationRefused(f"the database has {was.name}, but not {now.name}, which comes before it")
        if was.sha256 != now.sha256:
            raise MigrationRefused(
                f"{now.name} is not the file that was applied on {was.applied_at:%Y-%m-%d} ({was.sha256[:12]}, now "
                f"{now.sha256[:12]}); put that file back, a change of the schema is a file of its own",
            )
    return tuple(known[len(applied) :])


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            # Whoever migrates, one role owns everything: default privileges and functions depend on it.
            await connection.execute(_SQL["become_owner"])
            await connection.execute(migration.sql)
            await connection.execute(_SQL["note_migration"], migration.version, migration.name, migration.sha256)
    except asyncpg.PostgresError as error:
        hint = f" {error.hint}" if getattr(error, "hint", None) else ""
        raise MigrationRefused(f"{migration.name} failed and left nothing behind: {error.args[0]}.{hint}") from error
