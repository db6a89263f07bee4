"""Stops what an earlier start of the embedded Postgres left running: its watcher, or its server, was killed.

A server is known by its cluster's name, which Postgres shows in the title of each of its processes; unlike a process id in a file,
that cannot be somebody else's by now.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from typing import Final

import psutil

from hoverboard.postgres.cluster import Cluster
from hoverboard.telemetry import logs

__all__ = ["processes", "stop"]

_FAST_S: Final = 120.0
_IMMEDIATE_S: Final = 10.0
_KILLED_S: Final = 10.0
_POLL_S: Final = 0.05

_log = logs.get("recorder.embedded")


def processes(cluster: Cluster) -> list[psutil.Process]:
    """Every process of servers that run on this cluster, whoever started them."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            # By its title and not by its pid: a pid in a file may be another program's by now.
            if any(cluster.name in part for part in process.cmdline()):
                left.append(process)
    return left


def stop(cluster: Cluster) -> None:
    """Stop them, and return when they have ended: the server by a fast shutdown, else what is left of it at once.

    After the latter the next start recovers from the write-ahead log; nothing committed is lost.
    """
    left = processes(cluster)
    servers = [process for process in left if _is_server(process)]
    if servers:
        _log.warning("previous_postgres_found", pids=[process.pid for process in servers], at_most_s=_FAST_S)
        # The server alone: it ends its own children, and writes a checkpoint.
        _signal_and_wait(servers, signal.SIGINT, _FAST_S)
        left = processes(cluster)
    if left and _signal_and_wait(left, signal.SIGQUIT, _IMMEDIATE_S):
        _log.warning("previous_postgres_killed", pids=[process.pid for process in left])
        _signal_and_wait(processes(cluster), signal.SIGKILL, _KILLED_S)


def _is_server(process: psutil.Process) -> bool:
    """Whether it is the one that started the others, by its arguments: theirs are replaced by a title."""
    with contextlib.suppress(psutil.Error):
        return "-D" in process.cmdline()
    return False


def _signal_and_wait(targets: Sequence[psutil.Process], number: signal.Signals, patience_s: float) -> bool:
    """Whether some of them are still there after the patience."""
    for process in targets:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
    until = time.monotonic() + patience_s
    while any(map(_lives, targets)):
        if time.monotonic() >= until:
            return True
        time.sleep(_POLL_S)
    return False


def _lives(process: psutil.Process) -> bool:
    """Not so once it has ended, though nobody has asked for its exit status, as in a container without an init process."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
