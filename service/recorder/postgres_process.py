"""The process around the embedded Postgres: makes the cluster, runs the server, passes its log on, shuts it down.

It ends when the server does, and the supervisor starts it again. When the supervisor dies, or this process is told to stop, the
server gets a fast shutdown; when this process is killed, the kernel asks the server for one (Linux), and the next
start waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Final

from service import children
from service.config import Settings
from service.errors import HoverboardError
from service.recorder import leftovers
from service.recorder.embedded import Cluster, Endpoint, environment
from service.recorder.postgres_log import PostgresLog
from service.telemetry import logs

__all__ = ["FAST_SHUTDOWN_S", "STOP_S", "main"]

FAST_SHUTDOWN_S: Final = 45.0
"""Seconds for a fast shutdown, whose checkpoint writes all that is only in memory; then it is cut short."""

_IMMEDIATE_SHUTDOWN_S: Final = 5.0
_CHUNK: Final = 1 << 16
_LAST_WORDS_S: Final = 1.0

STOP_S: Final = FAST_SHUTDOWN_S + _IMMEDIATE_SHUTDOWN_S + 5.0
"""Seconds that this process may need to end."""

_log = logs.get("recorder.embedded")


def main(runtime_dir: Path, index: int) -> None:
    """Run the cluster of the service's data directory until SIGTERM, or until the supervisor is gone."""
    settings = Settings.from_runtime(runtime_dir)
    logs.configure(settings.log_level, settings.log_format, process=f"postgres-{index}")
    try:
        cluster = Cluster.of(settings.data_dir)
        leftovers.stop(cluster)
        Endpoint.forget(cluster.data_dir)
        cluster.make()
    except HoverboardError as error:
        _log.error("postgres_cannot_start", why=str(error))
        sys.exit(1)
    sys.exit(children.run(_run(cluster)))


async def _run(cluster: Cluster) -> int:
    """Returns the process's exit status: 0 after a shutdown that was asked for."""
    stop = children.stop_event()
    _set_at_end_of_input(stop)
    with cluster.socket_directory() as socket_dir:
        server = await asyncio.create_subprocess_exec(
            *cluster.command(socket_dir),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment(),
        )
        with Endpoint(socket_dir, server.pid).announced(cluster.data_dir):
            _log.info("postgres_started", pid=server.pid, pgdata=str(cluster.pgdata))
            forwarding = asyncio.create_task(_forward(server))
            status = await _until_ended(server, stop)
            await asyncio.wait([forwarding], timeout=_LAST_WORDS_S)
            forwarding.cancel()  # a backend of a killed server may hold the pipe for a moment
    if stop.is_set():
        _log.info("postgres_stopped", status=status)
        return 0
    _log.error("postgres_died", status=status)
    return 1


def _set_at_end_of_input(stop: asyncio.Event) -> None:
    """Stop, too, when the supervisor dies: it holds the other end of standard input."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            if not os.read(0, _CHUNK):
                loop.remove_reader(0)
                stop.set()

    loop.add_reader(0, read)


async def _until_ended(server: asyncio.subprocess.Process, stop: asyncio.Event) -> int:
    """Wait for the server's end, and bring it about once `stop` is set; returns its exit status."""
    ended = asyncio.create_task(server.wait())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for number, patience in (
        (signal.SIGINT, FAST_SHUTDOWN_S),
        (signal.SIGQUIT, _IMMEDIATE_SHUTDOWN_S),
        (signal.SIGKILL, None),
    ):
        if ended.done():
            break
        with contextlib.suppress(ProcessLookupError):
            server.send_signal(number)
        await asyncio.wait([ended], timeout=patience)
    return await ended


async def _forward(server: asyncio.subprocess.Process) -> None:
    log = PostgresLog()
    if server.stdout is not None:
        while chunk := await server.stdout.read(_CHUNK):
            log.feed(chunk)
            if log.ready:
                children.say_ready()
    log.close()
