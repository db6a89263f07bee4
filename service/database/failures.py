"""What went wrong with Postgres, and what follows: try again, for ever, or put the offending record aside.

- An error that will pass (`transient` and not `refused` or `doubtful`): no connection, a full disk, a lock, a shutdown, a
  database that is read-only or not migrated. Everything waits in the journals, and is tried again.
- A `refused` record: the server or the client says that the data itself is at fault. It is put aside, the others go on.
- A `doubtful` error: the server says something that is neither. A record that fails with it while others of its kind pass is
  put aside; where all fail it is not the record's fault, and the journal waits.
"""

from __future__ import annotations

from typing import Final

import asyncpg

from hoverboard.errors import HoverboardError

__all__ = ["FAILURES", "doubtful", "refused", "sentence", "sqlstate", "transient"]

# asyncpg calls it an internal error where a connection is lost between two steps of its protocol: a new connection is well.
FAILURES: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a statement raises where the server refuses it or the connection is lost."""

_DATA: Final = ("22", "23", "54")  # data exceptions, integrity constraints, limits: the record's own fault
_PASSING: Final = ("08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58")
"""Connections, read-only, logins, a schema that is not there, deadlocks, resources, locks, shutdowns, the server's disk."""
_NEITHER: Final = frozenset({"08P01", "42804", "53200", "57014"})
"""Of those classes, but a single record can be the cause: bytes that the server cannot read, its size, the time it takes."""
_HINTS: Final = {
    "3F": "run `hoverboard migrate`",
    "42P": "run `hoverboard migrate`",
    "42501": "grant its login the role `recorder`",
    "42": "run `hoverboard migrate`",
    "28": "check the user and the password of the database URL",
    "3D": "create it, or check the database URL",
    "53100": "make room on its disk",
    "53": "it is short of something",
}
_LOST: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, ConnectionError)
"""What asyncpg raises on a connection that is gone, in words about its own state."""
_SECRET: Final = (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)


def sqlstate(error: BaseException) -> str | None:
    """Postgres' code for an error; None where it came from elsewhere."""
    return error.sqlstate if isinstance(error, asyncpg.PostgresError) else None


def refused(error: BaseException) -> bool:
    """Whether the data itself is at fault, as Postgres or asyncpg says, so that trying the same again is of no use."""
    # asyncpg raises both at once for a value that it cannot encode: the connection is well.
    client_side = isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
    return client_side or (sqlstate(error) or "").startswith(_DATA)


def doubtful(error: BaseException) -> bool:
    """Whether Postgres says something that may be the record's fault or the server's; see above."""
    code = sqlstate(error)
    if code is None or code.startswith(_DATA):
        return False
    return code in _NEITHER or not code.startswith(_PASSING)


def transient(error: Exception) -> bool:
    """Whether an error may go away by itself or by an operator's hand: everything but a defect of ours.

    Lost connections and refused ones (also of asyncpg's own), timeouts, and whatever Postgres says about itself.
    """
    return isinstance(error, (*FAILURES, TimeoutError, HoverboardError))


def sentence(error: BaseException) -> str:
    """One sentence for an operator: what happened and what to do, without values and passwords."""
    code = sqlstate(error)
    if isinstance(error, _LOST) and not isinstance(error, ValueError):
        return f"the connection to Postgres was lost ({type(error).__name__}): see whether it runs"
    if code is None:
        return f"{error}" if isinstance(error, HoverboardError) else f"{type(error).__name__}: {error}"
    message = type(error).__name__ if isinstance(error, _SECRET) else str(error).partition("\n")[0]
    hint = next((_HINTS[code[:length]] for length in (5, 3, 2) if code[:length] in _HINTS), None)
    return f"Postgres: {message} ({code})" + (f": {hint}" if hint else "")
