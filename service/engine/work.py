"""What travels through the engine: a call with what has come of it so far, and the rows of calls that share a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import structlog

from hoverboard.contract.calls import PredictAnswer, PredictCall
from hoverboard.contract.signature import Array
from hoverboard.engine.live import LiveVersion
from hoverboard.errors import HoverboardError

__all__ = ["Batch", "Done", "Slice", "Work", "tell"]

_log = structlog.get_logger(__name__)

Done = Callable[[PredictAnswer | HoverboardError], None]


class Work(msgspec.Struct, eq=False):
    """One call on its way through the engine. A struct, like `Slice`, since one is made for every call.

    Attributes:
        call: as it came.
        done: called with the answer or the error, once.
        arrived: seconds on the monotonic clock.
        taken: rows handed to batches so far.
        answered: rows that came back.
        parts: answers of those batches, by first row.
        closed: answered, cancelled or expired: nothing of it may run any more.
        version: what its rows run on; one version answers a call, whatever is swapped meanwhile.
        place: of its next row among all rows of its caller, which says when its turn is.
    """

    call: PredictCall
    done: Done
    arrived: float
    taken: int = 0
    answered: int = 0
    parts: list[tuple[int, PredictAnswer]] = msgspec.field(default_factory=list)
    closed: bool = False
    version: LiveVersion | None = None
    place: int = 0

    @property
    def remaining(self) -> int:
        """Rows that still wait."""
        return 0 if self.closed else self.call.n - self.taken

    def begin_on(self, version: LiveVersion) -> int:
        """Run on `version` from now on; what ran on another one counts no more. Returns the rows that wait again."""
        again, self.version = self.taken, version
        self.taken = self.answered = 0
        return again

    def fail(self, error: HoverboardError) -> None:
        """Answer with an error, unless it is answered already."""
        if not self.closed:
            self.closed = True
            tell(self.call, self.done, error)


def tell(call: PredictCall, done: Done, answer: PredictAnswer | HoverboardError) -> None:
    """Tell a caller its answer. Never raises: a caller that cannot be reached costs no other."""
    try:
        done(answer)
    except Exception:  # noqa: BLE001 - see above
        _log.exception("caller_not_told", model=call.model, request_id=call.request_id)


class Slice(msgspec.Struct, frozen=True, eq=False):
    """Rows `start:start + rows` of one call."""

    work: Work
    start: int
    rows: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What to run next.

    Attributes:
        version: to run it on.
        slices: whose rows, in order.
        rows: their sum.
        bucket: to pad to.
    """

    version: LiveVersion
    slices: tuple[Slice, ...]
    rows: int
    bucket: int

    def columns(self) -> list[Array]:
        """The inputs of all slices, one array per input, `(rows, *shape)`."""
        if len(self.slices) == 1:  # views, no copy: most large calls fill a batch alone
            only = self.slices[0]
            return [column[only.start : only.start + only.rows] for column in only.work.call.columns]
        parts = [
            s.work.call.columns
            if s.rows == s.work.call.n
            else tuple(column[s.start : s.start + s.rows] for column in s.work.call.columns)
            for s in self.slices
        ]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]
