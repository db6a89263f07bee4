"""Says that records are dropped, while they are: in the log once, and wherever somebody asks whether recording works."""

from __future__ import annotations

import time
from typing import Final

from hoverboard.telemetry import logs
from hoverboard.telemetry.recording_state import Part

__all__ = ["Shedding"]

_CALM_S: Final = 30.0
"""Without a drop, until it is over: a disk that is full for large frames may take a small one now and then."""

_log = logs.get("journal.shedding")


class Shedding:
    """What one process has dropped since it last kept everything. Not thread-safe: its journal's lock is held.

    Args:
        part: where it is said; None says it in the log alone.
    """

    def __init__(self, part: Part | None) -> None:
        self._part = part
        self._records = 0
        self._why = ""
        self._then = ""
        self._last_at: float | None = None
        if part is not None:
            part.say(None)

    def dropped(self, records: int, why: str, then: str) -> None:
        """Count records that were not journaled.

        Args:
            records: how many.
            why: a part of a sentence, after `since`.
            then: what somebody can do.
        """
        begins = self._last_at is None
        self._records += records
        self._why, self._then, self._last_at = why, then, time.monotonic()
        # Once, not for each batch: a full disk would else be filled with log lines about it.
        if begins:
            _log.error("records_dropped", why=why, then=f"they are counted in the table gaps; {then}")
            self._say()

    def look(self, *, full: bool) -> None:
        """Say how many there are by now, and when it is over. About once a second.

        Args:
            full: whether the next record would be dropped, too.
        """
        if self._last_at is None:
            return
        if full or time.monotonic() - self._last_at < _CALM_S:
            self._say()
            return
        _log.warning("records_kept_again", dropped=self._records, why=self._why)
        self._last_at, self._records = None, 0
        if self._part is not None:
            self._part.say(None)

    def _say(self) -> None:
        if self._part is not None:
            self._part.say(self._why, then=self._then, dropped=self._records)
