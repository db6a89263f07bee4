"""What every child process of the supervisor does the same way: its start, its event loop, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from hoverboard.telemetry.pulse import Pulse, pulse_path

if TYPE_CHECKING:
    from hoverboard.config import Settings

__all__ = [
    "IMPORT_PATH",
    "ORPHANED",
    "READY_FD",
    "STOP_SIGNALS",
    "ChildProcess",
    "begin",
    "calm_gc",
    "run",
    "say_ready",
    "stop_event",
    "stop_signals",
    "switch_threads_often",
    "watch_parent",
]

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that ask a process to drain and leave; a second one asks it to hurry. A terminal that is closed sends SIGHUP."""

ORPHANED: Final = 70
"""Exit status of a child whose supervisor died."""

IMPORT_PATH: Final = Path(__file__).parents[1]
"""What a child process must have on its path to import the same code."""

READY_FD: Final = "READY_FD"
"""The variable with the number of the pipe in which a child says that it is at work."""

_GC_THRESHOLDS: Final = (10_000, 20, 20)
_SWITCH_INTERVAL_S: Final = 0.0005


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """This process, as the supervisor has started it.

    Attributes:
        name: its place in the service, such as `api-0`.
        index: the number in its name.
        settings: the service's.
        runtime_dir: the service's, with sockets, pulses and metrics.
    """

    name: str
    index: int
    settings: Settings
    runtime_dir: Path

    def run(self, main: Coroutine[Any, Any, int]) -> int:
        """Run what the process is there for on its event loop, whose pulse the supervisor watches; its exit status."""
        return run(main, pulse_path(self.runtime_dir, self.name))

    def leave(self, status: int) -> NoReturn:
        """End the process, with all that it has counted written out."""
        from hoverboard.telemetry import metrics

        metrics.close()
        sys.exit(status)


def begin(kind: str, runtime_dir: Path, index: int, *, supervised: bool = True) -> ChildProcess:
    """Take up a child's place in the service: its settings, logs and metrics, and an end with the supervisor's.

    Args:
        kind: such as `api`.
        runtime_dir: the service's.
        index: among the processes of its kind.
        supervised: whether it counts, and leaves at once when the supervisor dies. The process around Postgres does
            neither: it has a server to shut down first.
    """
    # Here and below: commands import this module for its signals, and should not wait for what only a child needs.
    from hoverboard.config import Settings
    from hoverboard.telemetry import logs

    settings = Settings.from_runtime(runtime_dir)
    process = ChildProcess(f"{kind}-{index}", index, settings, runtime_dir)
    logs.configure(settings.log_level, settings.log_format, process=process.name)
    if supervised:
        from hoverboard.telemetry import metrics

        metrics.init(process.name, runtime_dir / "metrics")
        watch_parent()
    return process


def switch_threads_often() -> None:
    """Have the event loop wait at most half a millisecond for a thread that decodes or traces, in place of 5 ms."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


def calm_gc() -> None:
    """Collect garbage less often, and never walk what start-up made: calls leave no cycles behind, and a connection is taken apart when it is lost.

    With Python's own thresholds the calls in flight at 64 connections are walked several times a tick, and a full
    collection stops every call for as long as walking all modules takes.
    """
    # Garbage first, or it would be frozen with the rest and never freed.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def say_ready() -> None:
    """Tell the supervisor that this process is at work now, once: its death is no failure to start any more."""
    number = os.environ.pop(READY_FD, None)
    if number is None:
        return  # nobody asked
    with contextlib.suppress(OSError):
        os.write(int(number), b"!")
        os.close(int(number))


def watch_parent(fd: int = 0) -> threading.Thread:
    """Leave at once when the supervisor dies: it holds the other end of this process's standard input.

    A thread, so that a busy event loop or a long graph execution cannot put it off, and `os._exit`, because nothing
    that a clean exit would do is worth outliving the lock on the data directory.

    Args:
        fd: file descriptor that reaches its end with the supervisor.
    """
    thread = threading.Thread(target=_exit_at_end, args=(fd,), name="parent-watch", daemon=True)
    thread.start()
    return thread


def _exit_at_end(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except OSError:
        pass  # closed, or no descriptor at all: nobody is there either
    os._exit(ORPHANED)


def run(main: Coroutine[Any, Any, int], pulse: Path | None = None) -> int:
    """Run a child's main coroutine on its event loop; returns the process's exit status.

    Args:
        main: what the process is there for.
        pulse: where the supervisor looks whether the event loop turns.
    """
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_with_pulse(main, pulse) if pulse is not None else main)


async def _with_pulse(main: Coroutine[Any, Any, int], path: Path) -> int:
    beating = asyncio.create_task(Pulse(path).beat())
    try:
        return await main
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


def stop_signals() -> Sequence[signal.Signals]:
    """The stop signals of this process: without SIGHUP where it was started to live on without a terminal, as by nohup."""
    # As nohup leaves it for the program that it starts.
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in STOP_SIGNALS if not (ignored and number is signal.SIGHUP)]


def stop_event() -> asyncio.Event:
    """An event that the first stop signal sets; for the running loop."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, event.set)
    return event
