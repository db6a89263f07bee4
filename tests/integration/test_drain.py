"""SIGTERM under load: whatever was accepted is answered, and nothing is left running."""

from __future__ import annotations

import asyncio
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
import pytest

from tests.integration.digits import classifier, pixels, publish_all
from tests.integration.running import Service, running
from tests.load import Load, call, predict_params, report, until, wrong

CONNECTIONS = 64
SLOW_CALLS = 24
SLOW_ROWS = 4


async def stop(service: Service) -> tuple[float, Sequence[psutil.Process]]:
    """Send SIGTERM and wait for the end: what it took, and which of the service's processes outlived it."""
    children = service.children()
    started = time.perf_counter()
    service.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(service.process.wait, 40) == 0, service.log.read_text()
    took = time.perf_counter() - started
    return took, psutil.wait_procs(children, timeout=0)[1]


@pytest.mark.parametrize("api_workers", [1, 2])
async def test_no_accepted_call_is_lost_when_the_service_stops(
    tmp_path: Path, api_workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    model, probes = classifier(1), pixels(16)
    publish_all(tmp_path / "models", {1: model})
    questions = [predict_params("digits", [probe.tolist()]) for probe in probes]
    with running(tmp_path, {"HOVERBOARD_API_WORKERS": str(api_workers)}) as service:
        async with Load(service.url, questions, connections=CONNECTIONS, backoff_s=None) as load:
            await load.more(2000)
            answered, in_flight, asked = len(load.answers), load.waiting, time.perf_counter()
            took, orphans = await stop(service)
            await load.left()
        with pytest.raises(aiohttp.ClientConnectorError):
            await call(service.url, "models.list", {})
    codes = load.codes()
    late = sum(answer.sent > asked for answer in load.results())
    report(
        capsys,
        f"SIGTERM under {CONNECTIONS} connections to {api_workers} api processes: {answered} results before, "
        f"{in_flight} in flight, {len(load.results()) - answered} results after ({late} of calls sent after it), "
        f"{codes['refused']} connections refused, {codes['broken']} broken; ended after {took:.2f} s",
    )
    assert codes == {0: len(load.results()), "refused": CONNECTIONS}, [a for a in load.answers if a.broken][:3]
    assert in_flight > 0
    assert wrong(load.results(), {1: np.asarray(model(probes))}) == []
    assert orphans == []


def slow_model() -> Any:
    """A long recurrence: a batch of any size takes some 100 ms."""
    import keras

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.utils.set_random_seed(4)
        number = keras.Input((1,), name="number")
        state = keras.layers.GRU(4)(keras.layers.RepeatVector(2000)(number))
        return keras.Model(number, keras.layers.Dense(1, name="amount")(state))


async def test_long_batches_that_wait_are_still_run_when_the_service_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hoverboard.publishing import publish

    model = slow_model()
    publish(model, name="slow", models_dir=tmp_path / "models", samples=[[0.5]], max_batch=SLOW_ROWS)
    numbers = np.linspace(-1, 1, SLOW_CALLS * SLOW_ROWS, dtype=np.float32).reshape(SLOW_CALLS, SLOW_ROWS, 1)
    questions = [predict_params("slow", rows.tolist(), deadline_ms=60_000) for rows in numbers]
    settings = {"HOVERBOARD_XLA": "off", "HOVERBOARD_MAX_QUEUE_MS": "60000"}
    with running(tmp_path, settings) as service:
        async with Load(service.url, questions, connections=SLOW_CALLS, backoff_s=None) as load:
            await until(lambda: len(load.answers) >= 2, 60, "the first slow batches")
            answered, in_flight = len(load.answers), load.waiting
            took, orphans = await stop(service)
            await load.left()
    codes = load.codes()
    report(
        capsys,
        f"SIGTERM with {in_flight} calls of {SLOW_ROWS} samples in long batches: {len(load.results()) - answered} results "
        f"after it, {codes['refused']} connections refused, {codes['broken']} broken; ended after {took:.2f} s",
    )
    assert codes == {0: len(load.results()), "refused": SLOW_CALLS}, [a for a in load.answers if a.broken][:3]
    assert len(load.results()) - answered >= SLOW_CALLS // 2, "they did not wait"
    assert wrong(load.results(), {1: np.asarray(model(numbers[:, 0]))}) == []
    assert orphans == []
