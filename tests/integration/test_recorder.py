"""Journals into a real Postgres: each record once, whatever breaks on the way."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import stat
import sys
import threading
import time
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import asyncpg
import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from hoverboard.config import Settings
from hoverboard.database.connect import connect
from hoverboard.database.migrate import migrate
from hoverboard.journal.finding import journals
from hoverboard.journal.records import KINDS, BatchRecord, GapEntry, ProcessRecord, decode
from hoverboard.journal.writer import JournalWriter
from hoverboard.recorder.drain import _POLITE_BYTES, Drain
from hoverboard.recorder.lag import Behind, Lag
from hoverboard.recorder.process import open_database
from hoverboard.recorder.session import CHUNK_BYTES
from hoverboard.telemetry import metrics
from hoverboard.versions import Manifest
from tests.integration.running import environment
from tests.journaled import (
    MODEL,
    SIGNATURE,
    WEIGHTS,
    batch,
    deployment,
    features,
    ids_of,
    label,
    open_journal,
    rejection,
    write,
)
from tests.postgres import server
from tests.proxy import Proxy
from tests.unit.journal.blows import Blow, strike
from tests.unit.journal.written import copied

Connection = "asyncpg.Connection[asyncpg.Record]"
DrainTo = Callable[..., Drain]
BLOW_KINDS = ("flip", "zero", "truncate", "cut", "repeat", "frame again", "delete", "copy at end", "copy over")
WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(drain_timeout_s=20.0, log_format="json")


@pytest.fixture
async def drain_to(settings: Settings) -> AsyncIterator[DrainTo]:
    """Makes recorders in this process."""
    made: list[Drain] = []

    def make(url: str, other: Settings | None = None, *, busy: bool = False) -> Drain:
        chosen = other or settings
        made.append(Drain(chosen, lambda: open_database(chosen, url), lambda: busy))
        return made[-1]

    yield make
    for drain in made:
        drain.close()
    await asyncio.sleep(0)


async def recorded_ids(connection: asyncpg.Connection[asyncpg.Record], table: str = "samples") -> list[uuid.UUID]:
    column = "id" if table == "samples" else "sample_id"
    return [row[0] for row in await connection.fetch(f"select {column} from {table}")]


async def assert_exactly_once(connection: asyncpg.Connection[asyncpg.Record], records: Sequence[BatchRecord]) -> None:
    told = sorted(each for record in records for each in ids_of(record))
    assert sorted(await recorded_ids(connection)) == told
    assert sorted(await recorded_ids(connection, "predictions")) == told
    sums = await connection.fetchrow("select sum(executed) as executed, sum(recorded) as recorded from recorder_cursor")
    assert sums is not None
    assert (sums["executed"], sums["recorded"]) == (sum(record.executed for record in records), len(told))


@asynccontextmanager
async def in_background(drain: Drain) -> AsyncIterator[None]:
    """The recorder at work; asked to stop at the end, which it must within seconds."""
    stop = asyncio.Event()
    running = asyncio.create_task(drain.run(stop))
    try:
        yield
        stop.set()
        await asyncio.wait_for(running, 30)
    finally:
        running.cancel()


# -- what arrives ---------------------------------------------------------------------------------------------------------


async def test_each_kind_of_record_arrives_once_and_the_cursor_adds_up(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    engine = open_journal(settings.data_dir)
    records = [
        batch(5, executed=7),
        batch(0, executed=3),
        batch(4, outlier=[False, True, False, True]),
        batch(2, number=2),
    ]
    write(engine, deployment(), *records)
    api = open_journal(settings.data_dir, process="api-0")
    write(api, rejection(), label(ids_of(records[0])[0]))
    drain = drain_to(database)
    await drain.empty()
    await assert_exactly_once(sql, records)
    flagged = [ids_of(records[2])[1], ids_of(records[2])[3]]
    assert sorted(await recorded_ids(sql, "outliers")) == sorted(flagged)
    assert await sql.fetchval("select count(*) from rejections") == 1
    assert await sql.fetchval("select sample_id from labels") == ids_of(records[0])[0]
    versions = await sql.fetch("select version, weights_sha256, parent_id, id from model_versions order by version")
    assert [(row["version"], row["weights_sha256"]) for row in versions] == [(1, WEIGHTS), (2, WEIGHTS)]
    assert versions[1]["parent_id"] == versions[0]["id"]
    served = await sql.fetchrow("select version_id, process from deployments")
    assert served is not None
    assert tuple(served) == (versions[0]["id"], "engine-0")
    await drain.empty()
    await assert_exactly_once(sql, records)
    write(engine, later := batch(3))
    engine.close()
    api.close()
    await drain.empty()
    await assert_exactly_once(sql, [*records, later])
    assert await sql.fetchval("select count(*) from recorder_cursor where finished_at is null") == 0


async def test_who_answered_features_and_what_became_of_processes_are_in_their_tables(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    engine, supervisor = (
        open_journal(settings.data_dir, process="engine-7"),
        open_journal(settings.data_dir, process="s"),
    )
    record = batch(3, outlier=[True, False, False])
    called = msgspec.structs.replace(record, calls=[msgspec.structs.replace(record.calls[0], caller="shop")])
    drain = drain_to(database)
    write(engine, batch(1), called, deployment())
    await drain.empty()
    write(engine, features(record), features(wide := batch(2, number=2), width=40))
    moments = [1_772_582_400_000_000 + i for i in range(3)]
    kinds: list[Literal["start", "stop", "death"]] = ["start", "death", "stop"]
    write(supervisor, *[ProcessRecord(at, "engine-7", kind, kind) for at, kind in zip(moments, kinds, strict=True)])
    for _ in range(2):
        await drain.empty()
    assert [row[0] for row in await sql.fetch("select distinct process from predictions")] == ["engine-7"]
    callers = await sql.fetch("select caller, count(*) from samples group by 1 order by 1")
    assert [tuple(row) for row in callers] == [("shop", 3), (None, 1)]
    found = await sql.fetch(
        "select f.*, v.version, f.at = sample_at(f.sample_id) as timely from features f "
        "join model_versions v on v.id = f.version_id order by v.version, f.sample_id"
    )
    assert all(row["timely"] for row in found)
    stored = {row["sample_id"]: (row["version"], *np.frombuffer(row["z"], "<f2").tolist()) for row in found}
    narrow = {sample: (1, i, i + 1, i + 2) for i, sample in enumerate(ids_of(record))}
    assert stored == narrow | {sample: (2, *range(i, i + 40)) for i, sample in enumerate(ids_of(wide))}
    assert await sql.fetchval("select count(*) from features_default") == 0
    told = await sql.fetch("select kind, subject, detail from events where at < '2026-03-05' order by at")
    assert [tuple(row) for row in told] == [(kind, "engine-7", kind) for kind in kinds]
    (served,) = await sql.fetch("select model, version, subject from events where kind = 'deployment'")
    assert tuple(served) == (MODEL, 1, "stable")


async def test_features_that_no_table_takes_are_put_aside_and_cost_nothing_else(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    record = batch(4)
    bad = msgspec.structs.replace(features(record), z=b"odd")
    await sql.execute(
        "alter table features add check (get_byte(z, 1) <> 64)"
    )  # the first number of row 2 is 2.0: 0x4000
    write(open_journal(settings.data_dir), record, bad, features(record))
    await drain_to(database).empty()
    await assert_exactly_once(sql, [record])
    stored = {row[0] for row in await sql.fetch("select sample_id from features")}
    assert stored == {each for row, each in enumerate(ids_of(record)) if row != 2}
    files = [row[0] for row in await sql.fetch("select file from quarantine order by 1")]
    assert len(files) == len(set(files)) == 2  # the one that is odd, and one row of the other


async def test_partitions_are_made_for_days_of_the_past_that_are_still_kept(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    record = batch(3, at=datetime.now(UTC) - timedelta(days=9))
    write(journal, record)
    await drain_to(database).empty()
    await assert_exactly_once(sql, [record])
    assert await sql.fetchval("select count(*) from samples_default") == 0


async def test_what_is_past_retention_is_counted_and_not_copied(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    old, new = batch(3, at=datetime.now(UTC) - timedelta(days=31)), batch(2)
    both = msgspec.structs.replace(
        new,
        rows=5,
        sample_ids=old.sample_ids + new.sample_ids,
        columns=batch(5).columns,
        outputs=batch(5).outputs,
        label_index=batch(5).label_index,
        confidence=batch(5).confidence,
        queue_us=batch(5).queue_us,
        calls=batch(5).calls,
    )
    write(journal, old, both, rejection(at=datetime.now(UTC) - timedelta(days=40)))
    await drain_to(database).empty()
    assert sorted(await recorded_ids(sql)) == sorted(ids_of(new))
    gaps = await sql.fetch("select reason, model, version, records from gaps order by version, records")
    assert [tuple(row) for row in gaps] == [
        ("expired", MODEL, 1, 3),
        ("expired", MODEL, 1, 3),
        ("expired", MODEL, None, 1),
    ]


async def test_a_clock_that_cannot_be_right_leads_to_the_default_partition(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    write(journal, batch(3, at=datetime(2999, 1, 1, tzinfo=UTC)), batch(2, at=datetime(1971, 1, 1, tzinfo=UTC)))
    await drain_to(database).empty()
    assert await sql.fetchval("select count(*) from samples_default") == 3
    assert await sql.fetchval("select count(*) from predictions_default") == 3
    gaps = await sql.fetch("select reason, records from gaps")  # of a clock that was never set: past any retention
    assert [tuple(row) for row in gaps] == [("expired", 2)]


async def test_counted_gaps_become_rows_once_also_from_the_reserve_of_a_killed_writer(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    now = int(time.time() * 1e6)
    drain = drain_to(database)
    journal.shed([GapEntry(MODEL, 1, "journal budget", 5, 8, 1, now, now + 1)])
    write(journal, batch(1))
    await drain.empty()
    journal.shed([GapEntry(MODEL, 1, "journal budget", 7, 7, 0, now, now + 1)])
    abandon(journal)
    await drain.empty()
    rows = await sql.fetch("select reason, records, executed, flagged, process from gaps order by records")
    assert [tuple(row) for row in rows] == [
        ("journal budget", 5, 8, 1, "engine-0"),
        ("journal budget", 7, 7, 0, "engine-0"),
    ]
    assert await sql.fetchval("select finished_at is not null from recorder_cursor")


def abandon(journal: JournalWriter) -> None:
    """What a kill -9 leaves: the lock is free, and nothing says that this was the end."""
    home = journal._journal.home
    os.close(home.descriptor)
    journal._journal.home = home._replace(descriptor=os.open(journal.directory, os.O_RDONLY))


# -- versions whose record is lost ----------------------------------------------------------------------------------------


def write_without_version(journal: JournalWriter, record: BatchRecord) -> None:
    from hoverboard.journal.records import encode

    journal.append(KINDS[type(record)], encode(record), count=record.rows)


async def test_a_batch_whose_version_record_is_lost_finds_it_in_the_database(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    first, second = batch(2), batch(3)
    write(open_journal(settings.data_dir), first)
    await drain_to(database).empty()
    write_without_version(open_journal(settings.data_dir), second)
    await drain_to(database).empty()
    await assert_exactly_once(sql, [first, second])


async def test_a_batch_whose_version_record_is_lost_finds_it_in_the_models_directory(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    manifest = Manifest(
        name=MODEL,
        version=1,
        created="2026-01-01T00:00:00Z",
        artifact="model.keras",
        task="classification",
        inputs=SIGNATURE.inputs,
        outputs=SIGNATURE.outputs,
        labels=SIGNATURE.labels,
        sha256={"model.keras": WEIGHTS},
    )
    directory = settings.models / MODEL / "1"
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_bytes(manifest.to_json())
    record = batch(3)
    write_without_version(open_journal(settings.data_dir), record)
    await drain_to(database).empty()
    await assert_exactly_once(sql, [record])


async def test_a_batch_whose_version_is_found_nowhere_is_put_aside_and_its_neighbours_arrive(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    lost, known = msgspec.structs.replace(batch(1), weights_sha256="cd" * 32), batch(4)
    write_without_version(journal, lost)
    write(journal, known)
    await drain_to(database).empty()
    assert sorted(await recorded_ids(sql)) == sorted(ids_of(known))
    (file,) = [settings.data_dir / row["file"] for row in await sql.fetch("select file from quarantine")]
    assert decode(file.read_bytes()) == lost


# -- what Postgres refuses -----------------------------------------------------------------------------------------------


async def test_a_row_that_postgres_refuses_is_put_aside_and_all_others_arrive(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    await sql.execute("alter table predictions add constraint no_unlucky_ones check (confidence <> 0.125)")
    journal = open_journal(settings.data_dir)
    before, after = [batch(16) for _ in range(20)], [batch(16) for _ in range(20)]
    confidence = [0.5] * 16
    confidence[11] = 0.125
    poisoned = batch(16, confidence=confidence)
    write(journal, *before, poisoned, *after, label(uuid.uuid4()))
    await drain_to(database).empty()
    offender = ids_of(poisoned)[11]
    expected = {each for record in (*before, poisoned, *after) for each in ids_of(record)} - {offender}
    for table in ("samples", "predictions"):
        found = await recorded_ids(sql, table)
        assert len(found) == len(expected)
        assert set(found) == expected
    assert await sql.fetchval("select count(*) from labels") == 1
    row = await sql.fetchrow("select file, records, sqlstate, error, seq from quarantine")
    assert row is not None
    assert (row["records"], row["sqlstate"]) == (1, "23514")
    assert "no_unlucky_ones" in row["error"]
    file = settings.data_dir / row["file"]
    assert file.name == f"{journal.uuid}-{row['seq']:08d}.11.frame"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = decode(file.read_bytes())
    assert isinstance(kept, BatchRecord)
    assert ids_of(kept) == [offender]
    gap = await sql.fetchrow("select reason, records, frames, detail from gaps")
    assert gap is not None
    assert tuple(gap) == ("quarantined", 1, None, f"{row['file']}: {row['error']} (23514)")
    sums = await sql.fetchrow("select executed, recorded from recorder_cursor")
    assert sums is not None
    assert tuple(sums) == (41 * 16, 41 * 16 - 1)


async def test_frames_that_hold_no_record_are_put_aside(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    first, second = batch(2), batch(2)
    write(journal, first)
    journal.append(KINDS[type(first)], b"\xc1 is no MessagePack", count=3)
    bad_ids = msgspec.structs.replace(batch(2), sample_ids=b"short")
    write(journal, bad_ids, second)
    await drain_to(database).empty()
    assert sorted(await recorded_ids(sql)) == sorted(ids_of(first) + ids_of(second))
    assert [tuple(row) for row in await sql.fetch("select frames, records from gaps order by records")] == [
        (1, 2),
        (1, 3),
    ]
    assert {path.name for path in (settings.data_dir / "quarantine").iterdir()} == {
        f"{journal.uuid}-{seq:08d}.frame" for seq in (2, 3)
    }


async def test_a_database_without_the_schema_is_waited_for(
    empty_database: str, settings: Settings, drain_to: DrainTo, capfd: pytest.CaptureFixture[str]
) -> None:
    write(open_journal(settings.data_dir), record := batch(3))
    async with in_background(drain_to(empty_database)):
        await until(lambda: "run `hoverboard migrate`" in capfd.readouterr().err)
        await migrate(empty_database)
        connection = await connect(empty_database, application="test", role=None)
        try:
            await until_async(lambda: _count(connection), 3)
            await assert_exactly_once(connection, [record])
        finally:
            await connection.close()


async def _count(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    return int(await connection.fetchval("select count(*) from samples"))


async def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


async def until_async(look: Callable[[], object], wanted: object, within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while await look() != wanted:  # type: ignore[misc]
            await asyncio.sleep(0.05)


# -- damage --------------------------------------------------------------------------------------------------------------


async def test_what_is_damaged_is_missing_and_nothing_else_and_the_gaps_say_how_much(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    records = []
    places = []
    for rows in (3, 5, 2, 7, 4):
        places.append((journal.directory / "00000000.seg").stat().st_size)
        write(journal, record := batch(rows))
        records.append(record)
    journal.close()
    path = journal.directory / "00000000.seg"
    content = bytearray(path.read_bytes())
    content[places[1] + 200] ^= 0x40
    content[places[3] + 200] ^= 0x40
    path.write_bytes(content)
    with capture_logs() as logged:
        await drain_to(database).empty()
    await assert_exactly_once(sql, [records[0], records[2], records[4]])
    (told,) = [line for line in logged if line["event"] == "journal_damaged"]
    assert (told["log_level"], told["file"], told["offset"], told["more"]) == ("warning", str(path), places[1], 1)
    gaps = await sql.fetch("select reason, frames, records, segment, position, process from gaps order by position")
    assert [tuple(row) for row in gaps] == [
        ("damaged", 1, 5, 0, places[1], "engine-0"),
        ("damaged", 1, 7, 0, places[3], "engine-0"),
    ]
    assert await sql.fetchval("select finished_at is not null from recorder_cursor")


@dataclass(frozen=True, slots=True)
class Struck:
    """A damaged journal, and the records that were written to it.

    Attributes:
        closed: whether its writer sealed it; else it was killed, and nobody can know what followed the last frame.
        blows: what happened to it.
    """

    journal: uuid.UUID
    closed: bool
    blows: Sequence[Blow]
    samples: Sequence[uuid.UUID]
    labelled: Sequence[uuid.UUID]
    refused: Sequence[str]

    @property
    def records(self) -> int:
        return len(self.samples) + len(self.labelled) + len(self.refused)


def written_and_struck(seed: int, data_dir: Path, folder: Path) -> Struck:
    """A journal of several segments, damaged at places that the seed chooses."""
    draw = random.Random(seed)
    journal = open_journal(folder / str(seed), process=f"engine-{seed}", segment_bytes=4096)
    samples: list[uuid.UUID] = []
    labelled: list[uuid.UUID] = []
    refused: list[str] = []
    for turn in range(40):
        if turn % 4 == 2 and set(samples) - set(labelled):
            labelled.append(draw.choice(sorted(set(samples) - set(labelled))))
            write(journal, label(labelled[-1]))
        elif turn % 4 == 3:
            refused.append(f"{seed}-{turn}")
            write(journal, rejection(tags={"call": refused[-1]}))
        else:
            write(journal, record := batch(draw.randrange(9), number=1 + turn // 20))
            samples += ids_of(record)
    closed = seed % 3 > 0
    if closed:
        journal.close()
    directory = copied(journal.directory, data_dir / "journal")
    journal.close()
    paths = sorted(directory.glob("*.seg"))
    segments = dict(enumerate(path.read_bytes() for path in paths))
    blows = [
        (draw.choice(BLOW_KINDS), draw.randrange(len(paths)), draw.random(), draw.random(), draw.random())
        for _ in range(draw.randint(1, 4))
    ]
    for blow in blows:
        strike(segments, blow, len(paths))
    for path in paths:
        path.unlink()
    for number, data in segments.items():
        (directory / f"{number:08d}.seg").write_bytes(data)
    return Struck(journal.uuid, closed, blows, samples, labelled, refused)


async def test_whatever_happens_to_journals_rows_and_gaps_add_up_to_what_was_written_and_no_row_is_there_twice(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    cases = [written_and_struck(seed, settings.data_dir, tmp_path / "written") for seed in range(30)]
    for _ in range(2):
        await drain_to(database).empty()
        ids = await recorded_ids(sql)
        assert sorted(ids) == sorted(await recorded_ids(sql, "predictions"))
        labelled = await recorded_ids(sql, "labels")
        refused = [row[0] for row in await sql.fetch("select tags ->> 'call' from rejections")]
        for rows in (ids, labelled, refused):
            assert len(set(rows)) == len(rows)
        gaps: dict[uuid.UUID, list[int | None]] = {}
        for row in await sql.fetch("select journal, records from gaps"):
            gaps.setdefault(row["journal"], []).append(row["records"])
        for case in cases:
            there = (
                len({*ids} & {*case.samples}) + len({*labelled} & {*case.labelled}) + len({*refused} & {*case.refused})
            )
            counts = gaps.get(case.journal, [])
            missing = sum(count for count in counts if count is not None)
            if case.closed:
                assert None not in counts, case
                assert there + missing == case.records, case
            else:
                assert there + missing <= case.records, case
                assert counts.count(None) <= 1, case
    assert sum(map(len, gaps.values())) > len(cases) / 2
    assert len(ids) > sum(len(case.samples) for case in cases) / 2
    assert await sql.fetchval("select count(*) from recorder_cursor where finished_at is not null") == len(cases)


# -- connections that break -----------------------------------------------------------------------------------------------


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[Proxy]:
    async with Proxy(database).listening() as listening:
        yield listening


async def test_a_commit_that_nobody_confirmed_is_resolved_by_the_cursor(
    settings: Settings, drain_to: DrainTo, proxy: Proxy, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    write(journal, first := batch(50))
    proxy.cut_after = b"COMMIT;"
    drain = drain_to(proxy.url)
    await drain.empty()
    assert proxy.cuts == 1
    await assert_exactly_once(sql, [first])
    write(journal, second := batch(50))
    proxy.cut_before = b"COMMIT;"
    await drain.empty()
    assert proxy.cuts == 2
    await assert_exactly_once(sql, [first, second])


async def test_a_connection_that_is_lost_in_the_middle_of_a_copy_leaves_nothing_of_it(
    settings: Settings, drain_to: DrainTo, proxy: Proxy, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    records = [batch(64) for _ in range(200)]
    write(journal, *records)
    proxy.cut_after_copied = 1_500_000
    await drain_to(proxy.url).empty()
    assert proxy.cuts == 1
    await assert_exactly_once(sql, records)


async def test_backends_that_are_terminated_at_any_moment_cost_nothing(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    records = [batch(64) for _ in range(300)]
    terminated = 0
    async with in_background(drain_to(database)):
        for start in range(0, len(records), 30):
            write(journal, *records[start : start + 30])
            await asyncio.sleep(random.uniform(0.0, 0.15))
            terminated += await sql.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                "where application_name = 'hoverboard recorder' and datname = current_database()"
            )
        journal.close()
    assert terminated > 0
    await assert_exactly_once(sql, records)


async def test_a_recorder_that_has_lost_its_turn_cannot_record_what_another_one_has(
    database: str, settings: Settings, drain_to: DrainTo, proxy: Proxy, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    records = [batch(10) for _ in range(10)]
    write(journal, records[0])
    recorders = drain_to(proxy.url), drain_to(database)
    for recorder in recorders:
        await recorder.empty()
    write(journal, *records[1:])
    journal.close()
    proxy.hold = b"COMMIT;"
    slow = asyncio.create_task(recorders[0].empty())
    await asyncio.wait_for(proxy.held.wait(), 20)
    quick = asyncio.create_task(recorders[1].empty())
    await until_async(lambda: sql.fetchval(WAITING), 1)
    assert not quick.done()
    assert await recorded_ids(sql) == ids_of(records[0])
    proxy.release.set()
    await asyncio.wait_for(asyncio.gather(slow, quick), 20)
    await assert_exactly_once(sql, records)


async def test_two_recorders_on_one_directory_and_database_record_everything_once(
    database: str, settings: Settings, drain_to: DrainTo, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    writers = [open_journal(settings.data_dir, process=f"engine-{i}") for i in range(3)]
    records: list[BatchRecord] = []
    async with in_background(drain_to(database)), in_background(drain_to(database)):
        for _ in range(40):
            for writer in writers:
                write(writer, record := batch(random.randint(1, 64)))
                records.append(record)
            await asyncio.sleep(0.02)
        for writer in writers:
            writer.close()
    await assert_exactly_once(sql, records)
    assert await sql.fetchval("select count(*) from gaps") == 0


async def test_a_restart_of_postgres_is_waited_out(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "pg").mkdir()
    place = [""]
    journal = open_journal(settings.data_dir)
    drain = Drain(settings, lambda: open_database(settings, place[0]))
    with server(tmp_path / "pg") as postgres:
        place[0] = postgres.url("postgres")
        await migrate(place[0])
        write(journal, first := batch(30))
        await drain.empty()
    write(journal, second := batch(20))
    trying = asyncio.create_task(drain.empty())
    await asyncio.sleep(0.3)
    assert not trying.done()
    running = server(tmp_path / "pg")
    postgres = await asyncio.to_thread(running.__enter__)
    try:
        place[0] = postgres.url("postgres")
        await asyncio.wait_for(trying, 30)
        connection = await connect(place[0], application="test", role=None)
        await assert_exactly_once(connection, [first, second])
        await connection.close()
    finally:
        drain.close()
        await asyncio.to_thread(running.__exit__, None, None, None)


# -- a busy machine --------------------------------------------------------------------------------------------------------


def now_batch(rows: int) -> BatchRecord:
    return msgspec.structs.replace(batch(rows), started_us=time.time_ns() // 1000)


async def test_on_a_busy_machine_records_wait_for_a_while_and_no_longer(
    database: str,
    make_settings: Callable[..., Settings],
    drain_to: DrainTo,
    sql: asyncpg.Connection[asyncpg.Record],
) -> None:
    patient = make_settings(recorder_yield_s=2.0)
    journal = open_journal(patient.data_dir)
    drain = drain_to(database, patient, busy=True)
    async with in_background(drain):
        await until_async(_caught_up(drain), True)
        write(journal, first := now_batch(30))
        written = time.monotonic()
        while not await recorded_ids(sql):
            await asyncio.sleep(0.05)
            assert time.monotonic() - written < 10
        assert time.monotonic() - written > 1.0
        write(journal, second := now_batch(20))
    await assert_exactly_once(sql, [first, second])  # an end does not wait


@pytest.mark.parametrize("reason", ["idle", "patience", "budget"])
async def test_records_do_not_wait_without_need(
    reason: str,
    database: str,
    make_settings: Callable[..., Settings],
    drain_to: DrainTo,
    sql: asyncpg.Connection[asyncpg.Record],
) -> None:
    chosen = make_settings(recorder_yield_s=0.0 if reason == "patience" else 3600.0, journal_budget_mb=1)
    journal = open_journal(chosen.data_dir)
    records = [now_batch(200) for _ in range(40 if reason == "budget" else 1)]  # a quarter of the budget, or little
    drain = drain_to(database, chosen, busy=reason != "idle")
    async with in_background(drain):
        await until_async(_caught_up(drain), True)
        write(journal, *records)
        behind = sum(segment.bytes for found in journals(chosen.data_dir / "journal") for segment in found.segments)
        assert (behind > 2**18) == (reason == "budget")
        until = time.monotonic() + 10
        while not await recorded_ids(sql):
            await asyncio.sleep(0.05)
            assert time.monotonic() < until


async def test_a_busy_machine_keeps_nobody_from_connecting(
    database: str, make_settings: Callable[..., Settings], drain_to: DrainTo
) -> None:
    chosen = make_settings(recorder_yield_s=3600.0)
    drain = drain_to(database, chosen, busy=True)
    async with in_background(drain):
        await until_async(_caught_up(drain), True)
        assert drain._session is not None


def _caught_up(drain: Drain) -> Callable[[], Awaitable[bool]]:
    async def caught_up() -> bool:
        return drain._caught_up_at > 0

    return caught_up


@pytest.mark.parametrize(
    ("behind", "since_pass", "since_caught_up", "room"),
    [
        (Behind(0, 0, 0.0), 1.0, 1.0, 0),
        (Behind(9, 9000, 3.9), 3.9, 3.9, 0),
        (Behind(9, 9000, 4.0), 0.1, 4.0, _POLITE_BYTES),  # it has waited long enough
        (Behind(0, 0, 0.0), 4.0, 4.0, _POLITE_BYTES),  # a pass keeps house, too
        (Behind(9, 9000, 8.0), 0.1, 8.0, CHUNK_BYTES),  # small steps do not keep up
        (Behind(9, 9000, 0.0), 0.1, 40.0, CHUNK_BYTES),  # nor can the records' own clock be right
        (Behind(9, 256 << 20, 0.1), 0.1, 0.1, CHUNK_BYTES),  # a quarter of the budget
    ],
)
async def test_how_much_is_drained_at_once_on_a_busy_machine(
    make_settings: Callable[..., Settings], behind: Behind, since_pass: float, since_caught_up: float, room: int
) -> None:
    class Told(Drain):
        async def _behind(self, _: Lag) -> Behind:
            return behind

    settings = make_settings(recorder_yield_s=4.0, journal_budget_mb=1024)
    drain = Told(settings, lambda: open_database(settings, ""), lambda: True)
    drain._passed_at = time.monotonic() - since_pass
    drain._caught_up_at = time.monotonic() - since_caught_up
    assert await drain._room(Lag()) == room


# -- the process -----------------------------------------------------------------------------------------------------------


class Recorder:
    """The recorder as the supervisor starts it."""

    def __init__(self, runtime: Path, url: str) -> None:
        self._runtime = runtime
        self._environment = environment() | {"HOVERBOARD_DATABASE_URL": url}
        self.process: Process | None = None

    async def start(self) -> Process:
        command = (
            sys.executable,
            "-P",
            "-m",
            "hoverboard",
            "_recorder",
            "--runtime",
            str(self._runtime),
            "--index",
            "0",
        )
        self.process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stderr=PIPE, env=self._environment)
        return self.process

    async def ended(self, seconds: float) -> bytes:
        """Wait for its end; what it logged. `communicate` may close its standard input, which tells it to leave at once."""
        assert self.process is not None and self.process.stderr is not None
        async with asyncio.timeout(seconds):
            log = await self.process.stderr.read()
            await self.process.wait()
        return log

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()


@pytest.fixture
async def recorder(settings: Settings, database: str, tmp_path: Path) -> AsyncIterator[Recorder]:
    runtime = tmp_path / "runtime"
    (runtime / "metrics").mkdir(parents=True)
    settings.to_runtime(runtime)
    made = Recorder(runtime, database)
    yield made
    await made.kill()


class Journaling(threading.Thread):
    """An engine that never stops; it notes what it has journaled."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self.journal = open_journal(data_dir, segment_bytes=1 << 20)
        self.records: list[BatchRecord] = []
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.002):
            write(self.journal, record := batch(random.randint(1, 64)))
            self.records.append(record)
        self.journal.close()


