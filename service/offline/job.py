"""A whole offline run: read, score with many calls in flight, write in parts, deliver the finished file at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from hoverboard.errors import HoverboardError
from hoverboard.files import synchronise
from hoverboard.offline.parts import PartFormat
from hoverboard.offline.rows import RowChunk, RowPosition, RowSource, ScoredChunk
from hoverboard.offline.workspace import Checkpoint, Workspace

__all__ = ["ChunkScorer", "Job", "Pace", "RowRefused", "Summary"]


class RowRefused(HoverboardError):
    """A strict run met a row without a prediction."""


class ChunkScorer(Protocol):
    """What answers a chunk."""

    async def score(self, chunk: RowChunk) -> ScoredChunk:
        """Answer every row of a chunk."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is done at a time.

    Attributes:
        batch_rows: rows of one engine call.
        in_flight: calls under way at once; they and their answers are what a run keeps in memory, beside one part.
        part_rows: rows after which a part is closed.
        part_bytes: bytes in memory after which a part is closed.
        part_seconds: seconds after which a part is closed: what a kill costs at most.
    """

    batch_rows: int = 64
    in_flight: int = 8
    part_rows: int = 25_000
    part_bytes: int = 64 << 20
    part_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a finished run did.

    Attributes:
        rows: rows in the output.
        faults: rows among them that have an error and no prediction.
        lost: rows among those that could not be read.
        first_lost: what was wrong with the first of those.
        resumed_at: rows that an earlier, unfinished run had done.
        seconds: how long this run took.
    """

    rows: int
    faults: int
    resumed_at: int
    seconds: float
    lost: int = 0
    first_lost: str = ""


@dataclass(slots=True)
class _Part:
    """The part being gathered."""

    after: RowPosition
    encoded: list[Any] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    faults: int = 0
    lost: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, chunk: ScoredChunk, encoded: Any, size: int) -> None:
        self.after = chunk.after
        self.encoded.append(encoded)
        self.rows += len(chunk.faults)
        self.bytes += size
        self.faults += sum(fault is not None for fault in chunk.faults)
        self.lost += [fault.message for fault in chunk.faults if fault is not None and fault.lost]


@dataclass(frozen=True, slots=True)
class Job:
    """One run from a source to an output.

    Attributes:
        source: what is read.
        scorer: what answers.
        form: what is written.
        workspace: where parts and the checkpoint are kept; its lock is held by the caller.
        pace: how much at a time.
        strict: stop at the first row without a prediction.
        progress: told after each chunk how far the run is.
    """

    source: RowSource
    scorer: ChunkScorer
    form: PartFormat[Any]
    workspace: Workspace
    pace: Pace = field(default_factory=Pace)
    strict: bool = False
    progress: Callable[[RowPosition], None] = lambda _: None

    async def run(self, checkpoint: Checkpoint) -> Summary:
        """Go on from a checkpoint to the end and deliver the output.

        Whatever ends it early, what was scored until then is kept for the next run.

        Raises:
            RowRefused: strict, and a row has no prediction.
            RpcError: the engine cannot answer.
        """
        began = time.monotonic()
        start = checkpoint.position.rows
        self.progress(checkpoint.position)
        if not checkpoint.complete:
            checkpoint = await self._score_rest(checkpoint)
            checkpoint = await asyncio.to_thread(self._merge, checkpoint)
        # Also where an earlier run was killed between merging and delivering.
        self.workspace.deliver()
        seconds = time.monotonic() - began
        rows, lost, first = checkpoint.position.rows, checkpoint.lost, checkpoint.first_lost
        return Summary(rows, checkpoint.faults, start, seconds, lost, first)

    async def _score_rest(self, checkpoint: Checkpoint) -> Checkpoint:
        part = _Part(checkpoint.position)
        try:
            async with aclosing(self._scored(checkpoint.position)) as chunks:
                async for chunk in chunks:
                    if self.strict:
                        _refuse_faults(chunk)
                    encoded = await asyncio.to_thread(self.form.encode, chunk)
                    part.add(chunk, encoded, self.form.size(encoded))
                    if self._full(part):
                        closing, part = part, _Part(part.after)
                        checkpoint = await asyncio.to_thread(self._close, closing, checkpoint)
                    self.progress(chunk.after)
        finally:
            # Also after Ctrl-C or a refused row: what was scored is paid for.
            checkpoint = self._close(part, checkpoint)
        return checkpoint

    async def _scored(self, start: RowPosition) -> AsyncGenerator[ScoredChunk]:
        """Scored chunks in order, with up to `in_flight` of them under way."""
        reader = self.source.chunks(start, self.pace.batch_rows)
        pending: deque[asyncio.Task[ScoredChunk]] = deque()
        try:
            while (chunk := await asyncio.to_thread(next, reader, None)) is not None:
                pending.append(asyncio.create_task(self.scorer.score(chunk)))
                # Always the oldest first: rows leave in the order they came, and the rest are under way meanwhile.
                if len(pending) >= self.pace.in_flight:
                    yield await pending.popleft()
            while pending:
                yield await pending.popleft()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _full(self, part: _Part) -> bool:
        return (
            part.rows >= self.pace.part_rows
            or part.bytes >= self.pace.part_bytes
            or time.monotonic() - part.began >= self.pace.part_seconds
        )

    def _close(self, part: _Part, checkpoint: Checkpoint) -> Checkpoint:
        if not part.rows:
            return checkpoint
        path = self.workspace.part(checkpoint.parts)
        self.form.write(path, part.encoded)
        # Before the checkpoint names it: after a power cut a checkpoint must not name what is not there.
        synchronise(path)
        checkpoint = checkpoint.further(part.after, part.faults, part.lost)
        self.workspace.save(checkpoint)
        return checkpoint

    def _merge(self, checkpoint: Checkpoint) -> Checkpoint:
        parts = [self.workspace.part(number) for number in range(checkpoint.parts)]
        # Beside the output and renamed in the end: nobody ever sees half of it.
        self.form.merge(parts, self.workspace.merged)
        synchronise(self.workspace.merged)
        checkpoint = replace(checkpoint, complete=True)
        self.workspace.save(checkpoint)
        return checkpoint


def _refuse_faults(chunk: ScoredChunk) -> None:
    first = chunk.after.rows - len(chunk.faults)
    for index, fault in enumerate(chunk.faults):
        if fault is not None:
            where = f" at {fault.pointer}" if fault.pointer else ""
            raise RowRefused(f"row {first + index} (counted from 0){where}: {fault.message}")
