"""What labels say of each version, as metrics: asked beside the drain and not in it, and for two seconds at most."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from typing import Final

import asyncpg
import structlog

from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.telemetry import families

__all__ = ["LabelGauges"]

_SQL: Final = statements(__file__)
_WHOLE: Final = 256
_QUICK_S: Final = 0.5

_log = structlog.get_logger(__name__)


class LabelGauges:
    """Remembers what has been told of which versions, and how many labels can be looked at in time."""

    def __init__(self) -> None:
        self._told: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
        # Of 256 equal parts of the labels, by a byte of the samples' ids that no recording policy draws by.
        self._part = _WHOLE

    async def refresh(self, connection: Connection) -> None:
        """Tell the metrics what the labels of the last day say.

        Where they are too many for two seconds, the figures stay as they are, and the next time fewer are looked at.

        Args:
            connection: outside of a transaction.

        Raises:
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: the connection or the server fails.
        """
        began = time.monotonic()
        try:
            async with connection.transaction(readonly=True):
                await connection.execute(_SQL["limit_time"])
                rows = await connection.fetch(_SQL["judged_lately"], self._part)
        except asyncpg.QueryCanceledError:
            self._part = max(self._part // 4, 1)
            _log.info(
                "labels_not_judged", reason="they took longer than 2 s", then=f"1 in {_WHOLE // self._part} next time"
            )
            return
        for family, column, none in (
            (families.judged_rows, "rows", 0.0),
            (families.accuracy, "accuracy", math.nan),
            (families.absolute_error, "absolute_error", math.nan),
        ):
            found = {(row["name"], row["version"]): float(row[column]) for row in rows if row[column] is not None}
            # A figure of yesterday must not stand for today.
            gone = dict.fromkeys(self._told[column] - found.keys(), none)
            for version, value in (found | gone).items():
                family.labels(*version).set(value * _WHOLE / self._part if column == "rows" else value)
            self._told[column] |= found.keys()
        if time.monotonic() - began < _QUICK_S:
            self._part = min(self._part * 2, _WHOLE)
