"""One caller's failure is its own, seen over HTTP: bad samples, poisonous samples, and calls of 10 MB."""

from __future__ import annotations

import asyncio
import shutil
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
import pytest

from tests.integration.digits import classifier, pixels, publish_all
from tests.integration.running import Service, running
from tests.load import Load, predict_params, report, wrong

CALLS = 64
SAMPLES = 4
SMALL_CONNECTIONS = 8
BIG_CALLS = 4
BIG_BYTES = 10_000_000
SLOWEST_SMALL_S = 2.0


@pytest.fixture(scope="module")
def model() -> Any:
    return classifier(1)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, model: Any, published: Path) -> Iterator[Service]:
    """Serves `digits`, and `poisoned`, whose calls wait for company so that they share their micro-batches."""
    folder = tmp_path_factory.mktemp("isolation")
    publish_all(folder / "models", {1: model})
    poisoned = Path(shutil.copytree(published / "poisoned", folder / "models" / "poisoned"))
    (poisoned / "serving.toml").write_text("[batching]\nmax_batch_delay_ms = 500\n")
    with running(folder) as started:
        yield started


async def post(session: aiohttp.ClientSession, url: str, message: Any) -> Any:
    headers = {"Content-Type": "application/json"}
    async with session.post(url, data=orjson.dumps(message), headers=headers) as response:
        assert response.status == 200
        return orjson.loads(await response.read())


