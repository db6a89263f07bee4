"""The journals of a data directory: which there are, of whom, and whether anybody still writes to them."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from hoverboard.files import open_plain
from hoverboard.journal.format import (
    CLOSED_FILE,
    TOTALS_BYTES,
    NewerFormat,
    Totals,
    segment_name,
    segment_number,
    unpack_totals,
)
from hoverboard.journal.segment import SegmentFile

__all__ = ["JOURNALS", "JournalInfo", "SegmentInfo", "is_alive", "journals", "segment_numbers", "totals"]

JOURNALS: Final = "journal"
"""Directory of all journals, below the data directory."""

_reported: Final[set[Path]] = set()
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A segment's number and its file's size in bytes."""

    number: int
    bytes: int


@dataclass(frozen=True, slots=True)
class JournalInfo:
    """One journal.

    Attributes:
        uuid: its name.
        directory: of its files.
        process: that wrote it, such as `engine-0`; empty where no segment says so.
        alive: whether its writer still runs; False makes it an orphan, or closed.
        closed: whether its writer has ended it in order.
        segments: that are there, in order.
    """

    uuid: UUID
    directory: Path
    process: str
    alive: bool
    closed: bool
    segments: tuple[SegmentInfo, ...]


def is_alive(directory: Path) -> bool:
    """Whether a journal's writer still runs. Raises OSError where there is no such journal."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Shared, so that two who ask at once do not take each other for the writer.
        # The lock goes with the process, however it ends; a pid in a file would outlive it, and name another process some day.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def journals(root: Path) -> list[JournalInfo]:
    """All journals below a directory, oldest first; none where there is no such directory."""
    found = []
    for name in _names(root):
        try:
            journal = UUID(name)
        except ValueError:
            continue
        if name == str(journal):
            try:
                found.append(_info(journal, root / name))
            # Removed since it was listed, or a file that somebody has put there.
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:  # one that nobody can read must not keep the others from being read
                _report_once(root / name, error)
    # A UUIDv7 begins with its time, so that this is the order in which they were begun.
    return sorted(found, key=lambda info: info.uuid)


def totals(directory: Path) -> Totals | None:
    """What a journal that was closed in order holds; None where it was not."""
    try:
        with os.fdopen(open_plain(directory / CLOSED_FILE), "rb") as file:
            return unpack_totals(file.read(TOTALS_BYTES))
    except FileNotFoundError:
        return None


def _report_once(directory: Path, error: OSError) -> None:
    if directory not in _reported:
        _reported.add(directory)
        _log.error("journal_unreadable", journal=str(directory), reason=error.strerror)


def _names(directory: Path) -> list[str]:
    try:
        return [entry.name for entry in directory.iterdir()]
    except FileNotFoundError:
        return []


def segment_numbers(directory: Path) -> list[int]:
    """Numbers of the segments that are there, in order."""
    numbers = (segment_number(name) for name in _names(directory))
    return sorted(number for number in numbers if number is not None)


def _info(journal: UUID, directory: Path) -> JournalInfo:
    alive = is_alive(directory)
    segments = []
    for number in segment_numbers(directory):
        with suppress(FileNotFoundError):
            segments.append(SegmentInfo(number, (directory / segment_name(number)).stat().st_size))
    # Looked at after the lock: a writer that ends in between has written it by then.
    closed = (directory / CLOSED_FILE).exists()
    return JournalInfo(journal, directory, _process(directory, journal, segments), alive, closed, tuple(segments))


def _process(directory: Path, journal: UUID, segments: list[SegmentInfo]) -> str:
    for segment in segments:
        with suppress(FileNotFoundError, NewerFormat), SegmentFile(directory, journal, segment.number) as file:
            header = file.header()
            if header is not None:
                return header.process
    return ""
