"""One process's journal, as it writes it: one `writev` an append, and a count of what could not be written."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple
from uuid import UUID

import structlog

from hoverboard.config import Settings
from hoverboard.errors import ConfigError
from hoverboard.journal.finding import JOURNALS
from hoverboard.journal.format import (
    CLOSED_FILE,
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    MAX_PAYLOAD,
    RESERVE_FILE,
    SEAL,
    SegmentHeader,
    Totals,
    frame_seed,
    pack_head,
    pack_header,
    pack_totals,
    segment_name,
)
from hoverboard.journal.home import Home, is_the_file
from hoverboard.journal.records import GapEntry, GapRecord, VersionRecord, kind_of
from hoverboard.journal.reserve import GapKey, Reserve, merged, synchronise
from hoverboard.journal.shedding import Shedding
from hoverboard.telemetry.recording_state import Part

__all__ = ["JournalFull", "JournalWriter", "NotOnDisk", "open_writer"]

_GAP: Final = kind_of(GapRecord)
_VERSION: Final = kind_of(VersionRecord)
_log = structlog.get_logger(__name__)
_NOTHING: Final[Mapping[str, bytes]] = MappingProxyType({})
_REMOVED: Final = "removed by hand"
_MIB: Final = 1024 * 1024
_JUST_S: Final = 2.0
"""What is dropped so soon after a failure is dropped for its reason."""
_MOST_BUFFERS: Final = 64
"""Of one `writev`; the system takes 1024 or more."""


class JournalFull(Exception):
    """What was to be written is not in the journal: the disk is full or broken, or the journal is closed."""


class NotOnDisk(Exception):
    """What was to be written is in the journal, and the disk could not be waited for: do not answer, and do not count it.

    A reader may have it already, so that it cannot be taken back. It keeps its seq: whoever reads the journal finds it,
    or finds it missing and counts it.

    Args:
        reason: one sentence.
        frames: how many of the frames, from the first on, this is said of; the others are not in the journal.
    """

    def __init__(self, reason: str, frames: int) -> None:
        super().__init__(reason)
        self.frames = frames


class _Written(NamedTuple):
    """How many frames are in the journal, from the first on; whether they are on the disk, if asked for; what went wrong."""

    whole: int
    on_disk: bool
    problem: str


class _Frame(NamedTuple):
    kind: int
    payload: bytes
    records: int
    key: str | None = None


@dataclass(slots=True)
class _Segment:
    """The segment that is written to.

    Attributes:
        descriptor: open for appending.
        name: of the file.
        seed: what its frames' checksums begin with.
        size: of the file, in bytes.
        versions: keys of the version frames in it.
        first_at: seconds on the monotonic clock of its first frame.
    """

    descriptor: int
    name: str
    seed: int
    size: int
    versions: set[str] = field(default_factory=set)
    first_at: float | None = None


class JournalWriter:
    """A journal of this process's own. Every method may be called from any thread.

    A frame that a reader may have seen is never taken back: only a torn one is, so that a seq names one frame for good.
    """

    def __init__(
        self,
        root: Path,
        *,
        process: str,
        segment_bytes: int,
        budget_bytes: int,
        fsync: bool,
        roll_after_s: float,
        part: Part | None = None,
    ) -> None:
        self.uuid: UUID
        self.directory: Path
        self._descriptor: int
        self._reserve: Reserve
        self._root = root
        self._process = process
        self._segment_bytes = segment_bytes
        self._budget = budget_bytes
        self._fsync = fsync
        self._roll_after_s = roll_after_s
        self._lock = threading.Lock()
        self._closed = False
        self._segment: _Segment | None = None
        self._next = 0
        self._seq = 0
        self._rows = 0
        self._gap: dict[GapKey, GapEntry] = {}
        self._gap_payload = b""
        self._gap_unsure = False
        self._generation = 0
        self._written = 0
        self._usage = 0
        self._shedding = Shedding(part)
        self._problem = "", float("-inf")

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        process: str,
        segment_bytes: int,
        budget_bytes: int,
        fsync: bool,
        roll_after_s: float = 600.0,
        part: Part | None = None,
    ) -> JournalWriter:
        """Begin a journal.

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
        writer = cls(
            root,
            process=process,
            segment_bytes=segment_bytes,
            budget_bytes=budget_bytes,
            fsync=fsync,
            roll_after_s=roll_after_s,
            part=part,
        )
        writer._settle()
        writer.tick()
        return writer

    @property
    def over_budget(self) -> bool:
        """Whether all journals together, other processes' as of the last `tick`, take more than the budget."""
        return self._usage > self._budget

    @property
    def usage_bytes(self) -> int:
        """What all journals together take, other processes' as of the last `tick`."""
        return self._usage

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
            segment = self._open_segment(FRAME_HEAD_BYTES + len(payload))
            frames = [_Frame(kind, payload, count)]
            if not needs.keys() <= segment.versions:
                new = [_Frame(_VERSION, needs[key], 0, key) for key in needs if key not in segment.versions]
                frames = new + frames
            whole, on_disk, problem = self._write(segment, frames + self._gap_frames())
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
            segment = self._open_segment(sum(FRAME_HEAD_BYTES + len(payload) for payload in payloads))
            frames = [_Frame(kind, payload, 1) for payload in payloads]
            whole, on_disk, problem = self._write(segment, frames + self._gap_frames())
            if not whole:
                raise JournalFull(problem)
            if not on_disk:
                raise NotOnDisk(problem, min(whole, len(frames)))
            return min(whole, len(frames))

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
            gap, payload = merged(self._gap, entries, self._generation + 1)
            try:
                self._reserve.put(payload)
            except OSError as error:
                raise JournalFull(f"{self.directory}: not even a gap could be counted: {error}") from error
            self._gap, self._gap_payload = gap, payload
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
                first_at = None if self._segment is None else self._segment.first_at
                if first_at is not None and time.monotonic() - first_at >= self._roll_after_s:
                    self._roll()
            before = self._written
        usage = _disk_usage(self._root)
        with self._lock:
            # What was written meanwhile may be counted twice, until the next tick; never not at all.
            self._usage = usage + self._written - before
            self._shedding.look(full=self.over_budget or bool(self._gap))

    def close(self) -> None:
        """End the journal in order, as far as the disk lets it, and let go of its lock. Any number of times."""
        with self._lock:
            if self._closed:
                return
            with suppress(JournalFull):
                self._write_gap()
            with suppress(JournalFull):
                self._seal()
            self._closed = True
            with suppress(OSError):
                self._write_totals()
            self._reserve.close()
            os.close(self._descriptor)

    # -- with the lock held ------------------------------------------------------------------------------------------

    def _tell(self, dropped: int) -> None:
        """Say that records are dropped, where that is for want of room; whoever drops them for other reasons says so."""
        problem, failed_at = self._problem
        if self.over_budget:
            why = f"the journals take more than journal_budget_mb, {self._budget // 2**20} MiB"
            self._shedding.dropped(dropped, why, "see that Postgres takes records, or raise journal_budget_mb")
        elif time.monotonic() - failed_at < _JUST_S:
            why = f"the journal cannot be written ({problem})"
            self._shedding.dropped(dropped, why, f"make room on the disk of {self._root}")

    def _open_segment(self, size: int) -> _Segment:
        """The segment that takes another `size` bytes."""
        segment = self._segment
        if segment is None:
            return self._begin()
        if segment.size + size > self._segment_bytes and segment.size > HEADER_BYTES:
            return self._roll()
        return segment

    def _roll(self) -> _Segment:
        with suppress(JournalFull):  # a segment without its seal is as good, and its end is known from the next one
            self._seal()
        return self._begin()

    def _settle(self) -> None:
        """Begin a journal with a name of its own.

        Raises:
            OSError, JournalFull: there is no place for it; the one before stays, if there was one.
        """
        before = dict(vars(self))
        try:
            with Home.made(self._root, fsync=self._fsync) as home:
                self.uuid, self.directory, self._descriptor, self._reserve = home
                self._segment, self._next, self._seq, self._rows, self._generation = None, 0, 0, 0, 0
                self._begin()
        except BaseException:
            if self._segment is not None and self._segment is not before["_segment"]:
                self._leave(self._segment)
            vars(self).update(before)
            raise
        if before["_segment"] is not None:
            os.close(before["_segment"].descriptor)
        if "_descriptor" in before:
            before["_reserve"].close()
            os.close(before["_descriptor"])

    def _look_after(self) -> None:
        """See that what was written is still there: somebody may have removed it, and what is open does not mind.

        How much is lost a reader finds out: it knows how far it has read, and the next header says how much there was.
        """
        segment = self._segment
        if not is_the_file(self.directory, self._descriptor):
            what = str(self.directory)
            self._settle()
        elif segment is not None and not is_the_file(
            segment.name, segment.descriptor, size=segment.size, directory=self._descriptor
        ):
            what = str(self.directory / segment.name)
            self._leave(segment)
            self._begin()
        elif not self._reserve.is_there(self._descriptor):
            what = str(self.directory / RESERVE_FILE)
            self._reserve.close()
            self._reserve = Reserve.create(self._descriptor, fsync=self._fsync)
        else:
            return
        _log.error("journal_removed", what=what, then=f"recording goes on in {self.directory}; do not touch journals")
        now = int(time.time() * 1e6)
        entry = GapEntry(None, None, _REMOVED, 0, 0, 0, now, now)
        self._gap, self._gap_payload = merged(self._gap, [entry], self._generation + 1)
        self._reserve.put(self._gap_payload)

    def _begin(self) -> _Segment:
        if self._closed:
            raise JournalFull(f"{self.directory} is closed")
        while os.path.lexists(self.directory / segment_name(self._next)):
            self._next += 1  # somebody has put a file there
        name = segment_name(self._next)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        header = pack_header(
            SegmentHeader(self.uuid, self._next, self._seq, self._rows, self._generation, self._process)
        )
        descriptor = -1
        try:
            descriptor = os.open(name, flags, 0o600, dir_fd=self._descriptor)
            written = os.write(descriptor, header)
            if written != len(header):
                raise OSError(f"{written} of {len(header)} bytes written")
            if self._fsync:
                synchronise(descriptor)
                os.fsync(self._descriptor)
        except OSError as error:
            self._take_back(descriptor, name)
            self._problem = str(error), time.monotonic()
            raise JournalFull(f"{self.directory / name} could not be begun: {error}") from error
        segment = self._segment = _Segment(descriptor, name, frame_seed(self.uuid, self._next), len(header))
        self._next += 1
        self._count(len(header))
        return segment

    def _take_back(self, descriptor: int, name: str) -> None:
        """Remove a segment that has no frame yet; its number is used again unless that fails."""
        if descriptor < 0:
            return
        with suppress(OSError):
            os.close(descriptor)
        try:
            os.unlink(name, dir_fd=self._descriptor)
        except OSError:
            self._next += 1

    def _gap_frames(self) -> list[_Frame]:
        """The gap that waits. It stands behind other frames: in front it would fit a full disk where those do not."""
        return [_Frame(_GAP, self._gap_payload, 0)] if self._gap else []

    def _write_gap(self) -> None:
        if self._gap:
            segment = self._open_segment(FRAME_HEAD_BYTES + len(self._gap_payload))
            self._write(segment, self._gap_frames())

    def _write(self, segment: _Segment, frames: Sequence[_Frame]) -> _Written:
        """Write frames together, with one call of the system."""
        seq, rows = self._seq, self._rows
        buffers: list[bytes] = []
        size = 0
        for frame in frames:
            payload = frame.payload
            buffers += (
                pack_head(segment.seed, payload, seq=seq, rows=rows, count=frame.records, kind=frame.kind),
                payload,
            )
            seq += 1
            rows += frame.records
            size += FRAME_HEAD_BYTES + len(payload)
        if len(buffers) > _MOST_BUFFERS:
            buffers = [b"".join(buffers)]
        problem = ""
        try:
            written = os.writev(segment.descriptor, buffers)
            if written != size:
                problem = f"{self.directory / segment.name}: {written} of {size} bytes written"
        except OSError as error:
            written, problem = 0, f"{self.directory / segment.name}: {error}"
        if problem:
            self._problem = problem, time.monotonic()
        whole = self._account(segment, frames, written)
        unsynchronised = self._synchronise(segment) if whole and self._fsync else ""
        if any(frame.kind == _GAP for frame in frames[:whole]):
            self._gap_written(on_disk=not unsynchronised)
        taken_back = not problem or self._take_torn_back(segment)
        if unsynchronised or not taken_back:
            # A system that has failed to write a file's bytes says so once, and may have dropped them.
            self._leave(segment)
        return _Written(whole, not unsynchronised, problem or unsynchronised)

    def _synchronise(self, segment: _Segment) -> str:
        """Wait for the disk; answers what went wrong."""
        try:
            synchronise(segment.descriptor)
        except OSError as error:
            return f"{self.directory / segment.name} is not on the disk: {error}"
        return ""

    def _gap_written(self, *, on_disk: bool) -> None:
        """The gap that waited is a frame; one that may not last is written again, as it is."""
        self._gap_unsure = not on_disk
        if on_disk:
            self._generation += 1
            self._gap, self._gap_payload = {}, b""

    def _account(self, segment: _Segment, frames: Sequence[_Frame], written: int) -> int:
        """Account for the frames that so many bytes hold; returns how many they are."""
        for i, frame in enumerate(frames):
            size = FRAME_HEAD_BYTES + len(frame.payload)
            if size > written:
                return i
            written -= size
            segment.size += size
            if segment.first_at is None:
                segment.first_at = time.monotonic()
            self._seq += 1
            self._rows += frame.records
            self._count(size)
            if frame.key is not None:
                segment.versions.add(frame.key)
        return len(frames)

    def _take_torn_back(self, segment: _Segment) -> bool:
        """Cut off what is not a whole frame; answers whether that worked."""
        try:
            os.ftruncate(segment.descriptor, segment.size)
        except OSError:
            return False
        return True

    def _leave(self, segment: _Segment) -> None:
        """Write no more to a segment."""
        self._segment = None
        with suppress(OSError):
            os.close(segment.descriptor)

    def _seal(self) -> None:
        segment = self._segment
        if segment is None:
            return
        try:
            self._write(segment, [_Frame(SEAL, b"", 0)])
        finally:
            if self._segment is not None:
                self._leave(segment)

    def _write_totals(self) -> None:
        """Whole or not at all, and on the disk: it outlives what the power cut takes from the segments."""
        fresh = f".{CLOSED_FILE}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(fresh, flags, 0o600, dir_fd=self._descriptor)
        try:
            content = pack_totals(Totals(max(self._next - 1, 0), self._seq, self._rows))
            if os.write(descriptor, content) != len(content):
                raise OSError("short write")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(fresh, CLOSED_FILE, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        os.fsync(self._descriptor)

    def _count(self, size: int) -> None:
        self._written += size
        self._usage += size


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
        return JournalWriter.open(
            root,
            process=process,
            segment_bytes=settings.journal_segment_mb * _MIB,
            budget_bytes=settings.journal_budget_mb * _MIB,
            fsync=settings.journal_fsync,
            part=part,
        )
    except (OSError, JournalFull) as error:
        raise ConfigError(f"no journal can be opened in {root}: {error}") from error


def _disk_usage(root: Path) -> int:
    """Bytes in the files of all journals; what vanishes meanwhile counts nothing."""
    total = 0
    with suppress(OSError), os.scandir(root) as journals:
        for journal in journals:
            with suppress(OSError), os.scandir(journal) as files:
                for file in files:
                    with suppress(OSError):
                        total += file.stat(follow_symlinks=False).st_size
    return total
