"""`python -m benchmarks.recording`: what recording costs those who call, and whether it keeps up.

W1 (one 64-float sample a call to `digits` version 1, one api process, 64 connections, closed loop) in alternating rounds on
two services, one of which records everything to its embedded Postgres and one nothing; the other one is idle meanwhile, and
has drained. Then calls in an open loop at half of what the first one took, while its lag is looked at each second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import openloop, wrk
from benchmarks.running import (
    Lag,
    Service,
    copy_digits,
    cpu_seconds,
    cpu_us,
    drained,
    markdown,
    metric,
    post,
    request_body,
    scrape,
    serving,
)

PARTS: Final = ("api", "engine", "recorder", "postgres")
CPU_HEADS: Final = ("CPU us a call: api", "engine", "recorder", "Postgres")


@dataclass(frozen=True, slots=True)
class Round:
    """One run of wrk on one service.

    Attributes:
        figures: wrk's.
        lag: at the end of the run.
        drain_s: until Postgres had everything, from then on.
        cpu_us: CPU time a call by kind of process, until then.
    """

    figures: wrk.Figures
    lag: Lag
    drain_s: float
    cpu_us: dict[str, float]


@dataclass(frozen=True, slots=True)
class Open:
    """The open loop.

    Attributes:
        answers: of the client.
        lags: each second.
        drain_s: until Postgres had everything, from the end on.
        missing: calls that were answered and are not in Postgres.
        cpu_us: CPU time a call by kind of process.
    """

    answers: openloop.Answers
    lags: Sequence[Lag]
    drain_s: float
    missing: int
    cpu_us: dict[str, float]


def one_round(service: Service, body: Path, arguments: argparse.Namespace, *, records: bool) -> Round:
    """Drive one service, and wait until it is idle again."""
    before = cpu_seconds(service.pid)
    figures = wrk.run(service.url, body, arguments.connections, arguments.seconds, body.parent)
    lag = Lag.of(service.url) if records else Lag(0, 0)
    drain_s = drained(service.url) if records else 0.0
    return Round(figures, lag, drain_s, cpu_us(before, cpu_seconds(service.pid), figures.calls))


def open_loop(service: Service, body: Path, rate: float, arguments: argparse.Namespace) -> Open:
    """Calls at a rate, and the lag each second."""
    before, stored = cpu_seconds(service.pid), samples(service.url)
    client = openloop.start(service.url, body, rate, arguments.open_seconds, arguments.open_connections)
    lags = []
    try:
        while client.poll() is None:
            time.sleep(1.0)
            lags.append(Lag.of(service.url))
        output = client.communicate()[0]
    finally:
        if client.poll() is None:
            client.kill()
    if client.returncode:
        sys.exit("the open-loop client failed")
    answers = openloop.Answers(**json.loads(output))
    drain_s = drained(service.url)
    missing = answers.sent - answers.failed - (samples(service.url) - stored)
    return Open(answers, lags, drain_s, missing, cpu_us(before, cpu_seconds(service.pid), answers.sent))


def samples(url: str) -> int:
    """Samples that the recorder has committed."""
    return int(metric(scrape(url), "hoverboard_recorded_rows_total", 'table="samples"'))


def measure(arguments: argparse.Namespace, work: Path) -> tuple[list[Round], list[Round], Open]:
    """Rounds with recording, rounds without, and the open loop."""
    copy_digits(work / "models")
    body = work / "w1.json"
    body.write_bytes(request_body())
    on: list[Round] = []
    off: list[Round] = []
    with (
        serving(work / "models", work, "on") as recording,
        serving(work / "models", work, "off", "--recording", "off") as silent,
    ):
        for service in (recording, silent):
            assert b'"predictions"' in post(service.url, body.read_bytes())
            wrk.run(service.url, body, arguments.connections, 2, work)  # warm
        drained(recording.url)
        for round_ in range(arguments.rounds):
            turns = [(recording, on), (silent, off)]
            for service, rounds in turns if round_ % 2 else turns[::-1]:
                rounds.append(one_round(service, body, arguments, records=rounds is on))
            print(f"round {round_ + 1} of {arguments.rounds} done", file=sys.stderr)
        capacity = statistics.median(each.figures.per_second for each in on)
        found = open_loop(recording, body, capacity * arguments.share, arguments)
    return on, off, found


def closed_table(on: Sequence[Round], off: Sequence[Round]) -> str:
    """Medians over the rounds, as Markdown."""
    heads = ["recording", "calls/s", "ratio (rounds)", "p50 ms", "p99 ms", "failed", "most lag s", "drained after s"]
    ratios = [a.figures.per_second / b.figures.per_second for a, b in zip(on, off, strict=True)]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    rows = [
        [
            name,
            f"{statistics.median(each.figures.per_second for each in rounds):.0f}",
            told,
            f"{statistics.median(each.figures.p50_ms for each in rounds):.2f}",
            f"{statistics.median(each.figures.p99_ms for each in rounds):.2f}",
            sum(each.figures.failed for each in rounds),
            f"{max(each.lag.seconds for each in rounds):.1f}",
            f"{max(each.drain_s for each in rounds):.1f}",
            *cpu([each.cpu_us for each in rounds]),
        ]
        for name, rounds, told in (("on", on, ratio), ("off", off, "1"))
    ]
    return markdown([*heads, *CPU_HEADS], rows)


def open_table(found: Open) -> str:
    """The open loop, as Markdown."""
    heads = ["calls/s", "p50 ms", "p99 ms", "max ms", "left late, p99 ms", "failed"]
    heads += ["most lag s", "most lag rows", "drained after s", "missing", *CPU_HEADS]
    answers, lags = found.answers, found.lags
    row = [
        f"{answers.per_second:.0f}",
        f"{answers.p50_ms:.2f}",
        f"{answers.p99_ms:.2f}",
        f"{answers.max_ms:.1f}",
        f"{answers.late_p99_ms:.2f}",
        answers.failed,
        f"{max(lag.seconds for lag in lags):.1f}",
        f"{max(lag.rows for lag in lags):.0f}",
        f"{found.drain_s:.1f}",
        found.missing,
        *cpu([found.cpu_us]),
    ]
    return markdown(heads, [row])


def cpu(rounds: Sequence[dict[str, float]]) -> list[str]:
    """Medians of CPU time a call, under `CPU_HEADS`."""
    return [f"{statistics.median(each.get(part, 0.0) for each in rounds):.0f}" for part in PARTS]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recording", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=5, help="of each run of wrk")
    parser.add_argument("--connections", type=int, default=64, help="of wrk")
    parser.add_argument("--share", type=float, default=0.5, help="of the capacity, for the open loop")
    parser.add_argument("--open-seconds", type=float, default=30)
    parser.add_argument("--open-connections", type=int, default=256, help="the most calls that can be under way")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        on, off, found = measure(arguments, Path(directory))
    print(f"W1, digits version 1, 1 api process, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(
        f"Closed loop, {arguments.connections} connections, {arguments.rounds} rounds of {arguments.seconds} s, medians:\n"
    )
    print(closed_table(on, off))
    print(f"\nOpen loop, Poisson arrivals at {arguments.share:g} of that, {arguments.open_seconds:g} s:\n")
    print(open_table(found))
    if found.missing or found.answers.failed or any(each.figures.failed for each in on + off):
        sys.exit("some calls failed, or their samples are not in Postgres")


if __name__ == "__main__":
    main()
