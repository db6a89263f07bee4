"""What a person may order: load, unload, route, pin, unpin, scan. Each answers once it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from hoverboard.contract.catalog import versions_in_words
from hoverboard.engine.live import HIDDEN
from hoverboard.engine.models.catalog import Models
from hoverboard.engine.models.disk_changes import LOOKS, Follower, read
from hoverboard.engine.models.loads import Loads
from hoverboard.engine.models.memory import Memory
from hoverboard.engine.models.role_filling import Roles
from hoverboard.engine.models.state import ADMIN, Model, Version
from hoverboard.errors import ConfigError, InternalError, InvalidParams, ModelNotFound, UnknownMethod, VersionNotFound
from hoverboard.versions.serving import rewrite

__all__ = ["Admin"]

_log = structlog.get_logger(__name__)
_Action = Callable[[Model, Mapping[str, Any]], Awaitable[None]]


class Admin:
    """Admin calls.

    Args:
        models: which they are about.
        memory: of their versions.
        loads: of their versions.
        roles: of the models.
        follower: of the disk.
    """

    def __init__(self, models: Models, memory: Memory, loads: Loads, roles: Roles, follower: Follower) -> None:
        self._models = models
        self._memory = memory
        self._loads = loads
        self._roles = roles
        self._follower = follower
        self._actions: Final[Mapping[str, _Action]] = {
            "load": self._load,
            "unload": self._unload,
            "route": self._route,
            "pin": self._pin,
            "unpin": self._unpin,
        }

    async def do(self, action: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `EnginePort.admin`."""
        if action == "scan":
            return await self._scan()
        name = str(params.get("model"))
        model = self._models.by_name.get(name)
        if model is None:
            raise ModelNotFound(f"Model {name[:200]!r} not found")
        if action == "failures":
            return {str(number): failure for number, failure in _failures(model)}
        if action not in self._actions:
            raise UnknownMethod
        try:
            await self._actions[action](model, params)
        finally:
            self._models.publish()
        return {"model": model.name, "roles": model.filled(), "live": model.alive()}

    async def _scan(self) -> Mapping[str, Any]:
        for model, number, version in self._models.versions():
            if version.refused is not None:
                self._loads.forget_deaths(model, number)
                version.stale = True
        for _ in range(LOOKS):  # what only one look has missed is not gone yet, and the answer should say what is
            if await self._follower.look():
                break
        await self._loads.quiet()
        return {"models": sorted(self._models.by_name)}

    async def _load(self, model: Model, params: Mapping[str, Any]) -> None:
        number = _number(model, params)
        version = await self._insist(model, number)
        version.ordered = not model.kept(number)

    async def _unload(self, model: Model, params: Mapping[str, Any]) -> None:
        number = _number(model, params)
        if model.kept(number):
            raise InvalidParams("/version", "a version that is neither stable nor pinned", str(number))
        version = model.versions[number]
        version.on_demand = version.ordered = False  # one that waits to be loaded is not wanted any more
        self._memory.drop(model, number, "admin call")

    async def _route(self, model: Model, params: Mapping[str, Any]) -> None:
        stable = params.get("stable")
        if stable is None:
            await self._rewrite(model, lambda: {"stable": None})
            return
        version = await self._insist(model, _number(model, {"version": stable}, "/stable"), "/stable")
        await self._rewrite(model, lambda: {"stable": stable}, version)

    async def _pin(self, model: Model, params: Mapping[str, Any]) -> None:
        number = _number(model, params)
        version = await self._insist(model, number)
        await self._rewrite(model, lambda: {"pins": sorted({*model.serving.pins, number})}, version)

    async def _unpin(self, model: Model, params: Mapping[str, Any]) -> None:
        number = _number(model, params)
        await self._rewrite(model, lambda: {"pins": sorted({*model.serving.pins} - {number})})

    async def _rewrite(
        self, model: Model, changes: Callable[[], Mapping[str, Any]], ordered: Version | None = None
    ) -> None:
        """Change `serving.toml`, and answer once that holds. Two at once on one model take their turns.

        Args:
            model: whose.
            changes: key -> new value, asked when it is this call's turn.
            ordered: the version that was loaded for this; from then on the file keeps it in memory.
        """
        async with model.rewriting:
            if model.disk_problem:
                raise InvalidParams("/model", "a model whose serving.toml is well-formed", model.disk_problem)
            keys = changes()
            try:
                serving = await asyncio.get_running_loop().run_in_executor(None, lambda: rewrite(model.path, **keys))
            except (ConfigError, OSError) as error:
                _log.error("serving_toml_not_written", model=model.name, reason=str(error))
                raise InternalError("serving.toml could not be written") from error
            model.serving = serving
            model.revision += 1  # a look at the disk that began before this must not undo it
        if ordered is not None:
            ordered.ordered = False
        model.actor = ADMIN
        self._roles.settle(model)
        self._models.publish()
        await self._roles.settled(model)

    async def _insist(self, model: Model, number: int, pointer: str = "/version") -> Version:
        """Load a version for a person, who may try a refused one again. It stays `ordered`.

        Raises:
            InvalidParams: it cannot go live, and why.
        """
        version = model.versions[number]
        if version.refused is not None:
            self._loads.forget_deaths(model, number)
            fresh = await read(version.place)
            if model.versions.get(number) is version:  # else somebody else was quicker
                model.versions[number] = fresh
                model.changed()
        version = model.versions.get(number, version)
        version.ordered = True
        if version.live is None and version.refused is None and not version.gone:
            job = self._loads.want(model, version)
            self._models.publish()
            await asyncio.shield(job)  # others may wait for it, even where this caller goes away
        if version.live is None:
            version.ordered = False
            why = f"refused: {version.refused}" if version.refused else "which was unloaded or removed meanwhile"
            raise InvalidParams(pointer, "a version that can go live", f"{number}, {why}")
        return version


def _failures(model: Model) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The last sample that each version in memory could not answer."""
    for number, version in model.versions.items():
        failure = None if version.live is None else version.live.failure
        if failure is not None:
            at = datetime.fromtimestamp(failure.at, UTC).isoformat(timespec="seconds")
            yield number, {"at": at, "reason": HIDDEN if model.hides else failure.reason}


def _number(model: Model, params: Mapping[str, Any], pointer: str = "/version") -> int:
    number = params.get("version")
    if not isinstance(number, int) or isinstance(number, bool):
        raise InvalidParams(pointer, "a version number", type(number).__name__)
    if number not in model.versions:
        raise VersionNotFound(f"Model {model.name!r} has no version {number}; {versions_in_words(model.versions)}")
    return number
