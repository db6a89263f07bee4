"""The time that anything can be recorded of: whoever asks about all times must not have every year since the first one looked at."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.postmortem.window import RecordedWindow

__all__ = ["EPOCH", "LATEST", "clipped", "recorded_days"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""No sample is older: its time is counted from here."""
LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""Later times leave no room to count on from them."""
_SQL: Final = statements(__file__)


async def recorded_days(connection: Connection) -> tuple[datetime, datetime] | None:
    """Begin of the first day that there is a partition of, and end of the last one; None where there is none."""
    rows = [row for row in await connection.fetch(_SQL["recorded_days"]) if row["first"] is not None]
    if not rows:
        return None
    return max(min(row["first"] for row in rows), EPOCH), min(max(row["last"] for row in rows), LATEST)


def clipped(window: RecordedWindow, days: tuple[datetime, datetime] | None) -> RecordedWindow | None:
    """As much of a window as days can hold; None for nothing."""
    if days is None or not window.start < days[1] or not days[0] < window.end:
        return None
    return replace(window, start=max(window.start, days[0]), end=min(window.end, days[1]))
