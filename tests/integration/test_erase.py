"""What is erased is gone from every table, and no journal brings it back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pty
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner

from hoverboard.cli import main
from hoverboard.config import Settings
from hoverboard.database.connect import connect
from hoverboard.journal.finding import journals
from hoverboard.journal.records import BatchRecord
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.erasure.erase import ErasureRequest, erase
from hoverboard.recorder.process import open_database
from tests.integration.running import HOVERBOARD, environment
from tests.journaled import MODEL, batch, features, ids_of, label, open_journal, rejection, write
from tests.proxy import Proxy

OTHER = {"customer": "18"}
SUBJECT = {"customer": "17"}
TABLES = ("samples", "predictions", "outliers", "labels", "rejections", "features")


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


@pytest.fixture
async def sql(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await connect(database, application="test")
    yield connection
    await connection.close()


@pytest.fixture
async def drain(database: str, settings: Settings) -> AsyncIterator[Drain]:
    made = Drain(settings, lambda: open_database(settings, database))
    yield made
    made.close()
    await asyncio.sleep(0)


def request(**what: Any) -> ErasureRequest:
    return ErasureRequest(actor="ann", reason="ticket 4711", **what)


async def erased(connection: asyncpg.Connection[asyncpg.Record], **what: Any) -> int:
    """Erase; returns how many rows went."""
    return sum((await erase(connection, request(**what), now=datetime.now(UTC))).rows.values())


async def left(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    """Rows by table."""
    return {table: int(await connection.fetchval(f"select count(*) from {table}")) for table in TABLES}


def rows(samples: int, predictions: int, outliers: int, labels: int, rejections: int) -> dict[str, int]:
    return dict(zip(TABLES, (samples, predictions, outliers, labels, rejections, 0), strict=True))


FLAGS = (True, False, False)


async def test_a_sample_goes_from_every_table_and_its_neighbours_stay(
    settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    record = batch(3, outlier=FLAGS)
    victim, *others = ids_of(record)
    write(open_journal(settings.data_dir), record, label(victim), label(others[0]))
    await drain.empty()
    assert await erased(sql, sample_id=victim) == 4
    assert await left(sql) == rows(2, 2, 0, 1, 0)
    assert {row["id"] for row in await sql.fetch("select id from samples")} == set(others)


async def test_a_subject_goes_from_every_table_and_its_tombstone_does_not_name_it(
    settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    mine, theirs = batch(3, tags=SUBJECT, outlier=FLAGS), batch(3, tags=OTHER, outlier=FLAGS)
    write(journal, mine, theirs, batch(1), rejection(tags=SUBJECT), rejection(tags=OTHER), label(ids_of(mine)[1]))
    await drain.empty()
    assert await erased(sql, tag=("customer", "17")) == 3 + 3 + 1 + 1 + 1
    assert await left(sql) == rows(4, 4, 1, 0, 1)
    tombstone = await sql.fetchrow("select * from erasures where kind = 'tag'")
    assert tombstone is not None
    assert tombstone["tag_digest"] == hashlib.sha256(b"17").hexdigest()
    assert (tombstone["rows_erased"], tombstone["actor"], tombstone["reason"]) == (9, "ann", "ticket 4711")


async def test_an_erasure_by_age_means_one_model_where_one_is_named(
    settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    old = datetime.now(UTC) - timedelta(days=3)
    past = batch(3, at=old, outlier=FLAGS)
    write(journal, past, batch(2), label(ids_of(past)[0]), rejection(at=old), rejection())
    await drain.empty()
    limit = datetime.now(UTC) - timedelta(days=1)
    assert await erased(sql, before=limit, model="another") == 0
    assert await erased(sql, before=limit, model=MODEL) == 3 + 3 + 1 + 1 + 1
    assert await left(sql) == rows(2, 2, 0, 0, 1)


async def test_a_label_still_in_a_journal_goes_with_its_sample_that_one_models_age_erased(
    settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    old = datetime.now(UTC) - timedelta(days=3)
    past, present, unseen = batch(3, at=old), batch(1), batch(1, at=old)
    write(open_journal(settings.data_dir), past, present)
    await drain.empty()
    # The recorder rests. Of samples that are in no table nobody knows the model: theirs may be another one's.
    others = [label(ids_of(present)[0]), label(ids_of(unseen)[0])]
    write(open_journal(settings.data_dir, process="api-0"), *(label(sample) for sample in ids_of(past)), *others)
    assert await erased(sql, before=datetime.now(UTC) - timedelta(days=1), model=MODEL) == 3 + 3
    await drain.empty()
    assert await left(sql) == rows(1, 1, 0, 2, 0)
    kept = {row["sample_id"] for row in await sql.fetch("select sample_id from labels")}
    assert kept == {ids_of(present)[0], ids_of(unseen)[0]}


async def test_a_label_goes_with_its_sample_that_one_models_age_erased_as_it_was_drained(
    settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    past = batch(3, at=datetime.now(UTC) - timedelta(days=3))
    write(open_journal(settings.data_dir), past)
    given = [label(sample) for sample in ids_of(past)]
    await erased(sql, before=datetime.now(UTC) - timedelta(days=1), model=MODEL)
    await drain.empty()
    write(open_journal(settings.data_dir, process="api-0"), *given)
    await drain.empty()
    assert await left(sql) == rows(0, 0, 0, 0, 0)


async def test_an_erasure_by_age_reaches_labels_of_samples_that_retention_has_dropped(
    settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    gone = uuid.UUID(bytes=batch(1, at=datetime.now(UTC) - timedelta(days=90)).sample_ids)
    write(open_journal(settings.data_dir), label(gone), label(ids_of(batch(1))[0]))
    await drain.empty()
    assert await erased(sql, before=datetime.now(UTC) - timedelta(days=60)) == 1
    assert await left(sql) == rows(0, 0, 0, 1, 0)


@pytest.mark.parametrize("kind", ["sample", "tag", "age"])
async def test_what_was_erased_before_it_was_drained_does_not_come_back(
    kind: str, settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    then = datetime.now(UTC) - timedelta(days=2)
    mine, theirs = batch(3, at=then, tags=SUBJECT, outlier=FLAGS), batch(3, tags=OTHER, outlier=FLAGS)
    write(journal, mine, theirs, rejection(at=then, tags=SUBJECT), label(ids_of(mine)[0]), label(ids_of(theirs)[0]))
    what: dict[str, dict[str, Any]] = {
        "sample": {"sample_id": ids_of(mine)[0]},
        "tag": {"tag": ("customer", "17")},
        "age": {"before": datetime.now(UTC) - timedelta(days=1)},
    }
    assert await erased(sql, **what[kind]) == 0
    await drain.empty()
    expected = {"sample": rows(5, 5, 1, 1, 1), "tag": rows(3, 3, 1, 1, 0), "age": rows(3, 3, 1, 1, 0)}
    assert await left(sql) == expected[kind]
    assert {row["id"] for row in await sql.fetch("select id from samples")} >= set(ids_of(theirs))
    count = await sql.fetchval("select rows_erased from erasures where kind = $1 order by id limit 1", kind)
    assert count == (4 if kind == "sample" else 3 + 3 + 1 + 1 + 1)


OLD = datetime.now(UTC) - timedelta(days=2)
WAYS: dict[str, Callable[[BatchRecord], dict[str, Any]]] = {
    "sample": lambda mine: {"sample_id": ids_of(mine)[0]},
    "tag": lambda mine: {"tag": ("customer", "17")},
    "age": lambda mine: {"before": OLD + timedelta(days=1)},
    "age of a model": lambda mine: {"before": OLD + timedelta(days=1), "model": MODEL},
}


@pytest.mark.parametrize("drained", ["all", "samples", "nothing"])
@pytest.mark.parametrize("way", WAYS)
async def test_features_go_with_their_samples_however_late_they_come(
    way: str, drained: str, settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    mine, theirs = batch(3, at=OLD, tags=SUBJECT), batch(2, tags=OTHER)
    write(journal, mine, theirs)
    if drained == "samples":
        await drain.empty()
    if drained != "all":
        await erased(sql, **WAYS[way](mine))
    write(journal, features(mine), features(theirs))
    await drain.empty()
    if drained == "all":
        assert (await left(sql))["features"] == 5
        await erased(sql, **WAYS[way](mine))
    gone = set(ids_of(mine)[:1] if way == "sample" else ids_of(mine))
    kept = {*ids_of(mine), *ids_of(theirs)} - gone
    for table, column in (("features", "sample_id"), ("samples", "id")):
        assert {row[0] for row in await sql.fetch(f"select {column} from {table}")} == kept


async def test_what_a_subject_does_after_the_erasure_is_recorded(
    settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    write(journal, batch(2, tags=SUBJECT), batch(1, tags=OTHER))
    await erased(sql, tag=("customer", "17"))
    await asyncio.sleep(0.01)
    write(journal, again := batch(2, tags=SUBJECT))
    await drain.empty()
    assert (await left(sql))["samples"] == 3
    assert {row["id"] for row in await sql.fetch("select id from samples")} >= set(ids_of(again))


async def test_labels_that_come_later_for_what_was_erased_by_its_tag_are_dropped(
    settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    journal = open_journal(settings.data_dir)
    drained, undrained = batch(1, tags=SUBJECT), batch(1, tags=SUBJECT)
    write(journal, drained)
    await drain.empty()
    write(journal, undrained)
    await erased(sql, tag=("customer", "17"))
    await drain.empty()
    write(journal, label(ids_of(drained)[0]), label(ids_of(undrained)[0]))
    await drain.empty()
    assert await left(sql) == rows(0, 0, 0, 0, 0)


async def test_an_erasure_waits_for_the_chunk_that_is_being_committed_and_meets_its_rows(
    database: str, settings: Settings, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    watcher = await connect(database, application="test")
    write(open_journal(settings.data_dir), batch(3, tags=SUBJECT), batch(2, tags=OTHER))
    async with Proxy(database).listening() as proxy:
        recorder = Drain(settings, lambda: open_database(settings, proxy.url))
        proxy.hold = b"COMMIT;"
        draining = asyncio.create_task(recorder.empty())
        await asyncio.wait_for(proxy.held.wait(), 20)
        erasing = asyncio.create_task(erased(sql, tag=("customer", "17")))
        async with asyncio.timeout(20):
            while not await watcher.fetchval(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            ):
                await asyncio.sleep(0.02)
        assert not erasing.done()
        proxy.release.set()
        await asyncio.wait_for(draining, 20)
        assert await asyncio.wait_for(erasing, 20) == 6
        recorder.close()
    await watcher.close()
    assert await left(sql) == rows(2, 2, 0, 0, 0)


async def test_drained_files_and_what_was_put_aside_go_at_once(
    settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record], database: str
) -> None:
    owner = await connect(database, application="test", role=None)
    await owner.execute("alter table predictions add check (confidence <> 0.125)")
    await owner.close()
    sealed = open_journal(settings.data_dir, segment_bytes=4096)
    write(sealed, *[batch(8, tags=OTHER) for _ in range(20)])
    write(sealed, batch(1, tags=SUBJECT, confidence=[0.125]), batch(1, tags=OTHER, confidence=[0.125]))
    await drain.empty()
    folder = settings.data_dir / "quarantine"
    assert len(list(folder.iterdir())) == 2
    before = journals(settings.data_dir / "journal")[0].segments
    assert len(before) > 2
    await erased(sql, tag=("customer", "17"))
    drain._housekeeping._due.clear()  # it looks once a second
    await drain.empty()
    assert len(list(folder.iterdir())) == 1
    assert [each.number for each in journals(settings.data_dir / "journal")[0].segments] == [before[-1].number]
    # Whom it is of was erased before it was put aside: it does not stay either.
    write(sealed, late := batch(1, tags=SUBJECT, confidence=[0.125], at=datetime.now(UTC) - timedelta(hours=1)))
    drain._housekeeping._due.clear()
    await drain.empty()
    assert len(list(folder.iterdir())) == 1
    assert ids_of(late)[0] not in {row["id"] for row in await sql.fetch("select id from samples")}


# -- the command ---------------------------------------------------------------------------------------------------------


def hoverboard(*words: str) -> Any:
    return CliRunner().invoke(main, ["erase", *words])


def test_without_a_database_nothing_is_erased_and_a_sentence_says_so(settings: Settings) -> None:
    done = hoverboard("--tag", "customer=17", "--reason", "asked", "--data-dir", str(settings.data_dir))
    assert done.exit_code == 1
    assert "nothing was erased" in done.stderr
    assert "does not run" in done.stderr
    url = "postgresql://nobody@/nothing?host=/nonexistent"
    done = hoverboard("--tag", "customer=17", "--reason", "asked", "--database-url", url)
    assert done.exit_code == 1
    assert "nothing was erased" in done.stderr
    assert done.stdout == ""


def test_a_database_without_the_schema_is_told_apart(empty_database: str, settings: Settings) -> None:
    done = hoverboard("--older-than", "1d", "--reason", "asked", "--database-url", empty_database)
    assert done.exit_code == 1
    assert "run `hoverboard migrate`" in done.stderr


async def test_a_model_that_nothing_was_recorded_of_is_refused(
    settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record], database: str
) -> None:
    write(open_journal(settings.data_dir), batch(3, tags=SUBJECT))
    await drain.empty()
    place = ("--reason", "asked", "--database-url", database, "--data-dir", str(settings.data_dir))
    for what in (("--older-than", "1d"), ("--tag", "customer=17")):
        refused = await asyncio.to_thread(hoverboard, *what, "--model", "nosuch", *place)
        assert refused.exit_code == 1
        assert f"nothing was recorded of a model 'nosuch'; models recorded: {MODEL}" in " ".join(refused.stderr.split())
    assert await sql.fetchval("select count(*) from erasures") == 0
    done = await asyncio.to_thread(hoverboard, "--older-than", "1d", "--model", MODEL, *place)
    assert done.exit_code == 0, done.stderr


async def test_the_command_erases_and_says_what_remains(
    settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record], database: str
) -> None:
    record: BatchRecord = batch(3, tags=SUBJECT)
    write(open_journal(settings.data_dir), record)
    await drain.empty()
    place = ("--database-url", database, "--data-dir", str(settings.data_dir))
    told = await asyncio.to_thread(hoverboard, "--tag", "customer=17", "--reason", "asked", "--json", *place)
    assert told.exit_code == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["rows"] == rows(3, 3, 0, 0, 0)
    assert found["journal_bytes"] > 0
    assert any(line.startswith("Journals:") for line in found["remains"])
    assert "17" not in json.dumps(found["remains"])
    sample = str(ids_of(record)[0])
    told = await asyncio.to_thread(hoverboard, "--sample", sample, "--reason", "asked", "--pretty", *place)
    assert told.exit_code == 0, told.stderr
    assert "deleted 0 rows" in told.stdout
    assert await left(sql) == rows(0, 0, 0, 0, 0)


async def test_a_dry_run_says_what_would_go_and_changes_nothing(
    settings: Settings, drain: Drain, sql: asyncpg.Connection[asyncpg.Record], database: str
) -> None:
    owner = await connect(database, application="test", role=None)
    await owner.execute("alter table predictions add check (confidence <> 0.125)")
    await owner.close()
    record, journal = batch(3, tags=SUBJECT, outlier=FLAGS), open_journal(settings.data_dir)
    write(journal, record, batch(2, tags=OTHER), batch(1, tags=SUBJECT, confidence=[0.125]), label(ids_of(record)[0]))
    await drain.empty()
    before = await left(sql)
    place = ("--database-url", database, "--data-dir", str(settings.data_dir))
    words = ("--tag", "customer=17", "--reason", "asked", "--dry-run")
    told = await asyncio.to_thread(hoverboard, *words, "--json", *place)
    assert told.exit_code == 0, told.stderr
    found = json.loads(told.stdout)
    assert (found["dry_run"], found["erasure"], found["rows"]) == (True, None, rows(3, 3, 1, 1, 0))
    assert (found["quarantined_files_removed"], found["journal_files"]) == (1, 1)
    said = await asyncio.to_thread(hoverboard, *words, "--pretty", *place)
    assert (
        "would delete 8 rows (3 samples, 3 predictions, 1 outliers, 0 features, 1 labels, 0 rejections)" in said.stdout
    )
    assert await left(sql) == before
    assert await sql.fetchval("select count(*) from erasures") == 0
    assert len(list((settings.data_dir / "quarantine").iterdir())) == 1


@pytest.mark.parametrize(("answer", "remains"), [("n", 3), ("y", 0), ("--yes", 0)])
async def test_on_a_terminal_it_says_what_would_go_and_asks(
    answer: str, remains: int, settings: Settings, drain: Drain, database: str
) -> None:
    write(open_journal(settings.data_dir), batch(3, tags=SUBJECT))
    await drain.empty()
    words = ["erase", "--tag", "customer=17", "--reason", "asked", "--database-url", database]
    asked = answer != "--yes"
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [*HOVERBOARD, *words, "--data-dir", str(settings.data_dir), *(() if asked else (answer,))],
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    if asked:
        os.write(ours, f"{answer}\n".encode())
    assert await asyncio.to_thread(command.wait, 60) == (1 if remains else 0)
    said = os.read(ours, 65536).decode()
    os.close(ours)
    assert ("this would delete 6 rows" in said.replace("\r\n", " ")) == asked
    connection = await connect(database, application="test")
    assert await connection.fetchval("select count(*) from samples") == remains
    await connection.close()
