"""32 bodies of 10 MB at once: small calls go on, and the memory of the api process stays within its budget."""

import asyncio
import json
import sys
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.integration.running import running

_FLOOD = """
import asyncio, io, sys, aiohttp
body = open(sys.argv[2], "rb").read()
async def main():
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async def one():
            try:
                async with session.post(sys.argv[1], data=io.BytesIO(body), headers=headers) as response:
                    await response.read()
                    return response.status
            except aiohttp.ClientConnectionError:
                return 503  # it was told so while it was still sending
        print(sorted(set(await asyncio.gather(*(one() for _ in range(32))))))
asyncio.run(main())
"""
MIB = 1 << 20
BUDGET_MB = 40
ROW = json.dumps([float(number % 9) for number in range(8)]).encode()
BODIES = {
    "refused": b'[{"jsonrpc":"2.0","id":1,"method":"predict","params":{"model":"dense","instances":[%b]}}]'
    % b",".join([*[ROW] * (10 * MIB // (len(ROW) + 1) - 10), b"[1]"]),
    "nonsense": b"[" + b"1," * (5 * MIB - 100) + b"1]",
}


@pytest.mark.parametrize("kind", sorted(BODIES))
async def test_large_bodies_keep_no_small_call_waiting(models: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "body").write_bytes(BODIES[kind])
    small = b'{"jsonrpc":"2.0","id":1,"method":"models.list"}'
    headers = {"Content-Type": "application/json"}
    with running(tmp_path, {"HOVERBOARD_BODY_MEMORY_MB": str(BUDGET_MB)}) as service:
        (api,) = service.children("_api")
        async with aiohttp.ClientSession() as session:
            flood = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _FLOOD, service.url, str(tmp_path / "body"), stdout=asyncio.subprocess.PIPE
            )
            statuses = asyncio.create_task(flood.communicate())
            seconds, most = [], 0
            while not statuses.done():
                before = time.monotonic()
                async with session.post(service.url, data=small, headers=headers) as response:
                    assert response.status == 200
                    await response.read()
                seconds.append(time.monotonic() - before)
                most = max(most, psutil.Process(api.pid).memory_info().rss)
                await asyncio.sleep(0.005)
        assert json.loads(statuses.result()[0]) in ([200, 503], [200], [503])
    # On a machine whose two processors are busy with the flood itself, one of a hundred may be late through no fault of ours.
    assert sorted(seconds)[int(len(seconds) * 0.99)] < 0.1
    assert most < (2 * BUDGET_MB + 250) * MIB


_DEAF = """
import os, select, socket, sys, time
port, frame = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
upgrade = b"GET /ws HTTP/1.1\\r\\nHost: localhost\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
upgrade += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n"
left = {}
for _ in range(8):
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(upgrade)
    assert b" 101 " in client.recv(4096)
    client.setblocking(False)
    left[client] = b""
end = time.monotonic() + 2
while left and time.monotonic() < end:
    for client in select.select([], list(left), [], 0.1)[1]:
        data = left[client] or frame * (20_000 // len(frame))
        try:
            left[client] = data[client.send(data):]
        except BlockingIOError:
            pass
        except OSError:
            del left[client]
"""
TEXT, PING = 0x81, 0x89
FRAMES = {
    "nonsense": (TEXT, b"1"),
    "small calls": (TEXT, b'{"jsonrpc":"2.0","id":1,"method":"models.list"}'),
    "batches": (TEXT, b"[" + b"1," * 899 + b"1]"),
    "pings": (PING, b""),
}


def _frame(kind: int, payload: bytes) -> bytes:
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes([kind]) + size + bytes(4) + payload


async def test_websockets_that_send_and_never_read_keep_no_other_call_waiting(models: Path, tmp_path: Path) -> None:
    call = b'{"jsonrpc":"2.0","id":1,"method":"predict","params":{"model":"dense","instances":[%b]}}' % ROW
    headers = {"Content-Type": "application/json"}
    longest = {}
    with running(tmp_path) as service:
        port = service.url.rstrip("/").rpartition(":")[2]
        async with aiohttp.ClientSession() as session:
            for kind, frame in FRAMES.items():
                flood = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", _DEAF, port, _frame(*frame).hex(), stderr=asyncio.subprocess.PIPE
                )
                told = asyncio.create_task(flood.communicate())
                seconds, after = [], 0
                while after < 10:
                    before = time.monotonic()
                    async with session.post(service.url, data=call, headers=headers) as response:
                        assert "result" in await response.json()
                    seconds.append(time.monotonic() - before)
                    after += told.done()
                    await asyncio.sleep(0.01)
                assert told.result()[1] == b""
                longest[kind] = max(seconds)
    assert max(longest.values()) < 0.7, longest
