"""`python -m benchmarks.drain --against CHECKOUT`: CPU time a row from journals to Postgres, beside another checkout's.

Each checkout drains the same journals into a Postgres of its own, one journal in turn; the other one, which may be older, has
written them. CPU time says more than wall time on a machine that does other things too; ratios are taken within a round. Rows
are like those of `digits`, with p-values, in frames of 64, 8 and 1; and labels.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks.recorder import DIGITS, KEY, frame, opened, postgres
from benchmarks.running import markdown
from hoverboard.config import Settings
from hoverboard.journal.finding import JOURNALS
from hoverboard.journal.records import BatchRecord, LabelRecord, VersionRecord, decode, encode
from hoverboard.journal.writer import JournalWriter
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.process import open_database

KINDS: Final = {
    "64 rows a frame": (64, 128),
    "8 rows a frame": (8, 500),
    "1 row a frame": (1, 2500),
    "labels": (0, 2000),
}
"""Rows of a frame, none for labels; and frames of a journal."""
MANIFEST: Final = {"name": KEY[0], "version": KEY[1], **asdict(DIGITS), "outliers": {"alpha": 0.01, "bound": 0.012}}

Figures = Mapping[str, float]


def watched(rows: int, numbers: np.random.Generator) -> bytes:
    """A frame of a version with a detector."""
    record = decode(frame(rows, numbers))
    assert isinstance(record, BatchRecord)
    p_values = numbers.random(rows, np.float32)
    strange = p_values < 0.01
    more = {"p_value": p_values.tobytes(), "outlier": strange.tobytes(), "flagged": int(strange.sum())}
    return encode(msgspec.structs.replace(record, **more))


def write(directory: Path, rounds: int) -> None:
    """Journals of every kind, one for each round."""
    numbers = np.random.default_rng(1)
    needs = {"1": encode(VersionRecord(*KEY, msgspec.json.encode(MANIFEST)))}
    for kind, (rows, frames) in KINDS.items():
        for _ in range(rounds):
            journal = JournalWriter(
                directory / kind, process="engine-0", segment_bytes=1 << 26, budget_bytes=1 << 32, fsync=False
            )
            for place in range(frames):
                if rows:
                    journal.append(2, watched(rows, numbers), count=rows, needs=needs)
                    continue
                now = time.time_ns() // 1000
                label = LabelRecord(now, uuid.uuid4().bytes, str(place % 10), None, "support", "ann", uuid.uuid4().hex)
                journal.append(4, encode(label), count=1)
            journal.close()


async def work(url: str, data_dir: Path) -> None:
    """Drain each journal that standard input names, and print what that took."""
    await (await opened(url)).close()
    journals = data_dir / JOURNALS
    journals.mkdir()
    drain = Drain(Settings(data_dir=data_dir, models=data_dir / "models"), lambda: open_database(Settings(), url))
    await drain.empty()
    pid = drain._session.connection.get_server_pid()  # type: ignore[union-attr]  # noqa: SLF001
    gc.freeze()
    print("ready", flush=True)
    while name := (await asyncio.to_thread(sys.stdin.readline)).rstrip("\n"):
        source = Path(name)
        await asyncio.to_thread(shutil.copytree, source, journals / source.name)
        gc.collect()
        server, ours = cpu_s(pid), time.process_time()
        await drain.empty()
        ours, server = time.process_time() - ours, cpu_s(pid) - server
        print(json.dumps({"recorder": ours, "Postgres": server, "both": ours + server}), flush=True)
        await asyncio.to_thread(shutil.rmtree, journals / source.name)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def started(checkout: Path, *arguments: str) -> subprocess.Popen[str]:
    """A checkout's own copy of this script, with its own code: modules of another version have other names."""
    own = checkout / ".venv" / "bin" / "python"
    script = checkout / "benchmarks" / Path(__file__).name
    command = [str(own) if own.exists() else sys.executable, "-P", str(script), *arguments]
    environment = {"PYTHONPATH": str(checkout), "PATH": "/usr/bin:/bin"}
    return subprocess.Popen(
        command, env=environment, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def told(worker: subprocess.Popen[str], line: str | None = None) -> str:
    """What a worker answers."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    if line is not None:
        worker.stdin.write(f"{line}\n")
        worker.stdin.flush()
    answer = worker.stdout.readline()
    assert answer, "a worker has failed"
    return answer


@contextmanager
def workers(checkouts: Sequence[Path]) -> Iterator[list[subprocess.Popen[str]]]:
    """One for each checkout, ready."""
    with ExitStack() as stack:
        found = [stack.enter_context(started(checkout, "--work")) for checkout in checkouts]
        for worker in found:
            told(worker)
        yield found


def measure(checkouts: Sequence[Path], journals: Path, rounds: int) -> dict[str, list[list[Figures]]]:
    """Figures of every checkout in every round, by kind."""
    found: dict[str, list[list[Figures]]] = {kind: [[] for _ in checkouts] for kind in KINDS}
    with workers(checkouts) as both:
        for round_ in range(rounds + 1):
            for kind, figures in found.items():
                journal = sorted((journals / kind).iterdir())[round_]
                turn = round_ % len(both)
                for place in [*range(turn, len(both)), *range(turn)]:
                    took = json.loads(told(both[place], str(journal)))
                    if round_:  # the first one warms up
                        figures[place].append(took)
    return found


def table(found: Mapping[str, Sequence[Sequence[Figures]]]) -> str:
    """Medians and quartiles, as Markdown."""
    lines: list[list[Any]] = []
    for kind, (theirs, ours) in found.items():
        rows, frames = KINDS[kind]
        count = (rows or 1) * frames
        for part in ours[0]:
            times = [statistics.median(each[part] for each in figures) / count * 1e6 for figures in (theirs, ours)]
            ratios = [here[part] / there[part] for here, there in zip(ours, theirs, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
            lines.append([kind, part, *(f"{each:.2f}" for each in times), f"{middle:.2f} ({low:.2f} to {high:.2f})"])
    return markdown(["journal", "process", "CPU us a row: other", "this", "ratio (quartiles)"], lines)


def main() -> None:
    """Measure and print, or work for somebody who does."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drain", description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout; this one when left out")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.write, arguments.rounds + 1)
        return
    with tempfile.TemporaryDirectory() as directory:
        if arguments.work:
            with postgres(Path(directory)) as url:
                asyncio.run(work(url, Path(directory)))
            return
        here = Path(__file__).resolve().parents[1]
        other = (arguments.against or here).resolve()
        with started(other, "--write", directory, "--rounds", str(arguments.rounds)):
            pass
        print(table(measure([other, here], Path(directory), arguments.rounds)))


if __name__ == "__main__":
    main()
