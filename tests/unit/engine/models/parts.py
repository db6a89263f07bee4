"""Catalog, memory, loads and roles as a registry puts them together, over models made by hand: no disk, no framework."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hoverboard.contract.catalog import Catalog
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.catalog import Models
from hoverboard.engine.models.deaths import LoadAttempts
from hoverboard.engine.models.loads import Loads
from hoverboard.engine.models.memory import Memory
from hoverboard.engine.models.role_filling import Roles
from hoverboard.engine.models.served_before import Served
from hoverboard.engine.models.state import Model, Version
from hoverboard.versions import Serving, VersionOnDisk
from tests.unit.engine.fakes import version


class Parts:
    """The parts, with loads that the test holds up or fails.

    Attributes:
        slow: versions whose load waits until the event is set.
        failing: what a version's load raises.
        begun: every load that has begun, in order.
    """

    def __init__(self, data: Path, *, memory_limit: int = 0) -> None:
        self.catalogs: list[Catalog] = []
        self.begun: list[tuple[str, int]] = []
        self.slow: dict[tuple[str, int], threading.Event] = {}
        self.failing: dict[tuple[str, int], Exception] = {}
        self.attempts = LoadAttempts(data / "loading")
        self.pool = ThreadPoolExecutor(2)
        self.models = Models(self.catalogs.append)
        self.memory = Memory(self.models, memory_limit)
        self.loads = Loads(self.models, self.memory, self._load, self.pool, self.attempts, settle=self._settle)
        self.roles = Roles(self.models, self.memory, self.loads, Served(data / "served"))

    def _settle(self, model: Model) -> None:
        self.roles.settle(model)

    def _load(self, place: VersionOnDisk, _max_batch: int | None) -> LiveVersion:
        key = place.path.parent.name, place.number
        self.begun.append(key)
        if key in self.slow:
            assert self.slow[key].wait(10)
        if key in self.failing:
            raise self.failing[key]
        return version(number=place.number, name=key[0])

    def delay(self, name: str, number: int) -> threading.Event:
        return self.slow.setdefault((name, number), threading.Event())

    def model(self, name: str, *numbers: int, size: int = 8, **serving: Any) -> Model:
        """A model whose versions are on disk and have been read."""
        model = self.roles.add(name, Path("models", name))
        model.serving, model.serving_read = Serving(**serving), True
        for number in numbers:
            place = VersionOnDisk(number, model.path / str(number), (("model.keras", size, 0, 0),))
            model.versions[number] = Version(place, manifest=version(number=number, name=name).manifest)
        model.changed()
        return model

    async def settle(self, *models: Model) -> None:
        """Have what is intended, and wait for what that takes."""
        for model in models:
            self.roles.settle(model)
        await self.loads.quiet()

    async def close(self) -> None:
        for event in self.slow.values():
            event.set()
        await self.loads.aclose()
        self.pool.shutdown()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)
