"""What strangers, web pages and floods may try on a listener: each gets its plain answer, and no more than that."""

import asyncio
import json
import logging
import resource
import socket
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog
import structlog.testing

from hoverboard.config import TOKEN_FILE
from tests.unit.api.conftest import PREDICT, TOKEN, Service, Start, http
from tests.unit.rpc.linear import LinearEngine

BODY = json.dumps(PREDICT).encode()


def asked(host: str | None, *headers: str, target: str = "/") -> bytes:
    request = http(BODY, *headers, path=target)
    line = b"" if host is None else f"Host: {host}\r\n".encode()
    return request.replace(b"Host: localhost\r\n", line)


def status(raw: bytes) -> int:
    return int(raw.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9999", "127.0.0.1", "127.0.0.1:80", "[::1]:8080", "good.test:1"]
)
async def test_the_names_of_a_listener_on_loopback_are_served(start: Start, host: str) -> None:
    service = await start(allowed_hosts="good.test, other.test")
    assert status(await service.raw(asked(host))) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "evil.test:8080",
        "localhost.evil.test",
        "",
        "[",
        "127.0.0.1.evil.test",
        "\xff",
        "127.0.0.1:80@evil.test",
        "[::1]@evil.test",
    ],
)
async def test_other_names_are_misdirected(service: Service, engine: LinearEngine, host: str) -> None:
    raw = await service.raw(asked(host))
    assert status(raw) == 421
    assert json.loads(raw.partition(b"\r\n\r\n")[2])["error"]["code"] == -32600
    assert engine.calls == []


async def test_any_name_is_served_where_that_is_wished(start: Start) -> None:
    service = await start(allowed_hosts="*")
    assert status(await service.raw(asked("evil.test"))) == 200


@pytest.mark.parametrize("target", ["http://localhost/", "http://127.0.0.1:8080/rpc", "http://localhost/rpc?x=1"])
async def test_a_target_in_absolute_form_is_served(service: Service, target: str) -> None:
    assert status(await service.raw(asked("localhost", target=target))) == 200


async def test_a_target_of_another_name_is_misdirected(service: Service) -> None:
    assert status(await service.raw(asked("localhost", target="http://evil.test/"))) == 421


@pytest.mark.parametrize("origin", ["http://evil.test", "null", "http://[", "\xff", "", "https://localhost.evil.test"])
async def test_pages_of_other_sites_may_not_call(service: Service, engine: LinearEngine, origin: str) -> None:
    assert status(await service.raw(asked("localhost", f"Origin: {origin}"))) == 403
    upgrade = ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    raw = await service.raw(http(b"", f"Origin: {origin}", *upgrade, path="/ws", verb="GET"))
    assert status(raw) == 403
    assert engine.calls == []


async def test_of_several_origins_each_counts(service: Service, engine: LinearEngine) -> None:
    ours, other = "Origin: http://localhost:3000", "Origin: http://evil.test"
    upgrade = ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    for pair in ((ours, other), (other, ours)):
        assert status(await service.raw(http(BODY, *pair))) == 403
    socket = ["Origin: http://localhost", other, *upgrade]
    assert status(await service.raw(http(b"", *socket, path="/ws", verb="GET"))) == 403
    assert engine.calls == []


async def test_a_page_of_this_machine_may_call(service: Service) -> None:
    assert status(await service.raw(asked("localhost", "Origin: http://localhost:3000"))) == 200


