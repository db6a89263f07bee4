"""`python -m benchmarks.issues`: what grouping costs the recorder: 100,000 outliers, near 2,000 leaders that are there already.

The same journals are drained with and without the watcher that groups, each into a database of its own; CPU time of the recorder
and of Postgres. Every row is an outlier, which is the worst there is; the table says what that is where a share of the rows are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from benchmarks.drain import cpu_s
from benchmarks.recorder import DIGITS, KEY, frame, opened, postgres
from benchmarks.running import markdown
from hoverboard.config import Settings
from hoverboard.contract.signature import Array
from hoverboard.journal.finding import JOURNALS
from hoverboard.journal.records import BatchRecord, FeatureRecord, VersionRecord, decode, encode
from hoverboard.journal.writer import JournalWriter
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.process import open_database
from hoverboard.watch import watchers
from hoverboard.watch.issue_watcher import MOST_LEADERS, MOST_ROWS, Issues

ROWS: Final = 64
WIDTH: Final = 64
SHARES: Final = (0.01, 0.02, 0.05, 0.1, 1.0)
MANIFEST: Final = {"name": KEY[0], "version": KEY[1], **asdict(DIGITS), "outliers": {"alpha": 0.01, "bound": 0.012}}


def write(data_dir: Path, z: Array, numbers: np.random.Generator, *, strange: bool = True) -> None:
    """A journal of rows, and where they are outliers their features."""
    needs = {"1": encode(VersionRecord(*KEY, msgspec.json.encode(MANIFEST)))}
    journal = JournalWriter(
        data_dir / JOURNALS, process="engine-0", segment_bytes=1 << 26, budget_bytes=1 << 32, fsync=False
    )
    for first in range(0, len(z), ROWS):
        part = z[first : first + ROWS]
        record = decode(frame(len(part), numbers))
        assert isinstance(record, BatchRecord)
        p_values = np.full(len(part), 0.001 if strange else 0.5, np.float32)
        flags = np.full(len(part), strange)
        more = {"p_value": p_values.tobytes(), "outlier": flags.tobytes(), "flagged": int(flags.sum())}
        record = msgspec.structs.replace(record, **more)
        journal.append(2, encode(record), count=len(part), needs=needs)
        if strange:
            journal.append(
                10, encode(FeatureRecord(*KEY, record.sample_ids, part.tobytes())), count=len(part), needs=needs
            )
    journal.close()


async def drained(data_dir: Path, url: str, outliers: int) -> dict[str, float]:
    """CPU seconds: of ordinary rows, and of as many outliers once there are leaders."""
    numbers = np.random.default_rng(1)
    await (await opened(url)).close()
    settings = Settings(data_dir=data_dir, models=data_dir / "models")
    drain = Drain(settings, lambda: open_database(settings, url))
    centres = numbers.normal(size=(MOST_LEADERS, WIDTH))
    # The first are near each other in pairs, as outliers are that have a cause: they tell the radius.
    first = np.repeat(centres[:MOST_LEADERS], 2, axis=0) + numbers.normal(scale=0.03, size=(2 * MOST_LEADERS, WIDTH))
    write(data_dir, first.astype("<f2"), numbers)
    await drain.empty()
    pid = drain._session.connection.get_server_pid()  # type: ignore[union-attr]  # noqa: SLF001
    found = {}
    near = centres[numbers.integers(0, MOST_LEADERS, outliers)] + numbers.normal(scale=0.03, size=(outliers, WIDTH))
    for name, strange in (("ordinary", False), ("outliers", True)):
        # A journal each: of one chunk no more than so many are grouped.
        for part in np.split(near.astype("<f2"), range(MOST_ROWS, outliers, MOST_ROWS)):
            write(data_dir, part, numbers, strange=strange)
        server, ours = cpu_s(pid), time.process_time()
        await drain.empty()
        found[name] = time.process_time() - ours + cpu_s(pid) - server
        found[f"{name} in Postgres"] = cpu_s(pid) - server
    connection = await open_database(settings, url)
    found["leaders"] = await connection.fetchval("select count(*) from issue_fingerprints")
    found["grouped"] = await connection.fetchval("select count(*) from outliers where issue_id is not null")
    await connection.close()
    drain.close()
    return found


def run(outliers: int, *, grouping: bool) -> dict[str, float]:
    """Drain in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.issues", "--outliers", str(outliers), "--work"]
    # As the service starts the recorder.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command += [] if grouping else ["--without"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--outliers", type=int, default=100_000)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--without", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        if options.without:
            watchers.ALL = tuple(each for each in watchers.ALL if each is not Issues)  # type: ignore[misc]
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            data_dir, place = Path(folder) / "data", Path(folder) / "postgres"
            data_dir.mkdir()
            place.mkdir()
            url = stack.enter_context(postgres(place))
            print(json.dumps(asyncio.run(drained(data_dir, url, options.outliers))))
        return
    with_it, without = run(options.outliers, grouping=True), run(options.outliers, grouping=False)
    n = options.outliers
    assert with_it["grouped"] == n + 2 * MOST_LEADERS, "what is left out costs nothing, and would flatter the figures"
    cost = (with_it["outliers"] - without["outliers"]) / n
    print(
        f"{with_it['leaders']:.0f} leaders, {with_it['grouped']:.0f} outliers grouped. us of CPU a row: ordinary "
        f"{without['ordinary'] / n * 1e6:.1f}, outlier {without['outliers'] / n * 1e6:.1f}, its grouping {cost * 1e6:.1f}"
    )
    rows = []
    for share in SHARES:
        base = (without["ordinary"] * (1 - share) + without["outliers"] * share) / n
        rows.append(
            [
                f"{share:.0%}",
                f"{base * 1e6:.1f}",
                f"{cost * share * 1e6:.2f}",
                f"{cost * share / (base + cost * share):.1%}",
            ]
        )
    print(markdown(["outliers", "us a row without", "us a row for grouping", "of the recorder's time"], rows))


if __name__ == "__main__":
    main()
