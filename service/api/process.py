"""One api process: its engine connection, its listeners, and an end that loses no call."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import structlog

from hoverboard import children
from hoverboard.api.app import running
from hoverboard.api.listener import listening_socket
from hoverboard.api.recording import recording
from hoverboard.config import Settings
from hoverboard.engine.socket.client import EngineClient
from hoverboard.errors import ConfigError
from hoverboard.telemetry import logs, metrics, recording_state
from hoverboard.telemetry.pulse import pulse_path, silent_s

__all__ = ["main"]

log = structlog.get_logger(__name__)

_SWITCH_INTERVAL_S = 0.0005


def main(runtime_dir: Path, index: int) -> None:
    """Run one api process until SIGTERM, then drain. Only index 0 opens the admin listener."""
    settings = Settings.from_runtime(runtime_dir)
    name = f"api-{index}"
    logs.configure(settings.log_level, settings.log_format, process=name)
    metrics.init(name, runtime_dir / "metrics")
    children.watch_parent()
    # A long decode on its thread must not hold up the event loop for the usual 5 ms at a time.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        status = children.run(_serve(settings, name, runtime_dir, index), pulse_path(runtime_dir, name))
    except ConfigError as error:
        log.critical("api_cannot_start", reason=str(error))
        status = 1
    metrics.close()
    sys.exit(status)


async def _serve(settings: Settings, name: str, runtime_dir: Path, index: int) -> int:
    stop = children.stop_event()
    public = listening_socket(settings.host, settings.port)
    admin = listening_socket(settings.admin_host, settings.admin_port) if index == 0 else None
    async with (
        EngineClient(runtime_dir / "engine-0.sock") as engine,
        recording(settings, name, lambda: engine.catalog, recording_state.journal(runtime_dir, name)) as journal,
        running(
            settings,
            engine,
            public=public,
            admin=admin,
            recording=journal,
            alarms=journal,
            recording_state=lambda: recording_state.read(runtime_dir),
            engine_silent_s=lambda: silent_s(pulse_path(runtime_dir, "engine-0")),
        ) as application,
    ):
        children.calm_gc()
        children.say_ready()
        log.info("api_started", pid=os.getpid(), port=public.getsockname()[1])
        await stop.wait()
        log.info("api_draining")
        complete = await application.drain()
        log.info("api_stopped", complete=complete)
    return 0
