"""On several workers (pytest-xdist), a test that is marked `alone` runs while none of the others does: it measures time.

The workers share two file locks. Each test holds the room, together with the other tests or, marked, for itself. Who
waits for the room holds the door meanwhile: without it a marked test would wait for as long as the others take turns.
In one process there is nothing to wait for, and the plugin does nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from pathlib import Path

import pytest

_ROOM = Path(__file__)
_DOOR = _ROOM.parent


class _Turns:
    """Gives each test of this worker its turn."""

    def __init__(self) -> None:
        # A lock goes with the open file, so any file that all workers see will do, and it ends with its worker.
        self._room = os.open(_ROOM, os.O_RDONLY)
        self._door = os.open(_DOOR, os.O_RDONLY)

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # outside pytest-timeout's: waiting is not the test's own time
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        alone = item.get_closest_marker("alone") is not None
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            return (yield)
        finally:
            # Closing would not do: a process that a test forked may still hold the same open file.
            fcntl.flock(self._room, fcntl.LOCK_UN)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # set by pytest-xdist in its workers
        config.pluginmanager.register(_Turns(), "turns")
