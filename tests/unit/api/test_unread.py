"""Clients that do not read their answers: what they hold is bounded, and they are cut off."""

import asyncio
import json
import socket
from contextlib import suppress

import pytest

from tests.unit.api.conftest import Service, Start, http

DISCOVER = {"jsonrpc": "2.0", "method": "rpc.discover", "id": 1}
BATCH = json.dumps([{**DISCOVER, "id": number} for number in range(200)]).encode()
KEPT = http(BATCH).replace(b"Connection: close\r\n", b"")


async def deaf(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that takes in a few kilobytes and no more."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", service.port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    return reader, writer


async def ask_for_ever(writer: asyncio.StreamWriter, request: bytes) -> None:
    while True:
        writer.write(request * 200)
        await writer.drain()
        await asyncio.sleep(0)


async def released(service: Service) -> None:
    async with asyncio.timeout(20):
        while service.application.intake.answers.held:
            await asyncio.sleep(0.02)


async def test_unread_answers_are_bounded_for_the_process_and_cut_off(start: Start) -> None:
    service = await start(
        answer_memory_mb=8, write_timeout_s=5
    )  # all four answers are ready in less, on a busy machine too
    clients = [await deaf(service) for _ in range(4)]
    for _, writer in clients:
        writer.write(KEPT)
    while service.application.intake.answers.held < 4 << 20:
        await asyncio.sleep(0.01)
    assert service.application.intake.answers.held <= 8 << 20
    response, answers = await service.post(json.loads(BATCH), headers={"Accept-Encoding": "identity"})
    codes = {answer.get("error", {}).get("code") for answer in answers}
    assert response.status == 200
    assert codes <= {None, -32005}
    small = {"jsonrpc": "2.0", "method": "models.list", "id": 1}
    assert "result" in (await service.post(small, headers={"Accept-Encoding": "identity"}))[1]
    await released(service)
    for _, writer in clients:
        writer.close()


async def test_a_client_that_pipelines_and_never_reads_is_cut_off(start: Start) -> None:
    service = await start(write_timeout_s=0.5)
    one = http(b'{"jsonrpc":"2.0","method":"models.list","id":1}').replace(b"Connection: close\r\n", b"")
    _, writer = await deaf(service)
    async with asyncio.timeout(20):
        with pytest.raises(ConnectionError):
            await ask_for_ever(writer, one)
    assert service.application.public.open == 0
    writer.close()


async def test_a_slow_reader_that_reads_gets_everything(start: Start) -> None:
    service = await start(write_timeout_s=1)
    reader, writer = await deaf(service)
    writer.write(http(BATCH))
    await asyncio.sleep(0.5)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    body = await reader.read()
    assert json.loads(body.partition(b"\r\n\r\n")[2])[199]["id"] == 199
    writer.close()


async def test_unread_answers_of_a_websocket_are_bounded_and_cut_off(start: Start) -> None:
    service = await start(write_timeout_s=1, max_response_bytes=4 << 20)
    messages = await service.session.ws_connect(service.url + "/ws")
    transport = messages._conn.transport if messages._conn else None
    assert transport is not None
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    transport.pause_reading()
    most = 0
    async with asyncio.timeout(20):
        while service.application.public.open:
            with suppress(ConnectionError):
                await messages.send_bytes(BATCH)
            await asyncio.sleep(0.02)
            most = max(most, service.application.intake.answers.held)
    assert 0 < most <= 5 << 20
    await released(service)
