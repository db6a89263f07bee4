from __future__ import annotations

import asyncpg
import pytest

from hoverboard.database.failures import refused, sentence, sqlstate, transient
from hoverboard.errors import DatabaseUnavailable


def test_only_what_is_wrong_with_the_data_is_a_refusal() -> None:
    data = (asyncpg.CheckViolationError, asyncpg.NotNullViolationError, asyncpg.CharacterNotInRepertoireError)
    others = (
        asyncpg.DiskFullError,
        asyncpg.TooManyConnectionsError,
        asyncpg.AdminShutdownError,
        asyncpg.CannotConnectNowError,
        asyncpg.SerializationError,
        asyncpg.DeadlockDetectedError,
        asyncpg.UndefinedTableError,
        asyncpg.InsufficientPrivilegeError,
        asyncpg.ReadOnlySQLTransactionError,
    )
    assert all(refused(kind("no")) for kind in data)
    assert not any(refused(kind("no")) for kind in others)
    assert all(transient(kind("no")) for kind in (*data, *others))
    assert not refused(ConnectionResetError())


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        asyncpg.InterfaceError("closed"),
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        DatabaseUnavailable("away"),
    ],
)
def test_lost_connections_are_tried_again(error: Exception) -> None:
    assert transient(error)
    assert sqlstate(error) is None


@pytest.mark.parametrize("error", [TypeError(), KeyError(), AssertionError()])
def test_defects_of_ours_are_not_tried_again(error: Exception) -> None:
    assert not transient(error)


def test_a_sentence_says_what_to_do_where_somebody_must() -> None:
    assert (
        sentence(asyncpg.UndefinedTableError("no samples")) == "Postgres: no samples (42P01): run `hoverboard migrate`"
    )
    assert "role `recorder`" in sentence(asyncpg.InsufficientPrivilegeError("permission denied"))
    assert sentence(asyncpg.DiskFullError("full\nmore")) == "Postgres: full (53100): make room on its disk"
    assert sentence(asyncpg.AdminShutdownError("bye")) == "Postgres: bye (57P01)"
    assert sentence(DatabaseUnavailable("away")) == "away"
    lost = asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
    for error in (lost, asyncpg.InterfaceError("cannot call Transaction.__aexit__()"), ConnectionResetError()):
        assert sentence(error) == f"the connection to Postgres was lost ({type(error).__name__}): see whether it runs"
    assert "secret" not in sentence(asyncpg.InvalidPasswordError("secret"))
