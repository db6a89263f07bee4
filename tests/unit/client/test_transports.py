"""What carries the clients' messages, against servers that misbehave and in processes that were forked off."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from hoverboard.client.retries import Retries
from hoverboard.client.sync import Client
from hoverboard.errors import Unreachable
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
