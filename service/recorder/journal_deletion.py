"""Journal files go once Postgres has had all of them for a while."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from hoverboard.config import Settings
from hoverboard.journal.finding import JournalInfo
from hoverboard.journal.format import segment_name
from hoverboard.recorder.cursor import Cursor

__all__ = ["JournalDeletion"]

_MIB: Final = 1024 * 1024
_SPAN_S: Final = 660.0
"""No file holds more than ten minutes of records, up to its last change; and clocks differ."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Drained:
    """A file that Postgres has all of.

    Attributes:
        path: it.
        bytes: its size.
        changed: when it was written to last, seconds since the epoch.
    """

    path: Path
    bytes: int
    changed: float


class JournalDeletion:
    """Deletes drained files: after `journal_keep_s`; sooner, the oldest first, while all journals together take more than
    half of `journal_budget_mb`; at once where something was erased since.

    Args:
        settings: the service's.
    """

    def __init__(self, settings: Settings) -> None:
        self._keep_s = settings.journal_keep_s
        self._most_bytes = settings.journal_budget_mb * _MIB // 2
        self._since: dict[Path, float] = {}

    def run(
        self, journals: Sequence[JournalInfo], cursors: Mapping[UUID, Cursor], *, erased_at: float | None
    ) -> list[Path]:
        """Delete what is due.

        Args:
            journals: everything on disk.
            cursors: as committed in Postgres.
            erased_at: time of the last erasure, seconds since the epoch.

        Returns:
            What was deleted.
        """
        # The oldest first, since they are the least likely to be asked for.
        drained = sorted(_drained(journals, cursors), key=lambda each: each.changed)
        now = time.monotonic()
        # Kept by our own clock: a file's time says when it was written to, and not when Postgres had all of it.
        self._since = {each.path: self._since.get(each.path, now) for each in drained}
        # What is not drained yet counts for the budget, too, and never goes: there is no other copy of it.
        excess = sum(segment.bytes for journal in journals for segment in journal.segments) - self._most_bytes
        removed = []
        for each in drained:
            kept_s = now - self._since[each.path]
            # It may hold a copy of what was erased: then it goes as soon as Postgres has it.
            erased = erased_at is not None and each.changed - _SPAN_S <= erased_at
            if erased or kept_s >= self._keep_s or excess > 0:
                try:
                    each.path.unlink(missing_ok=True)
                except OSError as error:  # it costs disk, and must not keep what comes next from being recorded
                    _log.warning("journal_file_stays", file=str(each.path), reason=error.strerror)
                    continue
                excess -= each.bytes
                removed.append(each.path)
        removed += _remove_empty(journals, cursors)
        if removed:
            _log.info("journal_files_removed", files=len(removed))
        return removed


def _drained(journals: Sequence[JournalInfo], cursors: Mapping[UUID, Cursor]) -> Iterator[_Drained]:
    for journal in journals:
        cursor = cursors.get(journal.uuid)
        for segment in () if cursor is None else journal.segments:
            if cursor is not None and (cursor.finished or segment.number < cursor.position.segment):
                path = journal.directory / segment_name(segment.number)
                with contextlib.suppress(FileNotFoundError):
                    yield _Drained(path, segment.bytes, path.stat().st_mtime)


def _remove_empty(journals: Sequence[JournalInfo], cursors: Mapping[UUID, Cursor]) -> Iterator[Path]:
    """The directories of finished journals without files."""
    for journal in journals:
        cursor = cursors.get(journal.uuid)
        paths = (journal.directory / segment_name(segment.number) for segment in journal.segments)
        if cursor is not None and cursor.finished and not any(path.exists() for path in paths):
            # It is finished: nobody can add to it any more.
            shutil.rmtree(journal.directory, ignore_errors=True)
            yield journal.directory
