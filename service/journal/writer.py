"""One process's journal: what to write when, and a count of what could not be written."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final
from uuid import UUID

import structlog

from hoverboard.config import Settings
from hoverboard.errors import ConfigError
from hoverboard.files import is_the_file
from hoverboard.journal.appending import Appender, JournalFull, NewFrame, NotOnDisk, OpenSegment, WriteResult
from hoverboard.journal.directory import Home
from hoverboard.journal.finding import JOURNALS
from hoverboard.journal.format import FRAME_HEAD_BYTES, HEADER_BYTES, MAX_PAYLOAD, RESERVE_FILE
from hoverboard.journal.records import KINDS, GapEntry, GapRecord, VersionRecord
from hoverboard.journal.reserve import PendingGap, Reserve
from hoverboard.journal.shed_log import Shedding
from hoverboard.journal.usage import DiskUsage
from hoverboard.telemetry.recording_state import Part

__all__ = ["JournalFull", "JournalWriter", "NotOnDisk", "open_writer"]

_GAP: Final = KINDS[GapRecord]
_VERSION: Final = KINDS[VersionRecord]
_log = structlog.get_logger(__name__)
_NOTHING: Final[Mapping[str, bytes]] = MappingProxyType({})
_REMOVED: Final = "removed by hand"
_MIB: Final = 1024 * 1024
_SHORT: Final = 0.75
_JUST_S: Final = 2.0
"""What is dropped so soon after a failure is dropped for its reason."""


class JournalWriter:
    """A journal of this process's own. Every method may be called from any thread.

    Args:
        root: directory of all journals; made with mode 0700 where it is missing.
        process: that writes, such as `engine-0`; its first 32 bytes are kept.
        segment_bytes: size at which the next segment is begun.
        budget_bytes: what all journals together may take; see `over_budget`.
        fsync: whether `append` and `shed` wait for the disk.
        roll_after_s: age of its first frame at which `tick` begins the next segment.
        part: where it is said that records are dropped.


    Raises:
        OSError, JournalFull: there is no place for it; nothing is left behind.
    """

    def __init__(
        self,
        root: Path,
        *,
        process: str,
        segment_bytes: int,
        budget_bytes: int,
        fsync: bool,
        roll_after_s: float = 600.0,
        part: Part | None = None,
    ) -> None:
        self._root = root
        self._process = process
        self._segment_bytes = segment_bytes
        self._budget = budget_bytes
        self._fsync = fsync
        self._roll_after_s = roll_after_s
        self._lock = threading.Lock()
        self._closed = False
        self._gap = PendingGap()
        self._gap_unsure = False
        self._usage = DiskUsage(root)
        self._shedding = Shedding(part)
        self._journal = self._settled()
        self.tick()

    @property
    def uuid(self) -> UUID:
        """The journal's name; another one once somebody has removed its files."""
        return self._journal.home.uuid

    @property
    def directory(self) -> Path:
        """Of its files."""
        return self._journal.home.directory

    @property
    def over_budget(self) -> bool:
        """Whether all journals together, other processes' as of the last `tick`, take more than the budget."""
        return self._usage.bytes > self._budget

    @property
    def short_of_room(self) -> bool:
        """Whether what can be done without should be left out: most of the budget is taken."""
        return self._usage.bytes > _SHORT * self._budget

    @property
    def usage_bytes(self) -> int:
        """What all journals together take, other processes' as of the last `tick`."""
        return self._usage.bytes

    def append(self, kind: int, payload: bytes, *, count: int, needs: Mapping[str, bytes] = _NOTHING) -> None:
        """Write one frame.

        Args:
            kind: tag of its record.
            payload: the encoded record, at most 1 GiB.
            count: records in it.
            needs: payloads of the version frames that a reader of it needs, by any key that tells them apart; those
                that are not in this segment yet are written in front of it.

        Raises:
            JournalFull: it is not in the journal.
            NotOnDisk: it is, and perhaps not for long.
        """
        if len(payload) > MAX_PAYLOAD:
            raise JournalFull(f"a frame of {len(payload)} bytes; at most {MAX_PAYLOAD} are taken")
        with self._lock:
            segment = self._segment_for(FRAME_HEAD_BYTES + len(payload))
            frames = [NewFrame(kind, payload, count)]
            if not needs.keys() <= segment.versions:
                new = [NewFrame(_VERSION, needs[key], 0, key) for key in needs if key not in segment.versions]
                frames = new + frames
            whole, on_disk, problem = self._write(segment, frames)
            # Fewer than all means that the batch itself, which stands behind its versions, is not there.
            if whole < len(frames):
                raise JournalFull(problem)
            if not on_disk:
                raise NotOnDisk(problem, len(frames))

    def append_all(self, kind: int, payloads: Sequence[bytes]) -> int:
        """Write some frames of one record each, with one write and one wait for the disk.

        Returns:
            How many of them, from the first on, are in the journal: all, or fewer where the disk has become full.

        Raises:
            JournalFull: none of them is in the journal.
            NotOnDisk: some or all are, and perhaps not for long.
        """
        if not payloads:
            return 0
        with self._lock:
            segment = self._segment_for(sum(FRAME_HEAD_BYTES + len(payload) for payload in payloads))
            whole, on_disk, problem = self._write(segment, [NewFrame(kind, payload, 1) for payload in payloads])
            if not whole:
                raise JournalFull(problem)
            whole = min(whole, len(payloads))
            if not on_disk:
                raise NotOnDisk(problem, whole)
            return whole

    def shed(self, entries: Sequence[GapEntry]) -> None:
        """Count records that are not written. They are in the journal's reserve when this returns, and become a gap
        frame with the next append or tick.

        Raises:
            JournalFull: they could not be counted either.
        """
        with self._lock:
            if self._closed:
                raise JournalFull(f"{self.directory} is closed")
            if self._gap_unsure:
                # A reader may have it, and takes it once however often it is written: so nothing can be added to it.
                self._write_gap()
            if self._gap_unsure:
                raise JournalFull(f"{self.directory}: not even a gap could be counted: the last one is not on the disk")
            gap = self._gap.plus(entries, self._journal.gap_generation + 1)
            try:
                self._journal.home.reserve.put(gap.payload)
            except OSError as error:
                raise JournalFull(f"{self.directory}: not even a gap could be counted: {error}") from error
            self._gap = gap
            self._tell(sum(entry.records for entry in entries))

    def tick(self) -> None:
        """Write what waits, begin a new segment where this one is old, look at the disk. About once a second."""
        with self._lock:
            if self._closed:
                return
            with suppress(JournalFull, OSError):
                self._look_after()
            with suppress(JournalFull):
                self._write_gap()
                segment = self._journal.segment
                first_at = None if segment is None else segment.first_at
                if first_at is not None and time.monotonic() - first_at >= self._roll_after_s:
                    self._roll()  # a segment that is never full would never be drained to its end, and deleted
        seen = self._usage.look()  # without the lock: a slow disk must not hold up a batch
        with self._lock:
            self._usage.take(*seen)
            self._shedding.look(full=self.over_budget or bool(self._gap.entries))

    def close(self) -> None:
        """End the journal in order, as far as the disk lets it, and let go of its lock. Any number of times."""
        with self._lock:
            if self._closed:
                return
            with suppress(JournalFull):
                self._write_gap()
            # After the gap, and before the totals, which count the seal as well.
            self._journal.seal()
            self._closed = True
            with suppress(OSError):
                self._journal.write_totals()
            self._journal.close()

    # -- with the lock held ------------------------------------------------------------------------------------------

    def _tell(self, dropped: int) -> None:
        """Say that records are dropped, where that is for want of room; whoever drops them for other reasons says so."""
        problem, failed_at = self._journal.problem
        if self.over_budget:
            why = f"the journals take more than journal_budget_mb, {self._budget // _MIB} MiB"
            self._shedding.dropped(dropped, why, "see that Postgres takes records, or raise journal_budget_mb")
        elif time.monotonic() - failed_at < _JUST_S:
            why = f"the journal cannot be written ({problem})"
            self._shedding.dropped(dropped, why, f"make room on the disk of {self._root}")

    def _segment_for(self, size: int) -> OpenSegment:
        """The segment that takes another `size` bytes."""
        segment = self._journal.segment
        if segment is None:
            if self._closed:
                raise JournalFull(f"{self.directory} is closed")
            return self._journal.begin()
        if segment.size + size > self._segment_bytes and segment.size > HEADER_BYTES:
            return self._roll()
        return segment

    def _roll(self) -> OpenSegment:
        self._journal.seal()  # a segment without its seal is as good, and its end is known from the next one
        return self._journal.begin()

    def _write(self, segment: OpenSegment, frames: list[NewFrame]) -> WriteResult:
        """Write frames, and the gap that waits behind them: in front it would fit a full disk where those do not."""
        if not self._gap.entries:
            return self._journal.write(segment, frames)
        written = self._journal.write(segment, [*frames, NewFrame(_GAP, self._gap.payload, 0)])
        if written.whole > len(frames):
            # One that the disk may lose is kept, to be written again as it is: a reader counts a generation once.
            self._gap_unsure = not written.on_disk
            if written.on_disk:
                self._journal.gap_generation += 1
                self._gap = PendingGap()
        return written

    def _write_gap(self) -> None:
        if self._gap.entries:
            self._write(self._segment_for(FRAME_HEAD_BYTES + len(self._gap.payload)), [])

    def _settled(self) -> Appender:
        """A journal with a name of its own, begun.

        Raises:
            OSError, JournalFull: there is no place for it.
        """
        journal: Appender | None = None
        try:
            with Home.made(self._root, fsync=self._fsync) as home:
                journal = Appender(home, self._process, self._usage.add, fsync=self._fsync)
                journal.begin()
        except BaseException:
            if journal is not None:
                journal.leave()  # the rest of it is let go of with its home
            raise
        return journal

    def _look_after(self) -> None:
        """See that what was written is still there: somebody may have removed it, and what is open does not mind.

        How much is lost a reader finds out: it knows how far it has read, and the next header says how much there was.
        """
        journal = self._journal
        home, segment = journal.home, journal.segment
        if not is_the_file(home.directory, home.descriptor):
            what = home.directory
            self._journal = self._settled()
            # It is still why the disk was full a moment ago.
            self._journal.problem = journal.problem
            # Only now: where no other could be begun, this one stays in use.
            journal.close()
        elif segment is not None and not is_the_file(
            segment.name, segment.descriptor, size=segment.size, directory=home.descriptor
        ):
            what = home.directory / segment.name
            journal.leave()
            journal.begin()
        elif not home.reserve.is_there(home.descriptor):
            what = home.directory / RESERVE_FILE
            home.reserve.close()
            journal.home = home._replace(reserve=Reserve.create(home.descriptor, fsync=self._fsync))
        else:
            return
        then = f"recording goes on in {self.directory}; do not touch journals"
        _log.error("journal_removed", what=str(what), then=then)
        now = int(time.time() * 1e6)
        entry = GapEntry(None, None, _REMOVED, 0, 0, 0, now, now)
        # Counted even where the reserve cannot be written: the next append carries it.
        self._gap = self._gap.plus([entry], self._journal.gap_generation + 1)
        self._journal.home.reserve.put(self._gap.payload)


def open_writer(settings: Settings, process: str, part: Part | None = None) -> JournalWriter:
    """A journal of this process's own, as the settings say.

    Args:
        settings: the service's.
        process: the process's name.
        part: where it is said that records are dropped.

    Raises:
        ConfigError: the data directory takes none.
    """
    root = settings.data_dir / JOURNALS
    try:
        return JournalWriter(
            root,
            process=process,
            segment_bytes=settings.journal_segment_mb * _MIB,
            budget_bytes=settings.journal_budget_mb * _MIB,
            fsync=settings.journal_fsync,
            part=part,
        )
    except (OSError, JournalFull) as error:
        raise ConfigError(f"no journal can be opened in {root}: {error}") from error
