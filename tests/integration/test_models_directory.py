"""A models directory that goes away while the service runs: it is said, once, and so is that it is back."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import aiohttp

from tests.integration.running import Service, running


async def said(service: Service, word: str, *, there: bool) -> None:
    """Wait until `/readyz?verbose`, which answers 200 all along, has a word or has it no more."""
    end = time.monotonic() + 20
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{service.url}/readyz?verbose") as response:
                body = await response.json()
            assert response.status == 200, body
            if (word in str(body["reported"])) is there:
                return
            assert time.monotonic() < end, body
            await asyncio.sleep(0.1)


async def test_a_models_directory_that_is_gone_is_reported_and_logged_once_and_so_is_its_return(
    keras_models: dict[str, Any], tmp_path: Path
) -> None:
    from hoverboard.publishing import publish

    models = tmp_path / "models"
    publish(keras_models["one"], name="constant", models_dir=models)
    with running(tmp_path) as service:
        models.rename(tmp_path / "elsewhere")
        await said(service, "models directory", there=True)
        await asyncio.sleep(1)  # five looks
        (tmp_path / "elsewhere").rename(models)
        await said(service, "models directory", there=False)
        log = service.log.read_text()
    assert (log.count('"scan_failed"'), log.count('"models_directory_back"')) == (1, 1), log


async def test_a_live_version_whose_files_are_replaced_goes_on_and_it_is_said_once(
    keras_models: dict[str, Any], tmp_path: Path
) -> None:
    from hoverboard.publishing import publish

    models = tmp_path / "models"
    place = publish(keras_models["one"], name="constant", models_dir=models)
    other = publish(keras_models["two"], name="other", models_dir=tmp_path / "elsewhere")
    with running(tmp_path) as service:
        for file in place.iterdir():
            file.chmod(0o600)  # no other content
        await asyncio.sleep(1)  # five looks
        assert "version_changed_on_disk" not in service.log.read_text()
        for file in other.iterdir():
            shutil.copy(file, place / file.name)
        end = time.monotonic() + 20
        while "version_changed_on_disk" not in service.log.read_text():
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        call = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "predict",
            "params": {"model": "constant", "instances": [[0.0, 0.0]]},
        }
        async with aiohttp.ClientSession() as session, session.post(service.url, json=call) as response:
            assert (await response.json())["result"]["version"] == 1
        log = service.log.read_text()
    assert log.count("version_changed_on_disk") <= 2, log  # once more where a look fell between two files
