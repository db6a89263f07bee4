"""One api process: its engine connection, its listeners, and an end that loses no call."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from hoverboard import children
from hoverboard.api.app import running
from hoverboard.api.journal import recording
from hoverboard.api.listener import listening_socket
from hoverboard.engine.socket.client import EngineClient
from hoverboard.errors import ConfigError
from hoverboard.telemetry import recording_state
from hoverboard.telemetry.pulse import pulse_path, silent_s

__all__ = ["main"]

log = structlog.get_logger(__name__)


def main(runtime_dir: Path, index: int) -> None:
    """Run one api process until SIGTERM, then drain. Only index 0 opens the admin listener."""
    process = children.begin("api", runtime_dir, index)
    children.switch_threads_often()
    try:
        status = process.run(_serve(process))
    except ConfigError as error:
        log.critical("api_cannot_start", reason=str(error))
        status = 1
    process.leave(status)


async def _serve(process: children.ChildProcess) -> int:
    settings, runtime_dir, name = process.settings, process.runtime_dir, process.name
    stop = children.stop_event()
    public = listening_socket(settings.host, settings.port)
    admin = listening_socket(settings.admin_host, settings.admin_port) if process.index == 0 else None
    async with (
        EngineClient(runtime_dir / "engine-0.sock") as engine,
        recording(settings, name, lambda: engine.catalog, recording_state.journal(runtime_dir, name)) as journal,
        running(
            settings,
            engine,
            public=public,
            admin=admin,
            recording=journal,
            recording_state=lambda: recording_state.read(runtime_dir),
            engine_silent_s=lambda: silent_s(pulse_path(runtime_dir, "engine-0")),
        ) as application,
    ):
        children.calm_gc()
        # Only now, with both sockets listening: the supervisor prints the banner on it.
        children.say_ready()
        log.info("api_started", pid=os.getpid(), port=public.getsockname()[1])
        await stop.wait()
        log.info("api_draining")
        complete = await application.drain()
        log.info("api_stopped", complete=complete)
    return 0
