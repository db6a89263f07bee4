"""Follows the models directory: what came, what changed, what is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import structlog

from hoverboard.engine.models.catalog import Models
from hoverboard.engine.models.loads import Loads
from hoverboard.engine.models.role_filling import Roles
from hoverboard.engine.models.state import DISK, Model, Version
from hoverboard.errors import ConfigError, VersionRefused
from hoverboard.machine import check_of
from hoverboard.versions import Manifest, ModelOnDisk, VersionOnDisk, read_version, remove_leftovers, scan
from hoverboard.versions.golden import to_jsonable
from hoverboard.versions.store import read_golden

__all__ = ["LOOKS", "Follower", "read"]

T = TypeVar("T")
_LEFTOVER_AGE_S: Final = 3600.0
_MOST_LOGGED: Final = 1000
_LARGEST_EXAMPLE: Final = 64 * 1024
LOOKS: Final = 2
"""Looks in a row that must miss a directory before it is taken to be gone: people and tools move directories about."""

_log = structlog.get_logger(__name__)


class Follower:
    """Brings models in step with the disk, look by look.

    Args:
        root: the models directory.
        models: what is known of it.
        loads: told what must not go live.
        roles: told what came and went.
    """

    def __init__(self, root: Path, models: Models, loads: Loads, roles: Roles) -> None:
        self._root = root
        self._models = models
        self._loads = loads
        self._roles = roles
        self._looking = asyncio.Lock()
        self._logged: set[str] = set()

    async def look(self) -> bool:
        """Look once; whether everything that is known was there."""
        async with self._looking:
            known = self._models.by_name
            revisions = {name: model.revision for name, model in known.items()}
            try:
                on_disk = await _in_thread(scan, self._root, self._log_once)
            except ConfigError as error:
                if self._fails(str(error)):
                    _log.error("scan_failed", reason=str(error), then="what is in memory answers; it is tried again")
                    self._models.publish()
                return True  # nothing is known to be gone
            if self._fails(None):
                _log.info("models_directory_back", models=str(self._root))
            for name in known.keys() - on_disk.keys():
                known[name].unseen += 1
                if known[name].unseen >= LOOKS:
                    self._roles.remove(name)
            for name, disk in on_disk.items():
                await self._follow(self._roles.add(name, disk.path), disk, revisions.get(name, 0))
            for model in known.values():  # once all are known, so that the most needed load comes first
                self._roles.settle(model)
            self._models.publish()
            return not any(m.unseen + sum(v.unseen for v in m.versions.values()) for m in known.values())

    def _fails(self, why: str | None) -> bool:
        """Note whether the directory itself can be looked at; whether that is news."""
        before, self._models.problem = self._models.problem, why
        return before != why

    async def _follow(self, model: Model, disk: ModelOnDisk, revision: int) -> None:
        await _in_thread(remove_leftovers, disk.path, _LEFTOVER_AGE_S, time.time())
        fresh = {number: await read(place) for number, place in disk.versions.items() if _worth_reading(model, place)}
        # From here on nothing is awaited: whoever else changes the model does so before this look or after it.
        if self._models.by_name.get(model.name) is not model:
            return
        model.unseen = 0
        model.passed_over = disk.passed_over
        for sentence in disk.passed_over:
            self._log_once(f"model {model.name}: {sentence}")
        changed = self._take_serving(model, disk, revision)
        if disk.listed:
            changed |= _miss(model, disk)
            changed |= self._take_versions(model, disk, fresh)
        if changed:
            model.actor = DISK

    def _take_serving(self, model: Model, disk: ModelOnDisk, revision: int) -> bool:
        """Take over `serving.toml`, unless it was rewritten since this look; whether it says something new."""
        if model.rewriting.locked() or model.revision != revision:
            return False  # this look saw the file as it was before an admin call changed it
        if disk.problem != model.disk_problem:
            model.disk_problem = disk.problem
            if disk.problem is not None:
                _log.error("serving_toml_refused", model=model.name, reason=disk.problem)
        if disk.serving is None or (model.serving_read and disk.serving == model.serving):
            return False
        model.serving, model.serving_read = disk.serving, True
        return True

    def _take_versions(self, model: Model, disk: ModelOnDisk, fresh: Mapping[int, Version]) -> bool:
        """Take over what was read; whether anything was."""
        for number, version in fresh.items():
            known = model.versions.get(number)
            if known is not None and not _worth_reading(model, version.place):
                continue  # it was loaded meanwhile
            if known is not None and known.again_at is not None:
                version.tries, version.took_s = known.tries, known.took_s
            model.versions[number] = version
            model.changed()
            if version.refused is not None:
                self._loads.refuse(model, version, version.refused)
        for number, place in disk.versions.items():
            known = model.versions.get(number)
            if known is not None and known.live is not None:
                if place.problem is None and _content(place) != _content(known.place):
                    _log.warning(
                        "version_changed_on_disk",
                        model=model.name,
                        version=number,
                        then="what is in memory goes on answering until the version is loaded again; publish the next number instead",
                    )
                known.place = place  # versions are immutable: what is in memory was checked and goes on
        return bool(fresh)

    def _log_once(self, sentence: str) -> None:
        """Say once what a look at the disk passes over."""
        if sentence not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add(sentence)
            _log.warning("passed_over", reason=sentence)


def _content(place: VersionOnDisk) -> list[tuple[str, int, int]]:
    """Names, sizes and times of content; rights and links may change."""
    return [(name, size, modified) for name, size, modified, _ in place.stamp]


def _worth_reading(model: Model, place: VersionOnDisk) -> bool:
    """Whether a version is new, or has other content than the one known, or is to be tried again, and nobody uses it."""
    known = model.versions.get(place.number)
    if known is None:
        return True
    due = known.again_at is not None and known.again_at <= time.monotonic()
    other = known.stale or due or known.place != place
    return other and known.live is None and not known.loading


def _miss(model: Model, disk: ModelOnDisk) -> bool:
    """Note which versions are not there; whether one has just been taken to be gone."""
    gone = False
    for number, version in model.versions.items():
        there = number in disk.versions
        version.unseen = 0 if there else version.unseen + 1
        if version.gone is not (version.unseen >= LOOKS):
            version.gone = not version.gone
            gone |= version.gone
            model.changed()
    return gone


async def read(place: VersionOnDisk) -> Version:
    """Read what a version says of itself; whatever is wrong with it is in its `refused`."""
    version = Version(place)
    try:
        version.manifest, version.public = await _in_thread(_read_public, place)
    except VersionRefused as refusal:
        version.refused = refusal
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a version is its own
        check = check_of(error, "manifest")
        if check == "manifest":
            _log.exception("version_unreadable", model=place.path.parent.name, version=place.number)
        version.refused = VersionRefused(f"it cannot be read: {type(error).__name__}", check=check)
    return version


def _read_public(place: VersionOnDisk) -> tuple[Manifest, dict[str, Any]]:
    """The manifest, and what `models.describe` shows of it, with an example of what to send."""
    if place.problem is not None:
        raise VersionRefused(place.problem, check=place.check)
    manifest = read_version(place.path)
    public = manifest.public()
    specs, columns = manifest.inputs, read_golden(place.path, manifest, 1).samples[0].inputs
    # Every process is told it, with each change of any model: of a large one a client makes its own.
    if sum(column.nbytes for column in columns) <= _LARGEST_EXAMPLE:
        values = {spec.name: to_jsonable(column) for spec, column in zip(specs, columns, strict=True)}
        example = values if len(specs) > 1 else values[specs[0].name]
        if len(msgspec.json.encode(example)) <= _LARGEST_EXAMPLE:
            public["example_instance"] = example
    return manifest, public


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)
