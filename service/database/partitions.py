"""Days as partitions: made before rows come, dropped when retention says so; and which times can be believed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

import asyncpg
import numpy as np
import stamina

from hoverboard.contract.signature import Array
from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements

__all__ = ["AHEAD_DAYS", "FIRST_DAY", "Dropped", "Partitions", "Times", "apply_retention", "hold", "judge"]

AHEAD_DAYS: Final = 3
FIRST_DAY: Final = date(2025, 1, 1)
"""Nothing was recorded before it: an earlier time comes from a clock that was never set."""
LEAD: Final = timedelta(days=1)
"""How far ahead of the recorder's clock a time is still believed."""

_RETRY_S: Final = 30.0
# What `make_partitions` takes at once: each partition is a lock, and a server has room for some thousands.
_MOST_DAYS: Final = 400
_DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1)
_SQL: Final = statements(__file__)


@dataclass(frozen=True, slots=True)
class Times:
    """What to think of the times of some rows. Arrays are `(n,)`.

    Attributes:
        implausible: bool; a clock was wrong: these rows go to the default partitions.
        expired: bool; believed, and past retention: these rows are not inserted any more.
        days: of the rows that are neither, UTC.
    """

    implausible: Array
    expired: Array
    days: frozenset[date]


def judge(at_ms: Array, *, now: datetime, retention_days: int) -> Times:
    """Sort times into what is believed and current, what is expired, and what no clock should have said.

    Args:
        at_ms: milliseconds since the epoch, int64 `(n,)`.
        now: the recorder's clock.
        retention_days: days that rows are kept.
    """
    first = (FIRST_DAY - _EPOCH).days * _DAY_MS
    implausible = (at_ms < first) | (at_ms > _ms(now + LEAD))
    expired = ~implausible & (at_ms < _ms(now - timedelta(days=retention_days)))
    days = np.unique(at_ms[~(implausible | expired)] // _DAY_MS)
    return Times(implausible, expired, frozenset(_EPOCH + timedelta(days=day) for day in days.tolist()))


@dataclass(slots=True)
class Partitions:
    """The days that have partitions, as far as one connection knows.

    Attributes:
        connection: as `recorder`, in no transaction when `ensure` is called.
        clock: seconds, monotonic.
    """

    connection: Connection
    clock: Callable[[], float] = time.monotonic
    _wanted: set[date] = field(default_factory=set)
    _known: set[date] = field(default_factory=set)
    _retry_at: float = 0.0

    async def ensure(self, days: Collection[date], *, today: date) -> frozenset[date]:
        """Make what is missing for these days, today and a few days ahead.

        A lock that others hold for long is not waited for: the default partitions take the rows of such a day until a
        later call, for whichever days and no sooner than half a minute on, makes its partitions and moves them.

        Returns:
            The days asked for so far that have no partitions now; nearly always none.

        Raises:
            asyncpg.PostgresError: anything but a lock.
        """
        # Remembered, since what could not be made now is tried again by a later call for other days.
        self._wanted |= {*days, *(today + timedelta(days=offset) for offset in range(AHEAD_DAYS + 1))}
        missing = self._wanted - self._known
        if missing and self.clock() >= self._retry_at:
            try:
                # In runs: a recorder that was away for a month makes thirty partitions by one statement.
                for first, last in _runs(missing):
                    await self.connection.fetchval(_SQL["make_partitions"], first, last)
                    self._known |= {day for day in missing if first <= day <= last}
            except asyncpg.LockNotAvailableError:
                # Waiting for the lock would make each reader after us wait, too, and the recorder's other journals.
                self._retry_at = self.clock() + _RETRY_S
        return frozenset(missing - self._known)


async def hold(connection: Connection) -> None:
    """Keep all partitions as they are until the end of the connection's transaction; call it first in there.

    Without it a row on its way into a default partition is refused (23514) where another recorder attaches the
    partition of that day in the same instant.
    """
    await connection.execute(_SQL["hold_partitions"])


@dataclass(frozen=True, slots=True)
class Dropped:
    """What retention dropped.

    Attributes:
        partition: its name.
        rows: deleted from it, where it is a default partition; None where the partition itself is gone.
    """

    partition: str
    rows: int | None


@stamina.retry(on=asyncpg.LockNotAvailableError, attempts=5, wait_initial=0.5, wait_max=5.0)
async def apply_retention(connection: Connection, *, now: datetime, retention_days: int) -> tuple[Dropped, ...]:
    """Drop every day that is past retention altogether, and rows of default partitions that are.

    Args:
        connection: as `recorder`, in no transaction.
        now: the recorder's clock.
        retention_days: days that rows are kept; a day goes as a whole, so up to a day longer.

    Raises:
        asyncpg.LockNotAvailableError: somebody held the tables for long, a few times running; nothing is dropped.
        asyncpg.PostgresError: anything else.
    """
    rows = await connection.fetch(_SQL["drop_partitions"], now.astimezone(UTC) - timedelta(days=retention_days))
    return tuple(Dropped(**row) for row in rows)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _runs(days: Collection[date]) -> Iterator[tuple[date, date]]:
    """Days as runs without a hole, (first, last) each, ascending; none longer than `make_partitions` takes."""
    ordered = sorted(days)
    start = 0
    for i, day in enumerate(ordered):
        last = i + 1 == len(ordered) or ordered[i + 1] - day > timedelta(days=1)
        if last or i + 1 - start == _MOST_DAYS:
            yield ordered[start], day
            start = i + 1
