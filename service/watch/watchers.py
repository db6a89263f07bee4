"""All watchers, run as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog

from hoverboard.config import Settings
from hoverboard.database.connect import Connection
from hoverboard.database.failures import doubtful, refused, transient
from hoverboard.database.known import KnownVersion, VersionKey, version_key
from hoverboard.journal.records import BatchRecord, Record
from hoverboard.telemetry import families
from hoverboard.watch.alarm_watcher import Alarms
from hoverboard.watch.drift_watcher import Drift
from hoverboard.watch.issue_watcher import Issues
from hoverboard.watch.watcher import News, Ran, Watcher

__all__ = ["ALL", "Watchers"]

ALL: Final[Sequence[Callable[[Settings], Watcher]]] = (Alarms, Drift, Issues)
"""In the order in which they lock their tables."""

_log = structlog.get_logger(__name__)


class Watchers:
    """What watches one connection's journals.

    Args:
        settings: the service's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._watchers = [watcher(settings) for watcher in ALL]
        self._kinds = {kind for watcher in self._watchers for kind in watcher.kinds}

    async def show(self, connection: Connection) -> None:
        """Tell the metrics what Postgres knows."""
        for watcher in self._watchers:
            await watcher.show(connection)

    async def expire(self, connection: Connection, before: datetime) -> None:
        """Delete what is older."""
        for watcher in self._watchers:
            await watcher.expire(connection, before)

    async def follow(
        self,
        connection: Connection,
        batches: Sequence[BatchRecord],
        records: Iterable[Record],
        versions: Mapping[VersionKey, KnownVersion],
    ) -> Sequence[News]:
        """Count a chunk, in the connection's transaction; a failure of ours leaves nothing behind and stops nobody.

        Args:
            batches: of the chunk, in order.
            records: all of the chunk's.
            versions: those that could be found.

        Raises:
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: the connection or the server fails.
        """
        # Most chunks have nothing to watch; they cost no savepoint.
        others = [record for record in records if type(record) in self._kinds]
        if not (batches or others):
            return ()
        news: list[News] = []
        try:
            # A savepoint: should a watcher fail, its half-done counts go, and the chunk's rows stay.
            async with connection.transaction():
                ran = _by_version(batches, versions)
                for watcher in self._watchers:
                    its_own = [record for record in others if type(record) in watcher.kinds]
                    news += await watcher.follow(connection, ran, its_own)
        except Exception as error:
            # Ours would be data that Postgres or asyncpg refuses, theirs a table that is broken; recording goes on without.
            if transient(error) and not (refused(error) or doubtful(error)):
                raise
            # What they remember may speak of rows that were rolled back.
            self._watchers = [watcher(self._settings) for watcher in ALL]
            families.recorder_errors.labels("monitoring").inc()
            _log.exception("not_monitored", batches=len(batches))
            return ()
        return news


def _by_version(batches: Iterable[BatchRecord], versions: Mapping[VersionKey, KnownVersion]) -> list[Ran]:
    """Batches by their version, in the order of the versions' ids; those whose version could not be found are left out."""
    by_key: dict[VersionKey, list[BatchRecord]] = {}
    for batch in batches:
        by_key.setdefault(version_key(batch), []).append(batch)
    ran = [Ran(versions[key], each) for key, each in by_key.items() if key in versions]
    return sorted(ran, key=lambda each: each.known.id)
