import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError

from tests.unit.api.conftest import PREDICT, Service, Start
from tests.unit.rpc.linear import LinearEngine


async def connected(service: Service, **headers: str) -> ClientWebSocketResponse:
    return await service.session.ws_connect(service.url + "/ws", headers=headers)


async def heard(socket: ClientWebSocketResponse) -> Any:
    return json.loads(await socket.receive_str(timeout=5))


async def test_messages_are_answered_as_posted_ones_are(service: Service) -> None:
    socket = await connected(service)
    await socket.send_str(json.dumps(PREDICT))
    assert (await heard(socket))["result"]["model"] == "digits"
    await socket.send_bytes(json.dumps({**PREDICT, "id": 2}).encode())
    assert (await heard(socket))["id"] == 2
    await socket.send_str("nonsense")
    assert (await heard(socket))["error"]["code"] == -32700
    await socket.send_str(json.dumps([PREDICT, PREDICT]))
    assert len(await heard(socket)) == 2
    await socket.close()


async def test_notifications_are_not_answered(service: Service, engine: LinearEngine) -> None:
    socket = await connected(service)
    await socket.send_str(json.dumps({key: value for key, value in PREDICT.items() if key != "id"}))
    await socket.send_str(json.dumps({**PREDICT, "id": "asked"}))
    assert (await heard(socket))["id"] == "asked"
    assert len(engine.calls) == 2
    await socket.close()


async def test_a_slow_call_does_not_hold_up_the_next(service: Service, engine: LinearEngine) -> None:
    socket = await connected(service)
    engine.gate.clear()
    await socket.send_str(json.dumps({**PREDICT, "id": "slow"}))
    await socket.send_str('{"jsonrpc":"2.0","method":"models.list","id":"quick"}')
    assert (await heard(socket))["id"] == "quick"
    engine.gate.set()
    assert (await heard(socket))["id"] == "slow"
    await socket.close()


async def test_every_message_has_a_request_id_of_its_own_below_the_sockets(
    service: Service, engine: LinearEngine
) -> None:
    socket = await connected(service, **{"X-Request-ID": "mine"})
    for number in range(2):
        await socket.send_str(json.dumps({**PREDICT, "id": number}))
        await heard(socket)
    assert [call.request_id for call in engine.calls] == ["mine/1", "mine/2"]
    await socket.close()


async def test_messages_above_the_bound_are_refused_with_their_ids(start: Start, engine: LinearEngine) -> None:
    service = await start(ws_max_inflight=2)
    socket = await connected(service)
    engine.gate.clear()
    for number in range(4):
        await socket.send_str(json.dumps({**PREDICT, "id": number}))
    refused = [await heard(socket) for _ in range(2)]
    assert [(answer["id"], answer["error"]["code"]) for answer in refused] == [(2, -32005), (3, -32005)]
    engine.gate.set()
    assert {(await heard(socket))["id"] for _ in range(2)} == {0, 1}
    await socket.close()


async def test_too_long_a_message_closes_the_socket_with_1009(start: Start) -> None:
    service = await start(max_body_bytes=1024)
    socket = await connected(service)
    await socket.send_str("x" * 1100)
    message = await socket.receive(timeout=5)
    assert message.type is WSMsgType.CLOSE
    assert message.data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_a_socket_that_closes_cancels_what_it_had_waiting(service: Service, engine: LinearEngine) -> None:
    socket = await connected(service)
    engine.gate.clear()
    await socket.send_str(json.dumps(PREDICT))
    while not engine.calls:
        await asyncio.sleep(0.005)
    await socket.close()
    async with asyncio.timeout(5):
        while not engine.cancelled:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "null"])
async def test_pages_of_other_origins_may_not_connect(service: Service, origin: str) -> None:
    with pytest.raises(WSServerHandshakeError) as caught:
        await connected(service, Origin=origin)
    assert caught.value.status == 403


async def test_an_origin_that_is_none_is_not_the_same_as_an_empty_host(start: Start) -> None:
    service = await start(allowed_hosts="*")
    with pytest.raises(WSServerHandshakeError) as caught:
        await connected(service, Origin="null", Host="")
    assert caught.value.status == 403


async def test_pages_of_the_same_origin_may_connect(service: Service) -> None:
    socket = await connected(service, Origin=service.url)
    await socket.close()


async def test_a_plain_get_is_told_to_upgrade(service: Service) -> None:
    async with service.session.get(service.url + "/ws") as response:
        assert response.status == 426
        assert response.headers["Upgrade"] == "websocket"
        assert (await response.json())["error"]["code"] == -32600


async def test_a_drain_answers_what_arrived_then_closes_with_1001(service: Service, engine: LinearEngine) -> None:
    socket = await connected(service)
    engine.gate.clear()
    await socket.send_str(json.dumps(PREDICT))
    while not engine.calls:
        await asyncio.sleep(0.005)
    draining = asyncio.create_task(service.application.drain())
    await asyncio.sleep(0.05)
    engine.gate.set()
    assert "result" in await heard(socket)
    message = await socket.receive(timeout=5)
    assert (message.type, message.data) == (WSMsgType.CLOSE, aiohttp.WSCloseCode.GOING_AWAY)
    assert await draining


async def test_a_drain_answers_messages_that_still_wait_for_their_turn(service: Service) -> None:
    socket = await connected(service)
    for number in range(60):
        await socket.send_str(json.dumps({**PREDICT, "id": number}))
    await heard(socket)
    draining = asyncio.create_task(service.application.drain())
    for _ in range(59):
        assert "result" in await heard(socket)
    assert (await socket.receive()).type is WSMsgType.CLOSE
    await draining


async def test_a_ping_is_answered(service: Service) -> None:
    socket = await service.session.ws_connect(service.url + "/ws", autoping=False)
    await socket.ping(b"there?")
    answer = await socket.receive(timeout=5)
    assert (answer.type, answer.data) == (WSMsgType.PONG, b"there?")
    await socket.close()
