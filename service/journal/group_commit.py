"""Group commit: what comes while the journal waits for the disk goes into it together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Generic, TypeVar

from hoverboard.journal.records import KINDS, GapEntry, Record, encode
from hoverboard.journal.writer import JournalFull, JournalWriter, NotOnDisk

__all__ = ["Committer"]

T = TypeVar("T")
R = TypeVar("R")

_INLINE: Final = 16
"""Most frames that are written on the event loop: some 10 us each."""


class Committer:
    """Writes to a journal from an event loop, and never keeps the loop waiting for the disk.

    Args:
        writer: the journal.
        fsync: whether the journal waits for the disk; then all is written on a thread.
    """

    def __init__(self, writer: JournalWriter, *, fsync: bool) -> None:
        self._writer = writer
        self._fsync = fsync
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._frames: dict[int, _Groups[bytes, tuple[int, int]]] = {}
        self._gaps = _Groups(self._thread, self._shed)

    async def append(self, records: Sequence[Record]) -> int:
        """Write records of one type, each a frame; answers how many, from the first on, are in the journal.

        Raises:
            NotOnDisk: some or all are, and perhaps not for long.
        """
        if not records:
            return 0
        kind, payloads = KINDS[type(records[0])], [encode(record) for record in records]
        # Without a wait for the disk a write is quicker than handing it to a thread.
        if not self._fsync and len(payloads) <= _INLINE:
            return self._append(kind, payloads)[0]
        groups = self._frames.get(kind) or self._frames.setdefault(
            kind, _Groups(self._thread, partial(self._append, kind))
        )
        first, (written, unsure) = await groups.add(payloads)
        if unsure > first:
            raise NotOnDisk("the disk could not be waited for", min(unsure - first, len(payloads)))
        return min(max(written - first, 0), len(payloads))

    async def shed(self, entry: GapEntry) -> bool:
        """Count what is not written; answers whether at least that could be done."""
        if not self._fsync:
            return self._shed([entry])
        _, counted = await self._gaps.add([entry])
        return counted

    async def tick(self) -> None:
        """The journal's own housekeeping; about once a second."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.tick)

    async def close(self) -> None:
        """Write what waits, and close the journal."""
        for frames in self._frames.values():
            # What others wait for must be written before the thread goes, or they would wait for ever.
            await frames.written()
        await self._gaps.written()
        self._thread.shutdown()
        self._writer.close()

    def _append(self, kind: int, payloads: Sequence[bytes]) -> tuple[int, int]:
        """How many are written; or else how many are, and may not be on the disk."""
        try:
            return self._writer.append_all(kind, payloads), 0
        except NotOnDisk as unsure:
            return 0, unsure.frames
        except JournalFull:
            return 0, 0

    def _shed(self, entries: Sequence[GapEntry]) -> bool:
        try:
            self._writer.shed(entries)
        except JournalFull:
            return False
        return True


class _Groups(Generic[T, R]):
    """Gathers items while the ones before them are written on a thread."""

    def __init__(self, thread: ThreadPoolExecutor, write: Callable[[Sequence[T]], R]) -> None:
        self._thread = thread
        self._write = write
        self._turn = asyncio.Lock()
        self._items: list[T] = []
        self._gathering: asyncio.Task[R] | None = None
        self._tasks: set[asyncio.Task[R]] = set()

    async def add(self, items: Sequence[T]) -> tuple[int, R]:
        """Where in their group some items stand, and what became of the group."""
        if self._gathering is None:
            self._items = []
            self._gathering = asyncio.create_task(self._run(self._items))
            self._tasks.add(self._gathering)
            self._gathering.add_done_callback(self._tasks.discard)
        first = len(self._items)
        self._items += items
        # A caller that leaves must not take the others' items along.
        return first, await asyncio.shield(self._gathering)

    async def written(self) -> None:
        """Wait until nothing waits."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, items: Sequence[T]) -> R:
        # One write at a time, so that frames stand in the order in which they came.
        async with self._turn:
            # Before the write begins: what comes from now on goes with the next group.
            self._gathering = None
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, items)
