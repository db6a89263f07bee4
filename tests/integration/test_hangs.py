"""Graphs that never return, in the real service: they cost their own version, and nobody else for long."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hoverboard.errors import NotReady, VersionNotFound
from tests.integration.running import Service, running

POISON, GOOD = [666.0], [1.0]
READY_S = 60.0


@pytest.fixture(scope="module")
def looping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that loops for ever where it is given 666."""
    import tensorflow as tf

    class Looping(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec((None, 1), tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def serve(self, x: Any) -> dict[str, Any]:
            (y,) = tf.while_loop(lambda v: tf.reduce_any(tf.equal(v, 666.0)), lambda v: (v + 0.0,), [x])
            return {"y": y * 2.0}

    module = Looping()
    path = tmp_path_factory.mktemp("looping") / "model"
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return path


@pytest.fixture
def folder(looping: Path, keras_models: dict[str, Any], tmp_path: Path) -> Path:
    """Models: `looping`, and one that never fails."""
    from hoverboard.publishing import publish

    publish(looping, name="looping", models_dir=tmp_path / "models", samples=[GOOD])
    publish(keras_models["one"], name="constant", models_dir=tmp_path / "models")
    return tmp_path


async def ask(url: str, method: str, params: dict[str, Any], token: str = "") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def predict(service: Service, model: str, instance: list[float], **more: Any) -> dict[str, Any]:
    return await ask(service.url, "predict", {"model": model, "instances": [instance], **more})


async def answers(service: Service, model: str, instance: list[float]) -> None:
    """Wait until a model answers."""
    end = time.monotonic() + READY_S
    while "result" not in (said := await predict(service, model, instance)):
        assert time.monotonic() < end, said
        await asyncio.sleep(0.2)


async def test_a_graph_that_loops_for_ever_is_ended_and_after_two_times_its_version_is_refused(folder: Path) -> None:
    with running(folder, {"HOVERBOARD_BATCH_DEADLINE_S": "0.5"}) as service:
        for _ in range(2):
            await answers(service, "looping", GOOD)
            said = await predict(service, "looping", POISON, deadline_ms=60_000)
            assert said["error"]["code"] == NotReady.code
            await answers(service, "constant", [0.0, 0.0])
        end = time.monotonic() + READY_S
        while (said := await predict(service, "looping", GOOD))["error"]["code"] == NotReady.code:
            assert time.monotonic() < end
            await asyncio.sleep(0.2)
        assert said["error"]["code"] == VersionNotFound.code
        assert "hoverboard models load looping 1" in said["error"]["data"]["details"]["reason"]
        loaded = await ask(service.admin_url, "models.load", {"model": "looping", "version": 1}, service.token)
        assert loaded["result"]["roles"] == {"stable": 1}
        await answers(service, "looping", GOOD)
    assert service.log.read_text().count("engine_died_on_version") == 2


def hanging(version: Path, number: int) -> Path:
    """A copy of a version of `looping` that hangs as soon as it is tried: its golden sample is the poison."""
    copy = Path(shutil.copytree(version, version.parents[2] / str(number)))
    golden = json.loads((copy / "golden.json").read_text())
    golden["samples"][0]["inputs"]["x"] = POISON
    (copy / "golden.json").write_text(json.dumps(golden))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["version"] = number
    manifest["sha256"]["golden.json"] = hashlib.sha256((copy / "golden.json").read_bytes()).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


async def test_while_a_version_hangs_as_it_loads_others_are_routed_to_and_the_service_stops_in_time(
    folder: Path, keras_models: dict[str, Any]
) -> None:
    from hoverboard.publishing import publish

    publish(keras_models["two"], name="constant", models_dir=folder / "models")
    with running(folder) as service:
        await answers(service, "constant", [0.0, 0.0])
        hanging(folder / "models" / "looping" / "1", 2).rename(folder / "models" / "looping" / "2")
        described: dict[str, Any] = {}
        while "loading" not in [version["state"] for version in described.get("versions", [])]:
            described = (await ask(service.url, "models.describe", {"model": "looping"}))["result"]
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        routed = await ask(service.admin_url, "models.route", {"model": "constant", "stable": 1}, service.token)
        assert routed["result"]["roles"] == {"stable": 1}
        described = (await ask(service.url, "models.describe", {"model": "looping"}))["result"]
        assert [version["state"] for version in described["versions"]] == ["live", "loading"], "it hangs still"
        await answers(service, "looping", GOOD)
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(service.process.wait, 30) == 0
        assert time.monotonic() - began < 15
    assert "engine_died_on_version" not in service.log.read_text()


async def test_the_service_stops_within_its_time_while_a_graph_hangs(folder: Path) -> None:
    with running(folder, {"HOVERBOARD_DRAIN_TIMEOUT_S": "6"}) as service:
        await answers(service, "looping", GOOD)
        hung = asyncio.create_task(predict(service, "looping", POISON, deadline_ms=60_000))
        await asyncio.sleep(0.5)
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(service.process.wait, 30)
        assert (status, time.monotonic() - began < 6) == (0, True), time.monotonic() - began
        assert (await hung)["error"]["code"] == NotReady.code
    assert "engine_died_on_version" not in service.log.read_text()


async def readiness(service: Service) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"{service.url}/readyz") as response:
        return response.status, await response.text()


async def test_an_engine_that_is_stopped_while_idle_is_noticed_ended_and_started_again(folder: Path) -> None:
    with running(folder) as service:
        await answers(service, "constant", [0.0, 0.0])
        (engine,) = service.children("_engine")
        engine.suspend()
        end = time.monotonic() + READY_S
        while "it has not answered for" not in (said := await readiness(service))[1]:
            assert time.monotonic() < end, said
            await asyncio.sleep(0.2)
        assert said[0] == 503
        assert await asyncio.to_thread(engine.wait, 30) is None
        await answers(service, "constant", [0.0, 0.0])
        await answers(service, "looping", GOOD)
        assert (await readiness(service))[0] == 200
    log = service.log.read_text()
    assert "the process is stopped, by SIGSTOP or a debugger" in log
    assert "engine_died_on_version" not in log
