"""What travels between an api process and its decoder: an 8-byte length and a MessagePack body."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from service.rpc.large import Fault, Taken

__all__ = ["LENGTH", "Ask", "ColumnsAsk", "DropAsk", "Reply", "TakeAsk", "frame", "frames"]

LENGTH: Final = struct.Struct("<Q")


class TakeAsk(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Take a message apart and keep its samples; see `take_apart`."""

    message: int
    body: bytes
    packed: bool
    limit: int
    most: int
    methods: dict[str, str]


class ColumnsAsk(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Decode samples: of a kept message's part, or `raw` ones. `signature` is packed."""

    message: int
    index: int
    raw: bytes | None
    signature: bytes
    name: str


class DropAsk(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Let go of a message; there is no reply."""

    message: int


Ask = TakeAsk | ColumnsAsk | DropAsk


class Reply(msgspec.Struct, array_like=True, frozen=True):
    """What came of an ask: one of `fault`, `taken`, and `packed` columns of `n` samples."""

    fault: Fault | None = None
    taken: Taken | None = None
    packed: bytes = b""
    n: int = 0


_encode = msgspec.msgpack.Encoder().encode


def frame(message: Any) -> bytes:
    """A message as it travels."""
    body = _encode(message)
    return LENGTH.pack(len(body)) + body


def frames(source: socket.socket) -> Iterator[bytearray]:
    """The bodies that arrive, until the other end closes."""
    while True:
        head = _exactly(source, LENGTH.size)
        body = None if head is None else _exactly(source, LENGTH.unpack(head)[0])
        if body is None:
            return
        yield body


def _exactly(source: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        got = source.recv_into(view[at:])
        if not got:
            return None
        at += got
    return data
