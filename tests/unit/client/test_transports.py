"""What carries the clients' messages, against servers that misbehave and in processes that were forked off."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from hoverboard.client.aio import AsyncClient
from hoverboard.client.retries import Retries
from hoverboard.client.sync import Client
from hoverboard.errors import DeadlineExceeded, Unreachable
from tests.unit.client.canned import serving

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


def accepting(frames: bytes) -> Callable[[socket.socket], None]:
    """What takes a WebSocket and a message, and answers with some bytes; then it waits to be left."""

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
