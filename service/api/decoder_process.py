"""The process that decodes large messages for one api process: asks in, replies out, one after the other.

It ends when the socket does. It gives way to the processes that answer, and takes no more memory than it is told.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
import traceback
from functools import lru_cache
from typing import Final, cast

import msgspec

from hoverboard.api.decoder_wire import ColumnsAsk, DecoderReply, DropAsk, TakeAsk, asks, frame
from hoverboard.codec.arrays import Codec
from hoverboard.contract.signature import Signature
from hoverboard.errors import InternalError, Overloaded, RequestTooLarge, RpcError
from hoverboard.rpc.large_messages import Fault, Samples, columns_of, take_apart

__all__ = ["main"]

# Behind small calls and the engine where the machine is short of cores.
_NICE: Final = 5
_CODECS: Final = 64


class _Messages:
    """The samples of the messages that are not closed yet."""

    def __init__(self) -> None:
        self._kept: dict[int, list[Samples]] = {}

    def reply(self, ask: TakeAsk | ColumnsAsk, raw: bytearray) -> tuple[DecoderReply, bytes]:
        """What comes of an ask and what follows it, and what follows that."""
        try:
            if isinstance(ask, TakeAsk):
                # Nobody writes to it any more, and a copy would take as much memory again.
                body = cast(bytes, raw)
                taken, samples = take_apart(body, ask.methods, packed=ask.packed, limit=ask.limit, most=ask.most)
                self._kept[ask.message] = samples
                return DecoderReply(taken=taken), b""
            packed, n = columns_of(self._samples(ask, raw), _codec(ask.signature), ask.name)
        except RpcError as error:
            return DecoderReply(fault=Fault.of(error)), b""
        # RLIMIT_DATA makes one: the message is refused, and this process goes on.
        except MemoryError:
            return DecoderReply(fault=Fault.of(RequestTooLarge("The message takes too much memory to decode"))), b""
        except Exception:  # noqa: BLE001 - one message's trouble; the next is decoded
            traceback.print_exc()
            return DecoderReply(fault=Fault.of(InternalError())), b""
        else:
            return DecoderReply(size=len(packed), n=n), packed

    def drop(self, message: int) -> None:
        """Let go of a message."""
        self._kept.pop(message, None)

    def _samples(self, ask: ColumnsAsk, raw: bytearray) -> msgspec.Raw | bytes:
        if raw:
            return cast(bytes, raw)
        kept = self._kept.get(ask.message)
        if kept is None:
            raise Overloaded("The message was lost while it was decoded", retry_after_ms=100)
        return kept[ask.index][ask.name]


@lru_cache(_CODECS)
def _codec(signature: bytes) -> Codec:
    return Codec(msgspec.msgpack.decode(signature, type=Signature))


def main() -> None:
    """Serve the socket whose descriptor, and the process' most bytes of memory, are the arguments."""
    descriptor, most = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to everybody; the api decides when to end
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    with contextlib.suppress(OSError, ValueError):
        # Else one message that unpacks into millions of Python objects could take the whole machine's memory.
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    messages = _Messages()
    with socket.socket(fileno=descriptor) as asking, contextlib.suppress(ConnectionError):
        for ask, raw in asks(asking):
            if isinstance(ask, DropAsk):
                messages.drop(ask.message)
            else:
                reply, following = messages.reply(ask, raw)
                asking.sendall(frame(reply))
                asking.sendall(following)


if __name__ == "__main__":
    main()
