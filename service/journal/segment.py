"""One segment as it is read: frames that check, and the way from a damaged place to the next one that does."""

from __future__ import annotations

import errno
import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self
from uuid import UUID

from hoverboard.files import open_plain
from hoverboard.journal.format import (
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    MARKER,
    FrameHead,
    SegmentHeader,
    checksum,
    frame_seed,
    segment_name,
    unpack_head,
    unpack_header,
)

__all__ = ["Found", "SegmentFile", "out_of_place"]

_WINDOW: Final = 256 * 1024
_PAGE: Final = 4096


class Found(NamedTuple):
    """A frame whose head checks, at `offset` of its file; `end` is where the next one begins."""

    offset: int
    end: int
    head: FrameHead


class SegmentFile:
    """A segment, open for reading; a context manager. Holds one window of it in memory, and what it hands out.

    Args:
        directory: the journal's.
        journal: its UUID.
        number: the segment's.

    Raises:
        OSError: there is no such segment, it cannot be opened, or it is no plain file.
    """

    def __init__(self, directory: Path, journal: UUID, number: int) -> None:
        self.path = directory / segment_name(number)
        self._journal = journal
        self._number = number
        self._seed = frame_seed(journal, number)
        self._descriptor = open_plain(self.path)
        self.size = 0
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def refresh(self) -> None:
        """Forget what was read, and see what the file has become."""
        self.size = os.fstat(self._descriptor).st_size
        self._begin = 0
        self._window = b""

    def header(self) -> SegmentHeader | None:
        """How it begins; None where that does not check.

        Raises:
            NewerFormat: it is of a later format.
        """
        return unpack_header(self._read(0, HEADER_BYTES), str(self.path))

    def belongs(self, header: SegmentHeader) -> bool:
        """Whether a header says that this file is the segment that it is named for."""
        return (header.journal, header.number) == (self._journal, self._number)

    def frame(self, offset: int) -> tuple[Found, bytes] | None:
        """The frame at an offset, with its payload; None where none is whole there."""
        found = self._head(offset)
        payload = None if found is None else self._payload(found)
        return None if found is None or payload is None else (found, payload)

    def search(self, offset: int) -> tuple[Found | None, Found | None]:
        """Look for the next whole frame.

        Returns:
            The first one at or after `offset`, and of the frames before that whose head alone checks the one with the
            highest seq; None where there is none.
        """
        lost: Found | None = None
        for found in self._heads(offset):
            if self._payload(found) is not None:
                return found, lost
            if lost is None or found.head.seq > lost.head.seq:
                lost = found
        return None, lost

    def frames(self, offset: int) -> Iterator[Found]:
        """Every whole frame from an offset on, whatever stands between them."""
        found, _ = self.search(offset)
        while found is not None:
            yield found
            found, _ = self.search(found.end)

    def _head(self, offset: int) -> Found | None:
        begin = self._reach(offset)
        head = unpack_head(self._seed, self._window, begin)
        return None if head is None else Found(offset, offset + FRAME_HEAD_BYTES + head.size, head)

    def _payload(self, found: Found) -> bytes | None:
        if found.end > self.size:
            return None
        payload = self._read(found.offset + FRAME_HEAD_BYTES, found.head.size)
        return payload if len(payload) == found.head.size and checksum(payload) == found.head.payload_sum else None

    def _heads(self, offset: int) -> Iterator[Found]:
        """Every frame head that checks, wherever it begins, from an offset on."""
        while offset + FRAME_HEAD_BYTES <= self.size:
            place = self._reach(offset)
            begin, window = self._begin, self._window
            last = len(window) - FRAME_HEAD_BYTES
            if place > last:
                return  # the file has become shorter
            while 0 <= (place := window.find(MARKER, place)) <= last:
                head = unpack_head(self._seed, window, place)
                if head is not None:
                    at = begin + place
                    yield Found(at, at + FRAME_HEAD_BYTES + head.size, head)
                # A marker within a payload is followed by no head that checks; look on right behind its first byte.
                place += 1
            # Windows overlap by a frame head, so that one across their border is found.
            offset = begin + last + 1

    def _reach(self, offset: int) -> int:
        """Have a frame head's bytes at an offset in the window, as far as the file has them; where in it they are."""
        end = self._begin + len(self._window)
        if not (self._begin <= offset and offset + FRAME_HEAD_BYTES <= end):
            self._begin, self._window = offset, self._bytes(offset, _WINDOW)
        return offset - self._begin

    def _read(self, offset: int, size: int) -> bytes:
        """Bytes of the file, fewer where it ends."""
        begin = offset - self._begin
        if begin >= 0 and begin + size <= len(self._window):
            return self._window[begin : begin + size]
        # A large payload is read once and handed out; keeping it as the window would hold it in memory twice.
        if size > _WINDOW:
            return self._bytes(offset, size)
        self._begin, self._window = offset, self._bytes(offset, _WINDOW)
        return self._window[:size]

    def _bytes(self, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        # A broken disk: what cannot be read counts as zeros, which check nowhere.
        end = min(offset + size, self.size)
        return b"".join(self._page(begin, min(_PAGE - begin % _PAGE, end - begin)) for begin in _pages(offset, end))

    def _page(self, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._descriptor, size, offset).ljust(size, b"\0")
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return bytes(size)


def out_of_place(frames: Iterable[Found], expected: int) -> frozenset[int]:
    """Offsets of the frames to pass over, so that of the others each has a higher seq than the one before.

    As few as possible are passed over (the longest increasing subsequence is kept). So a copy that stands before its
    original does not make what is between them look like it was read before.

    Args:
        frames: of one segment, by offset.
        expected: lower seqs were read before, and are left out of the choice.
    """
    offsets, seqs = array("Q"), array("Q")
    for found in frames:
        if found.head.seq >= expected:
            offsets.append(found.offset)
            seqs.append(found.head.seq)
    return frozenset(offsets[i] for i in set(range(len(seqs))).difference(_increasing(seqs)))


def _increasing(values: array[int]) -> Iterator[int]:
    """Indices of a longest strictly increasing subsequence, from its end."""
    lowest: list[int] = []  # by length: the lowest value that a subsequence of that length ends with
    ends = array("q")  # and the index of that value
    before = array("q")
    for i, value in enumerate(values):
        length = bisect_left(lowest, value)
        before.append(ends[length - 1] if length else -1)
        if length == len(lowest):
            lowest.append(value)
            ends.append(i)
        else:
            lowest[length] = value
            ends[length] = i
    i = ends[-1] if ends else -1
    while i >= 0:
        yield i
        i = before[i]


def _pages(offset: int, end: int) -> Iterator[int]:
    """An offset, and then every beginning of a page up to an end."""
    while offset < end:
        yield offset
        offset += _PAGE - offset % _PAGE
