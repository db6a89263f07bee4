"""The engine process: an engine, its socket, and a clean end."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import structlog

from service import children
from service.config import Settings
from service.engine.core import Engine
from service.engine.server import EngineServer
from service.telemetry import logs, metrics

__all__ = ["main", "socket_path"]

_log = structlog.get_logger(__name__)
_SWITCH_INTERVAL_S: Final = 0.0005


def socket_path(runtime_dir: Path, index: int) -> Path:
    """Where engine `index` listens."""
    return runtime_dir / f"engine-{index}.sock"


def main(runtime_dir: Path, index: int) -> None:
    """Run one engine process until SIGTERM, then finish what was taken."""
    settings = Settings.from_runtime(runtime_dir)
    name = f"engine-{index}"
    logs.configure(settings.log_level, settings.log_format, process=name)
    metrics.init(name, runtime_dir / "metrics")
    children.watch_parent()
    # A version that is traced holds the interpreter for long stretches: let the threads that serve have it back soon.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    status = children.run(_serve(settings, socket_path(runtime_dir, index)))
    metrics.close()
    sys.exit(status)


async def _serve(settings: Settings, path: Path) -> int:
    stop = children.stop_event()
    _log.info("engine_starting", pid=os.getpid())
    async with Engine(settings) as engine, EngineServer(engine, path):
        stopped = asyncio.ensure_future(stop.wait())
        settled = asyncio.ensure_future(engine.settled())
        await asyncio.wait((stopped, settled), return_when=asyncio.FIRST_COMPLETED)
        if settled.done():
            settled.result()  # without its runtime an engine is of no use: end loudly
            _log.info("engine_ready", models=len(engine.catalog.models))
        await stopped
        settled.cancel()
        _log.info("engine_draining")
    return 0
