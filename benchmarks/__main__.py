"""`make bench`: one 64-float sample a call (W1), beside a bare aiohttp echo of the same bytes, in alternating rounds."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import wrk

ROOT = Path(__file__).parent.parent
CONNECTIONS = (1, 16, 64, 256)


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


def request_body() -> bytes:
    """One predict call for `digits` with one sample of 64 floats."""
    call = json.loads((ROOT / "examples" / "digits" / "request.json").read_text())
    sample = [float(value) for value in call["params"]["instances"][0]]
    call["params"] = {"model": "digits", "instances": [sample]}
    return json.dumps(call, separators=(",", ":")).encode()


def measure(arguments: argparse.Namespace, work: Path) -> dict[int, dict[str, list[wrk.Figures]]]:
    """All rounds: connections -> `echo` or `hoverboard` -> figures of each round."""
    (work / "models").mkdir()
    shutil.copytree(ROOT / "models" / "digits" / "1", work / "models" / "digits" / "1")
    body = work / "w1.json"
    body.write_bytes(request_body())
    serving, echoing = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    serve = [
        sys.executable,
        "-m",
        "service",
        "serve",
        "--models",
        str(work / "models"),
        "--data-dir",
        str(work / "data"),
    ]
    serve += ["--port", serving.rpartition(":")[2], "--admin-port", "0", "--api-workers", str(arguments.api_workers)]
    serve += ["--log-level", "warning"]
    answer, log, echo_log = work / "answer.json", work / "serve.log", work / "echo.log"
    figures: dict[int, dict[str, list[wrk.Figures]]] = {c: {"echo": [], "hoverboard": []} for c in CONNECTIONS}
    with process(serve, log) as server:
        wait_for(f"{serving}/readyz", server, log)
        answer.write_bytes(post(serving, body.read_bytes()))
        assert b'"predictions"' in answer.read_bytes(), answer.read_text()
        echo = [sys.executable, "-m", "benchmarks.echo", echoing.rpartition(":")[2], str(answer)]
        with process(echo, echo_log) as echoer:
            wait_for(echoing, echoer, echo_log)
            for url in (serving, echoing):
                wrk.run(url, body, 16, 2, work)  # warm
            for round_ in range(arguments.rounds):
                for connections in CONNECTIONS:
                    for name, url in (("echo", echoing), ("hoverboard", serving)):
                        figures[connections][name].append(wrk.run(url, body, connections, arguments.seconds, work))
                print(f"round {round_ + 1} of {arguments.rounds} done", file=sys.stderr)
    return figures


def table(figures: dict[int, dict[str, list[wrk.Figures]]]) -> list[str]:
    """Medians over the rounds, as Markdown."""
    lines = [
        "| connections | echo/s | hoverboard/s | ratio (rounds) | p50 ms | p99 ms | echo p99 ms | failed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for connections, both in figures.items():
        echo, ours = both["echo"], both["hoverboard"]
        ratios = [b.per_second / a.per_second for a, b in zip(echo, ours, strict=True)]
        lines.append(
            f"| {connections} | {statistics.median(f.per_second for f in echo):.0f} "
            f"| {statistics.median(f.per_second for f in ours):.0f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {statistics.median(f.p50_ms for f in ours):.2f} | {statistics.median(f.p99_ms for f in ours):.2f} "
            f"| {statistics.median(f.p99_ms for f in echo):.2f} | {sum(f.failed for f in ours)} |"
        )
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each run of wrk")
    parser.add_argument("--api-workers", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(arguments, Path(directory))
    print(f"W1, digits version 1, {arguments.api_workers} api process(es), {os.cpu_count()} cores, ", end="")
    print(f"Python {platform.python_version()}, {arguments.rounds} rounds of {arguments.seconds} s, medians\n")
    print("\n".join(table(figures)))
    if any(run.failed for both in figures.values() for run in both["hoverboard"]):
        sys.exit("some calls failed")


if __name__ == "__main__":
    main()
