"""`python -m benchmarks.bigday`: how long questions about a day of 10 million rows take, and what memory.

A day is made in a Postgres with the settings of the embedded one: rows in all days' partitions, of a model that is really there. Then
each command runs as a process of its own, as a person runs it. With `--data` the day is kept, and used again where it is there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks.drain import KINDS, write
from benchmarks.recorder import opened, postgres
from benchmarks.running import markdown
from hoverboard.config import Settings
from hoverboard.database.connect import connected
from hoverboard.database.statements import statements
from hoverboard.journal.finding import JOURNALS
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.process import open_database
from hoverboard.versions import read_version
from hoverboard.versions.baseline import read_baseline
from hoverboard.watch.drift_table import insert_baseline

MODEL: Final = "cups"
DAY: Final = datetime(2026, 11, 29, tzinfo=UTC)
ONE_DAY: Final = timedelta(days=1)
_AT: Final = timedelta(hours=14)
"""When the incident begins, in the hour that is replayed."""
_BLOCK: Final = 100_000
_NEIGHBOURS: Final = 50_000
"""Rows of the day before and of the day after: nobody asks for them, and no statement should read them."""
_JOURNALS: Final = 40
"""Drained in a round."""
_SQL: Final = statements(__file__)


def cups(seed: int) -> Any:
    """A model of two numbers and a text."""
    import keras

    keras.utils.set_random_seed(seed)
    height, width = (keras.Input((1,), name=name, dtype="float32") for name in ("height", "width"))
    note = keras.Input((1,), name="note", dtype="string")
    words = keras.layers.StringLookup(vocabulary=["plain cup", "two free refills"], output_mode="one_hot")(note)
    every = keras.layers.Concatenate()([height, width, keras.ops.cast(words, "float32")])
    inner = keras.layers.Dense(16, activation="relu")(every)
    answer = keras.layers.Dense(2, activation="softmax")
    model = keras.Model([height, width, note], answer(keras.layers.Concatenate()([inner, height])))
    kernel, _ = answer.get_weights()
    # Tall is large, and what the inner layer says of the rest changes little.
    kernel = np.concatenate([kernel[:-1] / 100, [[-1.0, 1.0]]])
    answer.set_weights([kernel, np.array([10.0, -10.0])])
    return model


def published(models: Path) -> None:
    """Two versions of it."""
    # Here, for a process of its own: a child's peak memory is at least what the process had that began it.
    from hoverboard.publishing import publish
    from hoverboard.publishing.calibration_file import CalibrationRows

    numbers = np.random.default_rng(0)
    height, width = (numbers.uniform(8, 12, (1000, 1)).astype(np.float32) for _ in range(2))
    note = np.full((1000, 1), b"plain cup", object)
    for seed in (1, 2):
        calibration = CalibrationRows(
            (height, width, note), ["large" if each > 10 else "small" for each in height[:, 0]]
        )
        publish(cups(seed), name=MODEL, models_dir=models, labels=["small", "large"], calibration=calibration)


async def filled(url: str, models: Path, rows: int) -> None:
    """Make the day, and the days around it."""
    manifest = read_version(models / MODEL / "1")
    baseline = read_baseline(models / MODEL / "1")
    assert baseline is not None
    async with connected(url, application="bigday", role=None, command_timeout_s=None) as connection:
        await connection.execute("set synchronous_commit = off")
        await connection.execute("select make_partitions($1, $2)", (DAY - ONE_DAY).date(), (DAY + ONE_DAY).date())
        version = await connection.fetchval(
            "insert into model_versions (name, version, weights_sha256, manifest, first_served_at) values ($1, 1, $2, $3, $4) "
            "returning id",
            *(MODEL, manifest.weights_sha256, msgspec.json.encode(manifest.public()).decode(), DAY - ONE_DAY),
        )
        await insert_baseline(connection, version, baseline)
        for day, of in ((DAY - ONE_DAY, _NEIGHBOURS), (DAY + ONE_DAY, _NEIGHBOURS), (DAY, rows)):
            for first in range(0, of, _BLOCK):
                told(f"making the day: {first:,} of {of:,} rows")
                last = min(first + _BLOCK, of)
                await connection.execute(_SQL["fill"], version, first, last, of, day)
        told("analysing")
        await connection.execute("vacuum analyze")  # as Postgres does itself on a day that comes by and by
        size = await connection.fetchval(_SQL["sizes"])
        told(f"{rows:,} rows, {size:.1f} GB")


def told(words: str) -> None:
    """A line for who waits."""
    print(f"{datetime.now(UTC):%H:%M:%S} {words}", file=sys.stderr, flush=True)


def commands(output: Path) -> dict[str, list[str]]:
    """What is measured, by name."""
    window = ["--from", DAY.isoformat(), "--to", (DAY + ONE_DAY).isoformat()]
    about = [*window, "--against", f"{(DAY - ONE_DAY).isoformat()}..{DAY.isoformat()}"]
    kinds = ("outliers", "errors", "slow", "wrong", "refusals", "label=small")
    found = {f"postmortem --about {kind}": ["postmortem", MODEL, "--about", kind, *about, "--json"] for kind in kinds}
    found["postmortem"] = ["postmortem", MODEL, *about, "--json"]
    found["postmortem --where"] = ["postmortem", MODEL, *about, "--where", "tag.customer=17", "--json"]
    found["quality"] = ["quality", MODEL, *window, "--json"]
    found["export"] = ["export", MODEL, *window, "--output", str(output / "export"), "--json"]
    shop = ["--where", "tag.shop=7", "--output", str(output / "shop"), "--json"]
    found["export --where"] = ["export", MODEL, *window, *shop]
    hour = ["--from", (DAY + _AT).isoformat(), "--to", (DAY + _AT + timedelta(hours=1)).isoformat()]
    found["replay, an hour"] = ["replay", MODEL, "--candidate", "2", *hour, "--json"]
    found["replay"] = ["replay", MODEL, "--candidate", "2", *window, "--json"]
    return found


@contextmanager
def there(folder: Path, rows: int) -> Iterator[str]:
    """The URL of the database with the day, which is made unless it is there."""
    models, made = folder / "models", folder / f"made-{rows}"
    data = folder / "data"
    data.mkdir(exist_ok=True, parents=True)
    if not models.exists():
        subprocess.run([sys.executable, "-m", "benchmarks.bigday", "--publish", str(models)], check=True)
    with postgres(data) as url:
        asyncio.run(migrated(url))
        if not made.exists():
            asyncio.run(filled(url, models, rows))
            made.touch()
        yield url


async def migrated(url: str) -> None:
    """Make the tables."""
    await (await opened(url)).close()


def started(arguments: Sequence[str], url: str, models: Path, scratch: Path) -> subprocess.Popen[str]:
    """A command, as a person runs it."""
    environment = {**os.environ, "HOVERBOARD_DATABASE_URL": url, "HOVERBOARD_DATA_DIR": str(scratch / "scratch")}
    environment["HOVERBOARD_MODELS"] = str(models)
    command = [sys.executable, "-m", "hoverboard", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def measured(arguments: Sequence[str], url: str, models: Path, scratch: Path) -> tuple[int, float, float, str]:
    """Status, seconds and peak MiB of a command, and what it printed."""
    began = time.monotonic()
    child = started(arguments, url, models, scratch)
    assert child.stdout is not None
    printed = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - began, used.ru_maxrss / 1024, printed


async def beside(url: str, models: Path, scratch: Path, rounds: int) -> list[list[Any]]:
    """Rows a second that a recorder drains, without and with questions about the day meanwhile, by turns."""
    rows, frames = KINDS["64 rows a frame"]
    write(scratch / "written", 2 * rounds * _JOURNALS)
    journals, data_dir = sorted((scratch / "written" / "64 rows a frame").iterdir()), scratch / "recorder"
    (data_dir / JOURNALS).mkdir(parents=True)
    drain = Drain(Settings(data_dir=data_dir, models=models), lambda: open_database(Settings(), url))
    await drain.empty()
    question = commands(scratch)["postmortem"]
    lines: list[list[Any]] = []
    for round_ in range(2 * rounds):
        asking = [started(question, url, models, scratch)] if round_ % 2 else []
        await asyncio.sleep(5.0 if asking else 0.0)
        seconds = 0.0
        for _ in range(_JOURNALS):
            shutil.copytree(source := journals.pop(), data_dir / JOURNALS / source.name)
            began = time.monotonic()
            await drain.empty()
            seconds += time.monotonic() - began
            asking += [started(question, url, models, scratch)] if asking and asking[-1].poll() is not None else []
        for child in asking:
            child.terminate()
            child.wait()
        lines.append(["with questions" if asking else "without", f"{_JOURNALS * rows * frames / seconds:,.0f}"])
    drain.close()
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bigday", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--data", type=Path, help="keep the day there; a temporary folder when left out")
    parser.add_argument("--only", action="append", help="commands whose names begin so; repeatable")
    parser.add_argument("--beside", type=int, metavar="ROUNDS", help="drain journals meanwhile, and say how fast")
    parser.add_argument("--serve", action="store_true", help="print the database's URL, and wait")
    parser.add_argument("--publish", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.publish:
        published(options.publish)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or Path(scratch)
        with there(folder, options.rows) as url:
            if options.serve:
                print(url, flush=True)
                sys.stdin.read()
                return
            if options.beside:
                found = asyncio.run(beside(url, folder / "models", Path(scratch), options.beside))
                print(markdown(["questions meanwhile", "rows drained a second"], found))
                return
            lines = []
            for name, command in commands(Path(scratch)).items():
                if options.only and not any(name.startswith(each) for each in options.only):
                    continue
                status, seconds, peak, _ = measured(command, url, folder / "models", Path(scratch))
                told(f"{name}: status {status}, {seconds:.1f} s, {peak:.0f} MiB")
                lines.append([name, status, f"{seconds:.1f}", f"{peak:.0f}"])
            print(markdown(["command", "status", "s", "MiB"], lines))


if __name__ == "__main__":
    main()
