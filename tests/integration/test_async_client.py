"""The client for event loops against a running service, by HTTP and by WebSocket."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp import web
from numpy.typing import NDArray

from hoverboard import AsyncClient, Retries
from hoverboard.errors import DeadlineExceeded, InvalidParams, ModelNotFound, Unauthorized, UnknownMethod, Unreachable
from tests.integration.running import ROOT, Service, free_port, running

BY = pytest.mark.parametrize("websocket", [False, True], ids=["http", "websocket"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("client")
    for name in ("digits", "products"):
        shutil.copytree(ROOT / "models" / name, folder / "models" / name)
    with running(folder) as found:
        yield found


@pytest.fixture(scope="module")
def image() -> NDArray[np.float64]:
    request = json.loads((ROOT / "examples/digits/request.json").read_text())
    return np.array(request["params"]["instances"])[:1]


@asynccontextmanager
async def serving(route: web.RouteDef) -> AsyncIterator[str]:
    """A server of one route; yields its URL."""
    application = web.Application()
    application.add_routes([route])
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@BY
async def test_calls_run_at_once_and_find_their_answers(
    service: Service, image: NDArray[np.float64], websocket: bool
) -> None:
    texts = ["a chair with a high back", "a bottle of red wine", "a boat with two sails"] * 10
    async with AsyncClient(service.url, websocket=websocket) as client:
        answers = await asyncio.gather(*(client.predict_one("products", text, deadline_s=30) for text in texts))
        assert [answer.label for answer in answers] == ["furniture", "container", "vehicle"] * 10
        tensors = await client.predict("digits", np.repeat(image, 100, axis=0), outputs=True)
        assert tensors.labels.tolist() == ["9"] * 100
        assert [column.dtype for column in tensors.outputs.values()] == [np.float32]
        with pytest.raises(InvalidParams):
            await client.predict("digits", [[1]])
        with pytest.raises(ModelNotFound):
            await client.describe("nothing")


@BY
async def test_a_long_array_is_answered_in_its_order(
    service: Service, image: NDArray[np.float64], websocket: bool
) -> None:
    shades = np.linspace(0.2, 1.0, 700)[:, None] * image
    async with AsyncClient(service.url, websocket=websocket) as client:
        whole = await client.predict_many("digits", shades, batch=100)
        few = await client.predict("digits", shades[[0, 350, 699]])
        np.testing.assert_allclose(whole.confidence[[0, 350, 699]], few.confidence, rtol=1e-3)
        assert len(whole) == 700
        spoiled = shades.copy()
        spoiled[650] = np.nan
        with pytest.raises(InvalidParams):
            await client.predict_many("digits", spoiled, batch=100)


async def test_admin_methods_take_the_token(service: Service) -> None:
    async with AsyncClient(service.admin_url, token=service.token) as admin:
        assert sorted((await admin.scan())["models"]) == ["digits", "products"]
    async with AsyncClient(service.admin_url, token="wrong") as stranger:
        with pytest.raises(Unauthorized) as refused:
            await stranger.scan()
    assert "admin.token" in refused.value.__notes__[0]
    async with AsyncClient(service.url) as public:
        with pytest.raises(UnknownMethod) as unknown:
            await public.scan()
    assert "http://127.0.0.1:8081" in unknown.value.__notes__[0]
    async with AsyncClient(service.admin_url, token=service.token) as admin:
        with pytest.raises(UnknownMethod) as unknown:
            await admin.predict("digits", [1])
    assert "the public listener" in str(unknown.value)
    with pytest.raises(RuntimeError, match="has been closed"):
        await admin.scan()


@BY
async def test_nobody_at_the_address_is_one_sentence(websocket: bool) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with AsyncClient(url, websocket=websocket, retries=Retries(attempts=2)) as client:
        with pytest.raises(Unreachable, match=rf"no server answers at {url} \(connection refused\)") as raised:
            await client.models()
    assert any("was tried 2 times" in note for note in raised.value.__notes__)


async def test_a_service_that_is_silent_past_the_deadline_is_a_deadline_exceeded() -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(2)
        return web.Response()

    async with serving(web.post("/", silent)) as url, AsyncClient(url) as client:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"did not answer predict within 0\.2 s"):
            await client.predict("digits", [[1.0]], deadline_s=0.2)
        assert time.monotonic() - begun < 1.5


async def test_a_websocket_that_breaks_fails_what_waits_and_is_opened_again() -> None:
    opened = 0

    async def fickle(request: web.Request) -> web.WebSocketResponse:
        nonlocal opened
        opened += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        call = await socket.receive_json()
        if opened > 1:
            await socket.send_json({"jsonrpc": "2.0", "id": call["id"], "result": {"opened": opened}})
        await socket.close(code=1013)
        return socket

    async with serving(web.get("/ws", fickle)) as url:
        async with AsyncClient(url, websocket=True) as client:
            assert await client.call("rpc.discover", {}) == {"opened": 2}
        opened = 0
        async with AsyncClient(url, websocket=True) as client:
            with pytest.raises(Unreachable, match="closed with 1013"):
                await client.route("digits", 1)  # an admin action is not repeated on its own


@asynccontextmanager
async def counting(pause_s: float) -> AsyncIterator[tuple[str, list[int]]]:
    """A WebSocket server that answers each call after a while; yields its URL, and how many it worked on as each came."""
    working: set[int] = set()
    seen: list[int] = []

    async def answer(socket: web.WebSocketResponse, number: int) -> None:
        await asyncio.sleep(pause_s)
        working.discard(number)
        await socket.send_json({"jsonrpc": "2.0", "id": number, "result": {}})

    async def take(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async with asyncio.TaskGroup() as tasks:
            async for message in socket:
                number = message.json()["id"]
                working.add(number)
                seen.append(len(working))
                tasks.create_task(answer(socket, number))
        return socket

    async with serving(web.get("/ws", take)) as url:
        yield url, seen


async def test_many_calls_at_once_by_a_websocket_wait_their_turn_and_none_is_lost(service: Service) -> None:
    async with AsyncClient(service.url, websocket=True, retries=Retries(attempts=1)) as client:
        answers = await asyncio.gather(*(client.predict_one("products", f"a chair {at}") for at in range(1000)))
    assert len(answers) == 1000


@pytest.mark.parametrize("most", [1, 5, 64])
async def test_no_more_calls_are_on_the_way_than_the_client_is_told(most: int) -> None:
    async with counting(0.01) as (url, seen), AsyncClient(url, websocket=True, max_in_flight=most) as client:
        await asyncio.gather(*(client.call("rpc.discover", {}) for _ in range(3 * most)))
    assert max(seen) == most


async def test_a_call_that_waits_for_its_turn_past_its_deadline_says_so_and_one_given_up_keeps_its_place() -> None:
    async with counting(1.0) as (url, seen), AsyncClient(url, websocket=True, max_in_flight=2) as client:
        slow = [asyncio.ensure_future(client.call("rpc.discover", {})) for _ in range(2)]
        await asyncio.sleep(0.2)
        slow[0].cancel()  # the server works on it all the same
        with pytest.raises(DeadlineExceeded, match=r"2 others were on the way \(max_in_flight\)"):
            await client.call("rpc.discover", {}, deadline_s=0.1)
        assert await slow[1] == {}
        assert await client.call("rpc.discover", {}) == {}
    assert max(seen) == 2
    with pytest.raises(ValueError, match="max_in_flight: expected 1 or more, got 0"):
        AsyncClient(max_in_flight=0)
