"""Where this process's metrics are kept, and what all processes together say to Prometheus.

Each process writes its own memory-mapped files, named by its place in the service (`api-0`) and not by its pid, so
that a restarted process goes on counting where it stopped and the number of files stays bounded. Any api process can
answer for all. Before `init`, and in tests and offline commands, everything stays in the process.
"""

from __future__ import annotations

import atexit
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from hoverboard.telemetry import families
from hoverboard.telemetry.calls import calls
from hoverboard.telemetry.recording_state import silence
from hoverboard.telemetry.tally import Flusher

__all__ = ["CONTENT_TYPE", "close", "exposition", "forget", "init"]

log = structlog.get_logger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_FIRST_SIZE: Final = 1 << 16
_OVERHEAD: Final = 64
"""Most bytes that a value takes beside its key."""

_flushing: Final = threading.Lock()


def _flush() -> None:
    """Carry over to Prometheus what is counted in plain Python."""
    with _flushing:  # a scrape flushes, too, while the flusher's thread may be at it
        calls.flush()
        families.flush()


class _Place:
    """Where the metrics are kept: files of a directory, or this process."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self.registry = CollectorRegistry() if directory is None else None
        families.bind(self.registry)
        calls.reset()
        self.flusher = None if directory is None else Flusher(_flush)

    def close(self) -> None:
        """Flush a last time."""
        if self.flusher is not None:
            self.flusher.close()
            self.flusher = None


def init(name: str, directory: Path | None) -> None:
    """Start this process's metrics.

    Args:
        name: the process's place in the service, such as `api-0`; no underscore.
        directory: where the processes of one service share their files; None keeps everything in this process.
    """
    global _place  # noqa: PLW0603 - a process keeps its metrics in one place
    _place.close()
    if directory is None:
        values.ValueClass = values.MutexValue
    else:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.fspath(directory)
        # What a killed process of this name said of its present state would be taken for this one's.
        forget(name, directory)
        # prometheus-client has no hook for this; the name is looked up where files are opened.
        values.MmapedDict = _RoomyDict  # type: ignore[attr-defined]
        values.ValueClass = values.MultiProcessValue(process_identifier=lambda: name)
    try:
        _place = _Place(directory)
    except OSError as reason:  # a service without metrics is better than none
        log.critical("metrics_off", directory=directory, reason=reason.strerror, until="the process starts again")
        values.ValueClass = values.MutexValue
        _place = _Place(None)


def close() -> None:
    """Write out what is counted but not yet written; at the end of a process."""
    _place.close()


def forget(name: str, directory: Path) -> None:
    """Drop what a dead process last said of its present state (queues, calls in flight); its counts stay."""
    for file in directory.glob(f"gauge_live*_{name}.db"):
        file.unlink(missing_ok=True)


def exposition() -> bytes:
    """All processes' metrics in Prometheus' text format. Takes milliseconds: call it off the event loop."""
    _flush()
    if _place.registry is not None:
        return generate_latest(_place.registry)
    try:
        return _collect()
    except (struct.error, FileNotFoundError):  # a process made or dropped a file between our listing and our reading
        return _collect()


def _collect() -> bytes:
    registry = CollectorRegistry()
    directory = _place.directory or Path()
    collector = MultiProcessCollector(None, path=os.fspath(directory))
    # A recorder that hangs cannot take its last figures back.
    registry.register(collector if silence(directory.parent) is None else _WithoutRecorder(collector))
    return generate_latest(registry)


class _RoomyDict(MmapedDict):
    """A file of metrics whose blocks exist before they are written to: a write to a hole on a full disk is a SIGBUS."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # noqa: FBT002 - prometheus' signature
        if not read_mode:
            with open(filename, "ab") as file:  # noqa: PTH123 - as prometheus names it
                os.posix_fallocate(file.fileno(), 0, max(_FIRST_SIZE, os.fstat(file.fileno()).st_size))
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        held: dict[str, Any] = vars(self)
        needed, size = held["_used"] + len(key.encode()) + _OVERHEAD, held["_capacity"]
        while needed > size:
            size *= 2
        if size > held["_capacity"]:
            os.posix_fallocate(held["_f"].fileno(), 0, size)
        super()._init_value(key)  # type: ignore[no-untyped-call]


class _WithoutRecorder(Collector):
    """What is collected while the recorder lives and says nothing: how far behind it is, it last said long ago."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        for family in self._collector.collect():
            if family.name == "hoverboard_recorder_connected":
                family.samples = [sample._replace(value=0.0) for sample in family.samples]
            if not family.name.startswith("hoverboard_recorder_lag_"):
                yield family


_place = _Place(None)
atexit.register(close)
