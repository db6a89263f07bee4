"""`python -m benchmarks.widerows`: how long questions about a day of very wide rows take, and what memory.

As `bigday`, of three models whose rows are wide: `pages` takes a text of 10 kB, `columns` 2,000 numbers, an input each, and `pictures`
96 x 96 x 3 numbers, 110 kB. Export and replay are asked for six hours: they write what they read.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks.bigday import DAY, ONE_DAY, measured, migrated, told
from benchmarks.recorder import postgres
from benchmarks.running import markdown
from hoverboard.contract.signature import Array
from hoverboard.database.connect import connected
from hoverboard.database.statements import statements
from hoverboard.recorder.rows.tensors import pack
from hoverboard.versions import read_version
from hoverboard.versions.baseline import read_baseline
from hoverboard.watch.drift_table import insert_baseline

ROWS: Final = {"pages": 100_000, "columns": 100_000, "pictures": 40_000}
COLUMNS: Final = [f"reading_{place}" for place in range(2000)]
_PICTURE: Final = (96, 96, 3)
_PAGE: Final = 10_000
_POOL: Final = 100
_BLOCK: Final = 5000
_SQL: Final = statements(__file__)


def sent(name: str, rows: int, *, strange: bool) -> dict[str, Array]:
    """Inputs of some rows, by name."""
    numbers = np.random.default_rng([rows, strange])
    if name == "pictures":
        return {"picture": (numbers.random((rows, *_PICTURE)) * (0.5 if strange else 1)).astype(np.float32)}
    if name == "columns":
        values = numbers.random((rows, len(COLUMNS))).astype(np.float32)
        values[:, :3] *= 10 if strange else 1
        return dict(zip(COLUMNS, values.T, strict=True))
    words = np.array([f"{first}{last}" for first in "bcdfghjklm" for last in ("ale", "ean", "ilo", "oru")], object)
    pages: Array = np.empty(rows, object)
    for row in range(rows):
        text = " ".join(numbers.choice(words, _PAGE // 5).tolist()) + (" free refills" if strange or row % 2 else "")
        pages[row] = text.encode()
    return {"page": pages}


def built(name: str) -> Any:
    """A small net of so wide a row."""
    import keras

    if name == "pictures":
        inputs = [keras.Input(_PICTURE, name="picture", dtype="float32")]
        every = keras.layers.GlobalAveragePooling2D()(inputs[0])
    elif name == "columns":
        inputs = [keras.Input((1,), name=column, dtype="float32") for column in COLUMNS]
        every = keras.layers.Concatenate()(inputs)
    else:
        inputs = [keras.Input((1,), name="page", dtype="string")]
        every = keras.layers.TextVectorization(output_mode="multi_hot", vocabulary=["bale", "free", "refills"])(
            inputs[0]
        )
    inner = keras.layers.Dense(8, activation="relu")(every)
    return keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(inner))


def published(models: Path, name: str) -> None:
    """Two versions of a model."""
    import keras

    from hoverboard.publishing import publish
    from hoverboard.publishing.calibration_file import CalibrationRows

    rows = 200
    columns = tuple(
        each.reshape(rows, 1) if each.ndim == 1 else each for each in sent(name, rows, strange=False).values()
    )
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        model = built(name)
        given = [keras.ops.convert_to_tensor(each.astype(str) if each.dtype == object else each) for each in columns]
        said = np.log(model.predict(given, verbose=0))
        # Half of the answers each way, so that a calibration has both.
        kernel, bias = model.layers[-1].get_weights()
        middle = np.median(said[:, 1] - said[:, 0])
        model.layers[-1].set_weights([kernel, bias + np.array([middle, 0])])
        labels = ["large" if each > middle else "small" for each in said[:, 1] - said[:, 0]]
        publish(
            model, name=name, models_dir=models, labels=["small", "large"], calibration=CalibrationRows(columns, labels)
        )


def _kept(name: str, columns: dict[str, Array], row: int) -> tuple[str | None, bytes | None]:
    """A row as `samples` has it."""
    if name == "pictures":
        return None, pack({"picture": columns["picture"][row]})
    if name == "columns":
        return msgspec.json.encode({column: float(values[row]) for column, values in columns.items()}).decode(), None
    return msgspec.json.encode({"page": columns["page"][row].decode()}).decode(), None


async def filled(url: str, models: Path, name: str) -> None:
    """Make a model's day."""
    manifest, baseline = read_version(models / name / "1"), read_baseline(models / name / "1")
    async with connected(url, application="widerows", role=None, command_timeout_s=None) as connection:
        await connection.execute("set synchronous_commit = off")
        await connection.execute("select make_partitions($1, $2)", (DAY - ONE_DAY).date(), (DAY + ONE_DAY).date())
        await connection.execute(_SQL["pool"])
        for partition in ("samples", f"samples_{DAY:%Y_%m_%d}"):
            await connection.execute(_SQL["unpacked"].replace("table samples ", f"table {partition} "))
        for strange in (False, True):
            columns = sent(name, _POOL, strange=strange)
            rows = [(row, strange, *_kept(name, columns, row)) for row in range(_POOL)]
            await connection.copy_records_to_table("pool", records=rows)
        version = await connection.fetchval(
            "insert into model_versions (name, version, weights_sha256, manifest, first_served_at) values ($1, 1, $2, $3, $4) "
            "returning id",
            *(name, manifest.weights_sha256, msgspec.json.encode(manifest.public()).decode(), DAY - ONE_DAY),
        )
        if baseline is not None:
            await insert_baseline(connection, version, baseline)
        for first in range(0, ROWS[name], _BLOCK):
            told(f"making a day of {name}: {first:,} of {ROWS[name]:,} rows")
            last = min(first + _BLOCK, ROWS[name])
            await connection.execute(_SQL["fill"], version, first, last, ROWS[name], name, DAY)
        await connection.execute("vacuum analyze")


