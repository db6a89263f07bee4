"""What an engine runs at this moment, told to the supervisor through a few bytes of shared memory.

A graph that never returns cannot be stopped from inside its process: it may hold the event loop, and no thread of Python
can be ended from another. So the engine notes before each run what runs and until when, and the supervisor, which looks
a few times a second, ends the process where that time has passed. The same note tells it what ran when the engine
crashed.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

__all__ = ["EXECUTION", "LOOP", "Kind", "Run", "Slots", "clear_runs", "read_runs", "slots_path"]

Kind = Literal["batch", "load"]

LOOP: Final = 0
"""The slot of the event loop's thread."""
EXECUTION: Final = 1
"""The slot of the execution thread."""
_LOADERS: Final = range(2, 6)
_SLOTS: Final = 6

_UNTIL: Final = struct.Struct("<d")
_LABEL: Final = struct.Struct("<Bq64s")  # kind, version, model: names are ASCII and at most 64 characters
_RUN: Final = struct.Struct("<dBq64s")
_SIZE: Final = 128
_KINDS: Final[tuple[Kind, ...]] = ("batch", "load")


@dataclass(frozen=True, slots=True)
class Run:
    """One run that has begun.

    Attributes:
        slot: of its thread.
        kind: a batch of calls, or anything that belongs to a load.
        model, version: what runs.
        until: when it is taken to hang, seconds on the monotonic clock.
    """

    slot: int
    kind: Kind
    model: str
    version: int
    until: float


def slots_path(runtime_dir: Path, name: str) -> Path:
    """Where the engine `name` notes what it runs."""
    return runtime_dir / f"{name}.runs"


class Slots:
    """The engine's side: one slot a thread that may run a graph.

    Args:
        path: of the file; None where nobody watches, as in a process without a supervisor.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._memory: mmap.mmap | bytearray = bytearray(_SLOTS * _SIZE)
        if path is not None:
            with path.open("wb+") as file:
                file.write(self._memory)
                file.flush()
                self._memory = mmap.mmap(file.fileno(), _SLOTS * _SIZE)
        self._labels: dict[tuple[str, int], bytes] = {}
        self._free = list(_LOADERS)

    def begin(self, slot: int, key: tuple[str, int], seconds: float) -> None:
        """Note that a batch of a version begins. Takes about a microsecond, as it must: every batch pays for it.

        Args:
            slot: of this thread.
            key: model name and version number.
            seconds: after which it is taken to hang.
        """
        label = self._labels.get(key)
        if label is None:
            if len(self._labels) > 1000:  # versions come and go as long as the process lives
                self._labels.clear()
            label = self._labels[key] = _label("batch", key)
        place = slot * _SIZE
        self._memory[place + 8 : place + 8 + _LABEL.size] = label
        _UNTIL.pack_into(self._memory, place, time.monotonic() + seconds)  # last: it makes the slot count

    def end(self, slot: int) -> None:
        """Note that nothing runs in a slot."""
        _UNTIL.pack_into(self._memory, slot * _SIZE, 0.0)

    @contextmanager
    def trying(self, key: tuple[str, int], seconds: float, slot: int | None = None) -> Iterator[None]:
        """Note that a load of a version goes on, or a run that belongs to one.

        Args:
            key: model name and version number.
            seconds: after which it is taken to hang.
            slot: of this thread; None for a loader's.
        """
        taken = self._free.pop() if slot is None else slot
        place = taken * _SIZE
        self._memory[place + 8 : place + 8 + _LABEL.size] = _label("load", key)
        _UNTIL.pack_into(self._memory, place, time.monotonic() + seconds)
        try:
            yield
        finally:
            self.end(taken)
            if slot is None:
                self._free.append(taken)


def _label(kind: Kind, key: tuple[str, int]) -> bytes:
    return _LABEL.pack(_KINDS.index(kind), key[1], key[0].encode("ascii", "replace")[:64])


def read_runs(path: Path) -> list[Run]:
    """The supervisor's side: what runs now, or ran when the engine ended."""
    try:
        memory = path.read_bytes()
    except OSError:
        return []
    runs = []
    for slot in range(min(_SLOTS, len(memory) // _SIZE)):
        until, kind, version, model = _RUN.unpack_from(memory, slot * _SIZE)
        if until and kind < len(_KINDS):
            runs.append(Run(slot, _KINDS[kind], model.rstrip(b"\0").decode("ascii", "replace"), version, until))
    return runs


def clear_runs(path: Path) -> None:
    """Forget what an engine that has ended ran."""
    with suppress(OSError):
        path.unlink()
