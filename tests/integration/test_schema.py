"""Migrations, partitions, roles and connections, against a real Postgres."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import uuid_utils
from click.testing import CliRunner

from hoverboard.cli import main
from hoverboard.database.connect import connect, connected
from hoverboard.database.migrate import Migration, migrate, migrations, read_migrations, require_current, status
from hoverboard.database.partitions import AHEAD_DAYS, Dropped, Partitions, apply_retention, hold
from hoverboard.errors import ConfigError, DatabaseUnavailable, MigrationRefused
from hoverboard.postgres.programs import environment
from tests.postgres import Server

ROOT = Path(__file__).parents[2]
DUMP = Path(__file__).parent / "schema.sql"
DAYS = ("samples", "predictions", "outliers", "features", "rejections")
TODAY = date(2026, 3, 4)
NOON_ID = "019cb8b8-1e00-7000-8000-000000000000"
"""Made at 12:00 UTC of that day."""


@asynccontextmanager
async def login(url: str, role: str | None = None) -> AsyncIterator[Any]:
    async with connected(url, application="test", role=role) as connection:
        yield connection


async def put_sample(connection: Any, at: datetime, model: str = "m") -> None:
    await connection.execute(
        "insert into samples (at, id, model, incl_prob, why) values ($1, gen_random_uuid(), $2, 1, 'all')", at, model
    )


async def where_samples_are(connection: Any) -> list[tuple[str, str]]:
    rows = await connection.fetch("select tableoid::regclass::text as place, at from samples order by at")
    return [(row["place"], row["at"].isoformat()) for row in rows]


# --- the schema -------------------------------------------------------------------------------------------------------


def dumped(postgres: Server, url: str) -> str:
    """The schema as pg_dump writes it, without what differs from server to server."""
    pg_dump = [str(postgres.cluster.programs / "pg_dump"), "--schema-only", "--no-owner", "--dbname", url]
    text = subprocess.run(pg_dump, env=environment(), capture_output=True, text=True, check=True).stdout
    owner = urlsplit(url).username
    assert owner
    text = re.sub(rf"\b(FOR ROLE|GRANTED BY) {owner}\b", r"\1 owner", text)
    kept = [
        line
        for line in text.splitlines()
        if line.strip() and not line.startswith(("--", "SET ", "SELECT pg_catalog.set_config", "\\"))
    ]
    return "\n".join(kept) + "\n"


async def test_the_migrated_schema_is_the_dump(postgres: Server, empty_database: str, tmp_path: Path) -> None:
    await migrate(empty_database)
    found = dumped(postgres, empty_database)
    if found != DUMP.read_text(encoding="utf-8"):
        fresh = tmp_path / DUMP.name
        fresh.write_text(found, encoding="utf-8")
        pytest.fail(f"the migrated schema is not {DUMP}; where that is meant: cp {fresh} {DUMP}")


async def test_every_table_and_column_explains_itself(database: str) -> None:
    async with login(database) as connection:
        mute = await connection.fetch(
            """
            select c.relname, a.attname
            from pg_class c
            left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not c.relispartition
            where c.relnamespace = 'hoverboard'::regnamespace and c.relkind in ('r', 'p')
                and (obj_description(c.oid) is null or (a.attnum > 0 and col_description(c.oid, a.attnum) is null))
            """
        )
        functions = await connection.fetch(
            "select proname from pg_proc where pronamespace = 'hoverboard'::regnamespace and obj_description(oid) is null"
        )
    assert mute == functions == []


async def test_sample_at_is_the_time_in_a_uuid_v7_whatever_the_session(database: str) -> None:
    moments = [0, 1, 1_772_582_400_000, 1_772_582_399_999, 4_102_444_800_123, 2**48 - 1]
    async with login(database) as connection:
        await connection.execute("set timezone to 'Pacific/Auckland'")
        for ms in moments:
            bits = (ms << 80) | (7 << 76) | (2 << 62) | 12345
            told = await connection.fetchval("select extract(epoch from sample_at($1)) * 1000", f"{bits:032x}")
            assert int(told) == ms
        fresh = uuid_utils.uuid7()
        assert await connection.fetchval("select sample_at($1::uuid)", str(fresh)) == datetime.fromtimestamp(
            fresh.timestamp / 1000, UTC
        )


async def test_a_sample_is_looked_up_in_one_partition(database: str) -> None:
    async with login(database) as connection:
        await Partitions(connection).ensure([], today=TODAY)
        plan = await connection.fetch(
            f"explain select from samples where id = '{NOON_ID}' and at = sample_at('{NOON_ID}')"
        )
    scanned = re.findall(r"on (samples\w+)", "\n".join(row[0] for row in plan))
    assert set(scanned) == {"samples_2026_03_04"}


# --- migrating --------------------------------------------------------------------------------------------------------


def numbered(*texts: str) -> tuple[Migration, ...]:
    made = (Migration(n, f"{n:04d}_step.sql", text, f"{hash(text):x}") for n, text in enumerate(texts, 1))
    return tuple(made)


FIRST = (
    "create schema hoverboard;"
    "create table hoverboard.schema_migrations (version int, name text, sha256 text, applied_at timestamptz default now())"
)
SECOND = "create table hoverboard.second (n int); insert into hoverboard.second values (2)"


async def test_migrating_again_does_nothing(empty_database: str) -> None:
    assert await migrate(empty_database) == migrations()
    before = await status(empty_database)
    assert await migrate(empty_database) == ()
    assert await status(empty_database) == before
    assert [one.sha256 for one in before.applied] == [one.sha256 for one in migrations()]
    assert before.pending == ()


OF_0_1_0 = """
set search_path to hoverboard, public;
select make_partitions('2026-03-03', '2026-03-04');
insert into model_versions (name, version, weights_sha256, manifest, first_served_at)
    values ('toys', 1, 'ab', '{"task": "regression"}', '2026-03-03'), ('toys', 2147483647, 'cd', '{}', '2026-03-03');
