"""Messages above 64 KB: taken apart in the decoder, answered as small ones are, within a budget."""

import asyncio
import gzip
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from hoverboard.contract.signature import TensorSpec
from tests.unit.api.conftest import PIXELS, PREDICT, Service, Start
from tests.unit.rpc.linear import DIGITS, LinearEngine, live, model

ROWS = 500
PLAIN = {"Accept-Encoding": "identity"}


def call(call_id: Any = 1, **changes: Any) -> dict[str, Any]:
    """A predict call of some 160 KB."""
    return {**PREDICT, "id": call_id, "params": {"model": "digits", "instances": [PIXELS] * ROWS, **changes}}


async def labels(service: Service, body: Any, **options: Any) -> list[str]:
    _, answer = await service.post(body, headers={**PLAIN, **options})
    return [one["label"] for one in answer["result"]["predictions"]]


async def test_a_large_call_is_answered_as_a_small_one_is(service: Service) -> None:
    (small,) = await labels(service, PREDICT)
    assert await labels(service, call()) == [small] * ROWS
    assert (
        await labels(service, gzip.compress(json.dumps(call()).encode()), **{"Content-Encoding": "gzip"})
        == [small] * ROWS
    )
    columns = {**PREDICT, "params": {"model": "digits", "inputs": {"pixels": [PIXELS] * ROWS}}}
    assert await labels(service, columns) == [small] * ROWS
    assert await labels(service, {**PREDICT, "params": ["digits", [PIXELS] * ROWS]}) == [small] * ROWS
    texts = {**PREDICT, "params": {"model": "products", "instances": ["kettle"] * 20_000}}
    assert len(await labels(service, texts)) == 20_000


async def test_each_call_of_a_large_batch_has_its_own_answer(service: Service, engine: LinearEngine) -> None:
    wrong = [*([PIXELS] * (ROWS - 1)), [*PIXELS[:-1], "x"]]
    notification = {key: value for key, value in call().items() if key != "id"}
    batch = [
        call("good"),
        call("wrong", instances=wrong),
        {**call("position"), "params": ["digits", wrong]},
        call("nowhere", model="nope"),
        {**call("what"), "method": "nope"},
        {**call("many"), "params": {"model": 7, "instances": []}},
        7,
        notification,
        {"jsonrpc": "2.0", "method": "models.list", "id": "list"},
    ]
    response, answers = await service.post(batch, headers=PLAIN)
    assert response.status == 200
    found = {answer["id"]: answer for answer in answers}
    assert len(found["good"]["result"]["predictions"]) == ROWS
    assert found["wrong"]["error"]["data"]["details"]["pointer"] == f"/instances/{ROWS - 1}/63"
    assert found["position"]["error"]["data"]["details"]["pointer"] == f"/1/{ROWS - 1}/63"
    codes = {key: found[key]["error"]["code"] for key in ("nowhere", "what", "many", None)}
    assert codes == {"nowhere": -32001, "what": -32601, "many": -32602, None: -32600}
    assert "models" in found["list"]["result"]
    assert len(answers) == len(batch) - 1
    assert len(engine.calls) == 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" + b"1," * 100_000 + b"1]", -32010),
        (b"[" * 100_000, -32700),
        (b'{"jsonrpc":"2.0","method":"predict","id":1,"params":[' + b"1," * 100_000 + b"1]}", -32602),
        (b'{"jsonrpc":"2.0","method":"predict","id":1,"params":{"tags":{' + b'"":1,' * 50_000 + b'"a":1}}}', -32602),
        (b'{"jsonrpc":"2.0","method":"' + b"x" * 100_000 + b'","id":1}', -32601),
        (b'"\xff' + b"x" * 100_000 + b'"', -32700),
        (b" " * 100_000, -32700),
    ],
)
async def test_large_nonsense_is_refused(service: Service, body: bytes, code: int) -> None:
    _, answer = await service.post(body, headers=PLAIN)
    assert (answer[0] if isinstance(answer, list) else answer)["error"]["code"] == code


