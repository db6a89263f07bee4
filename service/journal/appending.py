"""The files of one journal while they are written: one `writev` an append, and never half a frame left in between."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from hoverboard.journal.directory import Home
from hoverboard.journal.format import (
    CLOSED_FILE,
    FRAME_HEAD_BYTES,
    SEAL,
    SegmentHeader,
    Totals,
    frame_seed,
    pack_head,
    pack_header,
    pack_totals,
    segment_name,
)
from hoverboard.journal.reserve import synchronise

__all__ = ["Appender", "JournalFull", "NewFrame", "NotOnDisk", "OpenSegment", "WriteResult"]

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


class NewFrame(NamedTuple):
    """A frame to be written; `key` tells version frames apart."""

    kind: int
    payload: bytes
    records: int
    key: str | None = None


class WriteResult(NamedTuple):
    """How many frames are in the journal, from the first on; whether they are on the disk, if asked for; what went wrong."""

    whole: int
    on_disk: bool
    problem: str


@dataclass(slots=True)
class OpenSegment:
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


class Appender:
    """Appends to one journal, segment by segment. Not thread-safe: its writer's lock is held.

    A frame that a reader may have seen is never taken back: only a torn one is, so that a seq names one frame for good.

    Args:
        home: the journal's directory; closed with this.
        process: that writes, for the segments' headers.
        count: told of the bytes that each write adds to the disk.
        fsync: whether to wait for the disk.

    Attributes:
        segment: that is written to; None before the first one, and once one could not be trusted any more.
        gap_generation: of the last gap frame.
        problem: the last failure, in words, and when it was on the monotonic clock.
    """

    def __init__(self, home: Home, process: str, count: Callable[[int], None], *, fsync: bool) -> None:
        self.home = home
        self.segment: OpenSegment | None = None
        self.gap_generation = 0
        self.problem = "", float("-inf")
        self._process = process
        self._count = count
        self._fsync = fsync
        self._next = 0
        self._seq = 0
        self._rows = 0

    def begin(self) -> OpenSegment:
        """Begin the next segment.

        Raises:
            JournalFull: there is no place for it; nothing is left of it.
        """
        directory = self.home.descriptor
        while _is_there(segment_name(self._next), directory):
            self._next += 1  # somebody has put a file there, or one that failed to begin could not be removed
        name = segment_name(self._next)
        header = pack_header(
            SegmentHeader(self.home.uuid, self._next, self._seq, self._rows, self.gap_generation, self._process)
        )
        descriptor = -1
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(name, flags, 0o600, dir_fd=directory)
            written = os.write(descriptor, header)
            if written != len(header):
                raise OSError(f"{written} of {len(header)} bytes written")
            if self._fsync:
                # Its name, too: a power cut may else take the whole file, and with it frames that were waited for.
                synchronise(descriptor)
                os.fsync(directory)
        except OSError as error:
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)
                with suppress(OSError):
                    os.unlink(name, dir_fd=directory)
            self.problem = str(error), time.monotonic()
            raise JournalFull(f"{self.home.directory / name} could not be begun: {error}") from error
        segment = self.segment = OpenSegment(descriptor, name, frame_seed(self.home.uuid, self._next), len(header))
        self._next += 1
        self._count(len(header))
        return segment

    def write(self, segment: OpenSegment, frames: Sequence[NewFrame]) -> WriteResult:
        """Write frames together, with one call of the system: a kill -9 leaves all of them or a torn end, no mixture."""
        seq, rows = self._seq, self._rows
        buffers: list[bytes] = []
        size = 0
        for kind, payload, records, _ in frames:
            buffers += (pack_head(segment.seed, payload, seq=seq, rows=rows, count=records, kind=kind), payload)
            seq += 1
            rows += records
            size += FRAME_HEAD_BYTES + len(payload)
        # One buffer more is quicker than a second call, between which a kill would leave some of the frames.
        if len(buffers) > _MOST_BUFFERS:
            buffers = [b"".join(buffers)]
        problem = ""
        try:
            written = os.writev(segment.descriptor, buffers)
            if written != size:
                problem = f"{self.home.directory / segment.name}: {written} of {size} bytes written"
        except OSError as error:
            written, problem = 0, f"{self.home.directory / segment.name}: {error}"
        if problem:
            self.problem = problem, time.monotonic()
        # A full disk takes part of a write: the frames that are whole count, whatever becomes of the rest.
        whole = self._account(segment, frames, written)
        unsynchronised = self._synchronise(segment) if whole and self._fsync else ""
        # Whoever asked is answered only once nothing torn is left, or the segment is: a later frame behind half a one
        # would make a reader search for it.
        taken_back = not problem or _taken_back(segment)
        if unsynchronised or not taken_back:
            # A system that has failed to write a file's bytes says so once, and may have dropped them.
            self.leave()
        return WriteResult(whole, not unsynchronised, problem or unsynchronised)

    def _account(self, segment: OpenSegment, frames: Sequence[NewFrame], written: int) -> int:
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

    def _synchronise(self, segment: OpenSegment) -> str:
        """Wait for the disk; answers what went wrong."""
        try:
            synchronise(segment.descriptor)
        except OSError as error:
            return f"{self.home.directory / segment.name} is not on the disk: {error}"
        return ""

    def leave(self) -> None:
        """Write no more to the present segment; the next one says in its header what this one holds."""
        # Before the file is closed: another thread's number must never be written to.
        segment, self.segment = self.segment, None
        if segment is not None:
            with suppress(OSError):
                os.close(segment.descriptor)

    def seal(self) -> None:
        """End the present segment in order."""
        if self.segment is not None:
            # Where even this fails nothing is lost: the next header, or the totals, say how much there was.
            self.write(self.segment, [NewFrame(SEAL, b"", 0)])
            self.leave()

    def write_totals(self) -> None:
        """Say that the journal has ended in order, and with how much in it.

        Whole or not at all, and on the disk: it outlives what the power cut takes from the segments.

        Raises:
            OSError: it could not be written.
        """
        fresh, directory = f".{CLOSED_FILE}", self.home.descriptor
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory)
        try:
            content = pack_totals(Totals(max(self._next - 1, 0), self._seq, self._rows))
            if os.write(descriptor, content) != len(content):
                raise OSError("short write")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # By descriptor, not by path: the journal may have been moved, or another one stand in its place.
        os.rename(fresh, CLOSED_FILE, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)

    def close(self) -> None:
        """Let go of the files, and last of the lock: only then may a reader take what is there for all there is."""
        self.leave()
        self.home.reserve.close()
        os.close(self.home.descriptor)


def _is_there(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def _taken_back(segment: OpenSegment) -> bool:
    """Cut off what is not a whole frame; answers whether that worked."""
    try:
        os.ftruncate(segment.descriptor, segment.size)
    except OSError:
        return False
    return True
