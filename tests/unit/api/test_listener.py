import asyncio
import contextlib
import json
import socket
import time

import pytest

from hoverboard.errors import Overloaded
from tests.unit.api.conftest import PREDICT, Service, Start, http
from tests.unit.rpc.linear import LinearEngine

BODY = json.dumps(PREDICT).encode()
KEPT = http(BODY).replace(b"Connection: close\r\n", b"")


async def answer_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of the next response on a kept connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head, await reader.readexactly(int(length.partition(b":")[2]))


async def closes_within(reader: asyncio.StreamReader, seconds: float) -> float:
    """Seconds until the server closed the connection."""
    start = time.monotonic()
    async with asyncio.timeout(seconds):
        assert await reader.read() == b""
    return time.monotonic() - start


async def test_a_connection_is_kept_for_the_next_request(service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    for _ in range(3):
        writer.write(KEPT)
        head, body = await answer_of(reader)
        assert b"connection: close" not in head.lower()
        assert b'"result"' in body
    writer.close()


@pytest.mark.parametrize("sent", [b"", b"POST / HTT", b"POST / HTTP/1.1\r\nHost: localhost\r\n"])
async def test_a_head_that_does_not_end_in_time_ends_its_connection(start: Start, sent: bytes) -> None:
    service = await start(header_timeout_s=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(sent)
    assert await closes_within(reader, 5) >= 0.2
    writer.close()


async def test_trickling_a_head_does_not_buy_time(start: Start) -> None:
    service = await start(header_timeout_s=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)

    async def trickle() -> None:
        writer.write(b"POST / HTTP/1.1\r\nX-Slow: ")
        while not writer.is_closing():
            writer.write(b"X")
            await asyncio.sleep(0.02)

    trickling = asyncio.create_task(trickle())
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    trickling.cancel()
    writer.close()


async def test_a_second_head_has_its_own_time_limit(start: Start) -> None:
    service = await start(header_timeout_s=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(KEPT)
    await answer_of(reader)
    await asyncio.sleep(0.6)
    writer.write(KEPT[:30])
    assert await closes_within(reader, 5) >= 0.2
    writer.close()


async def test_a_slow_answer_is_not_taken_for_a_slow_head(start: Start, engine: LinearEngine) -> None:
    service = await start(header_timeout_s=0.2)
    engine.gate.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(KEPT)
    await asyncio.sleep(0.8)
    engine.gate.set()
    assert b'"result"' in (await answer_of(reader))[1]
    writer.close()


async def test_an_idle_connection_ends_after_the_keep_alive_time(start: Start) -> None:
    service = await start(keepalive_timeout_s=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(KEPT)
    await answer_of(reader)
    assert await closes_within(reader, 5) >= 0.2
    writer.close()


async def test_connections_above_the_limit_are_told_so_and_closed(start: Start) -> None:
    service = await start(max_connections=2)
    kept = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(2)]
    for reader, writer in kept:
        writer.write(KEPT)
        await answer_of(reader)
    raw = await service.raw(http(BODY))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in head
    error = json.loads(body)["error"]
    assert error["code"] == Overloaded.code
    assert f"X-Request-ID: {error['data']['request_id']}\r\n".encode() in head
    assert error["data"]["request_id"]
    kept[0][1].close()
    async with asyncio.timeout(5):
        while not (await service.raw(http(BODY))).startswith(b"HTTP/1.1 200 "):
            await asyncio.sleep(0.01)
    kept[1][1].close()


async def test_a_silent_connection_above_the_limit_is_closed(start: Start) -> None:
    service = await start(max_connections=1)
    first, kept = await asyncio.open_connection("127.0.0.1", service.port)
    kept.write(KEPT)
    await answer_of(first)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    await closes_within(reader, 5)
    writer.close()
    kept.close()


async def test_a_drain_answers_calls_in_flight_and_ends_their_connections(
    service: Service, engine: LinearEngine
) -> None:
    engine.gate.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(KEPT)
    while not engine.calls:
        await asyncio.sleep(0.005)
    draining = asyncio.create_task(service.application.drain())
    await asyncio.sleep(0.1)
    assert not draining.done()
    engine.gate.set()
    head, body = await answer_of(reader)
    assert b"connection: close" in head.lower()
    assert b'"result"' in body
    assert await reader.read() == b""
    assert await draining
    writer.close()


async def test_a_drain_refuses_new_connections(service: Service) -> None:
    assert await service.application.drain()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", service.port)


async def test_while_draining_a_kept_connection_is_answered_once_more_and_closed(
    service: Service, engine: LinearEngine
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(KEPT)
    await answer_of(reader)
    draining = asyncio.create_task(service.application.drain())
    await asyncio.sleep(0.1)
    writer.write(KEPT)
    head, body = await answer_of(reader)
    assert b"connection: close" in head.lower()
    assert b'"result"' in body
    assert await draining
    writer.close()


async def test_while_draining_readiness_is_503_on_a_kept_connection(service: Service) -> None:
    probe = http(b"", path="/readyz", verb="GET").replace(b"Connection: close\r\n", b"")
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(probe)
    await answer_of(reader)
    draining = asyncio.create_task(service.application.drain())
    await asyncio.sleep(0.05)
    writer.write(probe)
    head, body = await answer_of(reader)
    assert head.startswith(b"HTTP/1.1 503 ")
    assert json.loads(body)["missing"][0]["what"] == "draining"
    writer.close()
    await draining


@pytest.mark.alone
async def test_idle_connections_do_not_hold_up_a_drain(service: Service) -> None:
    silent = await asyncio.open_connection("127.0.0.1", service.port)
    used = await asyncio.open_connection("127.0.0.1", service.port)
    used[1].write(KEPT)
    await answer_of(used[0])
    async with asyncio.timeout(3):
        assert await service.application.drain()
    assert await silent[0].read() == b""
    assert await used[0].read() == b""
    silent[1].close()
    used[1].close()


@pytest.mark.alone
async def test_a_drain_is_over_when_its_time_is_though_a_call_hangs(start: Start, engine: LinearEngine) -> None:
    service = await start(drain_timeout_s=1.5)
    engine.gate.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(KEPT)
    while not engine.calls:
        await asyncio.sleep(0.005)
    async with asyncio.timeout(3):
        assert not await service.application.drain()
    writer.close()


async def test_connections_that_wait_in_the_kernel_are_answered_by_a_drain(start: Start) -> None:
    service = await start()
    loop = asyncio.get_running_loop()
    # Blocking connects within one turn of the loop: the kernel completes them, and nobody has accepted them yet.
    clients = [socket.create_connection(("127.0.0.1", service.port), timeout=5) for _ in range(20)]
    for client in clients:
        client.sendall(http(BODY))
        client.setblocking(False)
    draining = asyncio.create_task(service.application.drain())

    async def answer(client: socket.socket) -> bytes:
        received = b""
        while chunk := await loop.sock_recv(client, 65536):
            received += chunk
        client.close()
        return received

    answers = await asyncio.gather(*(answer(client) for client in clients))
    assert all(received.startswith(b"HTTP/1.1 200 ") for received in answers)
    assert await draining


async def test_a_body_still_arriving_when_a_drain_begins_is_read_and_answered(service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(KEPT[:-100])
    await asyncio.sleep(0.1)
    draining = asyncio.create_task(service.application.drain())
    await asyncio.sleep(1.3)
    writer.write(KEPT[-100:])
    assert b'"result"' in (await answer_of(reader))[1]
    assert await draining
    writer.close()
