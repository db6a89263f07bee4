"""The whole service as a person runs it: `hoverboard serve`, its processes, their deaths and its end."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from hoverboard.config import ENV_PREFIX
from tests.disks import small_disk


class Service:
    """A running `hoverboard serve` on free ports, as its process and its addresses."""

    def __init__(self, process: subprocess.Popen[str], data_dir: Path, log: list[str]) -> None:
        self.process = process
        self.data_dir = data_dir
        self.log = log
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "ended before it was ready:\n" + "".join(log)
        self.ready = json.loads(line)
        self.url: str = self.ready["url"]
        self.runtime = Path(json.loads((data_dir / "lock").read_text())["runtime"])

    def child(self, kind: str) -> psutil.Process:
        """The one child of a kind, `_engine` or `_api`."""
        (found,) = [each for each in psutil.Process(self.process.pid).children() if kind in each.cmdline()]
        return found

    def get(self, path: str) -> tuple[int, str]:
        return fetch(urllib.request.Request(self.url + path))

    def call(self, method: str, **params: Any) -> tuple[int, Any]:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        status, text = fetch(urllib.request.Request(self.url, body, {"Content-Type": "application/json"}))
        return status, json.loads(text)

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log if line.startswith("{")]


def fetch(request: urllib.request.Request) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def command(models: Path, data_dir: Path, *flags: str) -> list[str]:
    place = ["--models", str(models), "--data-dir", str(data_dir), "--recording", "off"]
    ports = ["--port", "0", "--admin-port", "0"]
    return [sys.executable, "-m", "hoverboard", "serve", *place, *ports, "--xla", "off", *flags]


@contextlib.contextmanager
def serving(models: Path, data_dir: Path, *flags: str, prefix: Sequence[str] = ()) -> Iterator[Service]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
    log: list[str] = []
    with subprocess.Popen(
        [*prefix, *command(models, data_dir, *flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        reader = threading.Thread(target=log.extend, args=(process.stderr,))
        reader.start()
        try:
            yield Service(process, data_dir, log)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()
                reader.join(20)


@pytest.fixture
def models(published: Path, tmp_path: Path) -> Path:
    """One small model: these tests are about processes."""
    root = tmp_path / "models"
    root.mkdir()
    (root / "dense").symlink_to(published / "dense")
    return root


INSTANCE = [0.5] * 8


def test_it_answers_and_says_where_and_leaves_nothing_behind(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path / "data") as service:
        assert service.ready["models"] == {"dense": {"stable": 2}}
        assert service.get("/readyz")[0] == 200
        status, answer = service.call("predict", model="dense", instances=[INSTANCE])
        assert (status, answer["result"]["version"]) == (200, 2)

        token = tmp_path / "data" / "admin.token"
        assert service.ready["admin_token_file"] == str(token)
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert token.read_text().strip() not in "".join(service.log)

        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 0
    assert not service.runtime.exists()
    events = service.events()
    assert events.index("api_draining") < events.index("engine_draining") < events.index("service_stopped")
    assert "child_killed" not in events


def test_metrics_of_all_its_processes_come_from_one_place(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path / "data", "--api-workers", "2") as service:
        for _ in range(5):
            service.call("predict", model="dense", instances=[INSTANCE])
        counted = re.compile(
            r'hoverboard_calls_total\{code="0",method="predict",model="dense",role="stable",version="2"\} 5\.0'
        )
        until(lambda: counted.search(service.get("/metrics")[1]), 5)
        text = service.get("/metrics")[1]
        for line in (
            'hoverboard_batch_size_count{model="dense"} 5.0',
            'hoverboard_live_version{model="dense",role="stable"} 2.0',
            'hoverboard_loads_total{model="dense",outcome="ok",version="2"} 1.0',
            'hoverboard_child_restarts_total{child="engine-0"} 0.0',
            'hoverboard_child_restarts_total{child="api-1"} 0.0',
        ):
            assert line in text


def test_thread_settings_take_effect(models: Path, tmp_path: Path) -> None:
    def threads(*flags: str) -> tuple[int, int]:
        """Of the engine: those that run operations, and all."""
        with serving(models, tmp_path / "data", *flags) as service:
            assert service.call("predict", model="dense", instances=[INSTANCE])[0] == 200
            tasks = Path(f"/proc/{service.child('_engine').pid}/task")
            names = [(task / "comm").read_text().strip() for task in tasks.iterdir()]
            return names.count("tf_Compute"), len(names)

    operations, few = threads("--intra-op-threads", "1", "--inter-op-threads", "2")
    assert operations == 2
    operations, many = threads("--intra-op-threads", "6", "--inter-op-threads", "3")
    assert (operations, many) == (3, few + 5 + 1)


def test_a_killed_engine_comes_back_while_the_api_answers_not_ready(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path / "data") as service:
        api = service.child("_api").pid
        service.child("_engine").kill()
        seen = []
        begun = time.monotonic()

        def answered() -> bool:
            status, answer = service.call("predict", model="dense", instances=[INSTANCE])
            seen.append((status, answer.get("error", {}).get("code")))
            return "result" in answer

        until(answered, 30)
        assert time.monotonic() - begun < 30
        assert set(seen[:-1]) == {(503, -32002)}
        assert service.child("_api").pid == api
        assert 'hoverboard_child_restarts_total{child="engine-0"} 1.0' in service.get("/metrics")[1]
        (died,) = [json.loads(line) for line in service.log if '"child":"engine-0"' in line]
        assert (died["event"], died["how"]) == ("child_died", "killed by SIGKILL")


def test_a_killed_api_comes_back(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path / "data") as service:
        engine = service.child("_engine").pid
        service.child("_api").kill()

        def answered() -> bool:
            try:
                return service.get("/readyz")[0] == 200
            except OSError:
                return False

        until(answered, 30)
        assert service.child("_engine").pid == engine


def test_its_processes_do_not_outlive_a_killed_supervisor_and_the_next_one_takes_over(
    models: Path,
    tmp_path: Path,
) -> None:
    with serving(models, tmp_path / "data") as killed:
        port = killed.url.rpartition(":")[2]
        children = [killed.child("_engine"), killed.child("_api")]
        killed.process.kill()
        _, alive = psutil.wait_procs(children, timeout=5)
        assert alive == []
    assert killed.runtime.exists()
    with serving(models, tmp_path / "data", "--port", port) as service:
        assert service.get("/healthz")[0] == 200
        assert not killed.runtime.exists()


def test_a_second_service_shares_neither_its_data_nor_its_ports(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path / "data") as service:
        same_data = subprocess.run(
            command(models, tmp_path / "data"), check=False, capture_output=True, text=True, timeout=60
        )
        assert same_data.returncode == 1
        assert f"pid {service.process.pid}" in same_data.stderr
        for flag, address in (("--port", service.url), ("--admin-port", service.ready["admin_url"])):
            port = address.rpartition(":")[2]
            flags = command(models, tmp_path / "other", flag, port)
            same_port = subprocess.run(flags, check=False, capture_output=True, text=True, timeout=60)
            assert same_port.returncode == 1
            assert f"127.0.0.1:{port} is in use" in same_port.stderr
            assert flag in same_port.stderr
        assert service.get("/readyz")[0] == 200


def test_a_call_in_flight_is_answered_before_it_leaves(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path / "data") as service:
        host, port = service.url.removeprefix("http://").split(":")
        body = json.dumps(
            {"jsonrpc": "2.0", "id": 7, "method": "predict", "params": {"model": "dense", "instances": [INSTANCE]}},
        ).encode()
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(head.encode() + body[:10])  # the api has begun to read it
            time.sleep(0.3)
            service.process.terminate()
            time.sleep(0.3)
            client.sendall(body[10:])
            answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"result"' in answer
        assert service.process.wait(20) == 0


def test_a_second_signal_hastens_the_end(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path / "data") as service:
        service.child("_api").suspend()  # it cannot drain
        service.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            service.process.wait(1.5)
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(10) == 0
    assert "child_killed" in service.events()


def test_a_closed_terminal_drains_it(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path / "data") as service:
        service.process.send_signal(signal.SIGHUP)
        assert service.process.wait(20) == 0
    assert "service_stopped" in service.events()


def test_more_connections_than_files_may_be_open_are_refused_and_the_others_answered(
    models: Path, tmp_path: Path
) -> None:
    limited = ["sh", "-c", 'ulimit -Sn 100; ulimit -Hn 400; exec "$@"', "sh"]
    with serving(models, tmp_path / "data", prefix=limited) as service, contextlib.ExitStack() as held:
        (fewer,) = [json.loads(line) for line in service.log if "fewer_connections" in line]
        assert (fewer["max_connections"], fewer["wanted"], fewer["open_files"]) == (200, 4096, 400)
        host, port = service.url.removeprefix("http://").split(":")
        clients = [held.enter_context(socket.create_connection((host, int(port)), timeout=20)) for _ in range(450)]
        for client, answer in ((clients[0], b"HTTP/1.1 200"), (clients[200], b"HTTP/1.1 503")):
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(12) == answer
        with contextlib.suppress(ConnectionResetError):  # of so many more, the last are not heard at all
            assert clients[-1].recv(12) == b""
    assert "child_died" not in service.events()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    with small_disk(tmp_path / "disk", "size=256k") as place:
        yield place


def refusal(command: Sequence[str]) -> str:
    """What a service says that does not start."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_on_a_disk_that_is_full_or_read_only_it_does_not_start_and_says_so(
    models: Path, tmp_path: Path, disk: Path
) -> None:
    recording = ["--recording", "on"]
    said = refusal(command(models, disk / "data", *recording))
    assert "is on a disk with 0 MiB of room" in said
    assert "--data-dir" in said
    (disk / "filling").write_bytes(bytes(200 * 1024))
    with contextlib.suppress(OSError), (disk / "filled").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert "No space left on device" in refusal(command(models, disk / "data"))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert "Read-only file system" in refusal(command(models, disk / "data", *recording))
    assert "Read-only file system" in refusal(command(models, disk / "new"))


def test_a_models_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path / "nowhere", tmp_path / "data"), check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert str(tmp_path / "nowhere") in done.stderr
    assert "Traceback" not in done.stderr


def test_the_api_process_never_imports_the_framework() -> None:
    code = "import sys, hoverboard.api.process; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
