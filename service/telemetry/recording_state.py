"""Whether recording works: the processes that know say so in files of the runtime directory, for whoever asks.

Files, since each process may be killed at any moment, and the one that answers `/readyz` imports nothing of the recorder's.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import psutil

from hoverboard.telemetry.pulse import is_stopped

__all__ = ["DATA", "POSTGRES", "RECORDER", "Part", "RecordingState", "expect", "journal", "read", "silence"]

DATA: Final = "data"
POSTGRES: Final = "postgres"
RECORDER: Final = "recorder"

_ORDER: Final = (DATA, POSTGRES, RECORDER)  # the first that does not work is why the next ones do not
_STARTING: Final = {
    POSTGRES: "Postgres is starting",
    RECORDER: "the recorder is starting",
}
_THEN: Final = "calls are answered, and their records wait in the journals; it is tried again by itself"

_KEEPER_STOPPED: Final = "process {}, which keeps the embedded Postgres running, is stopped; it is ended and started again, and Postgres with it"
_WITHOUT_DATA: Final = "calls are answered, and it is not sure that their records are kept"

_JOURNAL: Final = "journal-"
_DROPPED: Final = "calls are answered, and records are dropped ({} so far, counted in the table gaps), since {}; {}"
_SILENT_S: Final = 8.0
"""A recorder says something every second; after so many without a word nothing that it said is believed."""
_ROOM: Final = 4096
"""Bytes of each file, there from the first word on: what is said on a full disk needs no more."""
_LONGEST: Final = 1000

_State = Literal["off", "starting", "working", "failing"]


@dataclass(frozen=True, slots=True)
class RecordingState:
    """Whether what is answered reaches Postgres.

    Attributes:
        state: `off` where the settings say so, `starting`, `working` or `failing`.
        why: a sentence, unless it works or is off.
        then: what follows where it fails.
    """

    state: _State
    why: str | None = None
    then: str | None = None

    def as_json(self) -> dict[str, str]:
        """For `/readyz?verbose` and the line that says where a service listens."""
        members = {"state": self.state, "why": self.why, "then": self.then}
        return {name: text for name, text in members.items() if text is not None}


class Part:
    """What one process has to say of recording.

    Args:
        runtime_dir: the service's.
        name: `POSTGRES`, for instance.
    """

    def __init__(self, runtime_dir: Path, name: str) -> None:
        self._file = _file(runtime_dir, name)
        self._last: tuple[str | None, str, int] | None = None

    def say(self, why: str | None, *, then: str = "", dropped: int = 0) -> bool:
        """Say why it does not work, or None: it does.

        Args:
            why: a sentence, or None.
            then: what somebody can do, where records are dropped.
            dropped: how many were.

        Returns:
            Whether that is news.
        """
        now = why, then, dropped
        if now == self._last:
            return False
        self._last = now
        self.beat()
        return True

    def beat(self) -> None:
        """Say the same once more, so that others know that somebody is there; nothing before the first `say`."""
        if self._last is not None:
            why, then, dropped = self._last
            _write(self._file, why, working=why is None, beat=time.monotonic(), then=then, dropped=dropped)


def journal(runtime_dir: Path, process: str) -> Part:
    """Where a process that journals says that it drops records."""
    return Part(runtime_dir, f"{_JOURNAL}{process}")


def expect(runtime_dir: Path, names: Iterable[str]) -> None:
    """Note which parts are about to start."""
    for name in names:
        _write(_file(runtime_dir, name), None, working=False)


def read(runtime_dir: Path) -> RecordingState:
    """What is so now."""
    state, dropping = _parts(runtime_dir), _dropping(runtime_dir)
    if dropping is None:
        return state
    why, then = dropping
    return RecordingState("failing", f"records are dropped, since {why}" if state.why is None else state.why, then)


def _dropping(runtime_dir: Path) -> tuple[str, str] | None:
    """Why records are dropped, and a sentence for `RecordingState.then`; None where all are kept."""
    files = sorted(runtime_dir.glob(f"recording-{_JOURNAL}*.json"))
    reports = [report for file in files if (report := _read(file)) is not None and isinstance(report["why"], str)]
    if not reports:
        return None
    worst = max(reports, key=lambda report: int(report["dropped"]))
    return worst["why"], _DROPPED.format(sum(report["dropped"] for report in reports), worst["why"], worst["then"])


def _parts(runtime_dir: Path) -> RecordingState:
    """What Postgres, the recorder and whoever watches the data directory say."""
    parts = {name: report for name in _ORDER if (report := _read(_file(runtime_dir, name))) is not None}
    for name, report in parts.items():
        why = _silence(report) if name == RECORDER else None
        why = report["why"] if why is None else why
        if isinstance(why, str):
            if POSTGRES in parts and name != DATA and is_stopped(parts[POSTGRES]["pid"]):
                why = _KEEPER_STOPPED.format(parts[POSTGRES]["pid"])
            return RecordingState("failing", why, _WITHOUT_DATA if name == DATA else _THEN)
        if not report["working"] or not psutil.pid_exists(report["pid"]):
            return RecordingState("starting", _STARTING.get(name))
    return RecordingState("working" if RECORDER in parts else "off")


def silence(runtime_dir: Path) -> str | None:
    """Why nothing is known of what the recorder does, in a sentence: it lives, and says nothing. None where it speaks."""
    report = _read(_file(runtime_dir, RECORDER))
    return None if report is None else _silence(report)


def _silence(report: Mapping[str, Any]) -> str | None:
    beat = report.get("beat")
    seconds = 0.0 if beat is None else time.monotonic() - beat  # the same clock in all processes
    if seconds < _SILENT_S:
        return None
    pid = report["pid"]
    if not psutil.pid_exists(pid):
        return None  # it is dead, and another one starts
    stopped = is_stopped(pid)
    state = (
        f"is stopped; kill -CONT {pid} lets it go on" if stopped else f"hangs; after kill -9 {pid} another one starts"
    )
    return f"nothing has reached Postgres for {seconds:.0f} s: the recorder, process {pid}, {state}"


def _file(runtime_dir: Path, name: str) -> Path:
    return runtime_dir / f"recording-{name}.json"


def _write(
    path: Path, why: str | None, *, working: bool, beat: float | None = None, then: str = "", dropped: int = 0
) -> None:
    """Write in place, with one call: the blocks stay where a disk becomes full, and no reader sees half of it."""
    why = why if why is None else why[:_LONGEST]
    report = {"pid": os.getpid(), "why": why, "working": working, "beat": beat, "then": then, "dropped": dropped}
    text = json.dumps(report).ljust(_ROOM)
    with contextlib.suppress(OSError):  # a full disk is no reason to stop recording
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, text.encode(), 0)
        finally:
            os.close(descriptor)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        report = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None