update model_versions set parent_id = 1 where id = 2;
insert into deployments values ('2026-03-03', 'toys', 'stable', 2, 1, 'the highest', 'disk', 'engine-0');
insert into samples (at, id, model, incl_prob, why)
    select sample_at(id), id, 'toys', 1, 'all'
    from (select ('019cb8b8-1e00-7000-8000-' || lpad(n::text, 12, '0'))::uuid as id from generate_series(1, 500) n);
insert into predictions (at, sample_id, version_id, predicted_at, value, batch_id, batch_size, bucket, queue_us, infer_us)
    select at, id, 2, at, 0.1::real, id, 1, 1, 5, 6 from samples;
insert into gaps (at, journal, process, model, version, reason, segment)
    values ('2026-03-03', gen_random_uuid(), 'engine-0', 'toys', 2147483647, 'budget', 7);
insert into recorder_cursor
    values (gen_random_uuid(), 'engine-0', 3, 99, 12, 500, 0, 500, 500, '2026-03-03', '2026-03-04', null);
insert into quarantine values ('2026-03-03', gen_random_uuid(), 1, 2, 3, 4, 'quarantine/x.frame', '23514', 'CheckViolation');
insert into alarms
    select id, 'quiet', 0.01, 9, 1, 0, 9, 1, '{0}', '{0}', '{null}', null, null, null, null, null, null, now()
    from model_versions;
