"""Postgres away, and the disk budget used up: serving goes on, and what is missing afterwards is exactly what gaps say.

CHAOS_PREDICTIONS sets how many predictions Postgres is away for; `make chaos` asks for 200,000.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import asyncpg
import numpy as np
import orjson
import psutil
import pytest

from hoverboard.backends.executor import Executor
from hoverboard.config import Settings
from hoverboard.contract.calls import PredictCall
from hoverboard.contract.signature import Array
from hoverboard.database.connect import connect
from hoverboard.engine.engine import Engine
from hoverboard.engine.recording.sink import JournalSink
from hoverboard.journal.writer import open_writer
from hoverboard.outliers import Calibrated, OutlierPackage
from hoverboard.postgres.endpoint import embedded_url
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.process import open_database
from tests.integration.running import Service, running
from tests.load import report

pytestmark = pytest.mark.timeout(600)

PREDICTIONS = int(os.environ.get("CHAOS_PREDICTIONS", "20000"))
ROWS = 50  # a call
CLIENTS = 8
SETTLED_S = 120.0
LEAST_RATIO = 0.95 if PREDICTIONS >= 200_000 else 0.75  # a second's worth of calls varies by more than a twentieth


@contextmanager
def suspended(processes: Sequence[psutil.Process]) -> Iterator[None]:
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # a backend whose client has left
            process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def postgres_of(service: Service) -> list[psutil.Process]:
    (watcher,) = service.children("_postgres")
    return watcher.children(recursive=True)


@dataclass(frozen=True, slots=True)
class Run:
    """Predictions made, the seconds they took, and the largest resident size of each process, in MiB."""

    ids: list[str]
    seconds: float
    peaks: dict[str, float]

    @property
    def rate(self) -> float:
        return len(self.ids) / self.seconds


async def predict(service: Service, instances: list[list[float]], predictions: int) -> Run:
    """So many predictions, a few clients at once."""
    body = orjson.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "predict",
            "params": {"model": "amounts", "instances": instances, "deadline_ms": 60_000},
        }
    )
    calls = iter(range(predictions // ROWS))
    ids: list[str] = []
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:

        async def client() -> None:
            for _ in calls:
                async with session.post(service.url, data=body) as response:
                    answer = orjson.loads(await response.read())
                ids.extend(prediction["sample_id"] for prediction in answer["result"]["predictions"])

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        seconds = time.perf_counter() - started
    return Run(ids, seconds, {_kind(child): _peak_mib(child) for child in service.children()})


def _kind(process: psutil.Process) -> str:
    return next(word for word in process.cmdline() if word.startswith("_"))[1:]


def _peak_mib(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return process.memory_info().rss / 2**20
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


async def arrived(data_dir: Path, ids: Sequence[str]) -> int:
    """How many of these samples are in Postgres, once they all are or patience ends."""
    end = time.monotonic() + SETTLED_S
    found = 0
    while found < len(ids) and time.monotonic() < end:
        await asyncio.sleep(0.3)
        try:
            connection = await asyncpg.connect(embedded_url(data_dir))
        except (OSError, asyncpg.PostgresError):
            continue
        try:
            # One row a sample: a sample that is there twice would be counted twice.
            found = await connection.fetchval(
                "select count(*) from hoverboard.samples where id = any ($1::uuid[])", list(ids)
            )
        except asyncpg.PostgresError:
            continue  # not migrated yet
        finally:
            await connection.close()
    return found


async def test_serving_does_not_notice_that_postgres_is_away(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").symlink_to(folder / "models")
    instances = np.random.default_rng(1).normal(size=(ROWS, 8)).round(3).tolist()
    with running(tmp_path, {"HOVERBOARD_RECORDING": "on"}) as service:
        warm = await predict(service, instances, 2000)
        assert await arrived(tmp_path / "data", warm.ids) == len(warm.ids)
        present = await predict(service, instances, PREDICTIONS)
        assert await arrived(tmp_path / "data", present.ids) == len(present.ids)
        with suspended(postgres_of(service)):
            away = await predict(service, instances, PREDICTIONS)
        assert await arrived(tmp_path / "data", away.ids) == len(away.ids)
        peaks = {_kind(child): _peak_mib(child) for child in service.children()}
        # With Postgres on both sides of without it, so that a machine that gets slower or faster is not taken for it.
        again = await predict(service, instances, PREDICTIONS)
        assert await arrived(tmp_path / "data", again.ids) == len(again.ids)
    with_postgres = (present.rate + again.rate) / 2
    ratio = away.rate / with_postgres
    report(
        capsys,
        f"{PREDICTIONS} predictions: {present.rate:,.0f} and {again.rate:,.0f}/s with Postgres, {away.rate:,.0f}/s without "
        f"({ratio:.2f} times); "
        f"peaks in MiB before {_rounded(present.peaks)}, after {_rounded(peaks)}",
    )
    assert ratio >= LEAST_RATIO
    for kind, peak in peaks.items():
        # What Postgres missed lies in files: nothing piles up in memory.
        assert peak < 1.25 * present.peaks[kind] + 48, kind


def _rounded(peaks: dict[str, float]) -> dict[str, int]:
    return {kind: round(peak) for kind, peak in peaks.items()}


class Scored:
    """An executor whose score, after the outputs, is strange for rows whose first feature is negative."""

    def __init__(self, executor: Executor) -> None:
        self.name = executor.name
        self.traces = executor.traces
        self._run = executor.run

    def run(self, columns: Sequence[Array]) -> list[Array]:
        return [*self._run(columns), np.where(columns[0][:, 0] < 0, 10_000, 500).astype(np.float32)]


ALPHA = 0.01
OUTLIERS = OutlierPackage(
    alpha=ALPHA,
    chosen="energy",
    reason="it is the only one",
    detectors={"energy": Calibrated("energy", None, np.arange(999, dtype=np.float32))},
    space="outputs",
    layer=None,
    fitted=0,
)


async def test_over_the_disk_budget_ordinary_rows_are_shed_and_counted_and_outliers_kept(
    folder: Path, make_settings: Callable[..., Settings], database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(
        models=folder / "models", journal_budget_mb=1, journal_segment_mb=1, default_deadline_ms=60_000
    )
    writer = open_writer(settings, "engine-0")
    features = np.abs(np.random.default_rng(2).normal(size=(400, 8)).astype(np.float32))
    features[::10, 0] *= -1
    answered: list[bytes] = []
    strange: list[bytes] = []
    async with Engine(settings, sink=JournalSink(writer, b"k" * 32)) as engine:
        await engine.settled()
        (version,) = engine._registry._models.by_name["amounts"].versions.values()
        assert version.live is not None
        version.live = live = replace(version.live, executor=Scored(version.live.executor), outliers=OUTLIERS)
        for turn in range(40):
            call = PredictCall(
                "amounts", "stable", live.fingerprint, (features + turn * 1e-3,), 400, time.monotonic() + 60
            )
            answer = await engine.predict(call)
            ids = [answer.sample_ids[i : i + 16] for i in range(0, len(answer.sample_ids), 16)]
            answered += ids
            assert answer.p_value is not None
            strange += [sample_id for sample_id, p in zip(ids, answer.p_value, strict=True) if p <= ALPHA]
    usage = writer.usage_bytes
    writer.close()
    drain = Drain(settings, lambda: open_database(settings, database))
    await drain.empty()
    drain.close()
    connection = await connect(database, application="test", role=None)
    try:
        kept = {row["id"].bytes for row in await connection.fetch("select id from samples")}
        flagged = {row["sample_id"].bytes for row in await connection.fetch("select sample_id from outliers")}
        gaps = await connection.fetch("select model, version, reason, records, executed, flagged from gaps")
        executed = await connection.fetchval("select sum(executed)::bigint from recorder_cursor")
    finally:
        await connection.close()
    missing = sum(gap["records"] for gap in gaps)
    report(
        capsys,
        f"budget 1 MiB, {usage / 2**20:.2f} MiB used: {len(answered)} answered, {len(kept)} recorded, {missing} counted as "
        f"missing; {len(strange)} outliers, {len(flagged)} of them recorded",
    )
    assert len(answered) == 16_000
    assert flagged == set(strange) <= kept
    assert 0 < missing == len(answered) - len(kept)
    assert {(gap["model"], gap["version"], gap["reason"]) for gap in gaps} == {("amounts", 1, "journal budget")}
    assert executed + sum(gap["executed"] for gap in gaps) == len(answered)
