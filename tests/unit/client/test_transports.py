"""What carries the clients' messages, against servers that misbehave and in processes that were forked off."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from hoverboard.client.aio import AsyncClient
from hoverboard.client.retries import Retries
from hoverboard.client.sync import Client
from hoverboard.errors import DeadlineExceeded, ResponseTooLarge, Unreachable
from tests.unit.client.canned import refusal, serving

ONCE = Retries(attempts=1)


def reply(text: bytes, *, headers: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """An answer of HTTP."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(text), headers, text)


def requests(connection: socket.socket) -> Iterator[bytes]:
    """The bodies of the requests that come by a connection."""
    with connection.makefile("rb") as lines:
        while True:
            size = 0
            while (line := lines.readline().strip().lower()) != b"":
                size = int(line.removeprefix(b"content-length:")) if line.startswith(b"content-length:") else size
            if not size:
                return
            yield lines.read(size)


@contextmanager
def answering(connected: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server of plain sockets; yields its URL.

    Args:
        connected: does the talking by one connection, in a thread of its own.
    """

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connected(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def echo(connection: socket.socket) -> None:
    for body in requests(connection):
        call = json.loads(body)
        answer = {"jsonrpc": "2.0", "id": call["id"], "result": {"params": call["params"], "id": call["id"]}}
        connection.sendall(reply(json.dumps(answer).encode()))


def test_a_client_of_two_processes_gives_each_its_own_answers() -> None:
    with answering(echo) as url, Client(url, patience_s=10, retries=ONCE) as client:
        client.call("echo", {})  # a connection is open, and kept
        child = os.fork()
        who = "child" if child == 0 else "parent"
        try:
            answers = [client.call("echo", {"who": who, "turn": turn}) for turn in range(50)]
            right = [answer["params"] for answer in answers] == [{"who": who, "turn": turn} for turn in range(50)]
            right = right and all((answer["id"] > 1 << 24) is (child == 0) for answer in answers)
        except BaseException:
            right = False
            raise
        finally:
            if child == 0:
                os._exit(0 if right else 1)
        assert right
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("number", [b"99999", b"null", b'"1"'])
def test_the_answer_to_another_call_is_none(number: bytes) -> None:
    answer = b'{"jsonrpc":"2.0","id":%s,"result":{}}' % number
    said = pytest.raises(Unreachable, match="when asked for call 1")
    with serving((200, answer)) as (url, _), Client(url, retries=ONCE) as client, said:
        client.call("predict", {})


def trickle(connection: socket.socket, text: bytes) -> None:
    for byte in text:
        time.sleep(0.05)
        connection.sendall(bytes([byte]))


def accepting(frames: bytes, rest: bytes = b"") -> Callable[[socket.socket], None]:
    """What takes a WebSocket and a message, and answers with some bytes, others one by one; then it waits to be left."""

    def talk(connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            key = b""
            while (line := lines.readline().strip()) != b"":
                key = line.partition(b":")[2].strip() if line.lower().startswith(b"sec-websocket-key") else key
            digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
            accepted = b"Sec-WebSocket-Accept: " + base64.b64encode(digest)
            upgrade = b"HTTP/1.1 101 Upgraded\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            connection.sendall(upgrade + accepted + b"\r\n\r\n")
            lines.read(2)  # of the first message
            connection.sendall(frames)
            trickle(connection, rest)
            lines.read()

    return talk


silent_websocket = accepting(b"")


@pytest.mark.parametrize(
    "frames",
    [b"\x8f\x00", b"\xf1\x00", b"\x81\x02\xff\xfe", b"\x81\x01{", b"\x82\x01\xff", b"\x88\x02\x03\xe8"],
    ids=["opcode", "reserved bits", "no utf-8", "no json", "binary", "close"],
)
async def test_whoever_waits_at_a_websocket_is_told_at_once_that_it_broke(frames: bytes) -> None:
    with answering(accepting(frames)) as url:
        client = AsyncClient(url, websocket=True, retries=ONCE)
        async with asyncio.timeout(5):
            calls = [client.call("predict", {}) for _ in range(3)]
            errors = await asyncio.gather(*calls, return_exceptions=True)
            await client.close()
    assert [type(error) for error in errors] == [Unreachable] * 3


async def test_calls_on_the_way_and_in_line_are_told_at_once_that_their_websocket_client_was_closed() -> None:
    with answering(accepting(b"")) as url:
        client = AsyncClient(url, websocket=True, max_in_flight=2)
        calls = [asyncio.ensure_future(client.call("predict", {})) for _ in range(4)]
        await asyncio.sleep(0.2)
        async with asyncio.timeout(3):
            await client.close()
            errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [Unreachable] * 4
    assert all("the client was closed" in str(error) for error in errors)


@pytest.mark.parametrize("websocket", [False, True])
def test_a_client_on_another_event_loop_says_what_to_do(websocket: bool) -> None:
    talk = echo if not websocket else silent_websocket
    with answering(talk) as url, asyncio.Runner() as first, asyncio.Runner() as second:
        client = AsyncClient(url, websocket=websocket, retries=ONCE)
        with suppress(DeadlineExceeded):
            first.run(client.call("echo", {}, deadline_s=0.2))
        with pytest.raises(RuntimeError, match=r"make one client for each asyncio\.run and each process"):
            second.run(client.call("echo", {}))
        second.run(client.close())  # leaves alone what is not its own
        first.run(client.close())


@pytest.mark.parametrize("status", [301, 307, 404])
def test_what_is_elsewhere_or_not_there_is_not_tried_again(status: int) -> None:
    with serving((status, b"")) as (url, seen), Client(url) as client, pytest.raises(Unreachable):
        client.call("predict", {})
    assert len(seen) == 1


async def test_a_server_without_websockets_is_not_tried_again() -> None:
    def missing(connection: socket.socket) -> None:
        asked.append(connection.recv(1 << 16))
        connection.sendall(reply(b"", status=b"404 Not Found"))

    asked: list[bytes] = []
    with answering(missing) as url:
        async with AsyncClient(url, websocket=True) as client:
            with pytest.raises(Unreachable, match="it answered HTTP 404 when asked for a WebSocket"):
                await client.call("predict", {})
    assert len(asked) == 1


def trickling(first: bytes, rest: bytes) -> Callable[[socket.socket], None]:
    """What answers a request with some bytes at once, and others one by one, each long before a timeout of its own."""

    def talk(connection: socket.socket) -> None:
        next(requests(connection))
        connection.sendall(first)
        trickle(connection, rest)

    return talk


def interim(connection: socket.socket) -> None:
    """What answers a request with as many heads that are not the answer's as are taken."""
    next(requests(connection))
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 10)
        time.sleep(0.001)  # its client runs in this process too


