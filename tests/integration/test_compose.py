"""The local stack without Docker: the commands, variables and files of docker-compose.yml, run natively in its order.

What differs: hosts and ports are free ones of this machine, files are in temporary directories, and the service has
one of the image's models, to be ready sooner.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from hoverboard.postgres.cluster import Cluster
from hoverboard.postgres.programs import environment as postgres_environment
from hoverboard.supervisor.claims import LOCK_FILE
from tests.integration.recorded import until
from tests.integration.running import HOVERBOARD, free_port
from tests.postgres import QUICK
from tests.stack import ROOT, compose, image

VALUES = {"OWNER_PASSWORD": "0wnerOfRecords", "SERVICE_PASSWORD": "s3rviceOfRecords"}
SERVICES: Mapping[str, Any] = compose(VALUES)["services"]
DIAMOND = {
    "carat": 0.7,
    "depth": 61.5,
    "table": 57.0,
    "x": 5.7,
    "y": 5.7,
    "z": 3.5,
    "cut": "Ideal",
    "color": "E",
    "clarity": "VS2",
}

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def of_image(folder: Path, **changes: str) -> dict[str, str]:
    """A container's environment without what compose adds: the image's, but for our paths and PATH."""
    place = {"HOVERBOARD_HOST": "127.0.0.1", "HOVERBOARD_ADMIN_PORT": str(free_port()), "HOME": str(folder / "data")}
    paths = {"HOVERBOARD_MODELS": str(folder / "models"), "HOVERBOARD_DATA_DIR": str(folder / "data")}
    return image().environment | place | paths | {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | changes


@dataclass(frozen=True, slots=True)
class Database:
    """The service `postgres`: its image's way to its first start is gone, then it is as any other.

    Attributes:
        folder: working directory of what is run beside it.
        programs: the folder of Postgres' programs.
        port: on loopback.
        health: exit statuses of its health check: while it initialised, and once it was up.
        migrated: what `migrate` printed, each of the two times.
    """

    folder: Path
    programs: Path
    port: int
    health: Sequence[int]
    migrated: Sequence[Mapping[str, Any]]

    def url(self, service: str) -> str:
        """The database URL of a service, as it is reached from here."""
        url: str = SERVICES[service]["environment"]["HOVERBOARD_DATABASE_URL"]
        return reached(url, self.port)

    def sql(self, service: str, text: str) -> subprocess.CompletedProcess[str]:
        """Run SQL with psql and the login of a service."""
        psql = [str(self.programs / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", text]
        return run([*psql, "--set=ON_ERROR_STOP=1", self.url(service)], postgres_environment(), self.folder)

    def count(self, table: str) -> int:
        """Rows, as the owner sees them."""
        done = self.sql("migrate", f"select count(*) from {table}")
        assert done.returncode == 0, done.stderr
        return int(done.stdout)


def reached(url: str, port: int) -> str:
    assert "@postgres/" in url
    return url.replace("@postgres/", f"@127.0.0.1:{port}/")


@contextmanager
def postgres_server(cluster: Cluster, port: int, addresses: str) -> Iterator[Path]:
    """Run the cluster; gives the folder of its socket, on which it answers."""
    with cluster.socket_directory() as socket_dir:
        command = cluster.command(socket_dir, {"port": str(port), "listen_addresses": addresses})
        process = subprocess.Popen(
            command,
            env=postgres_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            ready = [str(cluster.programs / "pg_isready"), "--host", str(socket_dir), "--port", str(port)]
            until(lambda: run(ready, postgres_environment(), socket_dir).returncode, lambda status: status == 0)
            yield socket_dir
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def healthy(cluster: Cluster, port: int) -> int:
    """The health check of the service `postgres`."""
    how, program, *arguments = SERVICES["postgres"]["healthcheck"]["test"]
    assert how == "CMD"
    check = [str(cluster.programs / program), *arguments]
    return run(check, postgres_environment() | {"PGPORT": str(port)}, cluster.data_dir).returncode


def initialise(cluster: Cluster, socket_dir: Path, port: int) -> None:
    """What the image does when its volume is empty: POSTGRES_USER and POSTGRES_DB, then the scripts."""
    given = SERVICES["postgres"]["environment"]
    superuser = cluster.url(socket_dir, "postgres").replace("port=5432", f"port={port}")
    psql = [str(cluster.programs / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", superuser]
    owner, database = given["POSTGRES_USER"], given["POSTGRES_DB"]
    make = f"create role {owner} superuser login password '{given['POSTGRES_PASSWORD']}'"
    for statement in (make, f"create database {database} owner {owner}"):
        done = run([*psql, "--command", statement], postgres_environment(), socket_dir)
        assert done.returncode == 0, done.stderr
    (script,) = [
        mount.split(":")[0] for mount in SERVICES["postgres"]["volumes"] if "/docker-entrypoint-initdb.d/" in mount
    ]
    path = {"PATH": os.pathsep.join([str(cluster.programs), os.environ["PATH"]])}
    at = {"PGHOST": str(socket_dir), "PGPORT": str(port), "PGPASSWORD": given["POSTGRES_PASSWORD"]}
    done = run([str(ROOT / script)], postgres_environment() | path | at | given, socket_dir)
    assert done.returncode == 0, done.stderr


def migrate(folder: Path, url: str) -> Mapping[str, Any]:
    """The service `migrate`, to its end."""
    environment = of_image(folder, **{**SERVICES["migrate"]["environment"], "HOVERBOARD_DATABASE_URL": url})
    done = run([*HOVERBOARD, *SERVICES["migrate"]["command"]], environment, folder)
    assert done.returncode == 0, done.stderr
    printed: Mapping[str, Any] = json.loads(done.stdout)
    return printed


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "volume").mkdir()
    cluster, port = Cluster.of(folder / "volume"), free_port()
    cluster.make(QUICK, sync=False)
    with postgres_server(cluster, port, addresses="") as socket_dir:
        while_initialising = healthy(cluster, port)
        initialise(cluster, socket_dir, port)
    with postgres_server(cluster, port, addresses="127.0.0.1"):
        health = [while_initialising, healthy(cluster, port)]
        url = reached(SERVICES["migrate"]["environment"]["HOVERBOARD_DATABASE_URL"], port)
        yield Database(folder, cluster.programs, port, health, [migrate(folder, url), migrate(folder, url)])


def test_postgres_is_healthy_only_once_its_image_has_initialised_it(database: Database) -> None:
    during, after = database.health
    assert during != 0
    assert after == 0


def test_migrating_again_does_nothing(database: Database) -> None:
    first, second = database.migrated
    assert first["now"] == [one["name"] for one in first["applied"]]
    assert first["now"]
    assert second["now"] == []
    assert second["applied"] == first["applied"]


@pytest.mark.parametrize(
    "statement",
    [
        "create table hoverboard.mine (id int)",
        "create table public.mine (id int)",
        "create schema mine",
        "create role mine",
        "drop table hoverboard.samples",
        "alter table hoverboard.samples add column mine int",
        "truncate hoverboard.samples",
        "delete from hoverboard.schema_migrations",
        "set role hoverboard_owner",
        "copy hoverboard.samples to program 'cat'",
    ],
)
def test_the_services_login_may_record_and_nothing_else(database: Database, statement: str) -> None:
    refused = database.sql("hoverboard", statement)
    assert refused.returncode != 0
    assert "permission denied" in refused.stderr or "must be owner" in refused.stderr


@dataclass(frozen=True, slots=True)
class Service:
    """The service `hoverboard`.

    Attributes:
        process: its supervisor.
        environment: of its container.
        folder: its working directory.
        log: what it writes to stderr.
    """

    process: subprocess.Popen[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path

    @property
    def port(self) -> int:
        return int(self.environment["HOVERBOARD_PORT"])

    def healthy(self) -> bool:
        """Whether the image's health check passes."""
        python, *arguments = image().healthcheck
        assert python == "python"
        return run([sys.executable, *arguments], self.environment, self.folder).returncode == 0

    def predict(self) -> str:
        """The sample id of one more prediction."""
        body = {"jsonrpc": "2.0", "id": 1, "method": "predict", "params": {"model": "diamonds", "instances": [DIAMOND]}}
        data, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
        with _opener.open(urllib.request.Request(f"http://127.0.0.1:{self.port}/", data, kind), timeout=30) as answer:
            said = json.loads(answer.read())
        assert "result" in said, said
        return str(said["result"]["predictions"][0]["sample_id"])

    def written(self) -> set[Path]:
        """The files that its processes hold open to write to, its log aside."""
        supervisor = psutil.Process(self.process.pid)
        files = {
            Path(file.path)
            for process in [supervisor, *supervisor.children(recursive=True)]
            for file in process.open_files()
            if {"w", "a", "+"} & set(file.mode)
        }
        return files - {self.log}


