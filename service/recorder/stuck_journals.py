"""Which journals do not move, and what other journals prove meanwhile: so that one record never stops the others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from hoverboard.journal.records import Record

__all__ = ["Doubt", "StuckJournals"]

# A restart of the server breaks a connection or two; a record that crashes it breaks every one.
_CAREFUL: Final = 3
# By then its frames were sent alone for a while, so that it can only be the next one.
_CONDEMNED: Final = 6
# So many went through alone: what broke connections is behind, and a commit a frame is slow.
_WELL_AGAIN: Final = 10_000


@dataclass(slots=True)
class Doubt:
    """What is known of a journal that does not move.

    Attributes:
        proven: types of records that Postgres has taken from other journals since.
        losses: connections that were lost over it, since it has moved.
        frames: that went through one at a time.
    """

    proven: set[type[Record]] = field(default_factory=set)
    losses: int = 0
    frames: int = 0

    @property
    def careful(self) -> bool:
        """Whether its frames are sent one at a time, to find the one that connections break over."""
        return self.losses >= _CAREFUL

    @property
    def condemned(self) -> bool:
        """Whether its next frame is put aside unsent: connections break over it, and others' records arrive."""
        return self.losses >= _CONDEMNED and bool(self.proven)


class StuckJournals:
    """The journals that do not move."""

    def __init__(self) -> None:
        self._of: dict[UUID, Doubt] = {}

    def of(self, journal: UUID) -> Doubt:
        """What is known of a journal; nothing, of one that moves."""
        return self._of.get(journal) or Doubt()

    def stuck(self, journal: UUID) -> None:
        """Records failed, and none of their kind passed: from now on what others prove is remembered for it."""
        self._of.setdefault(journal, Doubt())

    def lost(self, journal: UUID) -> bool:
        """A connection was lost over a journal; returns whether others should have their turn first."""
        doubt = self._of.setdefault(journal, Doubt())
        doubt.losses += 1
        return doubt.careful

    def moved(self, journal: UUID, passed: Collection[type[Record]]) -> None:
        """A journal's step was committed; Postgres took records of these types."""
        # That Postgres takes such records from others shows that it is well, and the journal that does not move is not.
        for uuid, doubt in self._of.items():
            if uuid != journal:
                doubt.proven |= set(passed)
        doubt = self.of(journal)
        doubt.frames += 1
        if doubt.careful and doubt.frames < _WELL_AGAIN:
            doubt.losses = _CAREFUL  # the offender may be further on
        else:
            self._of.pop(journal, None)

    def keep_only(self, journals: Collection[UUID]) -> None:
        """Forget the journals that are gone."""
        self._of = {uuid: doubt for uuid, doubt in self._of.items() if uuid in journals}