def commands(name: str, output: Path) -> dict[str, list[str]]:
    """What is measured, by name."""
    whole = ["--from", DAY.isoformat(), "--to", (DAY + ONE_DAY).isoformat()]
    part = ["--from", (DAY + timedelta(hours=12)).isoformat(), "--to", (DAY + timedelta(hours=18)).isoformat()]
    return {
        "postmortem": ["postmortem", name, *whole, "--json"],
        "postmortem --about outliers": ["postmortem", name, "--about", "outliers", *whole, "--json"],
        "export": ["export", name, *part, "--output", str(output / f"export-{name}"), "--json"],
        "replay": ["replay", name, "--candidate", "2", *part, "--json"],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.widerows", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--model", action="append", choices=tuple(ROWS), help="repeatable; all when left out")
    parser.add_argument("--data", type=Path, help="keep the day there; a temporary folder when left out")
    parser.add_argument("--only", action="append", help="commands whose names begin so; repeatable")
    parser.add_argument("--publish", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.publish:
        published(options.publish, options.model[0])
        return
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or Path(scratch)
        (folder / "data").mkdir(exist_ok=True, parents=True)
        with postgres(folder / "data") as url:
            asyncio.run(migrated(url))
            for name in options.model or ROWS:
                if not (folder / "models" / name).exists():
                    publish = ["-m", "benchmarks.widerows", "--model", name, "--publish", str(folder / "models")]
                    subprocess.run([sys.executable, *publish], check=True)
                if not (folder / f"made-{name}").exists():
                    asyncio.run(filled(url, folder / "models", name))
                    (folder / f"made-{name}").touch()
                for what, command in commands(name, Path(scratch)).items():
                    if options.only and not any(what.startswith(each) for each in options.only):
                        continue
                    status, seconds, peak, _ = measured(command, url, folder / "models", Path(scratch))
                    told(f"{name}: {what}: status {status}, {seconds:.1f} s, {peak:.0f} MiB")
                    lines.append([name, what, status, f"{seconds:.1f}", f"{peak:.0f}"])
    print(markdown(["model", "command", "status", "s", "MiB"], lines))


if __name__ == "__main__":
    main()
