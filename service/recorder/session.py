"""One connection's work: the next chunk of a journal, from the locked cursor to the commit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Final, Literal
from uuid import UUID

from hoverboard.config import Settings
from hoverboard.database.connect import Connection
from hoverboard.database.known import KnownVersions, NewVersion
from hoverboard.database.on_record import share_erasing
from hoverboard.database.partitions import Partitions, hold
from hoverboard.errors import HoverboardError
from hoverboard.journal.chunk import Chunk, Damage
from hoverboard.journal.finding import JournalInfo
from hoverboard.journal.reader import read as read_journal
from hoverboard.journal.records import Record
from hoverboard.recorder import cursor as cursors
from hoverboard.recorder.chunk_load import ChunkLoad, Stuck
from hoverboard.recorder.cursor import Cursor
from hoverboard.recorder.erasure.late_rows import apply_tombstones
from hoverboard.recorder.gaps import Gap, insert_gaps
from hoverboard.recorder.insert import Inserts
from hoverboard.recorder.quarantine import Quarantine
from hoverboard.recorder.sorting import Unreadable, sort_out
from hoverboard.recorder.stuck_journals import Doubt
from hoverboard.watch.watcher import News
from hoverboard.watch.watchers import Watchers

__all__ = ["CHUNK_BYTES", "Moved", "Session", "Stuck", "UnreadableJournal"]

CHUNK_BYTES: Final = 8 * 1024 * 1024
"""Of a journal, at most, that goes into one transaction; a larger frame goes alone."""
_LAST_WORDS_S: Final = 1.0
_REMOVED: Final = "its directory was removed by hand; {} frames were recorded before, what came later is lost"
_NO_DOUBT: Final = Doubt()


class UnreadableJournal(Exception):
    """A journal that cannot be read now, for a reason that has nothing to do with Postgres."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One committed step of a journal's cursor.

    Attributes:
        cursor: as it is now.
        state: of the journal: there is `more`, its writer is `waiting`, or it is `finished`.
        rows: inserted, by table.
        gaps: records that are missing, by reason.
        quarantined: records put aside.
        implausible: rows whose clock cannot be right.
        news: of the versions that are watched, to be told now.
        passed: the types of records that Postgres took.
        damages: of the journal, on the way.
    """

    cursor: Cursor
    state: Literal["more", "waiting", "finished"]
    rows: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
    implausible: int = 0
    news: Sequence[News] = ()
    passed: Collection[type[Record]] = ()
    damages: Sequence[Damage] = ()


class _Unprepared(Exception):
    """A chunk needs versions or partitions that are made in transactions of their own: then it is read again."""

    def __init__(self, versions: Sequence[NewVersion], days: Collection[date]) -> None:
        super().__init__()
        self.versions = versions
        self.days = days


class Session:
    """Everything that holds as long as one connection does.

    Args:
        connection: as `recorder`.
        settings: the service's.
        quarantine: for what is refused.
    """

    def __init__(self, connection: Connection, settings: Settings, quarantine: Quarantine) -> None:
        self.connection = connection
        self._settings = settings
        self._quarantine = quarantine
        self._versions = KnownVersions(settings.models)
        self._partitions = Partitions(connection)
        self.watchers = Watchers(settings)
        # Days that need no more thought, also those whose partitions could not be made: default partitions hold them.
        self._settled: set[date] = set()
        self._begun: set[UUID] = set()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Said by asyncpg as soon as the socket closes, also while a COPY waits for room in its buffers.
        connection.add_termination_listener(self._on_lost)

    async def advance(self, journal: JournalInfo, most_bytes: int = CHUNK_BYTES, doubt: Doubt = _NO_DOUBT) -> Moved:
        """Carry the next chunk of a journal into Postgres.

        Args:
            journal: as it was found.
            most_bytes: of the chunk; a larger frame goes alone.
            doubt: what is known of a journal that has not moved.

        Raises:
            UnreadableJournal, Stuck: nothing moved.
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: what had been sent may be committed or not; only
                the cursor knows, and it is what the next call reads.
        """
        # asyncpg waits for ever to go on with a COPY whose connection went away while its buffers were full.
        advancing = asyncio.create_task(self._advance(journal, most_bytes, doubt))
        try:
            either: set[asyncio.Future[Any]] = {advancing, self._lost}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            # A lost connection may still bring the server's reason, which says more than that it is lost.
            await asyncio.wait({advancing}, timeout=_LAST_WORDS_S)
            if advancing.done():
                return advancing.result()
        except Exception as error:
            # Whatever was raised then, the loss is what happened; only the cursor says whether the commit came through.
            if self.connection.is_closed() and not isinstance(error, UnreadableJournal):
                raise ConnectionResetError(f"the connection was lost: {error}") from error
            raise
        finally:
            advancing.cancel()
            await asyncio.gather(advancing, return_exceptions=True)
        raise ConnectionResetError("the connection was lost")

    def _on_lost(self, _: object) -> None:
        if not self._lost.done():
            self._lost.set_result(None)

    async def _advance(self, journal: JournalInfo, most_bytes: int, doubt: Doubt) -> Moved:
        while True:
            await self._begin(journal)
            try:
                async with self.connection.transaction():
                    return await self._step(journal, most_bytes, doubt)
            except _Unprepared as unprepared:
                # Outside the transaction: to make a partition takes a lock that others would wait for until the end of it.
                await self.prepare(unprepared.days)
                for version in unprepared.versions:
                    await self._versions.learn(self.connection, version)

    async def give_up(self, journal: UUID, process: str) -> bool:
        """Say that a journal is gone, in a gap and in its cursor; returns whether anything of it may be missing."""
        await cursors.ensure(self.connection, journal, process)
        async with self.connection.transaction():
            cursor = await cursors.lock(self.connection, journal)
            # Another recorder of the same data directory, or an earlier try, has said it already.
            if cursor is None or cursor.finished:
                return False
            at = cursor.position
            gap = Gap(reason="missing", segment=at.segment, position=at.offset, detail=_REMOVED.format(at.seq))
            await insert_gaps(self.connection, journal, cursor.process or process, [gap])
            await cursors.move(self.connection, replace(cursor, finished=True))
        return True

    async def prepare(self, days: Collection[date] = ()) -> None:
        """Make partitions: for these days, and ahead. What cannot be made now is held by the default partitions."""
        await self._partitions.ensure(days, today=datetime.now(UTC).date())
        self._settled |= set(days)

    async def _begin(self, journal: JournalInfo) -> None:
        if journal.uuid not in self._begun:
            # Committed before it is locked: of a row that only this transaction sees, others could not wait for the lock.
            await cursors.ensure(self.connection, journal.uuid, journal.process)
            self._begun.add(journal.uuid)

    async def _step(self, journal: JournalInfo, most_bytes: int, doubt: Doubt) -> Moved:
        connection = self.connection
        # Locks always in this order: erasures, partitions, the cursor, then what watchers keep. In another order two
        # transactions could wait for each other.
        await share_erasing(connection)
        await hold(connection)
        cursor = await cursors.lock(connection, journal.uuid)
        if cursor is None:  # somebody has deleted it
            # Then it begins anew, at the beginning: whoever deletes a cursor asks for that.
            self._begun.discard(journal.uuid)
            raise _Unprepared((), ())
        if cursor.finished:
            return Moved(cursor, "finished")
        # Read only now, from the locked row: what another recorder has committed meanwhile is not read again.
        chunk = await asyncio.to_thread(_read, journal, cursor, 1 if doubt.careful else most_bytes)
        now = datetime.now(UTC)
        # What breaks connections is not even decoded: it is put aside as it is.
        frames = () if doubt.condemned else chunk.frames
        contents = await asyncio.to_thread(sort_out, frames, now=now, retention_days=self._settings.retention_days)
        if doubt.condemned:
            contents.unreadable += [Unreadable(frame, "connections break over it") for frame in chunk.frames]
        # Before anything is sent, since it leads out of the transaction.
        versions, days = self._versions.missing(contents.versions), contents.days - self._settled
        if versions or days:
            raise _Unprepared(versions, days)
        # Nothing new: no row is written, and so nothing has to be synced to the server's disk.
        if chunk.end == cursor.position and chunk.state == "waiting":
            return Moved(cursor, chunk.state)
        inserts = Inserts(connection, journal.uuid, journal.process, self._versions.found)
        load = ChunkLoad(inserts, self._quarantine, doubt.proven)
        await load.run(contents.pieces)
        for unreadable in contents.unreadable:
            await load.put_aside(unreadable.frame, unreadable.problem)
        gaps = [*map(_gap, chunk.damages), *contents.expired, *load.gaps]
        await insert_gaps(connection, journal.uuid, journal.process, gaps)
        # After the rows are in, so that SQL decides for them as for all others; nobody has seen them yet.
        if contents.drained is not None:
            await apply_tombstones(connection, contents.drained)
        records = [piece.record for piece in contents.pieces]
        news = await self.watchers.follow(connection, contents.batches, records, self._versions.found)
        moved = replace(
            cursor,
            process=journal.process,
            position=chunk.end,
            gap_generation=chunk.gap_generation,
            executed=cursor.executed + contents.executed,
            recorded=cursor.recorded + load.rows["samples"],
            finished=chunk.state == "finished",
        )
        # In the same commit as the rows, which is what makes each record be there once.
        await cursors.move(connection, moved)
        counts = load.shed
        for gap in gaps:
            counts[gap.reason] += gap.records or 0
        quarantined = sum(gap.records or 0 for gap in load.gaps)
        return Moved(
            moved,
            chunk.state,
            load.rows,
            counts,
            quarantined,
            contents.implausible,
            news,
            load.passed,
            chunk.damages,
        )


def _read(journal: JournalInfo, cursor: Cursor, most_bytes: int) -> Chunk:
    try:
        return read_journal(
            journal.directory, cursor.position, max_bytes=most_bytes, gap_generation=cursor.gap_generation
        )
    except (OSError, HoverboardError) as error:
        # Under another name: elsewhere an OSError means that the connection is lost.
        raise UnreadableJournal(str(error)) from error


def _gap(damage: Damage) -> Gap:
    return Gap(
        reason=damage.reason,
        frames=damage.frames,
        records=damage.records,
        segment=damage.segment,
        position=damage.offset,
        detail=f"{damage.bytes} bytes, from frame {damage.seq} on",
    )
