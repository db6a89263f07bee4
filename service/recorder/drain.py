"""Journals into Postgres, for ever: one chunk of each in turn, and again from wherever the cursors are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import stamina
import structlog

from hoverboard.config import Settings
from hoverboard.database.connect import Connection
from hoverboard.database.failures import doubtful, refused, sentence, sqlstate, transient
from hoverboard.journal.chunk import Damage
from hoverboard.journal.finding import JOURNALS, JournalInfo, journals
from hoverboard.journal.format import segment_name
from hoverboard.recorder.cursor import Cursor
from hoverboard.recorder.housekeeping import Housekeeping
from hoverboard.recorder.lag import Behind, Lag
from hoverboard.recorder.missing_journals import MissingJournals
from hoverboard.recorder.quarantine import Quarantine
from hoverboard.recorder.session import CHUNK_BYTES, Moved, Session, Stuck, UnreadableJournal
from hoverboard.recorder.stalls import cause
from hoverboard.recorder.stuck_journals import StuckJournals
from hoverboard.telemetry import families

__all__ = ["Drain", "OpenDatabase"]

OpenDatabase = Callable[[], Awaitable[Connection]]
"""A new connection to a database that is ready to be written to; raises what `failures.transient` knows."""

# A fifth of a second of lag is nothing to whoever reads tables, and five looks at a directory a second cost nothing.
_IDLE_S: Final = 0.2
_LAG_S: Final = 1.0
# Long enough that a journal nobody can read does not fill the log, short enough for whoever has just repaired it.
_SHELVED_S: Final = 30.0
_STALLED_S: Final = 10.0
"""A step that takes longer, while records wait, is worth telling."""
_STALLED: Final = "stalled"
_ASK_AGAIN_S: Final = 10.0
_PART_OF_BUDGET: Final = 4
"""Once what waits takes a quarter of the journals' disk budget, it waits no longer."""
_LONGEST: Final = 10
"""Times `recorder_yield_s` after which all that waits is drained, whatever else goes on."""
_POLITE_BYTES: Final = 2 * 1024 * 1024
"""Drained at once while callers wait: it takes the machine for a moment only."""
# A service that is told to stop while Postgres is away must not wait for it: what is left waits in the journals.
_LAST_PATIENCE_S: Final = 5.0
# With jitter, so that the recorders of several machines do not all come back in the same instant after an outage.
_BACKOFF: Final[Mapping[str, Any]] = {"wait_initial": 0.1, "wait_max": 5.0, "wait_jitter": 1.0}

_log = structlog.get_logger(__name__)


