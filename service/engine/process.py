"""The engine process: an engine, its socket, and a clean end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from hoverboard import children
from hoverboard.config import Settings
from hoverboard.engine.engine import Engine
from hoverboard.engine.recording.sink import JournalSink, hashing_key
from hoverboard.engine.slots import Slots, slots_path
from hoverboard.engine.socket.server import EngineServer
from hoverboard.journal.writer import JournalWriter, open_writer
from hoverboard.telemetry import recording_state
from hoverboard.telemetry.recording_state import Part

__all__ = ["journaling", "main", "socket_path"]

_log = structlog.get_logger(__name__)
_TICK_S: Final = 1.0


def socket_path(runtime_dir: Path, index: int) -> Path:
    """Where engine `index` listens."""
    return runtime_dir / f"engine-{index}.sock"


def main(runtime_dir: Path, index: int) -> None:
    """Run one engine process until SIGTERM, then finish what was taken."""
    process = children.begin("engine", runtime_dir, index)
    children.switch_threads_often()
    process.leave(process.run(_serve(process, Slots(slots_path(runtime_dir, process.name)))))


async def _serve(process: children.ChildProcess, slots: Slots) -> int:
    settings, runtime_dir = process.settings, process.runtime_dir
    stop = children.stop_event()
    _log.info("engine_starting", pid=os.getpid())
    async with (
        journaling(settings, process.name, recording_state.journal(runtime_dir, process.name)) as sink,
        Engine(settings, sink=sink, slots=slots) as engine,
        EngineServer(engine, socket_path(runtime_dir, process.index)),
    ):
        if sink is not None:
            engine.subscribe(sink.follow)
        stopped = asyncio.ensure_future(stop.wait())
        settled = asyncio.ensure_future(engine.settled())
        await asyncio.wait((stopped, settled), return_when=asyncio.FIRST_COMPLETED)
        if settled.done():
            settled.result()  # without its runtime an engine is of no use: end loudly
            children.calm_gc()
            children.say_ready()
            _log.info("engine_ready", models=len(engine.catalog.models))
        await stopped
        settled.cancel()
        _log.info("engine_draining")
    return 0


@asynccontextmanager
async def journaling(settings: Settings, name: str, part: Part | None) -> AsyncIterator[JournalSink | None]:
    """Where an engine's batches are journaled; closed once the last of them has run.

    Args:
        name: of its process.
        part: where it says whether that works; None for nowhere.
    """
    if settings.recording == "off":
        yield None
        return
    writer = open_writer(settings, name, part)
    ticking = asyncio.create_task(_tick(writer))
    try:
        yield JournalSink(writer, hashing_key(settings.data_dir))
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        writer.close()


async def _tick(writer: JournalWriter) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        await asyncio.to_thread(writer.tick)
