"""What the api says of an engine that has just been started again: nothing, until it is told."""

import asyncio
from pathlib import Path

from hoverboard.api.health import missing
from hoverboard.contract.catalog import Catalog, ModelStatus
from hoverboard.engine.socket.client import EngineClient
from hoverboard.engine.socket.wire import CatalogMessage, frame

LIVE = Catalog({"m": ModelStatus("m", {"stable": 1}, (), served=True)}, 5, ready=True)
LOADING = Catalog({"m": ModelStatus("m", {}, (), served=True)}, 1, ready=False)


def lacking(client: EngineClient) -> list[str]:
    return [found["what"] for found in missing(client.catalog, connected=client.connected)]


async def test_a_new_engine_is_ready_once_it_has_told_so_itself(tmp_path: Path) -> None:
    engines: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def begin(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engines.put_nowait(writer)

    async def until(what: list[str], client: EngineClient) -> None:
        async with asyncio.timeout(5):
            while lacking(client) != what:
                await asyncio.sleep(0.01)

    async with await asyncio.start_unix_server(begin, str(tmp_path / "s")), EngineClient(tmp_path / "s") as client:
        first = await engines.get()
        first.write(frame([CatalogMessage.pack(LIVE)]))
        await until([], client)
        first.close()
        second = await engines.get()
        async with asyncio.timeout(5):
            while client._transport is None or client._transport.is_closing():
                await asyncio.sleep(0.01)
        assert lacking(client) == ["engine"], "the catalog is from before its death"
        assert "m" in client.catalog.models
        second.write(frame([CatalogMessage.pack(LOADING)]))
        async with asyncio.timeout(5):
            while client.catalog.ready:
                await asyncio.sleep(0.01)
        assert lacking(client) == ["engine"]
        second.write(frame([CatalogMessage.pack(LIVE)]))
        await until([], client)
        second.close()
