"""`python -m benchmarks.replay`: whether a replay tells what is there and nothing else, goes on after SIGKILL, and how quick it is.

A service answers noisy digits in calls of 1 to 64, so that the record comes of many batches, and its recorder writes them down. Then, in this
process: the same net under another number, run by run, each on rows of its own; a version that is the same but for a mark in two corners, which 1% of the
rows have; a command that is killed at several moments; and the time of all rows beside two offline runs over the same rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq

from benchmarks.running import ROOT, drained, markdown, post, serving
from hoverboard.config import Settings
from hoverboard.offline.run import OfflineVersion, RunOptions, live_version, prepare, run
from hoverboard.offline.workspace import Workspace
from hoverboard.postmortem import replay_scoring
from hoverboard.postmortem.export import Exporter, ExportRequest, versions_with_the_same_inputs
from hoverboard.postmortem.replay import Replay, ReplayRequest
from hoverboard.postmortem.replay_result import ReplayResult
from hoverboard.postmortem.window import RecordedWindow, RowChoice
from hoverboard.publishing import publish
from hoverboard.telemetry import logs

ROWS: Final = 200
PLANTED: Final = 0.01
MARK: Final = 16.0
ANSWERS, TWIN, BROKEN = 3, 4, 5
KILLS: Final = 4


def versions(models: Path) -> None:
    """The shipped digits 3, the same as 4, and 5, which takes one digit for the next where two corners are black."""
    import keras

    source = ROOT / "models" / "digits" / str(ANSWERS)
    for number in (ANSWERS, TWIN):
        shutil.copytree(source, models / "digits" / str(number))
    manifest = models / "digits" / str(TWIN) / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": TWIN}))
    net = keras.models.load_model(source / "model.keras")
    pixels = keras.Input((64,), name="pixels")
    said = net(pixels)
    corners = keras.layers.Dense(1, activation="relu", name="corners")
    turn = keras.layers.Dense(10, use_bias=False, name="turn")
    mark, turned = corners(pixels), turn(said)
    moved = keras.layers.Multiply()([mark, keras.layers.Subtract()([turned, said])])
    broken = keras.Model(pixels, keras.layers.Add(name="probabilities")([said, moved]))
    weights = np.zeros((64, 1), np.float32)
    weights[[0, 63]] = 1
    corners.set_weights([weights, np.array([1 - 2 * MARK], np.float32)])
    turn.set_weights([np.roll(np.eye(10, dtype=np.float32), 1, axis=1)])
    publish(
        *(broken,),
        name="digits",
        models_dir=models,
        version=BROKEN,
        labels=list("0123456789"),
        head="softmax",
        contract={"pixels": {"min": 0, "max": 16}},
        breaking=True,
    )
    (models / "digits" / "serving.toml").write_text(f"stable = {ANSWERS}\n")


def ask(url: str, runs: int, seed: int) -> set[str]:
    """Send each run's rows; returns the samples that have the mark."""
    draw = np.random.default_rng(seed)
    nine = json.loads((ROOT / "examples" / "digits" / "request.json").read_text())["params"]["instances"][0]
    marked: set[str] = set()
    for number in range(runs):
        rows = np.clip(np.array(nine) + draw.normal(0, 4, (ROWS, 64)), 0, 15.5).astype(np.float32)
        has = np.zeros(ROWS, np.bool_)
        has[draw.choice(ROWS, round(PLANTED * ROWS), replace=False)] = True
        rows[has, 0] = rows[has, 63] = MARK
        at = 0
        while at < ROWS:
            size = int(draw.integers(1, 65))
            params = {"model": "digits", "instances": rows[at : at + size].tolist(), "tags": {"run": str(number)}}
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "predict", "params": params}).encode()
            found = json.loads(post(url, body))["result"]
            ids = [each["sample_id"] for each in found["predictions"]]
            marked |= {id_ for id_, mark in zip(ids, has[at : at + size], strict=True) if mark}
            at += size
    return marked


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the replays are made.

    Attributes:
        settings: name the database.
        models: the models directory.
        work: a folder.
        window: of all rows.
    """

    settings: Settings
    models: Path
    work: Path
    window: RecordedWindow

    async def replay(self, candidate: int, run_: int | None = None, output: Path | None = None) -> ReplayResult:
        """All rows, or those of a run."""
        where = {} if run_ is None else {"tag.run": str(run_)}
        window = RecordedWindow("digits", self.window.start, self.window.end, where)
        request = ReplayRequest(window, self.models, candidate, job={"run": run_, "candidate": candidate})
        return await Replay(self.settings, request, self.work / "replay").run(output)

    async def twins(self, runs: int) -> list[object]:
        """The same net in two engines, which stay: loading them is no part of the question, and most of the time."""
        clean, widest = 0, 0.0
        async with AsyncExitStack() as stack:
            live = {
                number: await stack.enter_async_context(live_version(self.models, "digits", number))
                for number in (ANSWERS, TWIN)
            }

            @asynccontextmanager
            async def staying(_models: Path, _model: str, version: int) -> AsyncIterator[OfflineVersion]:
                yield live[version]

            stack.enter_context(patch.object(replay_scoring, "live_version", staying))
            for number in range(runs):
                found = await self.replay(TWIN, number)
                differing = sum(found.kinds[kind].rows for kind in ("changed", "fixed", "broken", "failed"))
                clean += differing + found.numbers_differing == 0 and found.rows == ROWS
                widest = max(widest, found.noise_floor.quantile)
                print(
                    f"\rrun {number + 1} of {runs}: {clean} without a difference", end="", file=sys.stderr, flush=True
                )
        print(file=sys.stderr)
        told = f"{clean} of {runs} without a difference beyond the floor (its widest quantile {widest:.1e})"
        return [f"{runs} replays of {ROWS} rows, the same net", told]

    def planted(self, marked: set[str]) -> list[object]:
        output = self.work / "rows.parquet"
        found = asyncio.run(self.replay(BROKEN, output=output))
        rows = pq.read_table(output, columns=["sample_id", "kind"]).to_pylist()
        told = {row["sample_id"] for row in rows if row["kind"] in ("changed", "broken")}
        words = (
            f"{len(told):,} told, {len(told & marked):,} of them planted; {len(marked - told):,} planted ones missed"
        )
        return [f"{found.rows:,} rows, {len(marked):,} planted", words]

    def killed(self) -> list[object]:
        command = [sys.executable, "-m", "hoverboard", "replay", "digits", "--candidate", str(BROKEN), "--json"]
        command += ["--from", self.window.start.isoformat(), "--to", self.window.end.isoformat()]
        command += ["--models", str(self.models), "--data-dir", str(self.settings.data_dir)]

        def whole() -> tuple[Any, float]:
            began = time.monotonic()
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            changing = ("seconds", "speed", "replay")
            return {name: value for name, value in found.items() if name not in changing}, time.monotonic() - began

        first, seconds = whole()
        kills = 0
        for number in range(KILLS):
            with (self.work / "killed.log").open("wb") as log:
                child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
                try:
                    child.wait(seconds * (0.35 + 0.15 * number))
                except subprocess.TimeoutExpired:
                    os.killpg(child.pid, signal.SIGKILL)
                    kills += 1
                child.wait()
        again, _ = whole()
        return [
            f"killed {kills} times on its way, then run to its end",
            "the same answer" if again == first else "ANOTHER ANSWER",
        ]

    def timed(self) -> list[list[object]]:
        exporter = Exporter(
            self.settings, ExportRequest(self.window, RowChoice()), self.work / "rows", versions_with_the_same_inputs
        )
        began = time.monotonic()
        rows = asyncio.run(exporter.run(overwrite=True)).rows
        exported = time.monotonic() - began
        began = time.monotonic()
        for number in (ANSWERS, BROKEN):
            options = RunOptions(
                "digits", self.work / "rows" / "inputs.parquet", self.work / f"{number}.parquet", self.models, number
            )
            workspace = Workspace(options.output)
            with workspace.locked():
                asyncio.run(run(prepare(options, workspace), lambda _: None))
        predicts = time.monotonic() - began
        replays = asyncio.run(self.replay(BROKEN)).seconds
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return [
            ["export", f"{exported:.1f} s, {rows / exported:,.0f} rows/s"],
            ["two predicts", f"{predicts:.1f} s, {rows / predicts:,.0f} rows/s"],
            [
                "replay, with reading and comparing",
                f"{replays:.1f} s, {rows / replays:,.0f} rows/s: {replays / predicts:.2f} of two predicts",
            ],
            ["memory of this process at its most", f"{memory:,.0f} MiB"],
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="replays of the same net")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logs.configure("warning", process="benchmark")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        models = work / "models"
        models.mkdir()
        versions(models)
        with serving(models, work, "data") as service:
            began = datetime.now(UTC)
            marked = ask(service.url, options.runs, options.seed)
            drained(service.url)
            window = RecordedWindow("digits", began - timedelta(seconds=1), datetime.now(UTC) + timedelta(seconds=1))
            bench = Bench(Settings.load(data_dir=work / "data", models=models), models, work, window)
            rows = [bench.planted(marked), bench.killed(), *bench.timed(), asyncio.run(bench.twins(options.runs))]
    print(markdown(["what", "found"], rows))


if __name__ == "__main__":
    main()
