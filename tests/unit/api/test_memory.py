"""What connections leave behind when they are lost, and how much waits behind a request: next to nothing."""

import asyncio
import gc
import json
import socket
import struct
import sys
from collections.abc import Iterator, Sequence

import pytest

from hoverboard.api.connection import Connection
from hoverboard.api.memory import Tidying, _resident
from tests.unit.api.conftest import PIXELS, PREDICT, Service, Start, http
from tests.unit.api.test_arriving_messages import CLOSE, MIB, TEXT, UPGRADE, frame
from tests.unit.rpc.linear import LinearEngine

CALL = json.dumps(PREDICT).encode()
ROWS = json.dumps({**PREDICT, "params": {"model": "digits", "instances": [PIXELS] * 100}}).encode()


def kept(body: bytes, size: int | None = None) -> bytes:
    """A request on a connection that stays open; `size` where it says that more comes."""
    request = http(body).replace(b"Connection: close\r\n", b"")
    return request if size is None else request.replace(b"Length: %d" % len(body), b"Length: %d" % size)


ENDS: dict[str, Sequence[bytes]] = {
    "answered": [kept(CALL)],
    "half a head": [b"POST / HT"],
    "half a body": [kept(b" " * 100_000, 200_000)],
    "too large a body": [kept(b" " * 1000, 99 * MIB)],
    "no http": [b"\x16\x03\r\n\r\n"],
    "broken chunks": [kept(b"5\r\nabcde\r\nzz\r\n").replace(b"Content-Length: 14", b"Transfer-Encoding: chunked")],
    "unread, with more behind it": [kept(ROWS) * 40],
    "websocket": [UPGRADE, frame(TEXT, CALL) * 5],
    "websocket, half a message": [UPGRADE, frame(TEXT, b" " * 500_000, last=False)],
    "websocket, half a frame": [UPGRADE, frame(TEXT, b" " * 500_000, size=MIB)],
    "websocket, too long": [UPGRADE, frame(TEXT, b"", size=99 * MIB)],
    "websocket, closed": [UPGRADE, frame(CLOSE, b"\x03\xe8")],
    "websocket, unread": [UPGRADE, frame(TEXT, ROWS) * 80],
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def cut_off(service: Service, sent: Sequence[bytes]) -> None:
    """A client that sends and never reads, and then resets its connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", service.port))
        for data in sent:
            try:
                async with asyncio.timeout(0.5):
                    await loop.sock_sendall(client, data)
            except (TimeoutError, OSError):
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)


def remembered() -> int:
    return sum(type(found) is Connection for found in gc.get_objects())


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("how", ENDS)
async def test_a_lost_connection_is_forgotten_without_the_garbage_collector(service: Service, how: str) -> None:
    await cut_off(service, ENDS[how])
    async with asyncio.timeout(10):
        while remembered():
            await asyncio.sleep(0.05)


async def test_requests_behind_the_one_at_work_are_left_with_the_client(service: Service, engine: LinearEngine) -> None:
    engine.gate.clear()
    request = kept(CALL + b" " * 30_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    for _ in range(10):
        writer.write(request)
        await asyncio.sleep(0.05)
    writer.write(request * 90)
    await asyncio.sleep(0.3)
    (connection,) = service.application.public._ours()
    assert connection.ahead < 400_000
    assert len(connection._messages) < 16
    engine.gate.set()
    answers = 0
    async with asyncio.timeout(20):
        while answers < 100:
            answers += (await reader.readuntil(b'"id":1')).count(b'"id":1')
    writer.close()


async def test_a_pipeline_of_small_calls_is_answered_whole(start: Start) -> None:
    service = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(kept(CALL) * 1000)
    async with asyncio.timeout(30):
        for _ in range(1000):
            await reader.readuntil(b'"result"')
    writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is asked to give memory back")
def test_memory_that_a_flood_took_is_given_back() -> None:
    tidying = Tidying()
    tidying.look()
    before = _resident()
    pieces = [bytes(3000 + number % 4000) for number in range(50_000)]
    assert _resident() > before + 150 * MIB
    pieces = pieces[::50]
    tidying.look()
    assert _resident() < before + 60 * MIB
    del pieces