async def ask_at_once(url: str, params: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Responses to `predict` calls, each on a connection of its own."""
    messages = [request(number, given) for number, given in enumerate(params)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        responses = await asyncio.gather(*(post(session, url, message) for message in messages))
    assert [response["id"] for response in responses] == list(range(len(params)))
    return responses


def request(number: int, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "predict", "params": params}


def outputs(response: Any) -> Any:
    """The first output of each sample of a result, `(samples, *shape)`."""
    return np.array([next(iter(each["outputs"].values())) for each in response["result"]["predictions"]])


def assert_close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got, np.asarray(want), atol=1e-5, rtol=1e-4)


def assert_points_at(error: Any, pointer: str, expected: str, got: str) -> None:
    assert error["code"] == -32602
    assert error["data"]["type"] == "invalid_params"
    assert error["data"]["details"]["pointer"] == pointer
    assert expected in error["data"]["details"]["expected"]
    assert got in error["data"]["details"]["got"]


async def test_a_short_sample_fails_alone_among_64_calls(service: Service, model: Any) -> None:
    samples = pixels(CALLS * SAMPLES).reshape(CALLS, SAMPLES, 64)
    calls = [predict_params("digits", each.tolist()) for each in samples]
    short = predict_params("digits", samples[0].tolist())
    short["instances"][3] = short["instances"][3][:63]
    calls.insert(CALLS // 2, short)
    responses = await ask_at_once(service.url, calls)
    failed = responses.pop(CALLS // 2)
    assert_points_at(failed["error"], "/instances/3", "64", "63")
    for given, response in zip(samples, responses, strict=True):
        assert_close(outputs(response), model(given))
    assert max(response["result"]["timing"]["batch"] for response in responses) > SAMPLES, "none shared a batch"


async def test_a_poisonous_sample_fails_alone_among_64_calls(service: Service, keras_models: dict[str, Any]) -> None:
    indices = [number % 10 for number in range(CALLS)]
    poison = 17
    indices[poison] = 12
    responses = await ask_at_once(service.url, [predict_params("poisoned", [[index]]) for index in indices])
    error = responses.pop(poison)["error"]
    del indices[poison]
    assert (error["code"], error["data"]["type"]) == (-32603, "model_failed")
    assert error["data"]["details"] == {"pointer": "/instances/0", "reason": "index 12 is not in [0, 10)"}
    want = np.asarray(keras_models["poisoned"](np.array(indices, np.int32)[:, np.newaxis]))
    assert_close(np.concatenate([outputs(response) for response in responses]), want)
    assert min(response["result"]["timing"]["batch"] for response in responses) > 1, "some ran alone"


async def test_a_poisonous_sample_is_pointed_at_within_its_call(service: Service, keras_models: dict[str, Any]) -> None:
    poisoned = [[99 if number == 5 else number % 10] for number in range(24)]
    good = [[number % 10] for number in range(40)]  # 64 together: the poison meets some of them in any bucket
    batch = [request(0, predict_params("poisoned", good)), request(1, predict_params("poisoned", poisoned))]
    async with aiohttp.ClientSession() as session:
        first, second = await post(session, service.url, batch)
    assert second["error"]["data"]["details"] == {"pointer": "/instances/5", "reason": "index 99 is not in [0, 10)"}
    assert_close(outputs(first), keras_models["poisoned"](np.array(good, np.int32)))
    assert first["result"]["timing"]["batch"] > 1


async def test_one_bad_call_of_a_batch_array_fails_alone(service: Service, model: Any) -> None:
    samples = pixels(20)
    batch = [request(number, predict_params("digits", [sample.tolist()])) for number, sample in enumerate(samples)]
    batch[7]["params"]["instances"][0][17] = "seven"
    async with aiohttp.ClientSession() as session:
        responses = await post(session, service.url, batch)
    assert [response["id"] for response in responses] == list(range(20))
    assert_points_at(responses.pop(7)["error"], "/instances/0/17", "number", "string")
    assert_close(np.concatenate([outputs(each) for each in responses]), model(np.delete(samples, 7, axis=0)))
    assert min(each["result"]["timing"]["batch"] for each in responses) > 1, "some ran alone"


def post_big(url: str, body: bytes) -> tuple[bytes, float]:
    """The response and what it took; blocking, for a thread of its own."""
    started = time.perf_counter()
    big = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(big, timeout=60) as response:
        text: bytes = response.read()
    return text, time.perf_counter() - started


async def test_calls_of_10_mb_do_not_keep_small_ones_waiting_long(
    service: Service, model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    probes = pixels(16)
    questions = [predict_params("digits", [probe.tolist()]) for probe in probes]
    samples = pixels(1)
    rows = samples.round(3).astype(str).tolist()
    row = ("[" + ",".join(rows[0]) + "]").encode()
    count = (BIG_BYTES - 200) // (len(row) + 1)
    head = b'{"jsonrpc":"2.0","id":1,"method":"predict","params":{"model":"digits","deadline_ms":60000,"instances":['
    body = head + b",".join([row] * count) + b"]}}"
    want = np.asarray(model(samples.round(3)))[0]
    texts = []
    async with Load(service.url, questions, connections=SMALL_CONNECTIONS) as load:
        await load.more(2000)
        alone, begun = load.results(), time.perf_counter()
        for _ in range(BIG_CALLS):
            texts.append(await asyncio.to_thread(post_big, service.url, body))
            await load.more(100)
        beside = [answer for answer in load.results() if answer.arrived > begun]
    for text, _ in texts:
        answered = outputs(orjson.loads(text))
        assert answered.shape == (count, 10)
        assert_close(answered, np.broadcast_to(want, answered.shape))
    assert load.codes() == {0: len(load.answers)}
    assert wrong(load.results(), {1: np.asarray(model(probes))}) == []
    slowest = max(answer.ms for answer in beside)
    report(
        capsys,
        f"{BIG_CALLS} calls of {len(body) / 1e6:.1f} MB ({count} samples; {np.mean([seconds for _, seconds in texts]):.2f} s each) beside "
        f"{SMALL_CONNECTIONS} connections of small ones: slowest small call {slowest:.0f} ms "
        f"({np.median([a.ms for a in beside]):.1f} ms median), before them {max(a.ms for a in alone):.0f} ms "
        f"({np.median([a.ms for a in alone]):.1f} ms median)",
    )
    assert slowest < SLOWEST_SMALL_S * 1e3
