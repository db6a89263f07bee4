import asyncio
import gzip
import json
import time
import zlib

import pytest

from tests.unit.api.conftest import PREDICT, Service, Start, http

BODY = json.dumps(PREDICT).encode()


async def test_gzip_bodies_are_read(service: Service) -> None:
    for packed in (gzip.compress(BODY), gzip.compress(BODY[:50]) + gzip.compress(BODY[50:])):
        response, answer = await service.post(packed, headers={"Content-Encoding": "gzip"})
        assert response.status == 200
        assert "result" in answer


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip"])
async def test_other_encodings_are_415(service: Service, encoding: str) -> None:
    response, answer = await service.post(zlib.compress(BODY), headers={"Content-Encoding": encoding})
    assert response.status == 415
    assert response.headers["Accept-Encoding"] == "gzip"
    assert answer["error"]["code"] == -32600


@pytest.mark.parametrize(
    "packed",
    [b"not gzip", gzip.compress(BODY)[:-12], gzip.compress(BODY) + b"trailing", b""],
    ids=["not gzip", "cut short", "trailing", "empty"],  # what gzip writes holds the time, and differs by worker
)
async def test_broken_gzip_is_a_parse_error(service: Service, packed: bytes) -> None:
    response, answer = await service.post(packed, headers={"Content-Encoding": "gzip"})
    assert response.status == 200
    assert answer["error"]["code"] == -32700


async def test_a_body_over_the_limit_is_413_with_a_json_rpc_body(start: Start) -> None:
    service = await start(max_body_bytes=2048)
    fits = BODY + b" " * (2048 - len(BODY))
    assert (await service.post(fits))[0].status == 200
    response, answer = await service.post(fits + b" ")
    assert response.status == 413
    assert answer["error"]["code"] == -32007
    assert answer["error"]["data"]["details"] == {"limit": 2048}


async def test_a_chunked_body_over_the_limit_is_413(start: Start) -> None:
    service = await start(max_body_bytes=2048)
    chunks = b"".join(b"400\r\n" + b" " * 1024 + b"\r\n" for _ in range(4)) + b"0\r\n\r\n"
    raw = await service.raw(http(chunks, "Transfer-Encoding: chunked"))
    assert raw.startswith(b"HTTP/1.1 413 ")


async def test_a_declared_length_over_the_limit_is_refused_before_it_is_read(start: Start) -> None:
    service = await start(max_body_bytes=2048)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(http(b"", "Content-Length: 1000000000"))
    async with asyncio.timeout(3):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_gzip_bomb_is_refused_without_being_unpacked(start: Start) -> None:
    service = await start(max_body_bytes=1 << 20)
    bomb = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    packed = b"".join(bomb.compress(b"\0" * (1 << 20)) for _ in range(256)) + bomb.flush()
    assert len(packed) < 1 << 20
    response, answer = await service.post(packed, headers={"Content-Encoding": "gzip"})
    assert response.status == 413
    assert answer["error"]["code"] == -32007


async def test_a_body_that_does_not_arrive_in_time_is_408(start: Start) -> None:
    service = await start(body_timeout_s=0.2)
    raw = await service.raw(http(b'{"jsonrpc"', "Content-Length: 100"))
    assert raw.startswith(b"HTTP/1.1 408 ")
    assert json.loads(raw.partition(b"\r\n\r\n")[2])["error"]["code"] == -32600


async def test_a_body_that_trickles_in_time_is_read(start: Start) -> None:
    service = await start(body_timeout_s=5)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    request = http(BODY)
    for at in range(0, len(request), 50):
        writer.write(request[at : at + 50])
        await writer.drain()
        await asyncio.sleep(0.005)
    assert b'"result"' in await reader.read()
    writer.close()


async def test_a_client_that_asks_first_is_told_to_go_on(service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    request = http(BODY, "Expect: 100-continue")
    head, _, body = request.partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    async with asyncio.timeout(5):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_client_that_asks_first_for_too_much_is_told_so_before_it_sends(start: Start) -> None:
    service = await start(max_body_bytes=2048)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(http(b"", "Expect: 100-continue", "Content-Length: 4096"))
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_other_expectations_are_417(service: Service) -> None:
    raw = await service.raw(http(b"", "Expect: miracles", f"Content-Length: {len(BODY)}"))
    assert raw.startswith(b"HTTP/1.1 417 ")


async def test_a_broken_chunked_body_does_not_hang_the_connection(service: Service) -> None:
    raw = await service.raw(http(b"zz\r\nnot hex\r\n", "Transfer-Encoding: chunked"))
    assert raw.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ", b"HTTP/1.1 200 "))


@pytest.mark.alone
async def test_a_body_of_many_gzip_members_is_refused_in_time(service: Service) -> None:
    packed = gzip.compress(b" ") * 40_000
    before = time.monotonic()
    response, answer = await service.post(packed, headers={"Content-Encoding": "gzip"})
    assert time.monotonic() - before < 2
    assert response.status == 200
    assert answer["error"]["code"] == -32700
    assert "1000 gzip members" in answer["error"]["message"]


async def test_a_few_hundred_gzip_members_are_read(service: Service) -> None:
    step = len(BODY) // 200 + 1
    packed = b"".join(gzip.compress(BODY[at : at + step]) for at in range(0, len(BODY), step))
    _, answer = await service.post(packed, headers={"Content-Encoding": "gzip"})
    assert "result" in answer
