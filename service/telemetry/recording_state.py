"""Whether recording works: the processes that know say so in files of the runtime directory, for whoever asks.

Files, since each process may be killed at any moment, and the one that answers `/readyz` imports nothing of the recorder's.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import psutil

__all__ = ["DATA", "POSTGRES", "RECORDER", "Part", "RecordingState", "expect", "read"]

DATA: Final = "data"
POSTGRES: Final = "postgres"
RECORDER: Final = "recorder"

_ORDER: Final = (DATA, POSTGRES, RECORDER)  # the first that does not work is why the next ones do not
_STARTING: Final = {
    POSTGRES: "Postgres is starting",
    RECORDER: "the recorder is starting",
}
_THEN: Final = "calls are answered, and their records wait in the journals; it is tried again by itself"

_WITHOUT_DATA: Final = "calls are answered, and it is not sure that their records are kept"

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
        said = {"state": self.state, "why": self.why, "then": self.then}
        return {name: text for name, text in said.items() if text is not None}


class Part:
    """What one process has to say of recording.

    Args:
        runtime_dir: the service's.
        name: `POSTGRES`, for instance.
    """

    def __init__(self, runtime_dir: Path, name: str) -> None:
        self._file = _file(runtime_dir, name)
        self._said: object = ()

    def say(self, why: str | None) -> bool:
        """Say why it does not work, or None: it does.

        Returns:
            Whether that is news.
        """
        if why == self._said:
            return False
        self._said = why
        _write(self._file, os.getpid(), why, working=why is None)
        return True


def expect(runtime_dir: Path, names: Iterable[str]) -> None:
    """Note which parts are about to start."""
    for name in names:
        _write(_file(runtime_dir, name), os.getpid(), None, working=False)


def read(runtime_dir: Path) -> RecordingState:
    """What is so now."""
    parts = {name: said for name in _ORDER if (said := _said(_file(runtime_dir, name))) is not None}
    for name, said in parts.items():
        if isinstance(said["why"], str):
            return RecordingState("failing", said["why"], _WITHOUT_DATA if name == DATA else _THEN)
        if not said["working"] or not psutil.pid_exists(said["pid"]):
            return RecordingState("starting", _STARTING.get(name))
    return RecordingState("working" if RECORDER in parts else "off")


def _file(runtime_dir: Path, name: str) -> Path:
    return runtime_dir / f"recording-{name}.json"


def _write(path: Path, pid: int, why: str | None, *, working: bool) -> None:
    fresh = path.with_suffix(f".{pid}")
    with contextlib.suppress(OSError):  # a full disk is no reason to stop recording
        fresh.write_text(json.dumps({"pid": pid, "why": why, "working": working}), encoding="utf-8")
        fresh.replace(path)


def _said(path: Path) -> dict[str, Any] | None:
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None
