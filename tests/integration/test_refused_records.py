"""Records that Postgres will never take, each kind by itself: put aside and counted, and all others are recorded."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import asyncpg
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from hoverboard.cli import main
from hoverboard.config import Settings
from hoverboard.journal.records import (
    KINDS,
    AlarmResetRecord,
    GapEntry,
    GapRecord,
    Record,
    SupplementRecord,
    VersionRecord,
    WithdrawalRecord,
    encode,
)
from hoverboard.journal.writer import JournalWriter
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.process import open_database
from tests.journaled import (
    MODEL,
    WEIGHTS,
    batch,
    deployment,
    ids_of,
    label,
    open_journal,
    rejection,
    version,
    write,
)

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
NOW = int(time.time() * 1e6)
LARGEST = 2**64 - 1
FLAGGED = batch(1, outlier=[True])
DEEP = b"[" * 30_000 + b"]" * 30_000


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(drain_timeout_s=20.0, log_format="json")


@pytest.fixture
async def drain(settings: Settings, database: str) -> AsyncIterator[Drain]:
    drain = Drain(settings, lambda: open_database(settings, database))
    yield drain
    drain.close()
    await asyncio.sleep(0)


def changed(record: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(record, **fields)


def tagged(tags: bytes) -> Any:
    return changed(rejection(), tags=tags)


FORGED: dict[str, Callable[[], Record]] = {
    "a version number past 64 bits": lambda: batch(2, number=LARGEST),
    "a model's name with a NUL": lambda: changed(batch(2), model="a\0b"),
    "a model that leads out of the models directory": lambda: changed(batch(2), model="../../etc"),
    "more rows than anybody can count": lambda: changed(batch(2), executed=2**63),
    "half a sample id too few": lambda: changed(batch(2), sample_ids=batch(2).sample_ids[:24]),
    "a batch that began before all time": lambda: changed(batch(2), started_us=-(2**63)),
    "an output that is too short": lambda: changed(batch(2), outputs=[("float32", [2, 3], b"1234")]),
    "text that is no UTF-8 in its column's place": lambda: changed(batch(2), columns=[("string", [2], [1, 2])] * 2),
    "tags that are no JSON": lambda: tagged(b"{"),
    "tags with half a surrogate": lambda: tagged(b'{"a": "\\ud800"}'),
    "tags with a NUL that are no JSON": lambda: tagged(b'{"a": "\\u0000"'),
    "tags that are too deep": lambda: tagged(DEEP),
    "tags that are too deep, with a NUL": lambda: tagged(DEEP.replace(b"[]", b'["\\u0000"]')),
    "tags with a number that is no numeric": lambda: tagged(b'{"a": 1e999999}'),
    "a refusal past all time": lambda: changed(rejection(), at_us=LARGEST),
    "a refusal with a code past 32 bits": lambda: changed(rejection(), code=2**40),
    "a label past the calendar": lambda: changed(label(ids_of(batch(1))[0]), at_us=2**62),
    "a label of no sample": lambda: changed(label(ids_of(batch(1))[0]), sample_id=b"123"),
    "a share past float32": lambda: changed(deployment(), share=1e300),
    "a deployment of no known version": lambda: changed(deployment(), weights_sha256="cd" * 32),
    "a gap of more than anybody can count": lambda: GapRecord(
        1, [GapEntry(MODEL, 1, "budget", LARGEST, 1, 0, NOW, NOW)]
    ),
    "a gap in a version past 64 bits": lambda: GapRecord(1, [GapEntry(MODEL, LARGEST, "budget", 1, 1, 0, NOW, NOW)]),
    "a gap past the calendar": lambda: GapRecord(1, [GapEntry(MODEL, 1, "budget", 1, 1, 0, NOW, 2**62)]),
    "scores under a name with a NUL": lambda: SupplementRecord(MODEL, 1, "knn", FLAGGED.sample_ids, {"a\0": b"1234"}),
    "a detector's name with a NUL": lambda: SupplementRecord(MODEL, 1, "k\0nn", b"0" * 16, {"a": b"1234"}),
    "a withdrawal of half a sample": lambda: WithdrawalRecord(MODEL, 1, WEIGHTS, b"0" * 24),
    "scores of half a sample": lambda: SupplementRecord(MODEL, 1, "knn", b"0" * 24, {"a": b"12345678"}),
    "a reset of a version past 64 bits": lambda: AlarmResetRecord(NOW, MODEL, LARGEST, None, "admin", "r"),
}


def append(journal: JournalWriter, record: Any, needs: VersionRecord | None = None) -> None:
    frames = {} if needs is None else {f"v{needs.version}": encode(needs)}
    journal.append(KINDS[type(record)], encode(record), count=getattr(record, "rows", 1), needs=frames)


async def samples(sql: Sql) -> set[Any]:
    return {row["id"] for row in await sql.fetch("select id from samples")}


@pytest.mark.parametrize("what", FORGED)
async def test_a_record_that_no_table_takes_is_put_aside_and_all_others_are_recorded(
    what: str, settings: Settings, drain: Drain, sql: Sql
) -> None:
    engine, other = open_journal(settings.data_dir), open_journal(settings.data_dir, process="api-0")
    before, after, elsewhere = batch(3), batch(2), batch(1)
    write(engine, before, FLAGGED)
    append(engine, FORGED[what]())
    write(engine, after)
    write(other, elsewhere)
    await drain.empty()
    assert await samples(sql) == {*ids_of(before), *ids_of(FLAGGED), *ids_of(after), *ids_of(elsewhere)}
    put_aside = await sql.fetch("select file, error from quarantine")
    assert put_aside and all((settings.data_dir / row["file"]).is_file() for row in put_aside)
    gaps = await sql.fetch("select reason, detail from gaps")
    assert {row["reason"] for row in gaps} == {"quarantined"}
    assert all(row["error"] in gap["detail"] for row, gap in zip(put_aside, gaps, strict=True))
    write(engine, later := batch(1))
    await drain.empty()
    assert ids_of(later)[0] in await samples(sql)
    assert len(await sql.fetch("select from quarantine")) == len(put_aside)


MANIFESTS = {
    "no JSON": b"{",
    "no manifest": b"[]",
    "a NUL": b'{"task": "raw", "inputs": [], "outputs": [], "description": "\\u0000"}',
    "too deep": b'{"task": "raw", "inputs": [], "outputs": [], "x": %s}' % DEEP,
    "a task that nobody knows": b'{"task": "prophecy", "inputs": [], "outputs": []}',
    "half a surrogate": b'{"task": "raw", "inputs": [], "outputs": [], "description": "\\ud800"}',
}


@pytest.mark.parametrize("what", MANIFESTS)
async def test_a_version_whose_manifest_cannot_be_kept_stops_no_other_version(
    what: str, settings: Settings, database: str, sql: Sql
) -> None:
    journal, good = open_journal(settings.data_dir), batch(2)
    for _ in range(2):  # again as after a restart: the row that the first one left must not be in the way either
        drain = Drain(settings, lambda: open_database(settings, database))
        bad = changed(batch(1), version=9)
        append(journal, bad, VersionRecord(MODEL, 9, bad.weights_sha256, MANIFESTS[what]))
        write(journal, good)
        await drain.empty()
        drain.close()
        assert await samples(sql) == set(ids_of(good))
        await sql.execute("truncate samples")
    assert [row["records"] for row in await sql.fetch("select records from quarantine")] == [1, 1]


async def test_a_timestamp_as_version_number_is_recorded_with_its_parent(
    settings: Settings, drain: Drain, sql: Sql
) -> None:
    number = 202609011230
    journal, first, second = open_journal(settings.data_dir), batch(2, number=number - 1), batch(2, number=number)
    write(journal, first, second, deployment(number))
    journal.shed([GapEntry(MODEL, number, "budget", 5, 8, 1, NOW, NOW)])
    write(journal, changed(batch(1, number=number), outlier=b"\1", p_value=np.float32(0.001).tobytes()))
    append(journal, AlarmResetRecord(NOW, MODEL, number, "a\0reason", "admin", "r"))
    await drain.empty()
    assert await sql.fetchval("select count(*) from samples") == 5
    assert [tuple(row) for row in await sql.fetch("select version, records from gaps")] == [(number, 5)]
    child = await sql.fetchrow(
        "select p.version from model_versions v join model_versions p on p.id = v.parent_id where v.version = $1",
        number,
    )
    assert child is not None and child["version"] == number - 1
    assert await sql.fetchval("select count(*) from quarantine") == 0


async def test_a_parent_that_no_number_can_be_is_no_parent(settings: Settings, drain: Drain, sql: Sql) -> None:
    journal, record = open_journal(settings.data_dir), batch(1)
    manifest = msgspec.json.decode(version().manifest) | {"parent": LARGEST}
    append(journal, record, VersionRecord(MODEL, 1, record.weights_sha256, msgspec.json.encode(manifest)))
    await drain.empty()
    assert await samples(sql) == set(ids_of(record))


async def test_the_command_says_what_is_missing_why_and_what_to_do(
    settings: Settings, drain: Drain, sql: Sql, database: str
) -> None:
    async def gaps(*words: str) -> Any:
        done = await asyncio.to_thread(CliRunner().invoke, main, ["gaps", "--database-url", database, *words])
        assert done.exit_code == 0, done.stderr
        return done.output

    assert "Nothing is missing" in await gaps("--pretty")
    journal = open_journal(settings.data_dir)
    append(journal, FORGED["a share past float32"]())
    journal.shed([GapEntry(MODEL, 1, "journal budget", 5, 8, 1, NOW, NOW)])
    write(journal, batch(1))
    await drain.empty()
    found = {gap["reason"]: gap for gap in json.loads(await gaps("--json"))["gaps"]}
    assert (found["journal budget"]["records"], found["quarantined"]["records"]) == (5, 1)
    assert "a value does not fit its column" in found["quarantined"]["detail"]
    assert "journal_budget_mb" in found["journal budget"]["next"]
    assert "quarantined: Postgres never takes these" in " ".join((await gaps("--pretty")).split())


# -- what the server says without saying whose fault it is ----------------------------------------------------------------


async def trigger(sql: Sql, table: str, condition: str, action: str) -> None:
    await sql.execute(
        f"""
        create or replace function hoverboard.bad_luck() returns trigger language plpgsql security definer as $$
        begin if {condition} then {action}; end if; return new; end $$;
        create trigger bad_luck before insert on hoverboard.{table} for each row execute function hoverboard.bad_luck();
        """
    )


RAISES = {
    "an error of the schema's owner": "raise exception 'not this one'",
    "an internal error": "raise exception 'cache lookup failed' using errcode = 'XX000'",
    "memory": "raise exception 'out of memory' using errcode = '53200'",
    "too long a statement": "raise exception 'canceling statement' using errcode = '57014'",
}


@pytest.mark.parametrize("what", RAISES)
async def test_a_record_that_fails_while_others_of_its_kind_pass_is_put_aside(
    what: str, settings: Settings, drain: Drain, sql: Sql
) -> None:
    await trigger(sql, "samples", "new.request_id = 'bad'", RAISES[what])
    journal, good, bad = open_journal(settings.data_dir), [batch(3) for _ in range(20)], batch(2)
    bad = changed(bad, calls=[changed(bad.calls[0], rows=1), changed(bad.calls[0], rows=1, request_id="bad")])
    write(journal, *good[:10], bad, *good[10:])
    await drain.empty()
    assert await samples(sql) == {each for record in good for each in ids_of(record)} | {ids_of(bad)[0]}
    assert await sql.fetchval("select records from quarantine") == 1


async def test_where_all_fail_it_is_not_the_records_fault_and_they_wait(
    settings: Settings, drain: Drain, sql: Sql
) -> None:
    await trigger(sql, "samples", "true", "raise exception 'closed today'")
    journal, records = open_journal(settings.data_dir), [batch(2) for _ in range(30)]
    write(journal, *records)
    api = open_journal(settings.data_dir, process="api-0")
    write(api, rejection(), label(ids_of(records[0])[0]))
    await drain.empty()
    assert await samples(sql) == set()
    assert await sql.fetchval("select count(*) from quarantine") == 0
    assert await sql.fetchval("select count(*) from rejections") == 1, "other journals go on"
    await sql.execute("drop trigger bad_luck on hoverboard.samples")
    drain._shelved.clear()
    await drain.empty()
    assert await samples(sql) == {each for record in records for each in ids_of(record)}


async def test_a_lone_record_that_fails_is_put_aside_once_others_of_its_kind_have_passed(
    settings: Settings, drain: Drain, sql: Sql
) -> None:
    await trigger(sql, "samples", "new.request_id = 'bad'", "raise exception 'not this one'")
    bad = batch(1)
    bad = changed(bad, calls=[changed(bad.calls[0], request_id="bad")])
    write(open_journal(settings.data_dir), bad)
    await drain.empty()
    assert await sql.fetchval("select count(*) from quarantine") == 0
    write(open_journal(settings.data_dir, process="engine-1"), good := batch(2))
    await drain.empty()
    drain._shelved.clear()
    await drain.empty()
    assert await samples(sql) == set(ids_of(good))
    assert await sql.fetchval("select count(*) from quarantine") == 1


async def test_a_version_that_cannot_be_inserted_stops_no_other_version(
    settings: Settings, drain: Drain, sql: Sql
) -> None:
    await trigger(sql, "model_versions", "new.version = 2", "raise exception 'not this one'")
    journal, good = open_journal(settings.data_dir), batch(2)
    write(journal, batch(1, number=2), good)
    await drain.empty()
    assert await samples(sql) == set(ids_of(good))
    assert await sql.fetchval("select count(*) from quarantine") == 1


async def test_a_record_over_which_every_connection_breaks_is_put_aside_and_stops_no_other_journal(
    settings: Settings, drain: Drain, sql: Sql
) -> None:
    await trigger(sql, "samples", "new.request_id = 'bad'", "perform pg_terminate_backend(pg_backend_pid())")
    bad, good = batch(1), [batch(2) for _ in range(4)]
    bad = changed(bad, calls=[changed(bad.calls[0], request_id="bad")])
    write(open_journal(settings.data_dir), *good[:2], bad, *good[2:])
    write(open_journal(settings.data_dir, process="engine-1"), other := batch(3))
    expected = {each for record in good for each in ids_of(record)}
    for _ in range(10):
        await drain.empty()
        assert set(ids_of(other)) <= await samples(sql), "others have their turn in between"
        drain._shelved.clear()
    assert await samples(sql) == {*expected, *ids_of(other)}
    row = await sql.fetchrow("select records, error from quarantine")
    assert row is not None and tuple(row) == (1, "connections break over it")


async def test_a_database_that_is_read_only_for_a_while_is_waited_for(
    settings: Settings, drain: Drain, sql: Sql
) -> None:
    name = await sql.fetchval("select current_database()")
    await sql.execute(f"alter database {name} set default_transaction_read_only = on")
    write(open_journal(settings.data_dir), record := batch(2))
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await drain.empty(0.5)
    await sql.execute(f"alter database {name} set default_transaction_read_only = off")
    await drain.empty()
    assert await samples(sql) == set(ids_of(record))
    assert await sql.fetchval("select count(*) from quarantine") == 0
