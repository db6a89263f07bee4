"""Features of ordinary samples: looked at between the batches, for a small share of the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import structlog

from hoverboard.engine.answers import Picked
from hoverboard.engine.buckets import CostModel
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.worker import Worker

__all__ = ["Glances"]

_log = structlog.get_logger(__name__)
_SHARE: Final = 0.02
"""Of the execution thread's time, at most."""
_LONGEST_S: Final = 0.02
"""One look, as far as costs tell: so much longer a batch may have to wait."""
_EVERY_S: Final = 0.2
"""Least time between two looks, so that rows gather: one look at many costs little more than at one."""
_LAST_S: Final = 0.2
"""At the end, all looks together."""
_MOST_ROWS: Final = 1024
_MOST_BYTES: Final = 16 * 1024 * 1024

_Kind = tuple[LiveVersion, tuple[Any, ...]]
"""Rows of one version and of equal shapes: these can be looked at together."""


class Glances:
    """Takes rows as they come and has them looked at later; what is too much is left out.

    Every method is for the event loop.

    Args:
        look: told a version and rows, on the execution thread.
        worker: that thread.
    """

    def __init__(self, look: Callable[[LiveVersion, Picked], None], worker: Worker) -> None:
        self._look = look
        self._worker = worker
        self._waiting: dict[_Kind, list[Picked]] = {}
        self._rows = self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._looking = False

    def add(self, version: LiveVersion, picked: Picked) -> None:
        """Have rows of a batch looked at, where there is room for them."""
        rows, size = picked.rows, picked.bytes
        if self._rows + rows > _MOST_ROWS or self._bytes + size > _MOST_BYTES:
            return
        kind = version, tuple([column.shape[1:] for column in picked.columns])
        self._waiting.setdefault(kind, []).append(picked)
        self._rows += rows
        self._bytes += size
        self._wake(_EVERY_S)

    def finish(self) -> None:
        """Look at what waits, as far as that is quick."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        left_s = _LAST_S
        while self._waiting and left_s > 0:
            version, picked = self._next()
            left_s -= version.costs.predict(picked.rows)
            self._worker.submit(partial(self._look, version, picked), partial(_log_failure, version))

    def _wake(self, in_s: float) -> None:
        if self._timer is None and not self._looking and self._waiting:
            self._timer = asyncio.get_running_loop().call_later(in_s, self._turn)

    def _turn(self) -> None:
        self._timer = None
        version, picked = self._next()
        self._looking = True
        self._worker.submit(partial(self._timed, version, picked), partial(self._looked, version))

    def _next(self) -> tuple[LiveVersion, Picked]:
        """Rows of the kind that has waited longest, as many as one look may take; the rest of them goes to the end."""
        kind = next(iter(self._waiting))
        version, _ = kind
        pieces = self._waiting.pop(kind)
        columns = [np.concatenate(parts) for parts in zip(*[piece.columns for piece in pieces], strict=True)]
        joined = Picked(b"".join([piece.ids for piece in pieces]), columns)
        self._rows -= joined.rows
        self._bytes -= joined.bytes
        most = _affordable(version.costs)
        if joined.rows > most:
            rest = Picked(joined.ids[16 * most :], [column[most:] for column in columns])
            joined = Picked(joined.ids[: 16 * most], [column[:most] for column in columns])
            self._waiting[kind] = [rest]
            self._rows += rest.rows
            self._bytes += rest.bytes
        return version, joined

    def _timed(self, version: LiveVersion, picked: Picked) -> float:
        began = time.perf_counter()
        self._look(version, picked)
        return time.perf_counter() - began

    def _looked(self, version: LiveVersion, seconds: float | None, error: BaseException | None) -> None:
        self._looking = False
        _log_failure(version, None, error)
        self._wake(max(_EVERY_S, (seconds or 0.0) / _SHARE))


def _affordable(costs: CostModel) -> int:
    """Rows that one look may take; at least one, however long that takes."""
    size = costs.largest_within(_LONGEST_S)
    if size is None:
        return 1
    return size * max(1, int(_LONGEST_S / costs.seconds(size))) if size == costs.largest else size


def _log_failure(version: LiveVersion, _: None, error: BaseException | None) -> None:
    if error is not None:
        _log.error("features_not_looked_at", model=version.key[0], version=version.key[1], exc_info=error)
