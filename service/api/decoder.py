"""The api's end of its decoder process: what waits for it, and what becomes of that when it dies."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from itertools import count
from typing import Final, Self

import msgspec
import structlog

from hoverboard.api.decoder_wire import LENGTH, ColumnsAsk, DecoderReply, DropAsk, TakeAsk, frame
from hoverboard.children import IMPORT_PATH
from hoverboard.contract.signature import Signature
from hoverboard.errors import InternalError, Overloaded
from hoverboard.rpc.budget import Budget, BudgetShare
from hoverboard.rpc.large_messages import SMALL_BYTES, Taken

__all__ = ["DecoderProcess"]

_log = structlog.get_logger(__name__)
_replied: Final = msgspec.msgpack.Decoder(DecoderReply).decode
_LONGEST_S: Final = 60.0
_RETRY_MS: Final = 1000
_CHUNK: Final = 1 << 20

_Waiting = tuple[TakeAsk | ColumnsAsk, bytes, asyncio.Future[tuple[DecoderReply, bytes]]]
"""An ask, what follows it, and who waits for the reply and what follows that."""


class DecoderProcess:
    """A `Decoder`: a child process, started with the first large message. An async context manager.

    Short asks go before long ones, so that a call of some kilobytes does not wait for those of megabytes.

    Args:
        limit: most bytes of one message's JSON.
        memory: most bytes of memory of the process.
        budget: of the bytes of large messages; what is unpacked is taken from it.
    """

    def __init__(self, *, limit: int, memory: int, budget: Budget) -> None:
        self._limit = limit
        self._memory = memory
        self._budget = budget
        self._numbers = count(1)
        self._short: deque[_Waiting] = deque()
        self._long: deque[_Waiting] = deque()
        self._dropped: list[int] = []
        self._work = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        self._pumping = asyncio.create_task(self._pump())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pumping.cancel()
        await asyncio.wait([self._pumping])
        await self._end()

    async def take(self, body: bytes, methods: Mapping[str, str], *, packed: bool, most: int) -> _LargeMessage:
        """See `Decoder.take`."""
        number, share = next(self._numbers), self._budget.share()
        try:
            ask = TakeAsk(number, len(body), packed, self._limit, most, dict(methods))
            reply, _ = await self._asked(ask, self._long, body)
            if reply.taken is None:
                raise InternalError
            # What was packed has taken its share as it came; unpacked, it takes as much more as it grew.
            share.grow(max(0, reply.taken.size - len(body)))
        except BaseException:
            # A cancelled client leaves as well; the other process must not keep what nobody will ask for.
            self.drop(number)
            raise
        return _LargeMessage(self, number, reply.taken, share)

    async def columns(self, raw: bytes, signature: Signature, name: str) -> tuple[bytes, int]:
        """See `Decoder.columns`."""
        line = self._short if len(raw) <= SMALL_BYTES else self._long
        reply, columns = await self._asked(ColumnsAsk(0, 0, len(raw), _packed(signature), name), line, raw)
        return columns, reply.n

    async def kept_columns(self, number: int, index: int, signature: Signature, name: str) -> tuple[bytes, int]:
        """See `Message.columns`."""
        reply, columns = await self._asked(ColumnsAsk(number, index, 0, _packed(signature), name), self._long)
        return columns, reply.n

    def drop(self, number: int) -> None:
        """Let go of a message."""
        # Told with the next ask: a message of its own would have to wait for its turn.
        self._dropped.append(number)
        self._work.set()

    async def _asked(
        self, ask: TakeAsk | ColumnsAsk, line: deque[_Waiting], raw: bytes = b""
    ) -> tuple[DecoderReply, bytes]:
        answer: asyncio.Future[tuple[DecoderReply, bytes]] = asyncio.get_running_loop().create_future()
        line.append((ask, raw, answer))
        self._work.set()
        reply, following = await answer
        if reply.fault is not None:
            raise reply.fault.error
        return reply, following

    async def _pump(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._short or self._long:
                ask, raw, answer = (self._short or self._long).popleft()
                if not answer.done():  # else its client has left
                    await self._answer(ask, raw, answer)
                del ask, raw, answer
            if self._dropped:
                await self._exchange(None)

    async def _answer(
        self, ask: TakeAsk | ColumnsAsk, raw: bytes, answer: asyncio.Future[tuple[DecoderReply, bytes]]
    ) -> None:
        try:
            # A decoder that hangs is ended like one that died: the next ask starts another.
            async with asyncio.timeout(_LONGEST_S):
                reply = await self._exchange(ask, raw)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, msgspec.DecodeError) as reason:
            _log.warning("decoder_lost", reason=type(reason).__name__)
            await self._end()
            if not answer.done():
                lost = Overloaded("The message could not be decoded now, try again later", retry_after_ms=_RETRY_MS)
                answer.set_exception(lost)
        except BaseException:
            answer.cancel()
            raise
        else:
            if reply is not None and not answer.done():
                answer.set_result(reply)

    async def _exchange(self, ask: TakeAsk | ColumnsAsk | None, raw: bytes = b"") -> tuple[DecoderReply, bytes] | None:
        """Say which messages are closed, and ask."""
        dropped, self._dropped = self._dropped, []
        if self._streams is None and ask is None:
            return None
        reader, writer = self._streams or await self._start()
        writer.writelines([frame(DropAsk(number)) for number in dropped])
        if ask is None:
            return None
        writer.write(frame(ask))
        data = memoryview(raw)
        # In pieces, since `write` copies what the socket does not take at once.
        for at in range(0, len(data), _CHUNK):
            writer.write(data[at : at + _CHUNK])
            await writer.drain()
        (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        reply = _replied(await reader.readexactly(size))
        return reply, await reader.readexactly(reply.size)

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        with theirs:
            # `-P`: what lies in the working directory must not stand in for a module.
            arguments = ["-P", "-m", "hoverboard.api.decoder_process", str(theirs.fileno()), str(self._memory)]
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={
                    **os.environ,
                    "PYTHONPATH": str(IMPORT_PATH),
                    "OPENBLAS_NUM_THREADS": "1",
                },
            )
        self._streams = await asyncio.open_connection(sock=ours, limit=_CHUNK)
        return self._streams

    async def _end(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        if self._process is not None:
            # Killed, not asked to end: it may be in the middle of a long decode, and keeps nothing that matters.
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
        self._streams = self._process = None


class _LargeMessage:
    """A `Message`."""

    def __init__(self, decoder: DecoderProcess, number: int, taken: Taken, share: BudgetShare) -> None:
        self._decoder = decoder
        self._number = number
        self._share = share
        self.taken = taken

    async def columns(self, index: int, signature: Signature, name: str) -> tuple[bytes, int]:
        """See `Message.columns`."""
        return await self._decoder.kept_columns(self._number, index, signature, name)

    def close(self) -> None:
        """See `Message.close`."""
        self._share.close()
        self._decoder.drop(self._number)


@lru_cache(64)
def _packed(signature: Signature) -> bytes:
    return msgspec.msgpack.encode(signature)