"""
"""A database of version 0.1.0, with rows in the tables that a later migration changes, and in those that hang on them."""


async def test_a_database_of_0_1_0_keeps_its_rows_and_takes_version_numbers_past_32_bits(empty_database: str) -> None:
    async def contents(connection: Any) -> dict[str, list[dict[str, Any]]]:
        tables = [
            row[0]
            for row in await connection.fetch(
                "select table_name from information_schema.tables "
                "where table_schema = 'hoverboard' and table_type = 'BASE TABLE' and table_name <> 'schema_migrations' order by 1"
            )
        ]
        return {
            name: [json.loads(row[0]) for row in await connection.fetch(f"select to_jsonb(t) from {name} t")]
            for name in tables
        }

    await migrate(empty_database, migrations()[:2])
    async with login(empty_database) as connection:
        await connection.execute(OF_0_1_0)
        before = await contents(connection)
    assert await migrate(empty_database) == migrations()[2:]
    async with login(empty_database, "recorder") as connection:
        after = await contents(connection)
        assert after.keys() >= before.keys()
        for name, rows in before.items():  # a later migration may add tables and columns
            assert [{column: row[column] for column in rows[0]} for row in after[name]] == rows
        await connection.execute(
            "insert into model_versions (name, version, weights_sha256, manifest, first_served_at) "
            "values ('toys', 202609011230, 'ef', '{}', now())"
        )


async def test_migrators_at_once_wait_for_each_other(empty_database: str) -> None:
    done = await asyncio.gather(*(migrate(empty_database) for _ in range(4)))
    assert sorted(done, key=len) == [(), (), (), migrations()]


async def test_a_failed_migration_leaves_nothing_and_keeps_what_came_before(empty_database: str) -> None:
    broken = numbered(FIRST, SECOND, "create table hoverboard.third (); select 1 / 0")
    with pytest.raises(MigrationRefused, match=r"^0003_step.sql failed and left nothing behind: division by zero\."):
        await migrate(empty_database, broken)
    found = await status(empty_database, broken)
    assert [one.name for one in found.applied] == ["0001_step.sql", "0002_step.sql"]
    assert found.pending == broken[2:]
    async with login(empty_database) as connection:
        assert await connection.fetchval("select to_regclass('third')") is None
        assert await connection.fetchval("select count(*) from second") == 1


async def test_a_newer_schema_is_refused(empty_database: str) -> None:
    await migrate(empty_database, numbered(FIRST, SECOND))
    sentence = r"schema is at version 2 \(0002_step.sql\) and this Hoverboard knows it only up to 1"
    with pytest.raises(MigrationRefused, match=sentence):
        await migrate(empty_database, numbered(FIRST))
    async with login(empty_database) as connection:
        with pytest.raises(MigrationRefused, match=sentence):
            await require_current(connection, numbered(FIRST))


async def test_a_changed_file_that_was_applied_is_refused(empty_database: str) -> None:
    await migrate(empty_database, numbered(FIRST, SECOND))
    changed = numbered(FIRST, SECOND + " -- better", "create table hoverboard.third ()")
    with pytest.raises(MigrationRefused, match=r"0002_step.sql is not the file that was applied on 20\d\d-"):
        await migrate(empty_database, changed)
    assert (await status(empty_database, numbered(FIRST, SECOND))).pending == ()


async def test_a_schema_with_a_migration_missing_in_the_middle_is_refused(empty_database: str) -> None:
    await migrate(empty_database, numbered(FIRST, SECOND))
    async with login(empty_database) as connection:
        await connection.execute("delete from schema_migrations where version = 1")
    with pytest.raises(MigrationRefused, match=r"has 0002_step.sql, but not 0001_step.sql"):
        await status(empty_database, numbered(FIRST, SECOND))


async def test_writing_waits_for_the_migrations(empty_database: str) -> None:
    async with login(empty_database) as connection:
        with pytest.raises(MigrationRefused, match=r"the database lacks 0001_record.sql; run `hoverboard migrate`"):
            await require_current(connection)
        await migrate(empty_database)
        await require_current(connection)


@pytest.mark.parametrize(
    "names, sentence",
    [
        ([], "there are no migrations"),
        (["0001_a.sql", "0003_b.sql"], "0003_b.sql: expected number 0002 here"),
        (["0001_a.sql", "0001_b.sql"], "0001_b.sql: expected number 0002 here"),
        (["1_a.sql"], "expected a name such as"),
    ],
)
def test_files_that_make_no_sequence_are_refused(names: list[str], sentence: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("select 1")
    with pytest.raises(MigrationRefused, match=sentence):
        read_migrations(tmp_path)


def test_the_command_migrates_and_says_where_it_stands(empty_database: str, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        result = CliRunner().invoke(main, ["migrate", *words], env={"HOVERBOARD_DATABASE_URL": empty_database})
        assert result.exit_code == 0, result.output
        return result.stdout

    names = [one.name for one in migrations()]
    assert json.loads(run("--status")) == {"applied": [], "pending": names, "now": []}
    assert "pending" in run("--status", "--pretty")
    assert json.loads(run())["now"] == names
    assert "Nothing to do" in run("--pretty")
    assert [one["name"] for one in json.loads(run("--status"))["applied"]] == names


def test_the_command_says_what_is_wrong_without_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("postgresql://me:sesame@127.0.0.1:1/db", "postgresql://me:sesame@127.0.0.1:1/db?sslmode=sesame"):
        result = CliRunner().invoke(main, ["migrate", "--database-url", url])
        assert result.exit_code == 1
        assert "Error: " in result.stderr
        assert "sesame" not in result.output
    result = CliRunner().invoke(main, ["migrate"])
    assert "the embedded Postgres of data does not run" in result.stderr


# --- partitions -------------------------------------------------------------------------------------------------------


async def test_partitions_are_days_in_utc_and_made_once(database: str) -> None:
    async with login(database, "recorder") as connection:
        await connection.execute("set timezone to 'Pacific/Auckland'")
        for wanted in (5, 0):
            made = await connection.fetchval("select make_partitions($1, $1)", TODAY)
            assert made == wanted
        await put_sample(connection, datetime(2026, 3, 4, tzinfo=UTC))
        await put_sample(connection, datetime(2026, 3, 4, 23, 59, 59, 999_999, tzinfo=UTC))
        await put_sample(connection, datetime(2026, 3, 5, tzinfo=UTC))
        assert await where_samples_are(connection) == [
            ("samples_2026_03_04", "2026-03-04T00:00:00+00:00"),
            ("samples_2026_03_04", "2026-03-04T23:59:59.999999+00:00"),
            ("samples_default", "2026-03-05T00:00:00+00:00"),
        ]


async def test_rows_that_came_before_their_partition_move_into_it(database: str) -> None:
    async with login(database, "recorder") as connection:
        for day in (3, 4, 5):
            await put_sample(connection, datetime(2026, 3, day, 12, tzinfo=UTC))
        assert await Partitions(connection).ensure([date(2026, 3, 3)], today=TODAY - timedelta(days=7)) == frozenset()
        assert [place for place, _ in await where_samples_are(connection)] == [
            "samples_2026_03_03",
            "samples_default",
            "samples_default",
        ]
        with pytest.raises(asyncpg.RaiseError, match="expected at most 400 days"):
            await connection.fetchval("select make_partitions('2025-01-01', '2027-01-01')")


async def test_a_day_is_asked_for_once_in_a_connection(database: str) -> None:
    async with login(database, "recorder") as connection:
        asked: list[str] = []
        partitions = Partitions(connection)
        connection.add_query_logger(lambda query: asked.append(query.query))
        await partitions.ensure([date(2026, 2, 1)], today=TODAY)
        await asyncio.sleep(0)  # loggers are called a turn later
        assert len(asked) == 2  # a day in February, and four from today on
        await partitions.ensure([date(2026, 2, 1), TODAY + timedelta(days=AHEAD_DAYS)], today=TODAY)
        await asyncio.sleep(0)
        assert len(asked) == 2


async def test_a_lock_held_by_others_is_not_waited_for(database: str) -> None:
    now = 0.0
    async with login(database, "recorder") as connection, login(database, "reader") as reader:
        partitions = Partitions(connection, clock=lambda: now)
        async with reader.transaction():
            await reader.fetchval("select count(*) from samples")
            started = asyncio.get_running_loop().time()
            missing = await partitions.ensure([TODAY], today=TODAY)
            assert asyncio.get_running_loop().time() - started < 5
            assert missing == {TODAY + timedelta(days=ahead) for ahead in range(AHEAD_DAYS + 1)}
            await put_sample(connection, datetime(2026, 3, 4, 12, tzinfo=UTC))
            assert await reader.fetchval("select count(*) from samples") == 1
        assert await partitions.ensure([TODAY], today=TODAY) == missing  # too soon to try again
        now = 31.0
        assert await partitions.ensure([], today=TODAY + timedelta(days=7)) == frozenset()
        assert await where_samples_are(connection) == [("samples_2026_03_04", "2026-03-04T12:00:00+00:00")]


async def test_partitions_made_and_dropped_while_others_insert_never_deadlock(database: str) -> None:
    moment = datetime(2026, 3, 4, 12, tzinfo=UTC)
    inserted = 0
    done = False

    async def insert() -> None:
        nonlocal inserted
        async with login(database, "recorder") as connection:
            while not done:
                async with connection.transaction():
                    await hold(connection)
                    at = moment + timedelta(days=inserted % 60)
                    row = (at, NOON_ID, "m", 1.0, "all")
                    columns = ["at", "id", "model", "incl_prob", "why"]
                    await connection.copy_records_to_table("samples", records=[row], columns=columns)
                    refused = [(at, -32602, "invalid_params")]
                    await connection.copy_records_to_table(
                        "rejections", records=refused, columns=["at", "code", "kind"]
                    )
                inserted += 1

    async def change() -> int:
        made = 0
        async with login(database, "recorder") as connection:
            for offset in range(60):
                day = TODAY + timedelta(days=offset)
                try:
                    made += await connection.fetchval("select make_partitions($1, $1)", day)
                    await connection.fetch("select drop_partitions('2026-01-01')")
                except asyncpg.LockNotAvailableError:
                    continue
        return made

    async with asyncio.TaskGroup() as group:
        inserting = [group.create_task(insert()) for _ in range(2)]
        made = [await one for one in [group.create_task(change()) for _ in range(2)]]
        done = True
    assert all(task.done() for task in inserting)
    assert sum(made) > 60
    async with login(database) as connection:
        counts = await connection.fetchrow("select (select count(*) from samples), (select count(*) from rejections)")
    assert tuple(counts) == (inserted, inserted)


async def test_retention_drops_whole_days_and_old_rows_of_the_default_partition(database: str) -> None:
    now = datetime(2026, 3, 4, 12, tzinfo=UTC)
    async with login(database, "recorder") as connection:
        await put_sample(connection, datetime(1970, 1, 1, tzinfo=UTC))  # a clock that was never set
        await put_sample(connection, datetime(2099, 1, 1, tzinfo=UTC))
        await Partitions(connection).ensure([date(2026, 2, day) for day in (1, 2)], today=TODAY)
        for day in (1, 2):
            await put_sample(connection, datetime(2026, 2, day, 6, tzinfo=UTC))
        dropped = await apply_retention(connection, now=now, retention_days=30)  # all before 2 February, 12:00
        assert dropped == (
            Dropped("samples_2026_02_01", None),
            Dropped("samples_default", 1),
            *(Dropped(f"{table}_2026_02_01", None) for table in DAYS[1:]),
        )
        assert [place for place, _ in await where_samples_are(connection)] == ["samples_2026_02_02", "samples_default"]
        assert await apply_retention(connection, now=now, retention_days=30) == ()


async def test_retention_gives_up_where_somebody_holds_the_tables(database: str) -> None:
    async with login(database, "recorder") as connection, login(database, "reader") as reader:
        await Partitions(connection).ensure([date(2026, 2, 1)], today=TODAY)
        async with reader.transaction():
            await reader.fetchval("select count(*) from samples")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await connection.fetch("select drop_partitions('2026-03-01')")
            assert await reader.fetchval("select count(*) from samples") == 0
        assert await apply_retention(connection, now=datetime(2026, 3, 4, tzinfo=UTC), retention_days=3)


# --- roles ------------------------------------------------------------------------------------------------------------

Login = Callable[[str], AbstractAsyncContextManager[Any]]


@pytest.fixture
def as_member(postgres: Server, database: str) -> Login:
    """A connection as a login that is a member of one role, and nothing else."""

    @asynccontextmanager
    async def member(role: str) -> AsyncIterator[Any]:
        name = f"member_of_{role}"
        postgres.sql(f"create role {name} login password 'p' in role {role}")
        try:
            parts = urlsplit(database)
            url = parts._replace(netloc=f"{name}:p@").geturl()
            async with connected(url, application="test", role=role) as connection:
                yield connection
        finally:
            postgres.sql(f"drop role {name}")

    return member


async def test_a_recorder_writes_and_may_not_change_the_schema(as_member: Login) -> None:
    async with as_member("recorder") as connection:
        assert await connection.fetchval("select current_user") == "recorder"
        await Partitions(connection).ensure([], today=TODAY)
        await put_sample(connection, datetime(2026, 3, 4, tzinfo=UTC))
        assert await connection.execute("delete from samples") == "DELETE 1"
        for forbidden in (
            "create table hoverboard.mine ()",
            "drop table samples_2026_03_04",
            "truncate samples",
            "update samples set why = ''",
            "delete from erasures",
            "delete from schema_migrations",
            "update recorder_cursor set position = 0; delete from recorder_cursor",
            "alter table samples add column more int",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)


async def test_a_reader_reads_everything_and_writes_nothing(as_member: Login, database: str) -> None:
    async with login(database) as owner, as_member("reader") as connection:
        await Partitions(owner).ensure([], today=TODAY)
        await owner.execute("create table later (n int)")
        tables = await connection.fetch(
            "select relname from pg_class where relnamespace = 'hoverboard'::regnamespace and relkind in ('r', 'p')"
        )
        assert {"samples", "samples_2026_03_04", "later"} <= {row[0] for row in tables}
        for row in tables:
            await connection.fetchval(f'select count(*) from "{row[0]}"')
        for forbidden in (
            "insert into labels (sample_id, labelled_at, source) values (gen_random_uuid(), now(), 'x')",
            "delete from samples",
            "select make_partitions('2026-03-04', '2026-03-04')",
            "select drop_partitions(now())",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)


@pytest.fixture
def owner_login(postgres: Server) -> Iterator[tuple[str, str]]:
    """A database of an ordinary login that may create no roles; its URL and the administrator's."""
    postgres.sql("create role app login password 'p'")
    try:
        with postgres.database() as url:
            postgres.sql(f"alter database {urlsplit(url).path[1:]} owner to app")
            yield urlsplit(url)._replace(netloc="app:p@").geturl(), url
    finally:
        postgres.sql("drop role app")


