"""The pulse of a process: its event loop writes the time into a few bytes of shared memory, again and again.

A process that was stopped, or whose loop is held, cannot say so itself; that the time stands still says it.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import struct
import time
from pathlib import Path
from typing import Final

import psutil

__all__ = ["Pulse", "is_stopped", "last_beat", "pulse_path", "silent_s"]

_EVERY_S: Final = 0.5
_BEAT: Final = struct.Struct("<d")


def pulse_path(runtime_dir: Path, name: str) -> Path:
    """Where the process `name` has its pulse."""
    return runtime_dir / f"{name}.pulse"


class Pulse:
    """The side of the process itself.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        with path.open("wb+") as file:
            # An empty file cannot be mapped.
            file.write(bytes(_BEAT.size))
            file.flush()
            self._memory = mmap.mmap(file.fileno(), _BEAT.size)

    async def beat(self) -> None:
        """Write the time for ever; once this is cancelled nobody waits for the next beat."""
        try:
            while True:
                # Into memory, not by a call of the system: a full or slow disk must not look like a loop that stands still.
                _BEAT.pack_into(self._memory, 0, time.monotonic())
                await asyncio.sleep(_EVERY_S)
        finally:
            # An end that is wanted is no silence.
            _BEAT.pack_into(self._memory, 0, 0.0)


def last_beat(path: Path) -> float:
    """When the loop last turned, seconds on the monotonic clock; 0 where it does not run yet, or does not any more."""
    try:
        (beat,) = _BEAT.unpack(path.read_bytes())
    except (OSError, struct.error):
        return 0.0
    return float(beat)


def silent_s(path: Path) -> float:
    """Seconds since the last beat; 0 where none is expected."""
    beat = last_beat(path)
    return time.monotonic() - beat if beat else 0.0


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, by SIGSTOP or a debugger."""
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP))
    return False
