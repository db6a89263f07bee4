"""Who asks questions changes nothing, sees one state of the database, and is told why there is no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hoverboard.config import Settings
from hoverboard.database.connect import connect
from hoverboard.errors import ConfigError, DatabaseUnavailable, MigrationRefused
from hoverboard.postmortem.reading import reading
from tests.postgres import Server


def settings_of(url: str) -> Settings:
    return Settings.load(database_url=url)


async def test_it_is_the_reader_and_may_not_write(database: str) -> None:
    async with reading(settings_of(database), application="test") as connection:
        assert await connection.fetchval("select current_user") == "reader"
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            async with connection.transaction():
                await connection.execute(
                    "insert into labels (sample_id, labelled_at, source) values (gen_random_uuid(), now(), '')"
                )
        assert await connection.fetchval("select count(*) from labels") == 0


async def test_it_sees_the_database_as_it_was_when_it_came(database: str) -> None:
    async with reading(settings_of(database), application="test") as connection:
        assert await connection.fetchval("select count(*) from labels") == 0
        writer = await connect(database, application="test")
        await writer.execute(
            "insert into labels (sample_id, labelled_at, source) values (gen_random_uuid(), now(), '')"
        )
        await writer.close()
        assert await connection.fetchval("select count(*) from labels") == 0
    async with reading(settings_of(database), application="test") as connection:
        assert await connection.fetchval("select count(*) from labels") == 1


async def test_a_statement_that_takes_too_long_is_given_up_and_told(database: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="statement timeout"):
        async with reading(settings_of(database), application="test", statement_timeout_s=0.05) as connection:
            await connection.fetchval("select pg_sleep(20)")


@pytest.fixture
def logins(postgres: Server) -> Iterator[dict[str, str]]:
    names = {"only_reads": "in role reader", "only_records": "in role recorder", "nobody": ""}
    for name, roles in names.items():
        postgres.sql(f"create role {name} login password 'secret' {roles}")
    yield names
    for name in names:
        postgres.sql(f"drop role {name}")


def as_login(database: str, name: str) -> str:
    _, _, rest = database.partition("@")
    return f"postgresql://{name}:secret@{rest}"


@pytest.mark.usefixtures("logins")
async def test_any_login_that_may_read_will_do(database: str) -> None:
    for name, works_as in (("only_reads", "reader"), ("only_records", "only_records")):
        async with reading(settings_of(as_login(database, name)), application="test") as connection:
            assert await connection.fetchval("select current_user") == works_as
            assert await connection.fetchval("select count(*) from samples") == 0
    with pytest.raises((DatabaseUnavailable, MigrationRefused)):
        async with reading(settings_of(as_login(database, "nobody")), application="test"):
            pass


def test_without_a_service_and_without_a_url_it_says_what_runs_the_database(tmp_path: Path) -> None:
    async def read(settings: Settings) -> Any:
        async with reading(settings, application="test"):
            pass

    with pytest.raises(ConfigError, match=r"hoverboard serve.*--data-dir"):
        asyncio.run(read(Settings.load(data_dir=tmp_path)))
