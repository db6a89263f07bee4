"""What stays in memory: versions leave it once nobody wants them, or for others where it is short."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Final

import structlog

from hoverboard.engine.models.catalog import Models
from hoverboard.engine.models.state import Model, Version
from hoverboard.telemetry import families

__all__ = ["MOST_ON_DEMAND", "Memory"]

_log = structlog.get_logger(__name__)
MOST_ON_DEMAND: Final = 8
"""Versions in memory, or on their way there, only because somebody called them by number."""
_NO_WEIGHTS: Final = (".json", ".arrow", ".npz")


class Memory:
    """Lets go of versions.

    Args:
        models: whose versions.
        limit_bytes: of all weights in memory; 0 for no limit.
    """

    def __init__(self, models: Models, limit_bytes: int) -> None:
        self._models = models
        self._limit = limit_bytes

    def drop(self, model: Model, number: int, why: str) -> None:
        """Let go of a version; a batch that runs holds on to it until its end."""
        version = model.versions[number]
        if version.live is None:
            return
        version.live, version.on_demand, version.ordered = None, False, False
        families.loads.labels(model.name, number, "unloaded").inc()
        families.memory_bytes.labels(model.name, number).set(0)
        _log.info("version_unloaded", model=model.name, version=number, why=why)
        # Keras models are full of reference cycles; what start-up left was frozen, so this is quick.
        asyncio.get_running_loop().call_later(1.0, gc.collect)

    def make_room(self, version: Version) -> None:
        """Unload the least recently used versions until `version` fits; those that fill a role or are pinned never."""
        if not self._limit:
            return
        # Before a load nobody knows what it takes; weights take in memory about what they take on disk.
        needed = sum(size for name, size, *_ in version.place.stamp if not name.endswith(_NO_WEIGHTS))
        while sum(live.memory_bytes for live in self._models.live()) + needed > self._limit:
            if not self._drop_oldest(lambda model, number, _: not model.kept(number), "memory limit"):
                return

    def crowd_out(self) -> None:
        """Callers may ask for any number on disk; of what is in memory only for that, the last used ones stay."""
        if (
            sum(version.live is not None and version.on_demand for *_, version in self._models.versions())
            > MOST_ON_DEMAND
        ):
            self._drop_oldest(
                lambda model, number, v: v.on_demand and not model.kept(number), "others were asked for since"
            )

    def _drop_oldest(self, may_go: Callable[[Model, int, Version], bool], why: str) -> bool:
        """Let go of the least recently used version among those that may go; whether there was one."""
        spare = [
            (version.live.used_at, model.name, number)
            for model, number, version in self._models.versions()
            if version.live is not None and may_go(model, number, version)
        ]
        if spare:
            _, name, number = min(spare)
            self.drop(self._models.by_name[name], number, why)
        return bool(spare)
