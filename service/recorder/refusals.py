"""What went wrong with Postgres, and what follows: try again, for ever, or put the offending record aside."""

from __future__ import annotations

from typing import Final

import asyncpg

from service.errors import HoverboardError

__all__ = ["refused", "sentence", "sqlstate", "transient"]

_DATA: Final = ("22", "23", "54")  # data exceptions, integrity constraints, limits: the record's own fault
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
_SECRET: Final = (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)


def sqlstate(error: BaseException) -> str | None:
    """Postgres' code for an error; None where it came from elsewhere."""
    return error.sqlstate if isinstance(error, asyncpg.PostgresError) else None


def refused(error: BaseException) -> bool:
    """Whether Postgres took offence at the data itself, so that trying the same again is of no use."""
    return (sqlstate(error) or "").startswith(_DATA)


def transient(error: Exception) -> bool:
    """Whether an error may go away by itself or by an operator's hand: everything but a defect of ours.

    Lost connections and refused ones (also of asyncpg's own), timeouts, and whatever Postgres says about itself.
    """
    return isinstance(error, (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, HoverboardError))


def sentence(error: BaseException) -> str:
    """One sentence for an operator: what happened and what to do, without values and passwords."""
    code = sqlstate(error)
    if code is None:
        return f"{error}" if isinstance(error, HoverboardError) else f"{type(error).__name__}: {error}"
    said = type(error).__name__ if isinstance(error, _SECRET) else str(error).partition("\n")[0]
    hint = next((_HINTS[code[:length]] for length in (5, 3, 2) if code[:length] in _HINTS), None)
    return f"Postgres: {said} ({code})" + (f": {hint}" if hint else "")
