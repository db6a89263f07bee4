"""What the benchmarks of the whole service share: processes that end with them, ports, calls, CPU time."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = [
    "ROOT",
    "Lag",
    "Service",
    "copy_digits",
    "cpu_seconds",
    "cpu_us",
    "drained",
    "free_port",
    "markdown",
    "metric",
    "post",
    "process",
    "request_body",
    "scrape",
    "serving",
    "wait_for",
]

ROOT = Path(__file__).parent.parent
_PARTS = {"_api": "api", "_engine": "engine", "_recorder": "recorder"}


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs.

    Attributes:
        url: of its public listener.
        pid: of its supervisor.
    """

    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far Postgres is behind the journals; looked at once a second by the service itself.

    Attributes:
        rows: journaled and not in Postgres.
        seconds: age of the oldest of them.
    """

    rows: float
    seconds: float

    @classmethod
    def of(cls, url: str) -> Lag:
        """The service's own word."""
        text = scrape(url)
        return cls(metric(text, "hoverboard_recorder_lag_rows"), metric(text, "hoverboard_recorder_lag_seconds"))


@contextmanager
def process(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is stopped, by its own id, at the end."""
    with log.open("wb") as file:
        child = subprocess.Popen(arguments, cwd=ROOT, stdout=file, stderr=file)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()


@contextmanager
def serving(models: Path, work: Path, name: str, *flags: str) -> Iterator[Service]:
    """`hoverboard serve` on a free port, ready, with a data directory `work/name` of its own."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "hoverboard", "serve", "--models", str(models), "--data-dir", str(work / name)]
    command += ["--port", url.rpartition(":")[2], "--admin-port", "0", "--log-level", "warning", *flags]
    log = work / f"{name}.log"
    with process(command, log) as server:
        wait_for(f"{url}/readyz", server, log)
        yield Service(url, server.pid)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until `url` answers, with any status below 500."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if child.poll() is not None:
            sys.exit(f"a server ended early:\n{log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"{url} did not answer in time:\n{log.read_text()[-2000:]}")


def post(url: str, body: bytes) -> bytes:
    """One call's answer."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: bytes = answer.read()
        return content


def copy_digits(models: Path) -> None:
    """`digits` version 1 alone."""
    shutil.copytree(ROOT / "models" / "digits" / "1", models / "digits" / "1")


def request_body() -> bytes:
    """One predict call for `digits` with one sample of 64 floats."""
    call = json.loads((ROOT / "examples" / "digits" / "request.json").read_text())
    sample = [float(value) for value in call["params"]["instances"][0]]
    call["params"] = {"model": "digits", "instances": [sample]}
    return json.dumps(call, separators=(",", ":")).encode()


def scrape(url: str) -> str:
    """The service's metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def metric(text: str, name: str, *labels: str) -> float:
    """The sum of a metric's samples whose labels include `labels`, such as `table="samples"`."""
    lines = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for found, value in lines if all(label in found for label in labels))


def drained(url: str) -> float:
    """Wait until Postgres has everything; returns the seconds that took."""
    start = time.monotonic()
    time.sleep(1.5)  # what the service says may be a second old
    while Lag.of(url).rows:
        if time.monotonic() - start > 300:
            sys.exit("the recorder does not catch up")
        time.sleep(0.5)
    return time.monotonic() - start


def cpu_seconds(pid: int) -> dict[str, float]:
    """CPU time that a process' children have taken so far: `api`, `engine`, `recorder` and `postgres` of a service."""
    spent: dict[str, float] = {}
    for child in psutil.Process(pid).children(recursive=True):
        try:
            command, times = child.cmdline(), child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        part = next((_PARTS[word] for word in command if word in _PARTS), "postgres")
        # Postgres' own children end now and then: their parent has their time.
        spent[part] = spent.get(part, 0.0) + times.user + times.system + times.children_user + times.children_system
    return spent


def cpu_us(before: dict[str, float], after: dict[str, float], calls: int) -> dict[str, float]:
    """Microseconds a call, from two looks at `cpu_seconds`."""
    return {part: (seconds - before.get(part, 0.0)) / calls * 1e6 for part, seconds in after.items()}


def markdown(heads: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])
