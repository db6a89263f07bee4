"""`hoverboard serve` with its recorder and its database, as they come and go together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hoverboard.postgres import leftovers
from hoverboard.postgres.cluster import Cluster
from tests.integration.running import HOVERBOARD, Service, environment, free_port, running

ON = {"HOVERBOARD_RECORDING": "on"}
COUNT = ("--", "-t", "-A", "-c", "select count(*) from predictions")


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A working directory with one small model."""
    shutil.copytree(published / "constant", tmp_path / "models" / "constant")
    return tmp_path


def hoverboard(service: Service, *arguments: str) -> str:
    command = [*HOVERBOARD, *arguments]
    done = subprocess.run(
        command, cwd=service.folder, env=service.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def recorded(service: Service, expected: int) -> None:
    """Wait until so many predictions are in the database."""
    end = time.monotonic() + 60
    while True:
        done = subprocess.run(
            [*HOVERBOARD, "psql", *COUNT],
            cwd=service.folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0 and done.stdout.strip() == str(expected):
            return
        assert time.monotonic() < end, (done.stdout, done.stderr, service.log.read_text())
        time.sleep(0.2)


def events(service: Service) -> list[str]:
    return [json.loads(line)["event"] for line in service.log.read_text().splitlines() if line.startswith("{")]


def test_answers_are_recorded_outlive_the_supervisor_and_are_there_next_time(folder: Path) -> None:
    with running(folder, ON, status=-signal.SIGKILL) as first:
        hoverboard(first, "predict", "constant", "[1, 2]")
        recorded(first, 1)
        who = "select distinct usename from pg_stat_activity where application_name = 'hoverboard recorder'"
        assert hoverboard(first, "psql", "--", "-tAc", who) == "recorder"
        first.process.kill()
        first.process.wait()
        end = time.monotonic() + 20
        while leftovers.processes(Cluster.of(folder / "data")):
            assert time.monotonic() < end
            time.sleep(0.05)
    with running(folder, ON) as second:
        hoverboard(second, "predict", "constant", "[3, 4]")
        recorded(second, 2)
    said = events(second)
    order = ["api_stopped", "engine_draining", "recorder_stopped", "postgres_stopped", "service_stopped"]
    assert [event for event in said if event in order] == order
    assert "child_died" not in said
    assert "child_killed" not in said
    assert leftovers.processes(Cluster.of(folder / "data")) == []


def test_what_becomes_of_its_processes_is_on_the_time_axis_of_events(folder: Path) -> None:
    query = "select kind, subject, detail from events where model is null order by at"

    def told(service: Service) -> list[tuple[str, ...]]:
        lines = hoverboard(service, "psql", "--", "-tAc", query).splitlines()
        return [tuple(line.split("|")) for line in lines]

    with running(folder, ON) as first:
        hoverboard(first, "predict", "constant", "[1, 2]")
        recorded(first, 1)
        first.children("_engine")[0].kill()
        until_told(lambda: [event[0] for event in told(first) if event[1] == "engine-0"] == ["start", "death", "start"])
        assert ("death", "engine-0", "killed by SIGKILL") in told(first)
    with running(folder, ON, status=-signal.SIGKILL) as second:
        until_told(lambda: told(second).count(("start", "supervisor", "")) == 2)
        found = told(second)
        second.process.kill()
    engine = [kind for kind, subject, _ in found if subject == "engine-0"]
    assert engine == ["start", "death", "start", "stop", "start"]
    assert [kind for kind, subject, _ in found if subject == "supervisor"] == ["start", "stop", "start"]
    assert {subject for kind, subject, _ in found if kind == "start"} >= {"api-0", "recorder-0", "postgres-0"}
    assert found[0] == ("start", "supervisor", "")
    # Killed, it has no time to say so: its next start without a stop before it does.
    with running(folder, ON) as third:
        until_told(lambda: told(third).count(("start", "supervisor", "")) == 3)
        assert [kind for kind, subject, _ in told(third) if subject == "supervisor"] == [
            "start",
            "stop",
            "start",
            "start",
        ]


def until_told(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.fixture
def odd(published: Path, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A private folder with a name of many kinds, whose models are read-only; and a folder for temporary files that runs
    no program, where we may make one."""
    folder, temporary = tmp_path / "it's a  \u00fcbung %s $HOME", tmp_path / "tmp"
    folder.mkdir(mode=0o700)
    temporary.mkdir()
    shutil.copytree(published / "constant", folder / "models" / "constant")
    for path in [*(folder / "models").rglob("*"), folder / "models"]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    mount = ["mount", "-t", "tmpfs", "-o", "noexec,mode=1777", "tmpfs", str(temporary)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    yield folder, temporary
    if mounted:
        subprocess.run(["umount", "--lazy", str(temporary)], check=True)


def test_it_records_in_a_private_folder_with_an_odd_name_and_a_umask_and_without_a_home(
    odd: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, temporary = odd
    monkeypatch.delenv("HOME", raising=False)
    before = os.umask(0o077)
    try:
        with running(folder, ON | {"TMPDIR": str(temporary)}) as service:
            assert until_recording(service, "working") == {"state": "working"}
            hoverboard(service, "predict", "constant", "[1, 2]")
            recorded(service, 1)
    finally:
        os.umask(before)
    assert not list(temporary.iterdir())


def readyz(service: Service) -> tuple[int, dict[str, Any]]:
    with urllib.request.urlopen(f"{service.url}/readyz?verbose", timeout=20) as response:
        return response.status, json.loads(response.read())["recording"]


def until_recording(service: Service, state: str) -> dict[str, Any]:
    """Wait until recording is in a state; the service is ready all the time."""
    end = time.monotonic() + 60
    while True:
        status, recording = readyz(service)
        assert status == 200
        if recording["state"] == state:
            return recording
        assert time.monotonic() < end, (recording, service.log.read_text())
        time.sleep(0.1)


def test_where_no_database_can_be_made_that_is_told_once_and_mended_without_a_restart(folder: Path) -> None:
    in_its_way = folder / "data" / "postgres"
    in_its_way.parent.mkdir()
    in_its_way.symlink_to("nowhere")  # so that renaming the new cluster to this name fails
    with running(folder, ON) as service:
        hoverboard(service, "predict", "constant", "[1, 2]")
        why = until_recording(service, "failing")
        assert str(in_its_way) in why["why"]
        assert "wait in the journals" in why["then"]
        time.sleep(3)
        assert events(service).count("postgres_cannot_start") == 1
        assert "child_died" not in events(service)
        assert "child_cannot_start" not in events(service)
        in_its_way.unlink()
        assert until_recording(service, "working") == {"state": "working"}
        recorded(service, 1)


def test_an_absent_database_holds_nothing_up_and_its_url_is_the_recorders_alone(folder: Path) -> None:
    url = f"postgresql://writer:s3cret-s3cret@127.0.0.1:{free_port()}/records"
    with running(folder, ON | {"HOVERBOARD_DATABASE_URL": url}) as service:
        hoverboard(service, "predict", "constant", "[1, 2]")
        assert service.children("_postgres") == []
        assert len(service.children("_recorder")) == 1
        assert "no connection to Postgres at 127.0.0.1" in until_recording(service, "failing")["why"]
        if sys.platform == "linux":
            told = [child for child in service.children() if url in child.environ().values()]
            assert told == service.children("_recorder")
        supervisor = psutil.Process(service.process.pid)
        assert not any("s3cret" in part for child in supervisor.children() for part in child.cmdline())
        runtime = Path(json.loads((folder / "data" / "lock").read_text())["runtime"])
        assert not [path for path in runtime.iterdir() if path.is_file() and b"s3cret" in path.read_bytes()]
    assert "s3cret" not in service.log.read_text()
