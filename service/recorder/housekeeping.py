"""What the recorder does beside draining: retention, journal files, erasures' leftovers, and looking at labels."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import structlog

from hoverboard.config import Settings
from hoverboard.database.connect import Connection
from hoverboard.database.on_record import forget_conditions
from hoverboard.database.partitions import apply_retention
from hoverboard.database.statements import statements
from hoverboard.journal.finding import JournalInfo
from hoverboard.recorder import cursor as cursors
from hoverboard.recorder.erasure.erase import latest_erasure, tombstones_since
from hoverboard.recorder.erasure.put_aside import purge, sample_ids
from hoverboard.recorder.erasure.work_files import WorkFiles
from hoverboard.recorder.journal_deletion import JournalDeletion
from hoverboard.recorder.quarantine import Quarantine
from hoverboard.recorder.session import Session
from hoverboard.telemetry import families
from hoverboard.watch.issue_watcher import show_issue_counts
from hoverboard.watch.label_gauges import LabelGauges

__all__ = ["Housekeeping"]

_SQL: Final = statements(__file__)
_ERASURES_S: Final = 1.0
_TIDY_S: Final = 5.0
_WORK_S: Final = 60.0
"""Between two looks at the files of unfinished replays, which may take a second."""
_ORPHANS_S: Final = 60.0
_JUDGED_S: Final = 60.0
_ISSUES_S: Final = 10.0
_RETENTION_S: Final = 3600.0
# Dropping a partition needs a lock that a long query of somebody's holds up.
_RETENTION_AGAIN_S: Final = 60.0

_log = structlog.get_logger(__name__)


class Housekeeping:
    """Does each thing when it is due.

    Args:
        settings: the service's.
        quarantine: what was put aside.
    """

    def __init__(self, settings: Settings, quarantine: Quarantine) -> None:
        self._settings = settings
        self._quarantine = quarantine
        self._tidy = JournalDeletion(settings)
        self._labels = LabelGauges()
        self._due: dict[str, float] = {}
        self._purged = (0, 0)
        self._erased_at: float | None = None
        self._work_erased = 0

    async def run(self, session: Session, journals: Sequence[JournalInfo]) -> None:
        """Do what is due now. Raises what a lost connection raises."""
        connection = session.connection
        erased = self._is_due("erasures", _ERASURES_S) and await self._follow_erasures(connection)
        if self._is_due("tidy", _TIDY_S) or erased:
            # As committed, and not as this process remembers: a file may only go once Postgres has it for good.
            committed = await cursors.read(connection, [journal.uuid for journal in journals])
            await asyncio.to_thread(self._tidy.run, journals, committed, erased_at=self._erased_at)
        if self._is_due("retention", _RETENTION_S):
            await self._retain(session)
        if self._work_erased != self._purged[0] and self._is_due("work", _WORK_S):
            self._work_erased = self._purged[0]
            await self._clear_work(connection)
        if self._is_due("orphans", _ORPHANS_S):
            families.orphan_labels.labels().set(await connection.fetchval(_SQL["orphan_labels"]))
            families.impossible_labels.labels().set(await connection.fetchval(_SQL["impossible_labels"]))
        if self._is_due("judged", _JUDGED_S):
            await self._labels.refresh(connection)
        if self._is_due("issues", _ISSUES_S):
            await show_issue_counts(connection)

    def _is_due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if self._due.get(what, 0.0) > now:
            return False
        self._due[what] = now + every_s
        return True

    async def _follow_erasures(self, connection: Connection) -> bool:
        """Remove what was put aside of what has been erased since; returns whether anything was erased."""
        latest = await latest_erasure(connection)
        if latest is None:
            return False
        self._erased_at = latest[1].timestamp()
        seen = (latest[0], self._quarantine.written)
        if seen == self._purged:
            return False
        if await asyncio.to_thread(self._quarantine.files):
            # What has been put aside since may be of a subject that was erased long before.
            since = self._purged[0] if seen[1] == self._purged[1] else 0
            # Only tombstones of samples that are there are read: there may be millions of them.
            samples = await asyncio.to_thread(sample_ids, self._quarantine)
            tombstones = await tombstones_since(connection, since, samples)
            gone = await asyncio.to_thread(purge, self._quarantine, tombstones)
            _log.info("quarantine_purged", files=len(gone))
        self._purged = seen
        return True

    async def _clear_work(self, connection: Connection) -> None:
        """Remove unfinished replays of samples that are gone: nobody may ever go on with them."""
        for folder in (await WorkFiles.find(connection, self._settings.data_dir, remove=True)).removable:
            _log.info("replay_removed", folder=folder.name, reason="it held samples that were erased or have expired")

    async def _retain(self, session: Session) -> None:
        await session.prepare()
        now = datetime.now(UTC)
        oldest = now - timedelta(days=self._settings.retention_days)
        await session.watchers.expire(session.connection, oldest)
        for path in await asyncio.to_thread(self._quarantine.expire, oldest):
            _log.info("expired", file=path.name)
        try:
            dropped = await apply_retention(session.connection, now=now, retention_days=self._settings.retention_days)
        except asyncpg.LockNotAvailableError:
            self._due["retention"] = time.monotonic() + _RETENTION_AGAIN_S
            _log.warning("retention_put_off", reason="somebody holds the tables", again_in_s=_RETENTION_AGAIN_S)
            return
        for each in dropped:
            _log.info("expired", partition=each.partition, rows=each.rows)
        await self._clear_work(session.connection)
        async with session.connection.transaction():
            await forget_conditions(session.connection)
