"""What is wrong with the machine for a moment costs a version that moment, and no more."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hoverboard.errors import NotReady
from tests.disks import small_disk
from tests.integration.running import Service, running
from tests.integration.test_hangs import answers, predict

PATIENCE_S = 60.0
LEFT = 100_000
SAMPLE: Any = ["a word that is number 7"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose words lie in a file of their own, which Keras unpacks to TMPDIR when it loads the model."""
    import keras

    from hoverboard.publishing import publish

    words = keras.layers.StringLookup()
    words.adapt([f"a word that is number {number}" for number in range(20_000)])
    word = keras.Input((1,), name="word", dtype="string")
    model = keras.Model(word, keras.layers.Rescaling(0.5)(words(word)))
    publish(model, name="worded", models_dir=tmp_path / "models", samples=[SAMPLE])
    return tmp_path


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """A folder for temporary files with room for 8 MB."""
    with small_disk(tmp_path / "t", "size=8m") as place:
        yield place


async def unready(service: Service, words: str, hinder: Callable[[], object]) -> None:
    """Hinder the engine until `/readyz` says 503, and why."""
    end = time.monotonic() + PATIENCE_S
    async with aiohttp.ClientSession() as session:
        while True:
            hinder()
            async with session.get(f"{service.url}/readyz") as response:
                body = await response.text()
            if response.status == 503 and words in body:
                return
            assert time.monotonic() < end, body
            await asyncio.sleep(0.02)


async def comes_back(service: Service, words: str, hinder: Callable[[], object], mend: Callable[[], object]) -> None:
    """The engine is started again while something hinders it, and once that is mended the version answers."""
    await answers(service, "worded", SAMPLE)
    (engine,) = service.children("_engine")
    engine.kill()
    await unready(service, words, hinder)
    end = time.monotonic() + PATIENCE_S
    while True:
        said = await predict(service, "worded", SAMPLE)
        assert said["error"]["code"] == NotReady.code, said
        reason = said["error"]["data"]["details"].get("reason")
        if reason is not None:
            break
        assert time.monotonic() < end, said
        await asyncio.sleep(0.05)  # it is being tried again at this moment, and has no reason until that is over
    assert "tried again in" in reason
    mend()
    await answers(service, "worded", SAMPLE)
    assert list((service.folder / "data" / "loading").glob("*")) == []


async def test_a_version_that_served_is_served_again_once_a_full_disk_has_room(folder: Path, temporary: Path) -> None:
    fill = temporary / "fill"

    def hinder() -> None:
        """Leave less than the words take, and enough for Python to find that the folder can be written to."""
        room = os.statvfs(temporary)
        with fill.open("ab") as file:
            file.write(bytes(max(0, room.f_bavail * room.f_frsize - LEFT)))

    with running(folder, {"TMPDIR": str(temporary)}) as service:
        await comes_back(service, "No space left on device", hinder, fill.unlink)


async def test_a_version_that_served_is_served_again_once_its_files_may_be_read(folder: Path) -> None:
    weights = folder / "models" / "worded" / "1" / "model.keras"

    def hinder() -> None:
        weights.chmod(0)
        # Root reads it all the same; a trial, which is made again where it was forgotten, gives that right up.
        shutil.rmtree(folder / "data" / "proofs", ignore_errors=True)

    with running(folder) as service:
        await comes_back(service, "Permission denied", hinder, lambda: weights.chmod(0o644))
