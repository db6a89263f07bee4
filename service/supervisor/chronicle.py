"""Starts and ends of the service's processes, for the table `process_events`: in a journal of the supervisor's own."""

from __future__ import annotations

import time
from typing import Final, Literal

from hoverboard.config import Settings
from hoverboard.errors import ConfigError
from hoverboard.journal.records import KINDS, ProcessRecord, encode
from hoverboard.journal.writer import JournalFull, JournalWriter, NotOnDisk, open_writer
from hoverboard.telemetry import logs

__all__ = ["Chronicle"]

_SUPERVISOR: Final = "supervisor"

_log = logs.get(_SUPERVISOR)


class Chronicle:
    """Writes down what becomes of processes. Where it cannot, the log has it, and the service goes on.

    Args:
        settings: the service's; with `recording = "off"` nothing is written.
    """

    def __init__(self, settings: Settings) -> None:
        self._writer: JournalWriter | None = None
        self._data_dir = settings.data_dir
        if settings.recording == "off":
            return
        try:
            self._writer = open_writer(settings, _SUPERVISOR)
        except ConfigError as error:
            _log.error("processes_not_journaled", reason=str(error))
        self.note(_SUPERVISOR, "start")

    def note(self, process: str, kind: Literal["start", "stop", "death"], detail: str | None = None) -> None:
        """Write one event down; nothing after `close`."""
        # A data directory that is gone is not made anew by a journal: Postgres would begin an empty database there.
        if self._writer is None or not self._data_dir.is_dir():
            return
        record = ProcessRecord(time.time_ns() // 1000, process, kind, detail)
        try:
            # Here and not once a second: somebody may have removed the journal, and days pass between two events.
            self._writer.tick()
            self._writer.append(KINDS[ProcessRecord], encode(record), count=record.count)
        except (JournalFull, NotOnDisk) as error:
            _log.error("process_not_journaled", child=process, kind=kind, reason=str(error))

    def close(self) -> None:
        """Write down that the service stops. What ends later, the recorder and Postgres, stands for nothing else."""
        self.note(_SUPERVISOR, "stop")
        if self._writer is not None:
            self._writer.close()
            self._writer = None
