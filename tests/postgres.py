"""A real Postgres for tests: one throwaway server a session, and a database of its own for each test that asks."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hoverboard.database.connect import Connection, connect
from hoverboard.database.migrate import migrate
from hoverboard.postgres.cluster import Cluster
from hoverboard.postgres.programs import environment

QUICK = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB", "max_connections": "60"}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        cluster: its files.
        socket_dir: the folder of its socket.
        pid: its process id.
    """

    cluster: Cluster
    socket_dir: Path
    pid: int

    def url(self, database: str) -> str:
        """How asyncpg and libpq reach one of its databases, as its superuser."""
        return self.cluster.url(self.socket_dir, database)

    def sql(self, text: str, database: str = "postgres") -> str:
        """Run SQL with psql; returns what it printed, unaligned, without headers."""
        psql = [str(self.cluster.programs / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]
        command = [*psql, "--set=ON_ERROR_STOP=1", "--dbname", self.url(database), "--command", text]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The URL of a new database, which is dropped at the end with whoever is still connected."""
        name = f"test_{uuid.uuid4().hex}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def server(data_dir: Path) -> Iterator[Server]:
    """Make a cluster in `data_dir` that is quick rather than durable, and run it until the end."""
    cluster = Cluster.of(data_dir)
    cluster.make(QUICK, sync=False)
    log = data_dir / "postgres.log"
    with cluster.socket_directory() as socket_dir, log.open("wb") as out:
        command = cluster.command(socket_dir)
        process = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            _wait_ready(cluster, socket_dir, process, log)
            yield Server(cluster, socket_dir, process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _wait_ready(cluster: Cluster, socket_dir: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    ready = [str(cluster.programs / "pg_isready"), "--quiet", "--host", str(socket_dir)]
    while subprocess.run(ready, env=environment(), check=False).returncode != 0:
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The session's server; started when the first test asks for it."""
    with server(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture(scope="session")
def migrated_template(postgres: Server) -> str:
    """The name of a database with every migration applied; nobody connects to it."""
    name = "migrated"
    postgres.sql(f"CREATE DATABASE {name}")
    # In a thread: pytest-asyncio keeps a loop of its own in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, migrate(postgres.url(name))).result()
    return name


@pytest.fixture
def database(postgres: Server, migrated_template: str) -> Iterator[str]:
    """The URL of a database of the test's own, with every migration applied."""
    with postgres.database(migrated_template) as url:
        yield url


@pytest.fixture
async def sql(database: str) -> AsyncIterator[Connection]:
    """Somebody who looks at its tables, as their owner."""
    connection = await connect(database, application="test", role=None)
    yield connection
    await connection.close()


@pytest.fixture
def empty_database(postgres: Server) -> Iterator[str]:
    """The URL of a database of the test's own, with nothing in it."""
    with postgres.database() as url:
        yield url
