"""One chunk through the engine: every row answered, or its fault named, in the order they came."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hoverboard.codec.arrow_columns import ArrowRows, Refused
from hoverboard.codec.rows import RowsCodec
from hoverboard.contract.calls import EnginePort, PredictAnswer, PredictCall
from hoverboard.contract.signature import Array
from hoverboard.errors import DeadlineExceeded, InternalError, InvalidParams, NotReady, Overloaded
from hoverboard.offline.rows import RowChunk, RowFault, ScoredChunk

__all__ = ["Scorer"]

# Nobody waits for one answer here; the deadline only ends a call that the engine has lost.
_DEADLINE_S: Final = 600.0
_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0
_POINTER: Final = re.compile(r"/instances/\d+")


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores chunks with one version of one model.

    Attributes:
        engine: where calls go.
        codec: for the version's signature.
        model, version: what answers.
        fingerprint: of the version's signature.
        outputs: whether predictions carry whole outputs.
        patience_s: how long an engine that takes no calls is waited for.
    """

    engine: EnginePort
    codec: RowsCodec
    model: str
    version: int
    fingerprint: str
    outputs: bool
    patience_s: float = 300.0

    async def score(self, chunk: RowChunk) -> ScoredChunk:
        """Answer every row of a chunk.

        Raises:
            RpcError: the engine cannot answer at all: not ready, overloaded or late for `patience_s`.
        """
        rows = chunk.instances
        predictions: list[Mapping[str, Any] | None] = [None] * len(rows)
        faults: list[RowFault | None] = [None] * len(rows)
        if not isinstance(rows, ArrowRows):  # whose rows can all be read
            faults = [row if isinstance(row, RowFault) else None for row in rows]
        groups: dict[Hashable, list[int]] = {}
        for index, shape in enumerate(self.codec.shapes(rows)):
            if faults[index] is None:
                groups.setdefault(shape, []).append(index)
        answers = await asyncio.gather(*(self._answer(_chosen(rows, group)) for group in groups.values()))
        for index, outcome in zip(itertools.chain(*groups.values()), itertools.chain(*answers), strict=True):
            if isinstance(outcome, RowFault):
                faults[index] = outcome
            else:
                predictions[index] = outcome
        return ScoredChunk(predictions, faults, chunk.kept, chunk.after)

    async def _answer(self, rows: Sequence[Any]) -> Sequence[Mapping[str, Any] | RowFault]:
        """Score rows together; where that fails, in halves, until each offender stands alone."""
        try:
            columns = self.codec.decode(rows)
            return self.codec.encode(await self._predict(columns, len(rows)))
        except Refused:
            pass
        except (InvalidParams, InternalError) as error:
            if len(rows) == 1:
                return [_fault(error)]
        # A model fails on a call as a whole: halving finds one bad row of n with 2 log2(n) further calls.
        half = len(rows) // 2
        first, second = await asyncio.gather(self._answer(rows[:half]), self._answer(rows[half:]))
        return [*first, *second]

    async def _predict(self, columns: tuple[Array, ...], n: int) -> PredictAnswer:
        """Call the engine, again while it says that trying again is worth it."""
        pause = _PAUSE_S
        give_up = time.monotonic() + self.patience_s
        while True:
            try:
                return await self.engine.predict(self._call(columns, n))
            except (NotReady, Overloaded, DeadlineExceeded) as error:
                if time.monotonic() > give_up:
                    raise
                await asyncio.sleep(max(pause, (error.retry_after_ms or 0) / 1000))
                pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _call(self, columns: tuple[Array, ...], n: int) -> PredictCall:
        return PredictCall(
            model=self.model,
            version=self.version,
            fingerprint=self.fingerprint,
            columns=columns,
            n=n,
            deadline=time.monotonic() + _DEADLINE_S,
            want_outputs=self.outputs,
        )


def _chosen(rows: Sequence[Any], indexes: Sequence[int]) -> Sequence[Any]:
    return rows.take(indexes) if isinstance(rows, ArrowRows) else [rows[index] for index in indexes]


def _fault(error: InvalidParams | InternalError) -> RowFault:
    """The fault of the only row of a call; its place is told from the row on, not from the call on."""
    details = error.details or {}
    pointer = _POINTER.sub("", str(details.get("pointer", "")), count=1)
    if isinstance(error, InvalidParams):
        return RowFault(pointer, f"expected {details['expected']}, got {details['got']}")
    return RowFault(pointer, error.message)