async def test_a_login_without_rights_to_create_roles_migrates_where_they_exist(
    database: str, owner_login: tuple[str, str]
) -> None:
    owner, admin = owner_login
    await migrate(owner)
    with pytest.raises(DatabaseUnavailable, match="the login is no member of recorder; let an administrator run"):
        await connect(owner, application="test")
    async with login(admin) as connection:
        await connection.execute("drop table hoverboard.schema_migrations cascade; drop schema hoverboard cascade")
    await migrate(owner)
    number = len(migrations()) + 1
    later = Migration(number, f"{number:04d}_x.sql", "create table hoverboard.x ()", "")
    assert await migrate(admin, (*migrations(), later)) == (later,)
    async with login(admin) as connection:
        assert await connection.fetchval("select tableowner from pg_tables where tablename = 'x'") == "app"


async def test_missing_roles_that_a_login_may_not_create_are_asked_for(
    postgres: Server, database: str, owner_login: tuple[str, str]
) -> None:
    postgres.sql("alter role recorder rename to recorder_elsewhere")
    try:
        with pytest.raises(
            MigrationRefused, match=r"app may not create the role recorder.*create role recorder nologin"
        ):
            await migrate(owner_login[0])
        with pytest.raises(DatabaseUnavailable, match="has no role recorder; run `hoverboard migrate`"):
            await connect(owner_login[0], application="test")
    finally:
        postgres.sql("alter role recorder_elsewhere rename to recorder")


