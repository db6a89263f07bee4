"""The one place that opens a connection to Postgres, and says in a sentence why there is none."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from hoverboard.database.failures import FAILURES
from hoverboard.database.statements import statements
from hoverboard.errors import ConfigError, DatabaseUnavailable
from hoverboard.postgres.passwords import RECORDER

__all__ = ["OLDEST_SERVER", "Connection", "connect", "connected", "place"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

OLDEST_SERVER: Final = 15
_CLOSE_TIMEOUT_S: Final = 5.0
_TLS_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_SQL: Final = statements(__file__)


async def connect(
    url: str,
    *,
    application: str,
    role: str | None = RECORDER,
    connect_timeout_s: float = 10.0,
    command_timeout_s: float | None = 60.0,
) -> Connection:
    """Open a connection whose names resolve in the schema `hoverboard` and whose commits are durable.

    Args:
        url: `postgresql://user:password@host/database`; its query may hold libpq's TLS settings (`sslmode`,
            `sslrootcert`, `sslcert`, `sslkey`, ...).
        application: shown in `pg_stat_activity`.
        role: stepped down to, unless the login is that role; None keeps the login's own.
        connect_timeout_s: seconds for all of it.
        command_timeout_s: seconds that a statement may take unless it says otherwise; None is no limit.

    Raises:
        ConfigError: the URL makes no sense.
        DatabaseUnavailable: nobody answers there, or the login or the database will not do; without the password.
    """
    try:
        # Around all of it: asyncpg's own timeout does not hold for the statements that follow.
        async with asyncio.timeout(connect_timeout_s):
            connection = await asyncpg.connect(
                url, command_timeout=command_timeout_s, server_settings={"application_name": application}
            )
            try:
                _check_server(connection, url)
                await connection.execute(_SQL["session"])
                if role is not None:
                    await _step_down(connection, role, url)
            except BaseException:
                connection.terminate()
                raise
    except TimeoutError as error:
        raise DatabaseUnavailable(f"no answer from {place(url)} within {connect_timeout_s:g} s") from error
    except ssl.SSLError as error:
        raise DatabaseUnavailable(_scrubbed(f"no TLS with {place(url)}: {error}", url)) from error
    except OSError as error:
        raise DatabaseUnavailable(_scrubbed(f"no connection to {place(url)}: {_reason(error, url)}", url)) from error
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        raise ConfigError(_scrubbed(f"database_url: {error}", url)) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise DatabaseUnavailable(_scrubbed(f"{place(url)} refused the connection: {error}", url)) from error
    return connection


@asynccontextmanager
async def connected(
    url: str, *, application: str, role: str | None = RECORDER, command_timeout_s: float | None = 60.0
) -> AsyncIterator[Connection]:
    """A connection as of `connect`, closed at the end, even where the server no longer answers."""
    connection = await connect(url, application=application, role=role, command_timeout_s=command_timeout_s)
    try:
        yield connection
    finally:
        try:
            await connection.close(timeout=_CLOSE_TIMEOUT_S)
        except (TimeoutError, *FAILURES):
            # At once: what was wrong with it may well keep it from closing.
            connection.terminate()


def place(url: str) -> str:
    """What a URL leads to, for a person: `Postgres at HOST/DATABASE as USER`, without password and settings."""
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
    except ValueError:
        return "Postgres"
    user, _, hosts = parts.netloc.rpartition("@")
    where = unquote(hosts) or ", ".join(query.get("host", ["the default socket"]))
    name = unquote(user.partition(":")[0])
    return f"Postgres at {where}{unquote(parts.path)}" + (f" as {name}" if name else "")


def _check_server(connection: Connection, url: str) -> None:
    version = connection.get_server_version()
    if version.major < OLDEST_SERVER:
        raise DatabaseUnavailable(f"{place(url)} is version {version.major}; expected {OLDEST_SERVER} or newer")
    encoding = connection.get_settings().server_encoding
    # Said now, and not by the first record with an umlaut.
    if encoding != "UTF8":
        raise DatabaseUnavailable(
            f"{place(url)} is a database in {encoding}, which cannot hold every text; make one with `encoding 'UTF8'`"
        )


async def _step_down(connection: Connection, role: str, url: str) -> None:
    try:
        await connection.fetchval(_SQL["step_down"], role)
    except asyncpg.InvalidParameterValueError as error:
        raise DatabaseUnavailable(f"{place(url)} has no role {role}; run `hoverboard migrate`") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseUnavailable(
            f"{place(url)}: the login is no member of {role}; let an administrator run: grant {role} to the login"
        ) from error


def _reason(error: OSError, url: str) -> str:
    """In words; with the file of a TLS setting that cannot be read, which the error itself does not name."""
    reason = error.strerror or str(error) or type(error).__name__
    query = parse_qs(urlsplit(url).query)
    files = [(name, path) for name in _TLS_FILES for path in query.get(name, []) if not os.access(path, os.R_OK)]
    if files and isinstance(error, (FileNotFoundError, PermissionError)):
        return f"{files[0][0]} {files[0][1]}: {reason}"
    return reason


def _scrubbed(sentence: str, url: str) -> str:
    """Without the URL's password, should a driver ever repeat it."""
    try:
        parts = urlsplit(url)
        written = [parts.netloc.rpartition("@")[0].partition(":")[2], *parse_qs(parts.query).get("password", [])]
    except ValueError:
        return "database_url cannot be read as a URL"
    for password in written:
        # As it was written in the URL, and as it was meant there.
        for form in {password, unquote(password)} - {""}:
            sentence = sentence.replace(form, "***")
    return " ".join(sentence.split())