async def test_a_recorder_that_is_killed_at_random_moments_records_everything_once(
    settings: Settings, recorder: Recorder, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    engine = Journaling(settings.data_dir)
    engine.start()
    begun = await _count(sql)
    try:
        for _ in range(4):
            await recorder.start()
            # Starting takes most of a second: the blow is to fall on its work.
            await until_async(lambda: _moved(sql, begun), True)  # noqa: B023
            await asyncio.sleep(random.uniform(0.0, 0.3))
            await recorder.kill()
            begun = await _count(sql)
    finally:
        engine.done.set()
        engine.join()
    process = await recorder.start()
    await until_async(lambda: sql.fetchval("select bool_and(finished_at is not null) from recorder_cursor"), True)
    process.send_signal(signal.SIGTERM)
    log = await recorder.ended(20)
    assert process.returncode == 0, log
    await assert_exactly_once(sql, engine.records)
    assert await sql.fetchval("select count(*) from gaps") == 0


async def _moved(connection: asyncpg.Connection[asyncpg.Record], beyond: int) -> bool:
    return await _count(connection) > beyond


async def test_on_sigterm_everything_that_is_there_is_drained_before_the_recorder_leaves(
    settings: Settings, recorder: Recorder, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    write(journal, first := batch(3))
    process = await recorder.start()
    await until_async(lambda: _count(sql), 3)
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    records = [batch(64) for _ in range(400)]
    write(journal, *records)
    journal.close()
    process.send_signal(signal.SIGTERM)
    log = await recorder.ended(30)
    assert process.returncode == 0, log
    await assert_exactly_once(sql, [first, *records])


async def test_without_a_database_the_recorder_leaves_soon_after_sigterm_and_keeps_the_journal(
    settings: Settings, recorder: Recorder
) -> None:
    recorder._environment["HOVERBOARD_DATABASE_URL"] = "postgresql://nobody@/nothing?host=/nonexistent"
    journal = open_journal(settings.data_dir)
    write(journal, batch(3))
    journal.close()
    process = await recorder.start()
    assert process.stderr is not None
    while b"cannot_drain" not in (line := await asyncio.wait_for(process.stderr.readline(), 20)):
        assert line
    process.send_signal(signal.SIGTERM)
    log = await recorder.ended(15)
    assert process.returncode == 0
    assert b"left_undrained" in log
    assert sum(segment.bytes for segment in journals(settings.data_dir / "journal")[0].segments) > 0


# -- files and figures ------------------------------------------------------------------------------------------------------


async def test_drained_files_go_after_a_while_and_undrained_ones_stay(
    database: str, settings: Settings, drain_to: DrainTo, make_settings: Callable[..., Settings]
) -> None:
    finished = open_journal(settings.data_dir, segment_bytes=4096)
    running = open_journal(settings.data_dir, segment_bytes=4096)
    for _ in range(30):
        write(finished, batch(8))
        write(running, batch(8))
    finished.close()
    drain = drain_to(database, make_settings(journal_keep_s=3600.0))
    await drain.empty()
    before = files(settings)
    assert len(before) > 10
    drain.close()
    await drain_to(database, make_settings(journal_keep_s=0.0)).empty()
    left = journals(settings.data_dir / "journal")
    assert [journal.uuid for journal in left] == [running.uuid]
    last = max(number for journal, number in before if journal == running.uuid)
    assert files(settings) == {(running.uuid, last)}
    running.close()


def files(settings: Settings) -> set[tuple[uuid.UUID, int]]:
    return {
        (journal.uuid, segment.number)
        for journal in journals(settings.data_dir / "journal")
        for segment in journal.segments
    }


async def test_drained_files_go_early_where_journals_take_more_than_half_of_their_budget(
    database: str, settings: Settings, drain_to: DrainTo, make_settings: Callable[..., Settings]
) -> None:
    journal = open_journal(settings.data_dir, segment_bytes=200_000)
    while journal.usage_bytes < 1_200_000:
        write(journal, batch(64))
    numbers = sorted(number for _, number in files(settings))
    await drain_to(database, make_settings(journal_budget_mb=1)).empty()
    left = journals(settings.data_dir / "journal")[0]
    assert [segment.number for segment in left.segments] == numbers[-len(left.segments) :]
    assert sum(segment.bytes for segment in left.segments) <= 512 * 1024
    assert len(left.segments) >= 2


async def test_labels_whose_sample_never_was_are_counted(database: str, settings: Settings, drain_to: DrainTo) -> None:
    journal = open_journal(settings.data_dir)
    write(journal, record := batch(2))
    write(journal, label(ids_of(record)[0]), label(uuid.UUID(bytes=batch(1).sample_ids)))
    drain = drain_to(database)
    await drain.empty()
    drain._housekeeping._due.clear()
    await drain.empty()
    assert b"hoverboard_orphan_labels 1.0" in metrics.exposition()


async def test_the_metrics_say_how_far_behind_postgres_is(database: str, settings: Settings, drain_to: DrainTo) -> None:
    journal = open_journal(settings.data_dir)
    write(journal, batch(7, at=datetime.now(UTC) - timedelta(seconds=90)), batch(4))
    place = "postgresql://nobody@/nothing?host=/nonexistent"
    async with in_background(Drain(settings, lambda: open_database(settings, place))):
        await until(lambda: gauge("lag_rows") == 11)
        assert gauge("lag_bytes") == journals(settings.data_dir / "journal")[0].segments[0].bytes
        assert 85 < gauge("lag_seconds") < 120
        assert gauge("connected") == 0
        place = database
        await until(lambda: gauge("lag_rows") == 0)
        assert (gauge("lag_bytes"), gauge("lag_seconds"), gauge("connected")) == (0, 0, 1)
    assert b'hoverboard_recorded_rows_total{table="samples"}' in metrics.exposition()


def gauge(name: str) -> float:
    prefix = f"hoverboard_recorder_{name} "
    (line,) = [line for line in metrics.exposition().decode().splitlines() if line.startswith(prefix)]
    return float(line.removeprefix(prefix))
