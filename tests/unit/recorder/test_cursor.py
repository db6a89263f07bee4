from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from hoverboard.database.connect import connect
from hoverboard.journal.chunk import Position
from hoverboard.recorder import cursor as cursors

JOURNAL = uuid.uuid4()


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    made = await connect(database, application="test")
    yield made
    await made.close()


async def test_a_cursor_begins_at_the_beginning_once_and_moves(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await cursors.ensure(connection, JOURNAL, "engine-0")
    async with connection.transaction():
        begun = await cursors.lock(connection, JOURNAL)
        assert begun is not None
        assert begun == cursors.Cursor(JOURNAL, "engine-0", Position())
        moved = replace(begun, position=Position(1, 2, 3, 4), gap_generation=5, executed=6, recorded=7)
        await cursors.move(connection, moved)
    await cursors.ensure(connection, JOURNAL, "engine-0")
    assert await cursors.read(connection, [JOURNAL, uuid.uuid4()]) == {JOURNAL: moved}
    async with connection.transaction():
        await cursors.move(connection, replace(moved, finished=True))
    assert (await cursors.read(connection, [JOURNAL]))[JOURNAL].finished


async def test_a_transaction_that_fails_leaves_the_cursor_where_it_was(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    await cursors.ensure(connection, JOURNAL, "engine-0")
    begun = await locked(connection)

    async def fail() -> None:
        async with connection.transaction():
            await cursors.move(connection, replace(begun, position=Position(9, 9, 9, 9)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await locked(connection) == begun


async def locked(connection: asyncpg.Connection[asyncpg.Record]) -> cursors.Cursor:
    async with connection.transaction():
        found = await cursors.lock(connection, JOURNAL)
    assert found is not None
    return found


async def test_a_journal_without_a_cursor_is_told(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    assert await cursors.lock(connection, JOURNAL) is None
