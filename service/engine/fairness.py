"""Whose turn it is: no caller's long queue keeps another caller waiting, and no model's queue another model.

Callers of one model take turns of one largest batch each, and models take turns of `TURN_S`. Within a turn the earliest
deadline goes first, so that as long as little waits, deadlines alone decide. It is start-time fair queueing (Goyal, Vin and
Cheng 1996) in whole turns.
"""

from __future__ import annotations

from typing import Final

__all__ = ["TURN_S", "Share"]

TURN_S: Final = 0.01
_MOST_ENDS: Final = 4096


class Share:
    """What one model has had of the executor while something waited, and how far each of its callers has got.

    Args:
        turn_rows: rows of a turn.

    Attributes:
        seconds: of execution that it has had, or would have, had it waited all along.
        turn: the turn that runs.
    """

    __slots__ = ("_ends", "seconds", "turn", "turn_rows")

    def __init__(self, turn_rows: int) -> None:
        self.turn_rows = turn_rows
        self.seconds = 0.0
        self.turn = 0
        self._ends: dict[int, int] = {}

    def enter(self, source: int, rows: int) -> int:
        """Let rows of a caller wait: the place of the first, behind those that it has waiting.

        A row's turn is its place divided by `turn_rows`, in whole numbers.
        """
        ends = self._ends
        now = self.turn * self.turn_rows
        place = ends.get(source, now)
        if place < now:  # noqa: PLR1730 - for every call; `max` takes several times as long
            place = now
        ends[source] = place + rows
        if len(ends) > _MOST_ENDS:  # callers come and go; one that has had its turn is like a new one
            self._ends = {known: end for known, end in ends.items() if end > now}
        return place

    def leave(self, source: int, rows: int) -> None:
        """Take back rows that did not run: the caller's next ones take their place."""
        if source in self._ends:
            self._ends[source] -= rows
