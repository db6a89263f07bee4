"""What one call, version, caller or listener does wrong costs only itself: the engine goes on for all others."""

from __future__ import annotations

import asyncio
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.config import Settings
from hoverboard.contract.calls import PredictAnswer
from hoverboard.contract.catalog import Catalog
from hoverboard.engine.engine import Engine
from hoverboard.engine.socket.client import EngineClient
from hoverboard.engine.socket.server import EngineServer
from hoverboard.errors import HoverboardError, InternalError, ModelNotFound
from hoverboard.publishing import publish
from tests.integration.recorded import Recorded, until
from tests.integration.test_engine import call, features
from tests.postgres import Server

MakeSettings = Callable[..., Settings]
ODD = ('15"', "a\\b", "'; --", "%s", "😀", "{x}", "a/b~c", "x" * 128, "..", "$")


async def test_a_model_that_is_removed_while_calls_wait_for_company_refuses_them_and_no_other(
    models: Path, make_settings: MakeSettings
) -> None:
    async with Engine(make_settings(models=models, max_batch_delay_ms=1000)) as engine:
        await engine.settled()
        waiting = asyncio.create_task(engine.predict(call(engine, "constant", np.zeros((1, 2), np.float32))))
        await asyncio.sleep(0)
        engine._registry._roles.remove("constant")  # as a scan does, within the delay
        began = time.monotonic()
        assert isinstance(await engine.predict(call(engine, "dense", features())), PredictAnswer)
        with pytest.raises(ModelNotFound):
            await waiting
        assert time.monotonic() - began < 5


async def test_a_batch_that_finds_no_memory_costs_only_its_own_calls(models: Path, make_settings: MakeSettings) -> None:
    async with Engine(make_settings(models=models)) as engine:
        await engine.settled()
        endless = np.broadcast_to(np.float32(0), (1, 2**50, 2))  # takes no memory until two are joined
        both = [engine.predict(call(engine, "lengths", endless)) for _ in range(2)]
        for failed in await asyncio.gather(*both, return_exceptions=True):
            assert isinstance(failed, InternalError)
        answer = await engine.predict(call(engine, "lengths", np.zeros((1, 3, 2), np.float32)))
        assert answer.batch == 1
        await asyncio.wait_for(engine.drain(), 5)


async def test_a_caller_that_cannot_be_told_costs_no_other(models: Path, make_settings: MakeSettings) -> None:
    def broken(_: PredictAnswer | HoverboardError) -> None:
        raise OSError("gone")

    async with Engine(make_settings(models=models)) as engine:
        await engine.settled()
        engine.submit(call(engine, "dense", features()), broken)
        engine.submit(call(engine, "dense", features(), seconds=-1), broken)
        assert isinstance(await engine.predict(call(engine, "dense", features())), PredictAnswer)


async def test_a_listener_that_fails_keeps_no_catalog_from_the_others(
    models: Path, make_settings: MakeSettings, tmp_path: Path
) -> None:
    def broken(_: Catalog) -> None:
        raise ValueError("no such name")

    heard: list[Catalog] = []
    async with (
        Engine(make_settings(models=models)) as engine,
        EngineServer(engine, tmp_path / "e.sock"),
        EngineClient(tmp_path / "e.sock") as client,
    ):
        for port in (engine, client):
            port.subscribe(broken)
            port.subscribe(heard.append)
        await engine.settled()
        while not client.connected:
            await asyncio.sleep(0.02)
        assert isinstance(await client.predict(call(client, "dense", features())), PredictAnswer)
    assert [catalog.ready for catalog in heard].count(True) >= 2


async def test_what_cannot_be_encoded_costs_only_its_own_call(
    models: Path, make_settings: MakeSettings, tmp_path: Path
) -> None:
    async with (
        Engine(make_settings(models=models)) as engine,
        EngineServer(engine, tmp_path / "e.sock"),
        EngineClient(tmp_path / "e.sock") as client,
    ):
        await engine.settled()
        while not client.connected:
            await asyncio.sleep(0.02)
        good = call(client, "dense", features())
        bad = call(client, "dense", features(), version=1)
        huge = type(bad)(bad.model, 2**70, *(getattr(bad, name) for name in bad.__struct_fields__[2:]))
        outcomes = await asyncio.gather(client.predict(good), client.predict(huge), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [PredictAnswer, InternalError]
        with pytest.raises(HoverboardError):
            await client.admin("load", {"model": "dense", "version": 2**70})
        assert isinstance(await client.predict(good), PredictAnswer)


def test_a_version_whose_notes_no_wire_can_carry_is_alone_in_that(published: Path, tmp_path: Path) -> None:
    from hoverboard.contract.catalog import ModelStatus, VersionStatus
    from hoverboard.engine.socket.wire import CatalogMessage, frame

    unfit = ModelStatus("unfit", {"stable": 1}, (VersionStatus(1, "live", manifest={"notes": 2**70}),))
    fit = ModelStatus("fit", {"stable": 1}, (VersionStatus(1, "live"),))
    told = CatalogMessage.pack(Catalog({"fit": fit, "unfit": unfit}, 3, ready=True)).catalog
    assert frame([CatalogMessage(told)])
    assert told.models["fit"] == fit
    assert "past 64 bits" in (told.models["unfit"].problem or "")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose inputs have every kind of name."""
    import keras

    root = tmp_path_factory.mktemp("odd")
    inputs = {name: keras.Input((1,), name=f"input_{place}") for place, name in enumerate(ODD)}
    total = keras.layers.Add(name="total")(list(inputs.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras would have the tensors named alike, and takes no such names
        publish(keras.Model(inputs, total), name="odd", models_dir=root / "models", task="regression")
    return root / "models"


def test_inputs_may_have_any_name(
    odd: Path, published: Path, tmp_path: Path, postgres: Server, migrated_template: str
) -> None:
    shutil.copytree(odd / "odd", tmp_path / "models" / "odd")
    with Recorded.running(tmp_path, published, ["constant"], postgres, migrated_template) as here:
        sample: dict[str, Any] = {name: place for place, name in enumerate(ODD)}
        by_row = here.call("predict", {"model": "odd", "instances": [sample]})
        by_column = here.call("predict", {"model": "odd", "inputs": {name: [value] for name, value in sample.items()}})
        for answer in (by_row, by_column):
            assert answer["result"]["predictions"][0]["value"] == sum(range(len(ODD)))
        refused = here.call("predict", {"model": "odd", "instances": [sample | {'15"': "x"}]})
        assert refused["error"]["data"]["details"]["pointer"] == '/instances/0/15"'
        assert "result" in here.call("predict", {"model": "constant", "instances": [[1, 2]]})
        query = "select inputs::jsonb ->> '15\"' as it from samples where model = 'odd'"
        until(lambda: here.rows(query), lambda rows: [row["it"] for row in rows] == ["0", "0"])
