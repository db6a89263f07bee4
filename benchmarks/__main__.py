"""`make bench`: one 64-float sample a call (W1), beside a bare aiohttp echo of the same bytes, in alternating rounds."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import wrk
from benchmarks.running import (
    copy_digits,
    cpu_seconds,
    cpu_us,
    drained,
    free_port,
    markdown,
    post,
    process,
    request_body,
    serving,
    wait_for,
)

CONNECTIONS = (1, 16, 64, 256)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of wrk.

    Attributes:
        figures: wrk's.
        cpu_us: CPU time a call: of the api process(es), the engine, or the echo.
    """

    figures: wrk.Figures
    cpu_us: dict[str, float]


def measure(arguments: argparse.Namespace, work: Path) -> dict[int, dict[str, list[Run]]]:
    """All rounds: connections -> `echo` or `hoverboard` -> each round's run."""
    copy_digits(work / "models")
    body, answer, log = work / "w1.json", work / "answer.json", work / "echo.log"
    body.write_bytes(request_body())
    echoing = f"http://127.0.0.1:{free_port()}"
    runs: dict[int, dict[str, list[Run]]] = {c: {"echo": [], "hoverboard": []} for c in CONNECTIONS}
    with serving(work / "models", work, "data", "--api-workers", str(arguments.api_workers)) as service:
        answer.write_bytes(post(service.url, body.read_bytes()))
        assert b'"predictions"' in answer.read_bytes(), answer.read_text()
        echo = [sys.executable, "-m", "benchmarks.echo", echoing.rpartition(":")[2], str(answer)]
        with process(echo, log) as echoer:
            wait_for(echoing, echoer, log)
            for url in (service.url, echoing):
                wrk.run(url, body, 16, 2, work)  # warm
            for round_ in range(arguments.rounds):
                for connections in CONNECTIONS:
                    drained(service.url)  # the echo has the machine to itself
                    for name, url, pid in (("echo", echoing, echoer.pid), ("hoverboard", service.url, service.pid)):
                        before = cpu(name, pid)
                        figures = wrk.run(url, body, connections, arguments.seconds, work)
                        runs[connections][name].append(Run(figures, cpu_us(before, cpu(name, pid), figures.calls)))
                print(f"round {round_ + 1} of {arguments.rounds} done", file=sys.stderr)
    return runs


def cpu(name: str, pid: int) -> dict[str, float]:
    """CPU seconds so far of the echo itself, or of the service's processes."""
    if name == "hoverboard":
        return cpu_seconds(pid)
    times = psutil.Process(pid).cpu_times()
    return {"echo": times.user + times.system}


def table(runs: dict[int, dict[str, list[Run]]]) -> str:
    """Medians over the rounds, as Markdown."""
    heads = ["connections", "echo/s", "hoverboard/s", "ratio (rounds)", "p50 ms", "p99 ms", "echo p99 ms", "failed"]
    rows = []
    for connections, both in runs.items():
        echo, ours = ([run.figures for run in both[name]] for name in ("echo", "hoverboard"))
        ratios = [b.per_second / a.per_second for a, b in zip(echo, ours, strict=True)]
        spent = [
            statistics.median(run.cpu_us[part] for run in both[name])
            for name, part in (("echo", "echo"), ("hoverboard", "api"), ("hoverboard", "engine"))
        ]
        rows.append(
            [
                connections,
                f"{statistics.median(f.per_second for f in echo):.0f}",
                f"{statistics.median(f.per_second for f in ours):.0f}",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{statistics.median(f.p50_ms for f in ours):.2f}",
                f"{statistics.median(f.p99_ms for f in ours):.2f}",
                f"{statistics.median(f.p99_ms for f in echo):.2f}",
                sum(f.failed for f in ours),
                *(f"{us:.0f}" for us in spent),
            ]
        )
    return markdown([*heads, "CPU us a call: echo", "api", "engine"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each run of wrk")
    parser.add_argument("--api-workers", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        runs = measure(arguments, Path(directory))
    print(f"W1, digits version 1, {arguments.api_workers} api process(es), {os.cpu_count()} cores, ", end="")
    print(f"Python {platform.python_version()}, {arguments.rounds} rounds of {arguments.seconds} s, medians\n")
    print(table(runs))
    if any(run.figures.failed for both in runs.values() for run in both["hoverboard"]):
        sys.exit("some calls failed")


if __name__ == "__main__":
    main()