async def test_bodies_beyond_the_budget_are_refused_and_then_taken(start: Start, engine: LinearEngine) -> None:
    service = await start(body_memory_mb=1)
    engine.gate.clear()
    held = [asyncio.create_task(service.post(call(), headers=PLAIN)) for _ in range(4)]
    while len(engine.calls) < 4:
        await asyncio.sleep(0.01)
    response, answer = await service.post(call(instances=[PIXELS] * 1800), headers=PLAIN)
    assert (response.status, answer["error"]["code"]) == (503, -32005)
    packed = gzip.compress(json.dumps(call(instances=[PIXELS] * 1800)).encode())
    response, answer = await service.post(packed, headers={**PLAIN, "Content-Encoding": "gzip"})
    assert (response.status, answer["error"]["code"]) == (503, -32005)
    engine.gate.set()
    await asyncio.gather(*held)
    assert len(await labels(service, call(instances=[PIXELS] * 1800))) == 1800


async def test_a_decoder_that_dies_costs_one_message(service: Service) -> None:
    await service.post(call(), headers=PLAIN)
    process = service.application.decoder._process
    assert process is not None
    process.kill()
    await process.wait()
    response, answer = await service.post(call(), headers=PLAIN)
    assert (response.status, answer["error"]["code"]) == (503, -32005)
    assert len(await labels(service, call())) == ROWS


async def test_a_client_that_leaves_frees_what_it_held(start: Start, engine: LinearEngine) -> None:
    service = await start(body_memory_mb=1)
    engine.gate.clear()
    leaving = asyncio.create_task(service.post(call(), headers=PLAIN))
    while not engine.calls:
        await asyncio.sleep(0.01)
    leaving.cancel()
    async with asyncio.timeout(5):
        while service.application.intake.bodies.held:
            await asyncio.sleep(0.01)


async def test_large_messages_of_a_websocket_are_answered(service: Service) -> None:
    socket = await service.session.ws_connect(service.url + "/ws", max_msg_size=0)
    await socket.send_str(json.dumps(call("large")))
    answer = json.loads(await socket.receive_str(timeout=10))
    assert len(answer["result"]["predictions"]) == ROWS
    await socket.close()


@pytest.mark.alone
async def test_a_long_decode_leaves_the_event_loop_free(service: Service, engine: LinearEngine) -> None:
    signature = replace(DIGITS, inputs=(TensorSpec("x", "int64", (None,)),))
    engine.publish(model("long", live(1, signature)))
    await service.post(call(), headers=PLAIN)  # the decoder has started
    rows = ",".join(["1.0"] * 250_000)
    body = f'{{"jsonrpc":"2.0","method":"predict","params":{{"model":"long","instances":[[{rows}]]}},"id":1}}'.encode()
    longest, slow = 0.0, asyncio.create_task(service.post(body, headers=PLAIN))
    while not slow.done():
        before = time.thread_time()
        await asyncio.sleep(0.001)
        longest = max(longest, time.thread_time() - before)
    assert "result" in (await slow)[1]
    assert longest < 0.1


async def test_of_many_large_bodies_one_goes_on_in_each_turn_of_the_loop(service: Service) -> None:
    body = json.dumps(call(instances=[PIXELS] * 12_000)).encode()
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    sent = f"{head}Connection: close\r\n\r\n".encode() + body
    posts = [asyncio.create_task(service.raw(sent, seconds=60)) for _ in range(8)]
    seen: dict[int, int] = {}
    going_on: list[int] = []
    while not all(post.done() for post in posts):
        now = {id(request): request.content.total_bytes for request in _arriving(service)}
        going_on.append(sum(0 < seen.get(each, 0) < size for each, size in now.items()))
        seen = now
        await asyncio.sleep(0)
    assert all(post.result().startswith((b"HTTP/1.1 200", b"HTTP/1.1 503")) for post in posts)
    assert sum(going_on) > 8
    assert max(going_on) <= 2, "small calls would wait for all of them"


def _arriving(service: Service) -> list[web.BaseRequest]:
    connections = service.application.public.connections
    found = [connection._current_request for connection in connections]
    return [request for request in found if request is not None]
