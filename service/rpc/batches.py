"""The items of a batch array, run at once: begun some at a time, and answered within one limit of size."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple, TypeVar, cast
from weakref import WeakValueDictionary

from hoverboard.errors import BatchTooLarge, InvalidRequest
from hoverboard.rpc.call import Call, CallLimits, Reply, RpcRequest
from hoverboard.rpc.envelope import NULL, failure
from hoverboard.rpc.loop_turns import Turns
from hoverboard.rpc.running import CallRunner, error_reply, unforeseen

__all__ = ["BatchRunner", "ItemAnswer"]

_ALONE: Final = 128
"""Items of a batch that begin in one turn of the event loop where it is the only batch; more than share a batch in an engine."""
_AMONG_OTHERS: Final = 32
"""Items that begin in one turn where several batches are at work: some milliseconds, for which all other callers wait."""

T = TypeVar("T")


class ItemAnswer(NamedTuple):
    """A batch item's answer; `id` is raw JSON."""

    call: Call
    id: bytes
    reply: Reply


Item = Coroutine[Any, Any, ItemAnswer | None]
"""One item at work; None for a notification."""


class _Room:
    """What the answers of one batch may still take, in bytes."""

    def __init__(self, left: int) -> None:
        self._left = left

    def fits(self, size: int) -> bool:
        """Whether one more fits; once one does not, none does."""
        # Later, smaller answers do not slip in: clients could not tell which of the batch are missing.
        self._left -= size
        return self._left >= 0


class BatchRunner:
    """Answers batches of one face."""

    def __init__(self, limits: CallLimits, runner: CallRunner) -> None:
        self._limits = limits
        self._runner = runner
        self._turns = Turns(_AMONG_OTHERS)
        self._beginning = 0
        # By connection, for as long as any of its batches is at work.
        self._lines: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def refused(self, count: int, first: bytes | None, request: RpcRequest) -> Reply | None:
        """The answer to a batch of no calls, or of too many; None for any other.

        Args:
            first: the id of its first call.
        """
        if not count:
            return await self._runner.refuse(InvalidRequest("Invalid Request: an empty batch"), request)
        most = self._limits.max_batch_items
        if count <= most:
            return None
        too_large = BatchTooLarge(f"At most {most} calls in one batch", details={"limit": most, "got": count})
        answer = await self._runner.refuse(too_large, request, first or NULL)
        return Reply(b"[" + cast(bytes, answer.body) + b"]")

    async def together(self, calls: Sequence[T], begin: Callable[[T, RpcRequest], Item], request: RpcRequest) -> Reply:
        """The answers of a batch's items, which run at once; begun some at a time, for the sake of other connections.

        Args:
            calls: the items.
            begin: makes the work of one of them.
        """
        room = _Room(self._limits.max_response_bytes)
        parts: list[bytes | None] = []
        tasks: deque[asyncio.Task[ItemAnswer | None]] = deque()
        async with asyncio.TaskGroup() as running:
            # Batches of one connection begin one after the other. Were they begun side by side, all would end at about the same time:
            # a client that does not read, or has gone, would be noticed only then, with the work of all of them done.
            async with self._lines.setdefault(request.source, asyncio.Lock()):
                self._beginning += 1
                try:
                    start = 0
                    while start < len(calls):
                        some = await self._next(calls, start, request)
                        start += len(some)
                        tasks.extend(running.create_task(_guarded(begin(call, request), request)) for call in some)
                        # Finished tasks are let go while others begin: a thousand large answers would be held twice.
                        while tasks and tasks[0].done():
                            parts.append(await self._fitted(tasks.popleft().result(), room))
                finally:
                    self._beginning -= 1
            while tasks:
                parts.append(await self._fitted(await tasks.popleft(), room))
        bodies = [body for body in parts if body is not None]
        return Reply(b"[" + b",".join(bodies) + b"]" if bodies else None)

    async def _next(self, calls: Sequence[T], start: int, request: RpcRequest) -> Sequence[T]:
        """The next items of a batch, when they may begin."""
        if request.read is not None:
            await request.read()
        await self._turns.take(min(len(calls) - start, _AMONG_OTHERS))
        # Only now: while it waited, others may have come.
        return calls[start : start + (_ALONE if self._beginning == 1 else _AMONG_OTHERS)]

    async def _fitted(self, answer: ItemAnswer | None, room: _Room) -> bytes | None:
        """An item's response, or an error in place of one past the size limit."""
        body = None if answer is None else answer.reply.body
        if answer is None or body is None or room.fits(len(body) + 1):
            return body
        error = self._runner.too_large()
        if answer.reply.error is None:
            await self._runner.record(answer.call, error)
        return failure(answer.id, error, answer.call.request.request_id)


async def _guarded(item: Item, request: RpcRequest) -> ItemAnswer | None:
    """An item's answer; a defect that one item meets costs its neighbours nothing."""
    try:
        return await item
    except Exception as bug:  # noqa: BLE001 - whatever it is, the client gets an answer
        call = Call(request, "")
        return ItemAnswer(call, NULL, error_reply(unforeseen(call, bug), request))