# --- connecting -------------------------------------------------------------------------------------------------------


async def test_a_connection_is_set_up_whatever_the_servers_defaults(postgres: Server, database: str) -> None:
    name = urlsplit(database).path[1:]
    for setting in ("statement_timeout to 4321", "synchronous_commit to off", "timezone to 'Asia/Tokyo'"):
        postgres.sql(f"alter database {name} set {setting}")
    async with connected(database, application="hoverboard recorder") as connection:
        (settings,) = await connection.fetch(
            "select current_user, current_setting('application_name'), current_setting('search_path'),"
            " current_setting('synchronous_commit'), current_setting('timezone'),"
            " current_setting('statement_timeout')"
        )
        assert tuple(settings) == ("recorder", "hoverboard recorder", "hoverboard, public", "on", "UTC", "0")


async def test_what_cannot_be_used_is_named_without_the_password(postgres: Server, database: str) -> None:
    parts = urlsplit(database)
    assert parts.username
    wrong = {
        parts._replace(netloc=f"{parts.username}:sesame@").geturl(): "password authentication failed",
        parts._replace(path="/nowhere").geturl(): 'database "nowhere" does not exist',
        "postgresql://me:sesame@/db?host=/nowhere": "no connection to Postgres at /nowhere/db as me: No such file",
        "postgresql://me:ses%61me@127.0.0.1:1/db": "no connection to Postgres at 127.0.0.1:1/db as me",
    }
    for url, sentence in wrong.items():
        with pytest.raises(DatabaseUnavailable, match=sentence) as raised:
            await connect(url, application="test")
        assert "sesame" not in str(raised.value)
    for url in ("postgresql://me:sesame@host:port/db", "postgresql://me:sesame@[host/db"):
        with pytest.raises(ConfigError) as refused:
            await connect(url, application="test")
        assert "sesame" not in str(refused.value)


