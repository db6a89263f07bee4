"""The process around the embedded Postgres: makes the cluster, runs the server, passes its log on, shuts it down.

It ends when the server does, and the supervisor starts it again; so it does where the server's files or its socket are removed.
Where no server can be started it says why, once, and tries again. When the supervisor dies, or this process is told to stop, the
server gets a fast shutdown; when this process is killed, the kernel asks the server for one (Linux), and the next
start waits for it. So it is, too, where this process is stopped (SIGSTOP) or its event loop stands still: the supervisor
kills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import sys
from pathlib import Path
from typing import Final

from hoverboard import children
from hoverboard.errors import HoverboardError
from hoverboard.postgres import leftovers
from hoverboard.postgres.cluster import Cluster
from hoverboard.postgres.endpoint import Endpoint
from hoverboard.postgres.endpoint import endpoint as find_endpoint
from hoverboard.postgres.log import PostgresLog
from hoverboard.postgres.programs import environment
from hoverboard.telemetry import logs
from hoverboard.telemetry.pulse import is_stopped
from hoverboard.telemetry.recording_state import POSTGRES, Part

__all__ = ["FAST_SHUTDOWN_S", "STOP_S", "main"]

FAST_SHUTDOWN_S: Final = 45.0
"""Seconds for a fast shutdown, whose checkpoint writes all that is only in memory; then it is cut short."""

_IMMEDIATE_SHUTDOWN_S: Final = 5.0
_CHUNK: Final = 1 << 16
_LAST_WORDS_S: Final = 1.0
_LOOK_S: Final = 2.0
_STOPPED_S: Final = 10.0  # for which the server is left as SIGSTOP or a debugger has left it
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0
_NUMBERS: Final = re.compile(r"\d+")
_THEN: Final = "calls are answered, and their records wait in the journals; trying again"

STOP_S: Final = FAST_SHUTDOWN_S + _IMMEDIATE_SHUTDOWN_S + 5.0
"""Seconds that this process may need to end."""

_log = logs.get("recorder.embedded")


def main(runtime_dir: Path, index: int) -> None:
    """Run the cluster of the service's data directory until SIGTERM, or until the supervisor is gone."""
    process = children.begin("postgres", runtime_dir, index, supervised=False)
    part = Part(runtime_dir, POSTGRES)
    cluster = _prepared(process.settings.data_dir, part)
    try:
        status = process.run(_run(cluster, part))
    except OSError as error:
        part.say(f"Postgres cannot start: {error}")
        _log.error("postgres_cannot_start", why=str(error), then=_THEN)
        status = 1
    process.leave(status)


def _prepared(data_dir: Path, part: Part) -> Cluster:
    """The cluster, made and with no server left behind; returns once that is so, or leaves with the supervisor."""
    pause_s, told = _FIRST_PAUSE_S, ""
    while True:
        try:
            cluster = Cluster.of(data_dir)
            leftovers.stop(cluster)
            Endpoint.forget(cluster.data_dir)
            lost = cluster.lost
            cluster.make()
            if lost:
                why = f"there was no database in {cluster.pgdata}, though its password is there; a new, empty one was made"
                _log.warning("postgres_starts_empty", why=why)
        except (HoverboardError, OSError) as error:
            part.say(f"Postgres cannot start: {error}")
            if told != (told := _NUMBERS.sub("", str(error))):  # process ids and sizes change; the reason does not
                _log.error("postgres_cannot_start", why=str(error), then=_THEN)
        else:
            return cluster
        if select.select([0], [], [], pause_s)[0]:
            sys.exit(children.ORPHANED)
        # Whatever is wrong, somebody may put it right; asking each half second would only fill the log.
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _run(cluster: Cluster, part: Part) -> int:
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
        endpoint, log = Endpoint(socket_dir, server.pid), PostgresLog()
        with endpoint.announced(cluster.data_dir):
            _log.info("postgres_started", pid=server.pid, pgdata=str(cluster.pgdata))
            # From the start: a full pipe would stop the server.
            forwarding = asyncio.create_task(_forward(server, log, part))
            watching = asyncio.create_task(_watch(cluster, endpoint, server, log))
            status = await _until_ended(server, stop)
            watching.cancel()
            await asyncio.wait([forwarding], timeout=_LAST_WORDS_S)
            forwarding.cancel()  # a backend of a killed server may hold the pipe for a moment
    if stop.is_set():
        _log.info("postgres_stopped", status=status)
        return 0
    if log.last_words:
        part.say(f"Postgres ended, and is started again. It said: {log.last_words}")
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
    # From gentle to hard. After the second one, Postgres recovers from its write-ahead log at the next start.
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


async def _watch(cluster: Cluster, endpoint: Endpoint, server: asyncio.subprocess.Process, log: PostgresLog) -> None:
    """End a server that can no longer be reached, or that has lost its files: it would go on without a word for minutes.
    One that is stopped is woken.
    """
    stopped_s = 0.0
    while True:
        await asyncio.sleep(_LOOK_S)
        stopped_s = stopped_s + _LOOK_S if is_stopped(server.pid) else 0.0
        if stopped_s >= _STOPPED_S:
            _log.error("postgres_stopped_by_signal", pid=server.pid, then="it is told to go on")
            server.send_signal(signal.SIGCONT)
        # Still starting: its socket is not there yet, and recovery may take minutes.
        if not log.ready:
            continue
        if not cluster.runs:
            _log.error(
                "postgres_files_removed", pgdata=str(cluster.pgdata), then="the server is stopped and started anew"
            )
            # At once: a fast shutdown would write to the files that are gone.
            server.send_signal(signal.SIGQUIT)
            return
        if not endpoint.socket.exists():
            _log.error("postgres_socket_removed", socket=str(endpoint.socket), then="the server is started again")
            server.send_signal(signal.SIGINT)
            return
        with contextlib.suppress(OSError):
            if find_endpoint(cluster.data_dir) != endpoint:
                endpoint.announce(cluster.data_dir)


async def _forward(server: asyncio.subprocess.Process, log: PostgresLog, part: Part) -> None:
    if server.stdout is not None:
        while chunk := await server.stdout.read(_CHUNK):
            log.feed(chunk)
            if log.ready:
                children.say_ready()
                part.say(None)
    log.close()