@pytest.mark.parametrize(
    "sent",
    [
        http(BODY),
        http(b"nonsense"),
        http(BODY, path="/nope"),
        http(b"", verb="GET", path="/healthz"),
        http(b"", verb="GET", path="/metrics"),
        http(b"", verb="PUT"),
        http(json.dumps([PREDICT] * 20).encode()),
        http(BODY, "Content-Type: text/plain"),
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_no_answer_names_versions(service: Service, sent: bytes) -> None:
    raw = (await service.raw(sent)).lower()
    assert raw
    assert b"aiohttp" not in raw
    assert b"python" not in raw.replace(b"python_gc", b"").replace(b"python_info", b"")
    assert b"<html" not in raw


@pytest.mark.parametrize("junk", [b"\xff\xfe", b"Bearer \xff", b"junk", b"", b"Bearer", b"Basic x", b"bearer\ttoken"])
async def test_junk_in_authorization_is_401(service: Service, junk: bytes) -> None:
    request = http(BODY, "X-Place: here").replace(b"X-Place: here", b"Authorization: " + junk)
    service.port, admin = service.admin_port, service.port
    raw = await service.raw(request)
    service.port = admin
    assert status(raw) == 401


@pytest.mark.alone
async def test_wrong_tokens_are_counted_and_slowed_and_the_right_one_never_waits(
    service: Service, tmp_path: Path
) -> None:
    async def login(token: str) -> tuple[int, float]:
        start = time.monotonic()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = b'{"jsonrpc":"2.0","method":"models.scan","id":1}'
        async with service.session.post(service.admin_url, data=body, headers=headers) as response:
            await response.read()
            return response.status, time.monotonic() - start

    guesses = await asyncio.gather(*(login(f"guess {number}") for number in range(30)))
    assert {code for code, _ in guesses} == {401}
    code, seconds = await login("one more")
    assert code == 401
    assert seconds > 0.5
    waiting = asyncio.create_task(login("and another"))
    code, seconds = await login(TOKEN)
    assert code == 200
    assert seconds < 0.5
    await waiting
    async with service.session.get(service.url + "/metrics") as response:
        assert 'code="-32013"' in await response.text()
    assert (tmp_path / TOKEN_FILE).exists()


@pytest.fixture
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged from `info` on, whatever the level was."""
    before, capture = structlog.get_config(), structlog.testing.LogCapture()
    structlog.configure(processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    yield capture.entries
    structlog.configure(**before)


async def test_a_flood_of_refusals_writes_few_lines(service: Service, logged: list[MutableMapping[str, Any]]) -> None:
    plain = {"Accept-Encoding": "identity"}
    for _ in range(3):
        batch = [{"jsonrpc": "2.0", "method": "x" * 300, "id": number} for number in range(180)]
        await service.post(batch, headers=plain)
    await asyncio.sleep(1.1)
    await service.post({"jsonrpc": "2.0", "method": "nope", "id": 1}, headers=plain)
    lines = [line for line in logged if line["event"] == "call_refused"]
    assert 0 < len(lines) < 100
    assert len(lines) + sum(line.get("left_out", 0) for line in lines) == 541
    assert max(len(str(line)) for line in lines) < 1000


async def half_closed(service: Service, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(sent)
    writer.write_eof()
    async with asyncio.timeout(8):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.alone
async def test_a_half_closed_client_gets_its_answers(service: Service, engine: LinearEngine) -> None:
    kept = http(BODY).replace(b"Connection: close\r\n", b"")
    assert (await half_closed(service, http(BODY))).count(b'"result"') == 1
    assert (await half_closed(service, kept)).count(b'"result"') == 1
    assert (await half_closed(service, kept * 5)).count(b'"result"') == 5
    many = {"model": "digits", "instances": [[1.0] * 64] * 3000}
    large = json.dumps({**PREDICT, "params": many}).encode()
    assert (await half_closed(service, http(large))).count(b'"result"') == 1
    engine.gate.clear()
    waiting = asyncio.create_task(half_closed(service, kept))
    await asyncio.sleep(0.5)
    engine.gate.set()
    assert (await waiting).count(b'"result"') == 1


async def test_a_half_closed_client_that_sent_half_a_request_is_let_go(service: Service) -> None:
    for sent in (b"", b"POST / HT", http(BODY)[:-20]):
        assert b'"result"' not in await half_closed(service, sent)
    async with asyncio.timeout(5):
        while service.application.public.open:
            await asyncio.sleep(0.01)


async def test_connections_beyond_the_descriptors_do_no_lasting_harm(service: Service) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    held: list[socket.socket] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, limits[1]))
        for _ in range(20):
            try:
                client = socket.socket()
            except OSError:
                break
            held.append(client)
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", service.port))
            await asyncio.sleep(0.01)
    finally:
        for client in held:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    answer: Any = None
    async with asyncio.timeout(10):
        while answer is None:
            answer = (await service.post(PREDICT, headers={"Accept-Encoding": "identity"}))[1]
    assert "result" in answer