class Drain:
    """Drains the journals of one data directory.

    Args:
        settings: the service's.
        database: opens a connection.
        busy: whether the machine has no time for this now; then records wait, for at most `recorder_yield_s`.
        tell: told why it does not drain, in a sentence, and None whenever it does.
        beat: called about once a second, whatever goes on.
    """

    def __init__(
        self,
        settings: Settings,
        database: OpenDatabase,
        busy: Callable[[], bool] = lambda: False,
        tell: Callable[[str | None], object] = lambda _: None,
        beat: Callable[[], object] = lambda: None,
    ) -> None:
        self._settings = settings
        self._busy = busy
        self._tell = tell
        self._beat = beat
        self._root = settings.data_dir / JOURNALS
        self._database = database
        self._quarantine = Quarantine(settings.data_dir)
        self._housekeeping = Housekeeping(settings, self._quarantine)
        self._session: Session | None = None
        self._cursors: dict[UUID, Cursor] = {}
        self._shelved: dict[UUID, float] = {}
        self._doubts = StuckJournals()
        self._gone = MissingJournals(settings.data_dir)
        self._trouble: str | None = None
        self._step_at: float | None = None
        """When the step that is under way began; None between passes."""
        self._cause, self._ask_at = "it cannot be connected to", 0.0
        self._passed_at = self._caught_up_at = float("-inf")

    async def run(self, stop: asyncio.Event) -> None:
        """Drain until `stop` is set, then what is there by then, for at most `drain_timeout_s`."""
        # Apart from the work, since it has to go on while the work waits for Postgres.
        measuring = asyncio.create_task(self._measure())
        working = asyncio.create_task(self._work())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            # Whatever is under way is cut off: only the cursor says what came of it, and it is read again.
            await _cancelled(working)
            self.close()
            await self._finish()
        finally:
            for task in (measuring, working, stopped):
                await _cancelled(task)
            self.close()

    async def empty(self, patience_s: float | None = None) -> None:
        """Drain what is there now.

        Args:
            patience_s: how long to try again where Postgres cannot take it; None is for ever.

        Raises:
            Exception: what Postgres said last.
        """
        while await self._pass_again(patience_s):
            pass

    async def _work(self) -> None:
        lag = Lag()
        while True:
            if not (room := await self._room(lag)):
                await asyncio.sleep(_IDLE_S)
                continue
            more = await self._pass_again(None, room)
            self._passed_at = time.monotonic()
            if not more:
                self._caught_up_at = self._passed_at
                await asyncio.sleep(_IDLE_S)

    async def _room(self, lag: Lag) -> int:
        """Bytes of each journal that may be drained at once: what callers need the machine for goes first, for a while."""
        if not self._busy():
            return CHUNK_BYTES
        try:
            behind = await self._behind(lag)
        except OSError:
            return CHUNK_BYTES
        patience_s, now = self._settings.recorder_yield_s, time.monotonic()
        most_bytes = self._settings.journal_budget_mb * 1024 * 1024 // _PART_OF_BUDGET
        overdue = behind.seconds >= 2 * patience_s or now - self._caught_up_at >= _LONGEST * patience_s
        # Politeness ends where records could be lost to the disk budget, or tables would be hours old.
        if behind.bytes >= most_bytes or overdue:
            return CHUNK_BYTES
        # Nor does a pass wait longer where nothing does: it connects, and keeps house. Records' own clocks may be wrong.
        return 0 if max(behind.seconds, now - self._passed_at) < patience_s else _POLITE_BYTES

    async def _finish(self) -> None:
        try:
            # The supervisor kills whoever takes longer: then nothing could say what is left.
            async with asyncio.timeout(self._settings.drain_timeout_s):
                await self.empty(_LAST_PATIENCE_S)
        except Exception as error:
            if not transient(error):
                raise
            reason = "out of time" if isinstance(error, TimeoutError) else sentence(error)
            _log.warning("left_undrained", reason=reason, then="the next start goes on where this one stopped")

    async def _pass_again(self, patience_s: float | None, most_bytes: int = CHUNK_BYTES) -> bool:
        """One pass, tried again until it succeeds; returns whether there is more to do at once."""
        busy = False
        async for attempt in stamina.retry_context(
            on=self._is_transient, attempts=None, timeout=patience_s, **_BACKOFF
        ):
            with attempt:
                try:
                    busy = await self._pass(most_bytes)
                finally:
                    self._step_at = None
        # Also where there was nothing to do: connecting and looking have shown that Postgres is there.
        self._tell(None)
        if self._trouble is not None:
            self._trouble = None
            families.recorder_connected.labels().set(1)
            _log.info("draining_again")
        return busy

    def _is_transient(self, error: Exception) -> bool:
        self.close()
        if not transient(error):
            return False
        families.recorder_errors.labels(sqlstate(error) or "connection").inc()
        reason = sentence(error)
        # One line for an outage, however often it is tried: the log would be full of it by the morning.
        if reason != self._trouble:
            _log.warning("cannot_drain", reason=reason, then="records wait in the journals; trying again")
            self._trouble = reason
            self._tell(reason)
        return True

    def close(self) -> None:
        """Let go of the connection, whatever it is doing; the next pass makes another one."""
        families.recorder_connected.labels().set(0)
        if self._session is not None:
            # Not closed: that waits for what the server is doing, and the server may be what does not answer.
            self._session.connection.terminate()
            self._session = None

    async def _pass(self, most_bytes: int) -> bool:
        """One chunk of each journal that has something, the oldest journal first; returns whether one has more."""
        busy = False
        self._step_at = time.monotonic()
        session = await self._connected()
        here = await asyncio.to_thread(journals, self._root)
        # A chunk of each in turn: a journal that is far behind must not keep the others waiting.
        for journal in here:
            if self._may_have_more(journal):
                moved = await self._advance(session, journal, most_bytes)
                self._step_at = time.monotonic()
                busy |= moved is not None and moved.state == "more"
        try:
            await self._housekeeping.run(session, here)
        except Exception as error:
            if transient(error) and not (refused(error) or doubtful(error)):
                raise
            # A defect of ours must not keep what comes next from being drained.
            families.recorder_errors.labels("housekeeping").inc()
            _log.exception("not_tidied")
        # After the journals: what is gone by now may have been finished in this very pass.
        for uuid in await asyncio.to_thread(self._gone.look, here, dict(self._cursors)):
            if await session.give_up(uuid, self._gone.process(uuid)):
                _log.error("journal_removed", journal=str(uuid), then="what was not recorded of it is counted as a gap")
                families.gap_records.labels("missing").inc(0)
            # Only after the commit: a crash before it tells once more, and finds the cursor finished.
            self._gone.told(uuid)
        there = {journal.uuid for journal in here}
        self._doubts.keep_only(there)
        # Nothing is kept of a journal that is gone, so that a long life does not fill memory.
        for gone in self._cursors.keys() - there:
            del self._cursors[gone]
        return busy

    async def _connected(self) -> Session:
        if self._session is None or self._session.connection.is_closed():
            session = Session(await self._database(), self._settings, self._quarantine)
            self._session = session
            # Partitions for the days ahead, before the first rows of a new day come.
            await session.prepare()
            await session.watchers.show(session.connection)
            families.recorder_connected.labels().set(1)
        return self._session

    def _may_have_more(self, journal: JournalInfo) -> bool:
        """Whether looking at the cursor is worth a transaction."""
        if self._shelved.get(journal.uuid, 0.0) > time.monotonic():
            return False
        cursor = self._cursors.get(journal.uuid)
        if cursor is None:
            return True
        if cursor.finished:
            return False
        at = cursor.position
        # A dead writer's journal is looked at once more, to note that it is finished.
        return not journal.alive or any(
            segment.number > at.segment or (segment.number == at.segment and segment.bytes > at.offset)
            for segment in journal.segments
        )

    async def _advance(self, session: Session, journal: JournalInfo, most_bytes: int) -> Moved | None:
        try:
            moved = await session.advance(journal, most_bytes, self._doubts.of(journal.uuid))
        # It says nothing of Postgres: the other journals go on.
        except UnreadableJournal as error:
            self._shelve(journal, str(error))
            return None
        except Stuck as stuck:
            self._doubts.stuck(journal.uuid)
            self._shelve(journal, sentence(stuck.error))
            return None
        except Exception as error:
            if transient(error) and not (refused(error) or doubtful(error)):
                # Only a connection that breaks over the same journal again and again makes that journal suspect.
                if session.connection.is_closed() and self._doubts.lost(journal.uuid):
                    self._shelve(journal, sentence(error))
                raise
            # A defect of ours must not keep the other journals from being drained.
            _log.exception("journal_not_drained", journal=str(journal.uuid))
            self._shelve(journal, type(error).__name__)
            return None
        before = self._cursors.get(journal.uuid)
        # Only what moves is believed: a step that finds nothing proves nothing of a record that breaks connections.
        if before is None or before.position != moved.cursor.position:
            self._doubts.moved(journal.uuid, moved.passed)
        self._cursors[journal.uuid] = moved.cursor
        _count(moved)
        _tell_damages(journal, moved.damages)
        return moved

    def _shelve(self, journal: JournalInfo, reason: str) -> None:
        self._shelved[journal.uuid] = time.monotonic() + _SHELVED_S
        families.recorder_errors.labels("journal").inc()
        _log.error("journal_put_off", journal=str(journal.uuid), reason=reason, again_in_s=_SHELVED_S)

    async def _measure(self) -> None:
        """Say how far behind Postgres is, also while it is away."""
        lag = Lag()
        while True:
            self._beat()
            with suppress(OSError):
                behind = await self._behind(lag)
                families.recorder_lag_rows.labels().set(behind.rows)
                families.recorder_lag_bytes.labels().set(behind.bytes)
                families.recorder_lag_seconds.labels().set(behind.seconds)
                await self._look(behind)
            await asyncio.sleep(_LAG_S)

    async def _look(self, behind: Behind) -> None:
        """Say when one step takes so long that it may never end."""
        seconds = 0.0 if self._step_at is None else time.monotonic() - self._step_at
        if seconds < _STALLED_S or not behind.bytes or self._trouble not in {None, _STALLED}:
            return
        families.recorder_connected.labels().set(0)
        # By a second connection, since the first one is waiting; and seldom: a server in trouble needs no more of them.
        if self._session is not None and time.monotonic() >= self._ask_at:
            self._cause = await cause(self._database, self._session.connection.get_server_pid())
            self._ask_at = time.monotonic() + _ASK_AGAIN_S
            if self._trouble not in {None, _STALLED}:  # it failed meanwhile
                return
            if self._step_at is None:  # it went on meanwhile
                families.recorder_connected.labels().set(1)
                return
        reason = f"nothing has reached Postgres for {seconds:.0f} s while records wait: {self._cause}"
        if self._trouble is None:
            _log.warning("cannot_drain", reason=reason, then="records wait in the journals; it goes on by itself")
            self._trouble = _STALLED
        self._tell(reason)

    async def _behind(self, lag: Lag) -> Behind:
        # In threads: a slow disk must not hold the event loop, whose pulse the supervisor watches.
        here = await asyncio.to_thread(journals, self._root)
        return await asyncio.to_thread(lag.measure, here, dict(self._cursors), now=datetime.now(UTC))


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    # Not awaited itself: it may end in the error of a connection that was cut off under it.
    await asyncio.wait({task})


def _count(moved: Moved) -> None:
    if moved.rows:
        families.recorded_chunks.labels().inc()
    for table, rows in moved.rows.items():
        families.recorded_rows.labels(table).inc(rows)
    for reason, records in moved.gaps.items():
        families.gap_records.labels(reason).inc(records)
    families.quarantined.labels().inc(moved.quarantined)
    families.implausible.labels().inc(moved.implausible)
    for tell in moved.news:
        tell()


def _tell_damages(journal: JournalInfo, damages: Sequence[Damage]) -> None:
    """One line for each chunk: where the first damage is, and how many there are."""
    if not damages:
        return
    first = damages[0]
    _log.warning(
        "journal_damaged",
        file=str(journal.directory / segment_name(first.segment)),
        offset=first.offset,
        bytes=first.bytes,
        reason=first.reason,
        records=first.records,
        more=len(damages) - 1,
        then="what was lost is counted in the table gaps, with its place; what follows is read",
    )
