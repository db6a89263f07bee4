"""docs/database.md, done from top to bottom against a server of its own that has nothing yet."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hoverboard.database.connect import connect, connected
from hoverboard.errors import DatabaseUnavailable
from tests.integration.running import HOVERBOARD
from tests.postgres import Server, server

PAGE = Path(__file__).parents[2] / "docs" / "database.md"


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who does what the page says."""

    server: Server
    folder: Path

    def follow(self, heading: str) -> str:
        """Do all blocks of a section, in order; returns what was printed."""
        section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        assert section
        blocks = re.findall(r"^```(\w+)\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
        assert blocks
        return "\n".join(self._sql(text) if kind == "sql" else self._shell(text) for kind, text in blocks)

    def url(self, login: str, password: str, database: str) -> str:
        return urlsplit(self.server.url(database))._replace(netloc=f"{login}:{password.replace(' ', '%20')}@").geturl()

    def _sql(self, text: str) -> str:
        database = "records" if "hoverboard." in text else "postgres"
        return "\n".join(self.server.sql(statement, database) for statement in text.split(";\n") if statement.strip())

    def _shell(self, text: str) -> str:
        programs = self.folder / "bin"
        programs.mkdir(exist_ok=True)
        shim = programs / "hoverboard"
        shim.write_text(f'#!/bin/sh\nexec {" ".join(HOVERBOARD)} "$@"\n')
        shim.chmod(0o755)
        variables = {
            "PATH": f"{programs}:{self.server.cluster.programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(PAGE.parents[1]),
            "OWNER_URL": self.url("hoverboard_owner", "change me", "records"),
            "SERVICE_URL": self.url("hoverboard_service", "change me too", "records"),
            "RESTORED_URL": self.url("hoverboard_owner", "change me", "restored"),
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("database_page")
    (folder / "data").mkdir()
    with server(folder / "data") as running:
        yield Reader(running, folder)


async def test_the_page_sets_up_a_database_backs_it_up_and_restores_it(reader: Reader) -> None:
    reader.follow("Roles")
    assert '"pending": []' in reader.follow("Migrate")
    service = reader.url("hoverboard_service", "change me too", "records")
    async with connected(service, application="test") as connection:
        assert await connection.fetchval("select current_user") == "recorder"
        await connection.fetchval("select make_partitions('2025-12-31', '2026-01-01')")
        for day in ("2025-12-31", "2026-01-01", "2199-01-01"):
            await connection.execute(
                "insert into samples (at, id, model, incl_prob, why)"
                f" values ('{day} 12:00', gen_random_uuid(), 'm', 1, 'all')"
            )
    with pytest.raises(DatabaseUnavailable, match="no member of recorder"):
        await connect(reader.url("alice", "and me", "records"), application="test")

    reader.follow("Back up")
    reader.follow("Restore")
    restored = reader.url("hoverboard_service", "change me too", "restored")
    async with connected(restored, application="test") as connection:
        rows = await connection.fetch("select tableoid::regclass::text from samples order by at")
        assert [row[0] for row in rows] == ["samples_2025_12_31", "samples_2026_01_01", "samples_default"]
        assert await connection.fetchval("select make_partitions('2026-01-02', '2026-01-02')") == 5
        await connection.execute(
            "insert into labels (sample_id, labelled_at, source) values (gen_random_uuid(), now(), 's')"
        )
    async with connected(reader.url("alice", "and me", "restored"), application="test", role=None) as connection:
        assert await connection.fetchval("select count(*) from samples_2026_01_02") == 0
        assert await connection.fetchval("select count(*) from samples") == 3

    printed = reader.follow("Retention").splitlines()
    assert printed[0].startswith("samples|1|2199-01-01")
    assert printed[1] == "predictions|0||"
    assert printed[2:] == [
        f"{table}_2025_12_31|" for table in ("samples", "predictions", "outliers", "features", "rejections")
    ]
