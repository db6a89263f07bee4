"""The recorder process: journals into Postgres until SIGTERM, then what is left of them."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path
from typing import Final

import psutil
import stamina
import structlog

from hoverboard import children
from hoverboard.config import Settings
from hoverboard.database.address import DATABASE_VARIABLE
from hoverboard.database.connect import Connection, connect
from hoverboard.database.logins import prepare
from hoverboard.database.migrate import require_current
from hoverboard.errors import ConfigError, DatabaseUnavailable
from hoverboard.postgres.endpoint import embedded_url, endpoint
from hoverboard.postgres.passwords import RECORDER
from hoverboard.recorder.carrying_process import keep_issues_known
from hoverboard.recorder.drain import Drain
from hoverboard.telemetry import recording_state

__all__ = ["main", "open_database"]

_NICE: Final = 10
_GARBAGE: Final = 20_000
_UP_PATIENCE_S: Final = 5.0
_POLL_S: Final = 0.1
_NOT_UP: Final = "the embedded Postgres is not up; should it stay so, what postgres-0 writes to the log says why"
_BUSY_PERCENT: Final = 65.0
"""Of all cores, since the last look. Calls that wait for each other's processes leave a fifth of two cores idle at full load,
and using that slows them down nevertheless: cores share caches, and often more."""
_log = structlog.get_logger(__name__)


def main(runtime_dir: Path, index: int) -> None:
    """Run the recorder until SIGTERM, then drain what is there."""
    process = children.begin("recorder", runtime_dir, index)
    # It has time, and answering has none.
    os.nice(_NICE)
    stamina.instrumentation.set_on_retry_hooks([])  # one sentence an outage is enough, and we write it
    part = recording_state.Part(runtime_dir, recording_state.RECORDER)
    process.leave(process.run(_record(process.settings, runtime_dir, part)))


async def _record(settings: Settings, runtime_dir: Path, part: recording_state.Part) -> int:
    stop = children.stop_event()
    # What was imported lives for ever; and records are made by the thousand, live for a moment, and are in no cycles.
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    children.say_ready()
    _log.info("recorder_started", pid=os.getpid())
    # From the environment and not from the settings' file, since it holds a password.
    url = os.environ.get(DATABASE_VARIABLE, "")
    carrying = asyncio.create_task(keep_issues_known(settings, runtime_dir, url)) if settings.carry_issues_s else None
    try:
        await Drain(settings, lambda: open_database(settings, url), _machine_is_busy, part.say, part.beat).run(stop)
    finally:
        if carrying is not None:
            carrying.cancel()
            await asyncio.wait({carrying})
    _log.info("recorder_stopped")
    return 0


def _machine_is_busy() -> bool:
    return psutil.cpu_percent() >= _BUSY_PERCENT


async def open_database(settings: Settings, url: str) -> Connection:
    """A connection to a database with this version's schema. The embedded one is migrated and given its roles here.

    Args:
        settings: the service's.
        url: of a Postgres; empty for the embedded one.

    Raises:
        HoverboardError: there is none now, or somebody must run `hoverboard migrate` first.
    """
    # The embedded one is migrated without asking, since nobody else uses it; another one is its owner's.
    embedded = not url
    if embedded:
        await _embedded_is_up(settings.data_dir)
        for migration in await prepare(settings.data_dir):
            _log.info("migrated", file=migration.name)
        url = embedded_url(settings.data_dir, RECORDER)
    connection = await connect(url, application="hoverboard recorder")
    try:
        await require_current(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _embedded_is_up(data_dir: Path) -> None:
    """Wait for the embedded Postgres, which starts beside this process, and makes its cluster the first time.

    Raises:
        ConfigError, DatabaseUnavailable: it is not up within a while.
    """
    until = asyncio.get_running_loop().time() + _UP_PATIENCE_S
    while True:
        try:
            embedded_url(data_dir)
        except ConfigError as error:
            if asyncio.get_running_loop().time() < until:
                await asyncio.sleep(_POLL_S)
            # It runs, or has run: what is wrong is better said by the error itself.
            elif endpoint(data_dir) is not None:
                raise
            else:
                raise DatabaseUnavailable(_NOT_UP) from error
        else:
            return
