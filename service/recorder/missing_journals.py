"""Journals whose directories somebody has removed before all of them was in Postgres: noticed while running, and after a start.

`<data_dir>/undrained.json` remembers the journals that are not finished, since nothing else would after they are removed.
Other services may record to the same database: what is only in the table `recorder_cursor` may be theirs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from hoverboard.files import put_file
from hoverboard.journal.finding import JOURNALS, JournalInfo
from hoverboard.recorder.cursor import Cursor

__all__ = ["MissingJournals"]

_FILE: Final = "undrained.json"


class MissingJournals:
    """Remembers what is there, to tell what is not there any more.

    Args:
        data_dir: of the service.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._unfinished: dict[UUID, str] = {}
        # A lost or broken file costs no more than that journals removed before this start go unnoticed.
        with suppress(OSError, msgspec.DecodeError, ValueError):
            self._unfinished = msgspec.json.decode((data_dir / _FILE).read_bytes(), type=dict[UUID, str])

    def look(self, here: Sequence[JournalInfo], cursors: Mapping[UUID, Cursor]) -> list[UUID]:
        """The journals that were there, are not finished as far as is known, and are not there now.

        Args:
            here: what is there.
            cursors: as last seen.
        """
        finished = {uuid for uuid, cursor in cursors.items() if cursor.finished}
        there = {journal.uuid: journal.process for journal in here}
        missing = self._unfinished.keys() - there.keys() - finished
        # One that is there and could not be listed, by a passing error of the disk, is not gone.
        missing = {uuid for uuid in missing if not os.path.lexists(self._data_dir / JOURNALS / str(uuid))}
        kept = {uuid: self._unfinished[uuid] for uuid in missing}
        self._remember(kept | {uuid: process for uuid, process in there.items() if uuid not in finished})
        return sorted(missing)

    def process(self, journal: UUID) -> str:
        """The process that wrote a journal."""
        return self._unfinished.get(journal, "")

    def told(self, journal: UUID) -> None:
        """It is in Postgres that a journal is gone."""
        self._remember({uuid: process for uuid, process in self._unfinished.items() if uuid != journal})

    def _remember(self, unfinished: dict[UUID, str]) -> None:
        if unfinished == self._unfinished:
            return
        self._unfinished = unfinished
        with suppress(OSError):  # a full disk: it is only for what somebody may remove
            put_file(self._data_dir / _FILE, msgspec.json.encode(unfinished), durable=False)