@contextmanager
def served(folder: Path, url: str) -> Iterator[Service]:
    """The service `hoverboard`, from its start; killed at the end, should it still be there."""
    given = {**SERVICES["hoverboard"]["environment"], "HOVERBOARD_DATABASE_URL": url}
    environment = of_image(folder, **given, HOVERBOARD_PORT=str(free_port()))
    log = folder / "service.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*HOVERBOARD, *SERVICES["hoverboard"]["command"]],
            env=environment,
            cwd=folder / "data",
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        with process:
            try:
                yield Service(process, environment, folder, log)
            except BaseException:
                sys.stderr.write(log.read_text())  # pytest shows it beside what failed
                raise
            finally:
                process.kill()


def of_prometheus(program: str) -> str:
    """The path of one of Prometheus' programs."""
    fetched = ROOT / ".make" / "prometheus" / "usr" / "bin"
    found = shutil.which(program, path=os.pathsep.join([str(fetched), os.environ["PATH"]]))
    assert found, "no Prometheus; `make test` fetches Debian's; or: apt-get install prometheus, brew install prometheus"
    return found


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    """The service `prometheus`, scraping a port of this machine; gives its URL."""
    written = (ROOT / "deploy/prometheus.yml").read_text()
    assert written.count("hoverboard:8080") == 1
    config, data, port = folder / "prometheus.yml", folder / "prometheus", free_port()
    config.write_text(written.replace("hoverboard:8080", f"127.0.0.1:{target}"))
    places = {"/etc/prometheus/prometheus.yml": str(config), "/prometheus": str(data)}
    flags = [flag.partition("=") for flag in SERVICES["prometheus"]["command"]]
    command = [of_prometheus("prometheus"), *(f"{name}={places[place]}" for name, _, place in flags)]
    with (folder / "prometheus.log").open("w") as log:
        listen = f"--web.listen-address=127.0.0.1:{port}"
        process = subprocess.Popen([*command, listen], cwd=folder, stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}"
            assert process.poll() is None, (folder / "prometheus.log").read_text()
        finally:
            process.terminate()
            process.wait(30)


