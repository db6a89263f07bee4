from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime

import pytest

from hoverboard.config import Settings
from hoverboard.database.connect import Connection, connected
from hoverboard.database.known import KnownVersion
from hoverboard.journal.records import LabelRecord, Record
from hoverboard.watch import watchers
from hoverboard.watch.watcher import News, Ran
from hoverboard.watch.watchers import Watchers
from tests.journaled import batch, deployment, ids_of, label
from tests.records import signature

FIRST, SECOND = batch(2, number=1), batch(3, number=2)
VERSIONS = {
    (each.model, each.version, each.weights_sha256): KnownVersion(
        9 - each.version, (each.model, each.version, each.weights_sha256), signature()
    )
    for each in (FIRST, SECOND)
}


class Counting:
    """A watcher that writes a row for each chunk, and remembers what it was given."""

    kinds: Collection[type[Record]] = (LabelRecord,)

    def __init__(self, _: Settings) -> None:
        self.versions: list[int] = []
        self.others: list[Record] = []
        self.told = 0

    async def show(self, connection: Connection) -> None:
        pass

    async def follow(self, connection: Connection, ran: Sequence[Ran], others: Sequence[Record]) -> Sequence[News]:
        await connection.execute("insert into seen default values")
        self.versions += [each.known.id for each in ran]
        self.others += others
        return [self.tell]

    async def expire(self, connection: Connection, before: datetime) -> None:
        await connection.execute("delete from seen")

    def tell(self) -> None:
        self.told += 1


class Broken(Counting):
    kinds: Collection[type[Record]] = ()

    async def follow(self, connection: Connection, ran: Sequence[Ran], others: Sequence[Record]) -> Sequence[News]:
        await super().follow(connection, ran, others)
        raise RuntimeError("a defect")


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Connection]:
    async with connected(database, application="test", role=None) as connection:
        await connection.execute("create temporary table seen (at timestamptz default now())")
        yield connection


def made(monkeypatch: pytest.MonkeyPatch, *kinds: type[Counting]) -> tuple[Watchers, list[Counting]]:
    every: list[Counting] = []

    def maker(kind: type[Counting], settings: Settings) -> Counting:
        every.append(kind(settings))
        return every[-1]

    monkeypatch.setattr(watchers, "ALL", [lambda settings, kind=kind: maker(kind, settings) for kind in kinds])
    return Watchers(Settings()), every


async def test_a_watcher_is_given_versions_by_id_and_the_kinds_of_records_that_it_follows(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_them, (one, other) = made(monkeypatch, Counting, Counting)
    records: list[Record] = [FIRST, deployment(), label(ids_of(FIRST)[0]), SECOND, batch(1, number=7)]
    batches = [FIRST, SECOND, batch(1, number=7)]
    async with connection.transaction():
        news = await all_of_them.follow(connection, batches, records, VERSIONS)
    assert one.versions == other.versions == [7, 8]
    assert [type(record) for record in one.others] == [LabelRecord]
    assert await connection.fetchval("select count(*) from seen") == 2
    assert one.told == 0
    for tell in news:
        tell()
    assert (one.told, other.told) == (1, 1)
    await all_of_them.expire(connection, datetime.now(UTC))
    assert await connection.fetchval("select count(*) from seen") == 0


async def test_a_chunk_with_nothing_to_watch_costs_no_round_trip(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_them, (one,) = made(monkeypatch, Counting)
    await connection.close()
    assert await all_of_them.follow(connection, [], [deployment()], VERSIONS) == ()
    assert one.versions == []


async def test_a_defect_leaves_nothing_behind_and_the_transaction_goes_on_with_watchers_that_remember_nothing(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_them, every = made(monkeypatch, Counting, Broken)
    async with connection.transaction():
        assert await all_of_them.follow(connection, [FIRST], [FIRST], VERSIONS) == ()
        assert await connection.fetchval("select count(*) from seen") == 0
    assert len(every) == 4
    assert every[2].versions == []
