"""What a watcher is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from hoverboard.database.connect import Connection
from hoverboard.database.known import KnownVersion
from hoverboard.journal.records import BatchRecord, Record

__all__ = ["News", "Ran", "Watcher"]

News: TypeAlias = "Callable[[], object]"
"""Tells the metrics and the log what was found; called once that is committed, since what was rolled back never was."""


@dataclass(frozen=True, slots=True)
class Ran:
    """The batches of one version in a chunk.

    Attributes:
        known: the version.
        batches: in order.
    """

    known: KnownVersion
    batches: Sequence[BatchRecord]


class Watcher(Protocol):
    """Counts what versions do. One connection has one of each."""

    @property
    def kinds(self) -> Collection[type[Record]]:
        """Types of records that it follows beside batches."""

    async def show(self, connection: Connection) -> None:
        """Tell the metrics what Postgres knows: after a start nothing has been counted yet."""

    async def follow(self, connection: Connection, ran: Sequence[Ran], others: Sequence[Record], /) -> Sequence[News]:
        """Count a chunk, in the connection's transaction.

        Rows that other recorders may write too are locked in the order of the versions' ids: then recorders that feed the same
        versions wait for each other, and never in a circle.

        Args:
            ran: of every version that ran, in the order of their ids.
            others: the records of its `kinds`, in order.
        """

    async def expire(self, connection: Connection, before: datetime) -> None:
        """Delete what retention says is too old."""
