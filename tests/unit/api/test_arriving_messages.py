"""WebSocket messages that are still arriving: they have their share of memory and their time, as bodies have."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSCloseCode, WSMsgType

from tests.unit.api.conftest import PIXELS, PREDICT, Service, Start
from tests.unit.rpc.linear import LinearEngine

MIB = 1 << 20
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, MORE, PING, CLOSE = 1, 0, 9, 8
LARGE = json.dumps({**PREDICT, "params": {"model": "digits", "instances": [PIXELS] * 2000}}).encode()


def frame(kind: int, payload: bytes, *, last: bool = True, size: int | None = None) -> bytes:
    """A frame whose mask is zeros; `size` where it says that more bytes come than there are here."""
    size = len(payload) if size is None else size
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([kind | last << 7]) + length + bytes(4) + payload


class Raw:
    """A socket that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, *frames: bytes) -> None:
        """Send, and wait until the kernel has it."""
        self.writer.write(b"".join(frames))
        await self.writer.drain()

    async def heard(self) -> tuple[int, bytes]:
        """The next frame: its kind and payload."""
        async with asyncio.timeout(10):
            kind, size = await self._reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await self._reader.readexactly(2), "big")
            return kind & 15, await self._reader.readexactly(size)

    async def told(self) -> tuple[int, str]:
        """Why the socket is closed, once pings and answers are passed over."""
        while True:
            kind, payload = await self.heard()
            if kind == CLOSE:
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()


async def raw(service: Service, early: bytes = b"") -> Raw:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(UPGRADE + early)
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head
    return Raw(reader, writer)


def held(service: Service) -> int:
    return service.application.intake.bodies.held


async def until_held(service: Service, least: int, most: int) -> None:
    async with asyncio.timeout(10):
        while not least <= held(service) <= most:
            await asyncio.sleep(0.01)


async def is_answered(service: Service) -> None:
    _, answer = await service.post(PREDICT, headers={"Accept-Encoding": "identity"})
    assert "result" in answer


@pytest.mark.parametrize("pieces", [1, 20])
async def test_unfinished_messages_hold_no_more_than_the_budget(start: Start, pieces: int) -> None:
    service = await start(body_memory_mb=4)
    sockets = [await raw(service) for _ in range(6)]
    part = b" " * (1_500_000 // pieces)
    for number, socket in enumerate(sockets):
        await socket.send(frame(TEXT, part, last=False))
        for _ in range(pieces - 1):
            await socket.send(frame(PING, b"?"), frame(MORE, part, last=False))
        if number < 2:
            await until_held(service, 1_500_000 * (number + 1), 1_550_000 * (number + 1))
    codes = await asyncio.gather(*(socket.told() for socket in sockets[2:]))
    assert codes == [(WSCloseCode.TRY_AGAIN_LATER, codes[0][1])] * 4
    assert "large requests" in codes[0][1]
    await until_held(service, 3_000_000, 3_100_000)
    await is_answered(service)
    for socket in sockets:
        socket.writer.close()
    await until_held(service, 0, 0)


async def test_a_frame_that_does_not_end_counts_as_it_comes(start: Start) -> None:
    service = await start(body_memory_mb=4)
    for early in (False, True):
        begun = frame(TEXT, b" " * 100_000, size=9 * MIB)
        socket = await raw(service, begun if early else b"")
        if not early:
            await socket.send(begun)
        await until_held(service, 100_000, 110_000)
        await socket.send(b" " * 2_000_000)
        await until_held(service, 2_100_000, 2_200_000)
        await socket.send(b" " * 3_000_000)
        code, words = await socket.told()
        assert (code, "try again later" in words) == (WSCloseCode.TRY_AGAIN_LATER, True)
        socket.writer.close()
        await until_held(service, 0, 0)


async def test_a_message_that_does_not_arrive_in_time_closes_its_socket(start: Start) -> None:
    service = await start(body_timeout_s=1)
    slow, idle = await raw(service), await raw(service)
    await slow.send(frame(TEXT, b" " * 100_000, last=False))
    assert await slow.told() == (WSCloseCode.POLICY_VIOLATION, "a message did not arrive within 1 s")
    await idle.send(frame(TEXT, json.dumps(PREDICT).encode()))
    assert b"result" in (await idle.heard())[1]
    idle.writer.close()
    slow.writer.close()
    await until_held(service, 0, 0)


async def test_a_client_that_is_still_sending_hears_why(start: Start) -> None:
    service = await start(body_memory_mb=1)
    socket = await raw(service)

    async def send_for_ever() -> None:
        while True:
            await socket.send(b" " * 100_000)

    await socket.send(frame(TEXT, b"", size=9 * MIB))
    sending = asyncio.create_task(send_for_ever())
    assert (await socket.told())[0] == WSCloseCode.TRY_AGAIN_LATER
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    socket.writer.close()


async def test_too_long_a_message_is_told_the_limit(start: Start) -> None:
    service = await start(max_body_bytes=1024)
    socket = await raw(service)
    await socket.send(frame(TEXT, b"x" * 1100))
    code, words = await socket.told()
    assert code == WSCloseCode.MESSAGE_TOO_BIG
    assert "1024" in words
    socket.writer.close()


async def test_whole_messages_are_held_until_they_are_answered(start: Start, engine: LinearEngine) -> None:
    service = await start(body_memory_mb=2)
    socket: ClientWebSocketResponse = await service.session.ws_connect(service.url + "/ws", max_msg_size=0)
    engine.gate.clear()
    await socket.send_str(LARGE.decode())
    while not engine.calls:
        await asyncio.sleep(0.01)
    assert held(service) >= len(LARGE)
    other = await raw(service)
    await other.send(frame(TEXT, LARGE + b" " * MIB))
    assert (await other.told())[0] == WSCloseCode.TRY_AGAIN_LATER
    engine.gate.set()
    assert len(json.loads(await _text(socket))["result"]["predictions"]) == 2000
    await until_held(service, 0, 0)
    await socket.send_str(LARGE.decode())
    assert "result" in json.loads(await _text(socket))
    await socket.close()
    other.writer.close()
    await until_held(service, 0, 0)


async def _text(socket: ClientWebSocketResponse) -> str:
    message: Any = await socket.receive(timeout=10)
    assert message.type is WSMsgType.TEXT, message
    text: str = message.data
    return text


async def test_many_small_messages_at_once_hold_nothing(start: Start) -> None:
    service = await start(body_memory_mb=1, body_timeout_s=0.5, ws_max_inflight=10_000)
    socket = await raw(service)
    call = frame(TEXT, b'{"jsonrpc":"2.0","id":1,"method":"nope"}')
    await socket.send(call * 20_000, frame(TEXT, b'{"jsonrpc":"2.0","id":"last","method":"nope"}'))
    async with asyncio.timeout(30):
        while b'"last"' not in (await socket.heard())[1]:
            pass
    await until_held(service, 0, 0)
    await asyncio.sleep(1.2)
    await socket.send(frame(TEXT, json.dumps(PREDICT).encode()))
    assert b"result" in (await socket.heard())[1]
    socket.writer.close()


async def test_a_text_that_is_no_utf8_is_answered(service: Service) -> None:
    socket = await raw(service)
    await socket.send(frame(TEXT, b'{"jsonrpc":"2.0","id":1,"method":"\xff"}'))
    kind, payload = await socket.heard()
    assert kind == TEXT
    assert json.loads(payload)["error"]["code"] == -32700
    await socket.send(frame(TEXT, json.dumps(PREDICT).encode()))
    assert b"result" in (await socket.heard())[1]
    socket.writer.close()
