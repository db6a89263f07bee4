"""An engine that does not read: what waits for it is bounded, and calls are refused at once."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from hoverboard.contract.calls import PredictCall
from hoverboard.contract.catalog import Catalog
from hoverboard.engine.socket.client import EngineClient
from hoverboard.engine.socket.wire import CatalogMessage, frame
from hoverboard.errors import Overloaded


def call(megabytes: int) -> PredictCall:
    column = np.zeros((1, megabytes << 18), np.float32)
    return PredictCall("m", "stable", "f", (column,), 1, time.monotonic() + 30)


async def test_what_waits_for_an_engine_that_does_not_read_is_bounded(tmp_path: Path) -> None:
    deaf = asyncio.Event()

    async def hung(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame([CatalogMessage(Catalog(ready=True))]))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await deaf.wait()
        writer.close()

    async with await asyncio.start_unix_server(hung, str(tmp_path / "s")), EngineClient(tmp_path / "s") as engine:
        while not engine.connected:
            await asyncio.sleep(0.01)
        waiting = []
        for _ in range(12):
            waiting.append(asyncio.create_task(engine.predict(call(8))))
            await asyncio.sleep(0.01)
        refused = [task.exception() for task in waiting if task.done()]
        assert refused
        assert all(isinstance(error, Overloaded) for error in refused)
        assert len(waiting) - len(refused) <= 10
        with pytest.raises(Overloaded):
            await engine.predict(call(0))
        deaf.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        async with asyncio.timeout(5):
            while engine.full:
                await asyncio.sleep(0.01)
