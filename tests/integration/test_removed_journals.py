"""Journal files that somebody removes or empties by hand: noticed, counted, and recording goes on."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from hoverboard.config import Settings
from hoverboard.journal.format import RESERVE_FILE, segment_name
from hoverboard.journal.records import GapEntry
from hoverboard.journal.writer import JournalWriter
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.process import open_database
from tests.journaled import MODEL, batch, ids_of, open_journal, write

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Do: TypeAlias = Callable[[Path], object]


class Recorder:
    """A recorder that can be started again."""

    def __init__(self, settings: Settings, database: str) -> None:
        self._settings, self._database = settings, database
        self._drain = self._made()

    def _made(self) -> Drain:
        return Drain(self._settings, lambda: open_database(self._settings, self._database))

    async def drain(self) -> None:
        await self._drain.empty()

    def start_again(self) -> None:
        self.close()
        self._drain = self._made()

    def close(self) -> None:
        self._drain.close()


@pytest.fixture
async def recorder(make_settings: Callable[..., Settings], database: str) -> AsyncIterator[Recorder]:
    recorder = Recorder(make_settings(), database)
    yield recorder
    recorder.close()
    await asyncio.sleep(0)


@pytest.fixture
def data_dir(make_settings: Callable[..., Settings]) -> Path:
    return make_settings().data_dir


def emptied(directory: Path) -> None:
    os.truncate(directory / segment_name(0), 0)


def removed(directory: Path) -> None:
    (directory / segment_name(0)).unlink()


def moved_away(directory: Path) -> None:
    (directory / segment_name(0)).rename(directory.parent.parent / "taken.seg")


def replaced(directory: Path) -> None:
    content = (directory / segment_name(0)).read_bytes()
    (directory / segment_name(0)).unlink()
    (directory / segment_name(0)).write_bytes(content[:100])


FILES = (emptied, removed, moved_away, replaced)


async def gaps(sql: Sql) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await sql.fetch("select reason, records from gaps order by at, reason")]


async def recorded(sql: Sql) -> set[object]:
    return {row["id"] for row in await sql.fetch("select id from samples")}


@pytest.mark.parametrize("by_hand", FILES, ids=lambda each: each.__name__)
async def test_a_file_that_is_not_what_was_written_is_left_and_what_was_lost_is_counted(
    by_hand: Do, data_dir: Path, recorder: Recorder, sql: Sql
) -> None:
    journal = open_journal(data_dir)
    write(journal, first := batch(3))
    await recorder.drain()
    write(journal, batch(5))
    by_hand(journal.directory)
    journal.tick()
    write(journal, later := batch(2))
    await recorder.drain()
    assert await recorded(sql) == {*ids_of(first), *ids_of(later)}
    assert sorted(await gaps(sql)) == [("missing", 5), ("removed by hand", 0)]
    journal.tick()
    write(journal, last := batch(1))
    await recorder.drain()
    assert ids_of(last)[0] in await recorded(sql)
    assert len(await gaps(sql)) == 2, "once is enough"


async def test_a_journal_whose_directory_is_gone_is_begun_anew_and_said_to_be_missing(
    data_dir: Path, recorder: Recorder, sql: Sql
) -> None:
    journal = open_journal(data_dir)
    write(journal, first := batch(3))
    await recorder.drain()
    before, name = journal.directory, journal.uuid
    write(journal, batch(5))
    shutil.rmtree(data_dir / "journal")
    journal.tick()
    assert journal.directory != before
    write(journal, later := batch(2))
    await recorder.drain()
    await recorder.drain()
    assert await recorded(sql) == {*ids_of(first), *ids_of(later)}
    rows = await sql.fetch("select journal, process, reason, records, detail from gaps order by reason")
    assert [(row["journal"], row["process"], row["reason"], row["records"]) for row in rows] == [
        (name, "engine-0", "missing", None),
        (journal.uuid, "engine-0", "removed by hand", 0),
    ]
    assert "removed by hand" in rows[0]["detail"]
    assert await sql.fetchval("select finished_at is not null from recorder_cursor where journal = $1", name)


async def test_a_journal_that_is_removed_while_nothing_runs_is_missed_at_the_next_start(
    data_dir: Path, recorder: Recorder, sql: Sql
) -> None:
    journal, other = open_journal(data_dir), open_journal(data_dir, process="api-0")
    write(journal, batch(3))
    await recorder.drain()
    abandon(journal)
    other.close()
    await recorder.drain()
    recorder.start_again()
    shutil.rmtree(other.directory)  # of this one nothing is missing
    await recorder.drain()
    assert await gaps(sql) == []

    third = open_journal(data_dir, process="engine-1")
    write(third, batch(2))
    await recorder.drain()
    write(third, batch(4))
    abandon(third)
    shutil.rmtree(third.directory)
    recorder.start_again()
    await recorder.drain()
    assert await gaps(sql) == [("missing", None)]
    recorder.start_again()
    await recorder.drain()
    assert await gaps(sql) == [("missing", None)]


@pytest.mark.parametrize("by_hand", FILES, ids=lambda each: each.__name__)
async def test_a_file_of_a_dead_process_that_is_cut_or_gone_is_missed(
    by_hand: Do, data_dir: Path, recorder: Recorder, sql: Sql
) -> None:
    journal = open_journal(data_dir)
    write(journal, batch(3))
    await recorder.drain()
    write(journal, batch(5))
    abandon(journal)
    by_hand(journal.directory)
    recorder.start_again()
    await recorder.drain()
    assert await gaps(sql) == [("missing", None)]


async def test_of_a_closed_journal_it_is_known_how_much_was_lost(data_dir: Path, recorder: Recorder, sql: Sql) -> None:
    journal = open_journal(data_dir)
    write(journal, batch(3))
    await recorder.drain()
    write(journal, batch(5))
    journal.close()
    removed(journal.directory)
    await recorder.drain()
    assert await gaps(sql) == [("missing", 5)]


async def test_what_waits_to_be_counted_outlives_the_file_that_held_it(
    data_dir: Path, recorder: Recorder, sql: Sql
) -> None:
    journal = open_journal(data_dir)
    (journal.directory / RESERVE_FILE).unlink()
    journal.tick()
    journal.shed([GapEntry(MODEL, 1, "budget", 7, 7, 0, 0, 0)])
    abandon(journal)
    await recorder.drain()
    assert sorted(await gaps(sql)) == [("budget", 7), ("removed by hand", 0)]


async def test_a_file_that_somebody_has_put_where_the_next_one_belongs_is_passed_over(
    data_dir: Path, recorder: Recorder, sql: Sql
) -> None:
    journal = open_journal(data_dir)
    (journal.directory / segment_name(1)).write_bytes(b"not a segment")
    removed(journal.directory)
    journal.tick()
    write(journal, record := batch(2))
    await recorder.drain()
    assert await recorded(sql) == set(ids_of(record))


async def test_a_journal_that_cannot_be_opened_keeps_no_other_from_being_drained(
    data_dir: Path, recorder: Recorder, sql: Sql
) -> None:
    journal = open_journal(data_dir)
    write(journal, record := batch(2))
    loop = data_dir / "journal" / "01a228dc-60e6-7776-9568-36de46b6657d"
    loop.symlink_to(loop)
    await recorder.drain()
    assert await recorded(sql) == set(ids_of(record))


def abandon(journal: JournalWriter) -> None:
    """What a kill -9 leaves."""
    home = journal._journal.home
    os.close(home.descriptor)
    journal._journal.home = home._replace(descriptor=os.open("/", os.O_RDONLY))
