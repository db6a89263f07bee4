"""One contract for both sides of the socket: the engine in this process, and the engine behind `EngineClient`."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.config import Settings
from hoverboard.contract.calls import EnginePort, ExecutedBatch, PredictAnswer, PredictCall, Source
from hoverboard.contract.catalog import Catalog
from hoverboard.contract.signature import Array
from hoverboard.engine.engine import Engine
from hoverboard.engine.socket.client import EngineClient
from hoverboard.engine.socket.server import EngineServer
from hoverboard.errors import (
    DeadlineExceeded,
    InvalidParams,
    ModelFailed,
    ModelNotFound,
    NonFiniteOutput,
    NotReady,
    Overloaded,
    StaleSignature,
    VersionNotFound,
)

MakeSettings = Callable[..., Settings]


def text(*values: bytes) -> Array:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def call(port: EnginePort, model: str, *columns: Array, version: int | str = "stable", **more: Any) -> PredictCall:
    status = port.catalog.models[model]
    number = status.roles["stable"] if isinstance(version, str) else version
    known = status.version(number)
    assert known is not None and known.signature is not None
    deadline = time.monotonic() + more.pop("seconds", 10.0)
    return PredictCall(model, version, known.signature.fingerprint, columns, len(columns[0]), deadline, **more)


def features(n: int = 1, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(0, 9, (n, 8)).astype(np.float32)


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.02)


@pytest.fixture(params=["in this process", "over the socket"])
async def port(
    request: pytest.FixtureRequest, models: Path, make_settings: MakeSettings, tmp_path: Path
) -> AsyncIterator[EnginePort]:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Engine(make_settings(models=models)))
        if request.param == "in this process":
            await engine.settled()
            yield engine
            return
        await stack.enter_async_context(EngineServer(engine, tmp_path / "e.sock"))
        client = await stack.enter_async_context(EngineClient(tmp_path / "e.sock"))
        await until(lambda: client.connected)
        yield client


async def test_answers_are_what_keras_answers(port: EnginePort, keras_models: dict[str, Any]) -> None:
    x = features(5)
    answer = await port.predict(call(port, "dense", x, want_outputs=True))
    expected = np.asarray(keras_models["dense2"](x))
    assert answer.version == 2
    assert answer.role == "stable"
    assert answer.outputs is not None
    np.testing.assert_allclose(answer.outputs[0], expected, rtol=1e-4, atol=1e-5)
    assert answer.label_index is not None and answer.label_index.tolist() == expected.argmax(axis=1).tolist()
    assert answer.confidence is not None
    np.testing.assert_allclose(answer.confidence, expected.max(axis=1), rtol=1e-4)
    assert len(answer.sample_ids) == 16 * 5
    assert answer.queue_ms >= 0 < answer.infer_ms


async def test_outputs_travel_only_where_asked_for(port: EnginePort) -> None:
    assert (await port.predict(call(port, "dense", features()))).outputs is None


async def test_a_call_of_many_samples_keeps_their_order(port: EnginePort, keras_models: dict[str, Any]) -> None:
    x = features(333)
    answer = await port.predict(call(port, "dense", x, want_outputs=True))
    assert answer.outputs is not None
    np.testing.assert_allclose(answer.outputs[0], np.asarray(keras_models["dense2"](x)), rtol=1e-4, atol=1e-5)


async def test_calls_of_one_tick_share_a_batch_and_get_their_own_rows(
    port: EnginePort, keras_models: dict[str, Any]
) -> None:
    inputs = [features(1, seed) for seed in range(20)]
    answers = await asyncio.gather(*(port.predict(call(port, "dense", x, want_outputs=True)) for x in inputs))
    expected = np.asarray(keras_models["dense2"](np.concatenate(inputs)))
    for row, answer in enumerate(answers):
        assert answer.outputs is not None
        np.testing.assert_allclose(answer.outputs[0][0], expected[row], rtol=1e-4, atol=1e-5)
    assert max(answer.batch for answer in answers) > 1


async def test_the_calls_of_one_request_share_a_batch_whatever_else_is_under_way(port: EnginePort) -> None:
    def asked(request_id: str) -> PredictCall:
        return call(port, "dense", features(), request_id=request_id)

    others = [asked(f"other-{number}") for number in range(17)]
    together = [asked("together") for _ in range(30)]
    answers = await asyncio.gather(*map(port.predict, [*others, *together]))
    assert min(answer.batch for answer in answers[len(others) :]) >= len(together)


async def test_several_inputs_of_mixed_types(port: EnginePort, keras_models: dict[str, Any]) -> None:
    status = port.catalog.models["mixed"].version(1)
    assert status is not None and status.signature is not None
    columns = {"word": text(b"small", b"large"), "size": np.array([[1.0], [2.0]], np.float32)}
    ordered = tuple(columns[spec.name] for spec in status.signature.inputs)
    answer = await port.predict(call(port, "mixed", *ordered, want_outputs=True))
    model = keras_models["mixed"]
    expected = np.asarray(model({"word": np.array(["small", "large"]), "size": columns["size"]}))
    assert answer.outputs is not None
    np.testing.assert_allclose(answer.outputs[0], expected, rtol=1e-4, atol=1e-5)
    assert status.signature.head == "sigmoid"
    assert answer.label_index is not None and answer.label_index.tolist() == (expected[:, 0] > 0.5).astype(int).tolist()


async def test_variable_lengths_and_several_outputs(port: EnginePort, keras_models: dict[str, Any]) -> None:
    model = keras_models["lengths"]
    for length in (1, 3, 7):
        steps = np.random.default_rng(length).normal(size=(2, length, 2)).astype(np.float32)
        answer = await port.predict(call(port, "lengths", steps, want_outputs=True))
        status = port.catalog.models["lengths"].version(1)
        assert status is not None and status.signature is not None and answer.outputs is not None
        expected = model(steps)
        for spec, output in zip(status.signature.outputs, answer.outputs, strict=True):
            np.testing.assert_allclose(output, np.asarray(expected[spec.name]), rtol=1e-4, atol=1e-5)


async def test_a_poisonous_sample_fails_alone_in_its_micro_batch(port: EnginePort) -> None:
    columns = [np.array([[i % 10]], np.int32) for i in range(30)]
    columns[17] = np.array([[12]], np.int32)
    results = await asyncio.gather(
        *(port.predict(call(port, "poisoned", column)) for column in columns), return_exceptions=True
    )
    failed = [i for i, result in enumerate(results) if isinstance(result, BaseException)]
    assert failed == [17]
    error = results[17]
    assert isinstance(error, ModelFailed)
    assert error.details == {"pointer": "/instances/0", "reason": "index 12 is not in [0, 10)"}


async def test_a_models_own_nan_is_an_error_with_its_place(port: EnginePort) -> None:
    numbers = np.array([[1.0], [2.0], [-1.0]], np.float32)
    with pytest.raises(NonFiniteOutput) as caught:
        await port.predict(call(port, "logarithm", numbers))
    assert caught.value.details == {"pointer": "/instances/2", "output": "logarithm"}
    answer = await port.predict(call(port, "logarithm", numbers[:2], want_outputs=True))
    assert answer.outputs is not None and answer.outputs[0][1, 0] == pytest.approx(math.log(2))


async def test_what_does_not_exist_is_said_to_be_missing(port: EnginePort) -> None:
    good = call(port, "dense", features())
    with pytest.raises(ModelNotFound):
        await port.predict(PredictCall("nope", "stable", good.fingerprint, good.columns, 1, good.deadline))
    with pytest.raises(VersionNotFound):
        await port.predict(PredictCall("dense", 99, good.fingerprint, good.columns, 1, good.deadline))
    with pytest.raises(VersionNotFound, match="role"):
        await port.predict(PredictCall("dense", "canary", good.fingerprint, good.columns, 1, good.deadline))


async def test_a_stale_signature_is_sent_back(port: EnginePort) -> None:
    good = call(port, "dense", features())
    with pytest.raises(StaleSignature):
        await port.predict(PredictCall("dense", "stable", "0" * 16, good.columns, 1, good.deadline))


async def test_a_deadline_that_cannot_be_met_is_refused_on_arrival(port: EnginePort) -> None:
    with pytest.raises(DeadlineExceeded):
        await port.predict(call(port, "dense", features(), seconds=0.0))


async def test_a_cancelled_call_leaves_its_neighbours_alone(port: EnginePort) -> None:
    tasks = [asyncio.create_task(port.predict(call(port, "dense", features(1, seed)))) for seed in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for index, result in enumerate(results):
        assert isinstance(result, asyncio.CancelledError if index % 2 == 0 else PredictAnswer)


async def test_a_version_asked_for_by_number_loads_on_demand(port: EnginePort, keras_models: dict[str, Any]) -> None:
    x = features(2)
    with pytest.raises(NotReady) as caught:
        await port.predict(call(port, "dense", x, version=1))
    assert caught.value.retry_after_ms
    await until(lambda: _state(port.catalog, "dense", 1) == "live")
    answer = await port.predict(call(port, "dense", x, version=1, want_outputs=True))
    assert (answer.version, answer.role) == (1, None)
    assert answer.outputs is not None
    np.testing.assert_allclose(answer.outputs[0], np.asarray(keras_models["dense1"](x)), rtol=1e-4, atol=1e-5)


def _state(catalog: Catalog, model: str, version: int) -> str | None:
    status = catalog.models[model].version(version)
    return status.state if status else None


async def test_admin_routes_pins_and_unloads(port: EnginePort, models: Path) -> None:
    result = await port.admin("route", {"model": "constant", "stable": 1})
    assert result["roles"] == {"stable": 1}
    assert "stable = 1" in (models / "constant" / "serving.toml").read_text()
    x = np.zeros((1, 2), np.float32)
    answer = await port.predict(call(port, "constant", x))
    assert answer.value is not None and answer.value.tolist() == [1.0]
    with pytest.raises(InvalidParams):
        await port.admin("unload", {"model": "constant", "version": 1})
    assert (await port.admin("pin", {"model": "constant", "version": 2}))["live"] == [1, 2]
    with pytest.raises(InvalidParams):
        await port.admin("unload", {"model": "constant", "version": 2})
    assert (await port.admin("unpin", {"model": "constant", "version": 2}))["live"] == [1]
    assert (await port.admin("route", {"model": "constant", "stable": None}))["roles"] == {"stable": 2}
    with pytest.raises(VersionNotFound):
        await port.admin("route", {"model": "constant", "stable": 9})
    with pytest.raises(ModelNotFound):
        await port.admin("load", {"model": "nope", "version": 1})


async def test_the_catalog_teaches_what_a_client_needs(port: EnginePort) -> None:
    status = port.catalog.models["dense"].version(2)
    assert status is not None and status.manifest is not None and status.signature is not None
    assert status.signature.labels == ("red", "green", "blue")
    assert len(status.manifest["example_instance"]) == 8
    # The largest that was worth its time when it was measured: on a busy machine not always the largest there may be.
    assert status.buckets and status.buckets[-1].size in (8, 16, 32, 64)
    assert all(bucket.mean_ms > 0 for bucket in status.buckets)
    assert status.memory_bytes == 4 * (8 * 16 + 16 + 16 * 3 + 3)
    assert _state(port.catalog, "dense", 1) == "available"


async def test_a_new_version_on_disk_is_noticed_and_goes_live(port: EnginePort, models: Path) -> None:
    (models / "constant" / "serving.toml").write_text("stable = 1\n")
    await until(lambda: port.catalog.models["constant"].roles == {"stable": 1})
    (models / "constant" / "serving.toml").unlink()
    await until(lambda: port.catalog.models["constant"].roles == {"stable": 2})


async def test_a_new_directory_is_noticed_within_two_seconds(models: Path, make_settings: MakeSettings) -> None:
    aside = (models / "constant" / "2").rename(models.parent / "aside")
    default = Settings.load(models=models).scan_interval_s
    async with Engine(make_settings(models=models, scan_interval_s=default)) as engine:
        await engine.settled()
        assert engine.catalog.models["constant"].roles == {"stable": 1}
        await asyncio.sleep(0.1)  # just after a scan
        aside.rename(models / "constant" / "2")
        await until(lambda: engine.catalog.models["constant"].version(2), seconds=2.0)
        await until(lambda: engine.catalog.models["constant"].roles == {"stable": 2})


async def test_a_malformed_serving_toml_keeps_the_last_good_one(port: EnginePort, models: Path) -> None:
    toml = models / "constant" / "serving.toml"
    toml.write_text("stable = 1\n")
    await until(lambda: port.catalog.models["constant"].roles == {"stable": 1})
    toml.write_text("stabel = 2\n")
    await until(lambda: port.catalog.models["constant"].problem)
    status = port.catalog.models["constant"]
    assert status.roles == {"stable": 1}
    assert status.problem is not None and "stabel" in status.problem
    toml.write_text("stable = 7\n")
    await until(lambda: port.catalog.models["constant"].problem != status.problem)
    assert port.catalog.models["constant"].roles == {"stable": 1}
    assert "no such version" in (port.catalog.models["constant"].problem or "")


async def test_before_the_first_scan_is_over_nothing_is_said_to_be_missing(
    models: Path, make_settings: MakeSettings
) -> None:
    async with Engine(make_settings(models=models)) as engine:
        asked = PredictCall("dense", "stable", "?", (features(),), 1, time.monotonic() + 5)
        with pytest.raises(NotReady):
            await engine.predict(asked)
        await engine.settled()
        with pytest.raises(StaleSignature):
            await engine.predict(asked)


class Sink:
    """Remembers every batch, or refuses it."""

    def __init__(self) -> None:
        self.batches: list[ExecutedBatch] = []
        self.withdrawn: list[bytes] = []
        self.threads: list[str] = []
        self.full = False
        self.at_batch: dict[int, Callable[[], object]] = {}  # called once so many are there

    def append(self, batch: ExecutedBatch) -> None:
        if self.full:
            raise Overloaded("No room for records")
        self.threads.append(threading.current_thread().name)
        self.batches.append(batch)
        self.at_batch.get(len(self.batches), bool)()

    def withdraw(self, source: Source, sample_ids: bytes) -> None:
        self.withdrawn += [sample_ids[at : at + 16] for at in range(0, len(sample_ids), 16)]

    @property
    def answered(self) -> list[bytes]:
        """Samples that are recorded with a prediction."""
        told = [
            batch.sample_ids[16 * row : 16 * row + 16]
            for batch in self.batches
            for row in np.flatnonzero(batch.ok).tolist()
        ]
        withdrawn = set(self.withdrawn)
        return [each for each in told if each not in withdrawn]

    def supplement(self, source: Source, detector: str, sample_ids: bytes, scores: Mapping[str, Array]) -> None:
        raise AssertionError("no version of these tests has a detector")

    def features(self, source: Source, sample_ids: bytes, z: Array) -> None:
        raise AssertionError("no version of these tests has a detector")


async def test_a_batch_is_recorded_before_it_is_answered_or_its_calls_are_refused(
    models: Path, make_settings: MakeSettings
) -> None:
    sink = Sink()
    async with Engine(make_settings(models=models), sink=sink) as engine:
        await engine.settled()
        numbers = np.array([[1.0], [-1.0]], np.float32)
        good, bad = await asyncio.gather(
            engine.predict(call(engine, "logarithm", numbers[:1], want_outputs=True)),
            engine.predict(call(engine, "logarithm", numbers[1:])),
            return_exceptions=True,
        )
        assert isinstance(good, PredictAnswer)
        assert isinstance(bad, NonFiniteOutput)
        (batch,) = sink.batches
        assert batch.ok.tolist() == [True, False]
        assert batch.sample_ids[:16] == good.sample_ids
        assert [rows for _, _, rows in batch.calls] == [1, 1]
        assert batch.columns[0].tolist() == numbers.tolist()
        assert len(batch.queue_us) == 2
        sink.full = True
        with pytest.raises(Overloaded):
            await engine.predict(call(engine, "logarithm", numbers[:1]))


async def test_a_call_that_is_refused_for_one_row_is_recorded_without_predictions(
    models: Path, make_settings: MakeSettings
) -> None:
    sink = Sink()
    async with Engine(make_settings(models=models), sink=sink) as engine:
        await engine.settled()
        good, bad = np.array([[3]], np.int32), np.array([[1], [12], [2]], np.int32)
        answered, refused = await asyncio.gather(
            engine.predict(call(engine, "poisoned", good)),
            engine.predict(call(engine, "poisoned", bad)),
            return_exceptions=True,
        )
        assert isinstance(refused, ModelFailed)
        assert isinstance(answered, PredictAnswer)
        assert sink.answered == [answered.sample_ids]
        assert sum(len(batch.ok) for batch in sink.batches) == 4


async def test_a_call_whose_later_part_fails_takes_the_earlier_ones_predictions_back(
    models: Path, make_settings: MakeSettings
) -> None:
    sink = Sink()
    async with Engine(make_settings(models=models), sink=sink) as engine:
        await engine.settled()
        rows = np.zeros((200, 1), np.int32)
        rows[199] = 12
        with pytest.raises(ModelFailed) as caught:
            await engine.predict(call(engine, "poisoned", rows))
        assert caught.value.details == {"pointer": "/instances/199", "reason": "index 12 is not in [0, 10)"}
        assert len(sink.batches) > 1
        await until(lambda: not sink.answered)


async def test_a_call_that_nobody_waits_for_any_more_is_recorded_without_predictions(
    models: Path, make_settings: MakeSettings
) -> None:
    sink = Sink()
    async with Engine(make_settings(models=models), sink=sink) as engine:
        await engine.settled()
        engine._scheduler._short_s = 0.0  # on the execution thread, so that this one can go meanwhile
        waiting = asyncio.create_task(engine.predict(call(engine, "dense", features(5000))))
        sink.at_batch[4] = partial(asyncio.get_running_loop().call_soon_threadsafe, waiting.cancel)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(sink.batches) >= 4
        await engine.drain()
        await until(lambda: not sink.answered)


async def test_a_value_has_the_digits_of_its_output(tmp_path: Path, make_settings: MakeSettings) -> None:
    import keras

    from hoverboard.codec.arrays import Codec
    from hoverboard.publishing import publish

    root = tmp_path / "models"
    for dtype in ("float64", "int64"):
        number = keras.Input((1,), name="x", dtype=dtype)
        publish(keras.Model(number, keras.ops.add(number, 0)), name=dtype, models_dir=root, task="regression")
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Engine(make_settings(models=root)))
        await stack.enter_async_context(EngineServer(engine, tmp_path / "e.sock"))
        client = await stack.enter_async_context(EngineClient(tmp_path / "e.sock"))
        await engine.settled()
        await until(lambda: client.connected)
        for dtype, values in (("float64", [123456789.123, 1e300]), ("int64", [2**62 + 1, -3])):
            asked = call(client, dtype, np.array(values, dtype).reshape(-1, 1))
            answer = await client.predict(asked)
            status = client.catalog.models[dtype].version(1)
            assert status is not None and status.signature is not None
            told = json.loads(Codec(status.signature).encode_text(answer))
            assert [prediction["value"] for prediction in told] == values


@pytest.mark.parametrize("fsync", [False, True])
async def test_a_short_batch_runs_on_the_event_loop_unless_that_would_wait_for_the_disk(
    models: Path, make_settings: MakeSettings, *, fsync: bool
) -> None:
    sink = Sink()
    async with Engine(make_settings(models=models, journal_fsync=fsync), sink=sink) as engine:
        await engine.settled()
        if not fsync:
            engine._scheduler._short_s = math.inf  # whatever this machine takes
        answers = [engine.predict(call(engine, "dense", features(9, seed))) for seed in range(30)]
        assert len({answer.sample_ids for answer in await asyncio.gather(*answers)}) == 30
        assert sum(len(batch.ok) for batch in sink.batches) == 270
        assert len(sink.batches) > 2  # the rest has its turn when the first is done
        assert set(sink.threads) == {"execute" if fsync else threading.current_thread().name}


async def test_what_may_take_long_leaves_the_event_loop_free(models: Path, make_settings: MakeSettings) -> None:
    sink = Sink()
    async with Engine(make_settings(models=models), sink=sink) as engine:
        await engine.settled()
        here = threading.current_thread().name

        async def threads(model: str, *columns: Array) -> set[str]:
            sink.threads.clear()
            with suppress(ModelFailed):
                await engine.predict(call(engine, model, *columns))
            return set(sink.threads)

        engine._scheduler._short_s = 0.0
        assert await threads("dense", features()) == {"execute"}  # it takes longer than that
        engine._scheduler._short_s = math.inf
        assert await threads("dense", features()) == {here}
        assert await threads("lengths", np.zeros((1, 3, 2), np.float32)) == {"execute"}  # of any length
        assert await threads("mixed", np.ones((1, 2), np.float32), text(b"gold")) == {"execute"}
        good, bad = np.array([[1]], np.int32), np.array([[10]], np.int32)
        assert await threads("poisoned", bad) == {here}
        assert await threads("poisoned", good) == {"execute"}  # the last one failed, and pieces take longer
        assert await threads("poisoned", good) == {here}
        live = engine._registry.lookup("dense", "stable")
        engine._scheduler._short_s, live.run_s = 0.1, 0.3  # a slow disk, say
        assert await threads("dense", features()) == {"execute"}


async def test_too_much_predicted_work_is_refused_at_once(models: Path, make_settings: MakeSettings) -> None:
    async with Engine(make_settings(models=models, max_queue_ms=1)) as engine:
        await engine.settled()
        calls = [call(engine, "dense", features(2000), seconds=60) for _ in range(50)]
        results = await asyncio.gather(*map(engine.predict, calls), return_exceptions=True)
        refused = [result for result in results if isinstance(result, Overloaded)]
        answered = [result for result in results if isinstance(result, PredictAnswer)]
        assert refused and answered
        assert len(refused) + len(answered) == 50
        assert all(error.retry_after_ms for error in refused)


async def test_a_large_call_keeps_no_other_caller_and_no_other_model_waiting(
    models: Path, make_settings: MakeSettings
) -> None:
    async with Engine(make_settings(models=models, max_queue_ms=20)) as engine:
        await engine.settled()
        large = call(engine, "dense", features(100_000), seconds=60, source=1)
        first = asyncio.create_task(engine.predict(large))
        await asyncio.sleep(0)
        more = await asyncio.gather(engine.predict(large), return_exceptions=True)
        assert isinstance(more[0], Overloaded)  # the same caller's
        for _ in range(5):
            await engine.predict(call(engine, "dense", features(), seconds=120, source=2))
            await engine.predict(call(engine, "constant", np.zeros((1, 2), np.float32), seconds=120, source=3))
        assert not first.done()
        assert len((await first).sample_ids) == 16 * 100_000


async def test_the_least_recently_used_version_is_unloaded_when_memory_is_short(
    tmp_path: Path, make_settings: MakeSettings
) -> None:
    import keras

    from hoverboard.publishing import publish

    root = tmp_path / "models"
    big = keras.Sequential([keras.Input((300,), name="x"), keras.layers.Dense(500, name="y")])
    for _ in range(4):
        publish(big, name="big", models_dir=root, task="raw")
    async with Engine(make_settings(models=root, memory_limit_mb=2)) as engine:
        await engine.settled()
        x = np.zeros((1, 300), np.float32)

        async def use(version: int) -> None:
            with suppress(NotReady):
                await engine.predict(call(engine, "big", x, version=version))
            await until(lambda: _state(engine.catalog, "big", version) == "live")
            await engine.predict(call(engine, "big", x, version=version))

        for version in (1, 2, 1, 3):  # three fit: the stable one and the two used last
            await use(version)
        states = {version: _state(engine.catalog, "big", version) for version in (1, 2, 3, 4)}
        assert states == {1: "live", 2: "available", 3: "live", 4: "live"}


async def test_nothing_is_traced_again_once_a_version_is_live(models: Path, make_settings: MakeSettings) -> None:
    async with Engine(make_settings(models=models)) as engine:
        await engine.settled()
        before = {live.key: live.executor.traces() for live in engine._registry.live()}
        for n in range(1, 70):
            await engine.predict(call(engine, "dense", features(n)))
            steps = np.zeros((n, 1 + n % 5, 2), np.float32)
            await engine.predict(call(engine, "lengths", steps))
        assert {live.key: live.executor.traces() for live in engine._registry.live()} == before


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        (lambda v: (v / "model.keras").write_bytes(b"rubbish"), "sha256"),
        (lambda v: (v / "golden.json").unlink(), "missing"),
        (lambda v: (v / "extra.txt").write_text("x"), "not in the manifest"),
        (lambda v: (v / "manifest.json").write_text("{"), "manifest.json"),
        (lambda v: (v / "manifest.json").unlink(), "no manifest.json"),
    ],
)
async def test_a_damaged_version_is_refused_with_a_reason_while_the_old_one_serves(
    models: Path, make_settings: MakeSettings, damage: Callable[[Path], Any], check: str
) -> None:
    hidden = models / "constant" / ".3"
    shutil.copytree(models / "constant" / "2", hidden)
    manifest = hidden / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 3'))
    damage(hidden)
    async with Engine(make_settings(models=models)) as engine:
        await engine.settled()
        assert engine.catalog.models["constant"].roles == {"stable": 2}
        hidden.rename(models / "constant" / "3")
        await until(lambda: _state(engine.catalog, "constant", 3) == "refused")
        status = engine.catalog.models["constant"]
        refused = status.version(3)
        assert refused is not None and refused.reason is not None and check in refused.reason
        assert status.roles == {"stable": 2}
        answer = await engine.predict(call(engine, "constant", np.zeros((1, 2), np.float32)))
        assert answer.value is not None and answer.value.tolist() == [2.0]
        with pytest.raises(VersionNotFound, match="refused"):
            await engine.predict(
                PredictCall("constant", 3, "x", (np.zeros((1, 2), np.float32),), 1, time.monotonic() + 5)
            )
        with pytest.raises(InvalidParams, match="refused"):
            await engine.admin("route", {"model": "constant", "stable": 3})