async def test_a_database_that_cannot_hold_every_text_is_refused(postgres: Server) -> None:
    postgres.sql("create database latin encoding 'LATIN1' locale 'C' locale_provider libc template template0")
    try:
        with pytest.raises(DatabaseUnavailable, match="is a database in LATIN1"):
            await connect(postgres.url("latin"), application="test")
    finally:
        postgres.sql("drop database latin with (force)")


@asynccontextmanager
async def listening(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """The URL of something that is no Postgres; one client's conversation is over when this ends."""
    over = asyncio.Event()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            over.set()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    async with server:
        yield f"postgresql://me:sesame@127.0.0.1:{server.sockets[0].getsockname()[1]}/db"
        await asyncio.wait_for(over.wait(), 10)


async def test_tls_that_is_required_is_never_done_without() -> None:
    heard = bytearray()

    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.readexactly(8))
        writer.write(b"N")
        heard.extend(await reader.read())

    async with listening(no_tls) as url:
        with pytest.raises(DatabaseUnavailable, match="rejected SSL upgrade"):
            await connect(f"{url}?sslmode=require", application="test")
    assert bytes(heard) == bytes.fromhex("0000000804d2162f")  # an SSLRequest, and nothing after the refusal


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as url:
        with pytest.raises(
            DatabaseUnavailable, match=r"no answer from Postgres at 127.0.0.1:\d+/db as me within 0.2 s"
        ):
            await connect(url, application="test", connect_timeout_s=0.2)
