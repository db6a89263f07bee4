"""What travels between an api process and its decoder: frames of an 8-byte length and a MessagePack body.

What may be megabytes follows its frame as it is: packed into one it would be copied three times, for as long as a
small call takes.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from hoverboard.rpc.large_messages import Fault, Taken

__all__ = ["LENGTH", "ColumnsAsk", "DecoderReply", "DropAsk", "TakeAsk", "asks", "frame"]

LENGTH: Final = struct.Struct("<Q")


class TakeAsk(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Take the message that follows, of `size` bytes, apart and keep its samples; see `take_apart`."""

    message: int
    size: int
    packed: bool
    limit: int
    most: int
    methods: dict[str, str]


class ColumnsAsk(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Decode samples: of a kept message's part, or where there is a `size`, those that follow. `signature` is packed."""

    message: int
    index: int
    size: int
    signature: bytes
    name: str


class DropAsk(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Let go of a message; there is no reply."""

    message: int


Ask = TakeAsk | ColumnsAsk | DropAsk


class DecoderReply(msgspec.Struct, array_like=True, frozen=True):
    """What came of an ask: one of `fault`, `taken`, and packed columns of `n` samples, which follow in `size` bytes."""

    fault: Fault | None = None
    taken: Taken | None = None
    size: int = 0
    n: int = 0


_asked = msgspec.msgpack.Decoder(Ask).decode
_encode = msgspec.msgpack.Encoder().encode


def frame(message: Any) -> bytes:
    """A message as it travels."""
    body = _encode(message)
    return LENGTH.pack(len(body)) + body


def asks(source: socket.socket) -> Iterator[tuple[Ask, bytearray]]:
    """What arrives, until the other end closes: asks with what follows them."""
    while True:
        head = _exactly(source, LENGTH.size)
        body = None if head is None else _exactly(source, LENGTH.unpack(head)[0])
        if body is None:
            return
        ask = _asked(body)
        raw = _exactly(source, 0 if isinstance(ask, DropAsk) else ask.size)
        if raw is None:
            return
        yield ask, raw


def _exactly(source: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        got = source.recv_into(view[at:])
        if not got:
            return None
        at += got
    return data