def asked(prometheus_url: str, query: str) -> list[tuple[dict[str, str], float]]:
    """What Prometheus knows now: labels and value of each series."""
    try:
        url = f"{prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with _opener.open(url, timeout=5) as answer:
            found = json.loads(answer.read())["data"]["result"]
    except OSError:
        return []  # it does not listen yet
    return [(series["metric"], float(series["value"][1])) for series in found]


def test_the_service_becomes_healthy_records_is_scraped_and_drains(database: Database, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    shutil.copytree(ROOT / "models" / "diamonds", tmp_path / "models" / "diamonds")
    with served(tmp_path, database.url("hoverboard")) as service:
        assert not service.healthy()
        assert service.process.stdout is not None
        assert service.process.stdout.readline(), service.log.read_text()
        assert service.healthy()
        with _opener.open(f"http://127.0.0.1:{service.port}/metrics", timeout=30) as exposed:
            kind = exposed.headers["Content-Type"]
        assert (
            kind == "text/plain; version=0.0.4; charset=utf-8"
        )  # Prometheus 3 drops a scrape whose format it has to guess

        samples = [service.predict() for _ in range(3)]
        with prometheus(tmp_path, service.port) as url:
            until(lambda: database.count("predictions"), lambda rows: rows == 3)
            recorder = database.sql("migrate", "select distinct usename from pg_stat_activity where client_port > 0")
            assert "hoverboard_service" in recorder.stdout.split()
            if sys.platform == "linux":  # elsewhere a file's mode is not known
                runtime = json.loads((tmp_path / "data" / LOCK_FILE).read_text())["runtime"]
                written = service.written()
                assert written
                places = (tmp_path / "data", Path(runtime))
                assert [path for path in written if not any(map(path.is_relative_to, places))] == []
            query = 'hoverboard_calls_total{method="predict"}'
            ((labels, value),) = until(lambda: asked(url, query), lambda series: len(series) > 0)
        assert value == 3
        expected = {"job": "hoverboard", "model": "diamonds", "version": "2", "role": "stable", "code": "0"}
        assert expected.items() <= labels.items()

        samples.append(service.predict())
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0, service.log.read_text()
    assert sorted(path.name for path in (tmp_path / "models").rglob("*")) == sorted(
        ["diamonds", *(path.name for path in (ROOT / "models/diamonds").rglob("*"))]
    )
    found = database.sql("migrate", "select sample_id from predictions order by sample_id").stdout.split()
    assert found == sorted(samples)
    assert database.count("samples") == 4
    assert VALUES["SERVICE_PASSWORD"] not in service.log.read_text()
    assert {json.loads(line)["process"] for line in service.log.read_text().splitlines()} >= {"supervisor", "engine-0"}


def test_promtool_finds_nothing_in_the_configuration_of_prometheus() -> None:
    done = run(
        [of_prometheus("promtool"), "check", "config", str(ROOT / "deploy/prometheus.yml")], dict(os.environ), ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