TRICKLES = pytest.mark.parametrize(
    "talk",
    [
        trickling(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" " * 1000),
        trickling(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 200),
        trickling(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
        trickling(b"", b"HTTP/1.1 200 OK" + b" " * 1000),
        interim,
    ],
    ids=["body", "chunks", "headers", "status", "interim"],
)


@TRICKLES
def test_the_deadline_holds_for_an_answer_that_trickles(talk: Callable[[socket.socket], None]) -> None:
    with answering(talk) as url, Client(url) as client:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.call("predict", {}, deadline_s=0.3)
        assert time.monotonic() - begun < 1


@TRICKLES
async def test_the_deadline_holds_on_an_event_loop_too(talk: Callable[[socket.socket], None]) -> None:
    with answering(talk) as url:
        async with AsyncClient(url) as client:
            begun = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await client.call("predict", {}, deadline_s=0.3)
            assert time.monotonic() - begun < 1


async def test_the_deadline_holds_for_a_websocket_that_trickles() -> None:
    talk = accepting(b"\x81\x7e\x03\xe8", b" " * 1000)
    with answering(talk) as url:
        async with AsyncClient(url, websocket=True) as client:
            begun = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await client.call("predict", {}, deadline_s=0.3)
            assert time.monotonic() - begun < 1


def test_a_short_deadline_is_not_that_of_the_next_call_by_the_same_connection() -> None:
    def slow_reader(connection: socket.socket) -> None:
        for turn, body in enumerate(requests(connection)):
            number = json.loads(body)["id"]
            connection.sendall(reply(b'{"jsonrpc":"2.0","id":%d,"result":{}}' % number))
            if turn == 0:
                time.sleep(0.6)  # meanwhile the next request fills the buffers, and waits

    with answering(slow_reader) as url, Client(url, retries=ONCE) as client:
        client.call("echo", {}, deadline_s=0.2)
        client.call("echo", {"many": "x" * (16 << 20)})


class Endless:
    """An answer without an end, which counts what of it is taken."""

    def __init__(self, head: bytes, piece: bytes) -> None:
        self.taken = 0
        self._head, self._piece = head, piece

    def __call__(self, connection: socket.socket) -> None:
        next(requests(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + self._head + b"\r\n")
        for _ in range(400):
            connection.sendall(self._piece)
            self.taken += len(self._piece)


LIMIT = 4 << 20
CHUNK = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
PACKED = gzip.compress(b" " * (64 << 20))
TOO_LARGE = pytest.mark.parametrize(
    "answer",
    [
        (b"Transfer-Encoding: chunked\r\n", CHUNK),
        (b"Content-Length: 400000000\r\n", b" " * 1_000_000),
        (b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(PACKED), PACKED),
    ],
    ids=["chunks", "length", "packed"],
)


@TOO_LARGE
def test_an_answer_that_is_too_large_is_not_read_on(answer: tuple[bytes, bytes]) -> None:
    endless = Endless(*answer)
    with answering(endless) as url, Client(url, max_answer_bytes=LIMIT) as client:
        tracemalloc.start()
        with pytest.raises(ResponseTooLarge, match=r"more than the 4194304 bytes.*max_answer_bytes"):
            client.call("predict", {})
        assert tracemalloc.get_traced_memory()[1] < 6 * LIMIT
        tracemalloc.stop()
    assert endless.taken < 100 << 20


@TOO_LARGE
async def test_an_answer_that_is_too_large_is_not_read_on_by_an_event_loop(answer: tuple[bytes, bytes]) -> None:
    endless = Endless(*answer)
    with answering(endless) as url:
        async with AsyncClient(url, max_answer_bytes=LIMIT) as client:
            with pytest.raises(ResponseTooLarge, match=r"more than the 4194304 bytes.*max_answer_bytes"):
                await client.call("predict", {})
    assert endless.taken < 100 << 20


async def test_an_answer_that_is_too_large_ends_its_websocket_in_words() -> None:
    frame = b"\x81\x7f" + (5 << 20).to_bytes(8) + b" " * (1 << 20)
    with answering(accepting(frame)) as url:
        async with AsyncClient(url, websocket=True, max_answer_bytes=LIMIT) as client:
            with pytest.raises(ResponseTooLarge, match="max_answer_bytes"):
                await client.call("predict", {})


async def test_calls_in_flight_end_when_their_client_is_closed() -> None:
    def silent(connection: socket.socket) -> None:
        for _ in requests(connection):
            pass

    later = (200, refusal(-32004, retryable=True, after=30_000))
    with answering(silent) as url, serving(later) as (elsewhere, _):
        client = AsyncClient(url, max_in_flight=2)
        calls = [asyncio.ensure_future(client.call("predict", {})) for _ in range(4)]
        away = AsyncClient(elsewhere, retries=Retries(longest_s=100))
        calls.append(asyncio.ensure_future(away.call("predict", {})))  # which waits for its next try
        await asyncio.sleep(0.2)
        async with asyncio.timeout(1):
            await client.close()
            await away.close()
            errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [Unreachable] * 5
    assert all("the client was closed" in str(error) for error in errors)
