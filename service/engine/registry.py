"""What is live: follows the models directory, loads what should serve, and swaps it in once it has proved itself.

One task changes state here, so that loads, swaps and admin calls never race; everything else reads.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from service.engine.attempts import LoadAttempts
from service.engine.live import LiveVersion
from service.errors import (
    ConfigError,
    InternalError,
    InvalidParams,
    ModelNotFound,
    NotReady,
    UnknownMethod,
    VersionNotFound,
    VersionRefused,
)
from service.journal.policy import input_of
from service.telemetry import metrics
from service.types import Catalog, ModelStatus, Signature, VersionStatus
from service.versions import Manifest, ModelOnDisk, Serving, VersionOnDisk, read_version, remove_leftovers, scan
from service.versions.golden import to_jsonable
from service.versions.serving import rewrite
from service.versions.store import read_golden

__all__ = ["STABLE", "Registry"]

STABLE: Final = "stable"
_LEFTOVER_AGE_S: Final = 3600.0
_DISK: Final = "disk"
_ADMIN: Final = "admin"
_log = structlog.get_logger(__name__)

LoadVersion = Callable[[VersionOnDisk, int | None], LiveVersion]


@dataclass(slots=True)
class _Version:
    """One version on disk: what was read of it, and whether it lives."""

    place: VersionOnDisk
    manifest: Manifest | None = None
    public: Mapping[str, Any] | None = None
    refused: VersionRefused | None = None
    loading: bool = False
    live: LiveVersion | None = None
    on_demand: bool = False


@dataclass(slots=True)
class _Model:
    """One model: its versions, its last good `serving.toml`, and which version is stable now."""

    name: str
    path: Path
    serving: Serving = field(default_factory=Serving)
    versions: dict[int, _Version] = field(default_factory=dict)
    stable: int | None = None
    toml_problem: str | None = None
    route_problem: str | None = None
    redact_problem: str | None = None
    routed_by: str = _DISK


class Registry:
    """Keeps the live versions in step with the models directory.

    Args:
        models: the directory.
        load: loads one version, blocking; runs on `loader`.
        loader: a pool of one thread.
        attempts: remembers loads that killed the process.
        memory_limit_bytes: of all weights in memory; 0 for no limit.
        changed: called with each new catalog.
    """

    def __init__(
        self,
        models: Path,
        load: LoadVersion,
        loader: ThreadPoolExecutor,
        attempts: LoadAttempts,
        *,
        memory_limit_bytes: int,
        changed: Callable[[Catalog], None],
    ) -> None:
        self._root = models
        self._load = load
        self._loader = loader
        self._attempts = attempts
        self._memory_limit = memory_limit_bytes
        self._changed = changed
        self._models: dict[str, _Model] = {}
        self._lock = asyncio.Lock()
        self._wanted: set[tuple[str, int]] = set()
        self._told: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.catalog = Catalog()

    # -- what everybody reads ------------------------------------------------------------------------------------

    def lookup(self, model: str, wanted: int | str) -> LiveVersion:
        """The live version that answers to a number or a role now.

        Raises:
            ModelNotFound, VersionNotFound: there is no such thing, or it was refused.
            NotReady: it exists and is not loaded; an `available` version starts to load.
        """
        entry = self._models.get(model)
        version = None
        if entry is not None:
            number = self._number(entry, wanted)
            version = entry.versions.get(number)
        if version is None and not self.catalog.ready:
            # An api that remembers the engine before this one may ask while the first scan is still under way.
            raise NotReady("The engine is starting", retry_after_ms=1000)
        if entry is None:
            raise ModelNotFound(f"Model {model!r} not found")
        if version is None:
            raise VersionNotFound(f"Model {model!r} has no version {number}")
        if version.live is not None:
            return version.live
        if version.refused is not None:
            raise VersionNotFound(f"Version {number} of {model!r} was refused: {version.refused.reason}")
        self._demand(model, number)
        raise NotReady(f"Version {number} of {model!r} is loading", retry_after_ms=1000)

    def serving(self, model: str) -> Serving:
        """The model's `serving.toml` in force; what holds without one where the model has just gone."""
        known = self._models.get(model)
        return Serving() if known is None else known.serving

    def live(self) -> list[LiveVersion]:
        """Every version in memory."""
        return [v.live for model in self._models.values() for v in model.versions.values() if v.live is not None]

    def _number(self, entry: _Model, wanted: int | str) -> int:
        if isinstance(wanted, int):
            return wanted
        if wanted != STABLE:
            raise VersionNotFound(f"Model {entry.name!r} has no role {wanted!r}; roles: {STABLE}")
        if entry.stable is None:
            problem = entry.route_problem or entry.toml_problem
            raise NotReady(
                f"Model {entry.name!r} has no live version yet" + (f": {problem}" if problem else ""),
                retry_after_ms=1000,
            )
        return entry.stable

    # -- following the disk --------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Look at the disk once, and bring what is live in step with it."""
        async with self._lock:
            await self._refresh()

    async def _refresh(self) -> None:
        try:
            found = await asyncio.get_running_loop().run_in_executor(None, scan, self._root, self._tell)
        except ConfigError as error:
            _log.error("scan_failed", reason=str(error))
            self._publish(ready=True)
            return
        for name in self._models.keys() - found.keys():
            self._remove_model(name)
        for name, disk in found.items():
            await self._follow(self._models.setdefault(name, _Model(name, disk.path)), disk)
        self._publish(ready=True)

    def _tell(self, sentence: str) -> None:
        """Say once what a look at the disk passes over."""
        if sentence not in self._told:
            self._told.add(sentence)
            _log.warning("passed_over", reason=sentence)

    async def _follow(self, model: _Model, disk: ModelOnDisk) -> None:
        if disk.serving is not None:
            model.serving, model.toml_problem = disk.serving, None
        elif disk.problem != model.toml_problem:
            model.toml_problem = disk.problem
            _log.error("serving_toml_refused", model=model.name, reason=disk.problem)
        await asyncio.get_running_loop().run_in_executor(
            None, remove_leftovers, disk.path, _LEFTOVER_AGE_S, time.time()
        )
        await self._follow_versions(model, disk)
        await self._settle(model)

    async def _follow_versions(self, model: _Model, disk: ModelOnDisk) -> None:
        for sentence in disk.passed_over:
            self._tell(f"model {model.name}: {sentence}")
        if not disk.listed:
            return
        for number in model.versions.keys() - disk.versions.keys():
            # The stable version outlives its directory until another takes over.
            if number != model.stable:
                self._drop(model, number, "its directory is gone")
                del model.versions[number]
        for number, place in disk.versions.items():
            known = model.versions.get(number)
            if known is None:
                model.versions[number] = await self._read(place)
            elif known.place.stamp != place.stamp:
                if known.live is not None:
                    known.place = place  # versions are immutable: what is in memory was checked and goes on
                else:
                    model.versions[number] = await self._read(place)

    async def _read(self, place: VersionOnDisk) -> _Version:
        version = _Version(place)
        try:
            version.manifest, version.public = await asyncio.get_running_loop().run_in_executor(
                None, _read_public, place.path
            )
            if place.problem is not None:
                raise VersionRefused(place.problem, check="files")
        except VersionRefused as refusal:
            self._refuse(version, place.path.parent.name, refusal)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a version is its own
            _log.exception("version_unreadable", model=place.path.parent.name, version=place.number)
            self._refuse(version, place.path.parent.name, VersionRefused(f"cannot be read: {error}", check="manifest"))
        return version

    async def _settle(self, model: _Model, actor: str = _DISK) -> None:
        """Load what should serve, swap, and let go of what should not."""
        while (target := self._target(model)) is not None and target != model.stable:
            if await self._bring_up(model, target):
                self._swap(model, target, actor)
            elif model.serving.stable is not None:
                break  # asked for by number: nothing else will do, the previous version keeps serving
        model.route_problem = self._route_problem(model, target)
        model.redact_problem = _redact_problem(model)
        for pin in model.serving.pins:
            if pin in model.versions:
                await self._bring_up(model, pin)
        for number, version in list(model.versions.items()):
            if version.live is not None and not version.on_demand and not self._kept(model, number):
                self._drop(model, number, "no longer routed to")

    def _target(self, model: _Model) -> int | None:
        """The version that should be stable: the one named, else the highest that was not refused."""
        if model.serving.stable is not None:
            return model.serving.stable
        fit = (number for number, version in model.versions.items() if version.refused is None)
        return max(fit, default=model.stable)

    def _route_problem(self, model: _Model, target: int | None) -> str | None:
        if target == model.stable:
            return None if target is not None else "no version can go live"
        version = model.versions.get(target) if target is not None else None
        if version is None:
            return f"stable = {target}: no such version"
        return f"stable = {target}: {version.refused.reason}" if version.refused else None

    async def _bring_up(self, model: _Model, number: int) -> bool:
        """Load a version unless it lives; whether it lives then."""
        version = model.versions.get(number)
        if version is None or version.refused is not None:
            return False
        if version.live is not None:
            return True
        self._make_room(version)
        version.loading = True
        self._publish()
        started = time.monotonic()
        try:
            with self._attempts.trying(model.name, number):
                version.live = await asyncio.get_running_loop().run_in_executor(
                    self._loader, self._load, version.place, model.serving.batching.max_batch
                )
        except VersionRefused as refusal:
            self._refuse(version, model.name, refusal)
            return False
        finally:
            version.loading = False
        version.live.used_at = time.monotonic()
        metrics.count_load(model.name, number, "ok")
        _log.info(
            "version_live",
            model=model.name,
            version=number,
            executor=version.live.executor.name,
            buckets=list(version.live.costs.sizes),
            seconds=round(time.monotonic() - started, 3),
        )
        return True

    def _refuse(self, version: _Version, model: str, refusal: VersionRefused) -> None:
        version.refused = refusal
        metrics.count_load(model, version.place.number, refusal.check)
        _log.error(
            "version_refused", model=model, version=version.place.number, check=refusal.check, reason=refusal.reason
        )

    def _swap(self, model: _Model, number: int, actor: str) -> None:
        before, model.stable = model.stable, number
        model.routed_by = actor
        model.versions[number].on_demand = False
        metrics.set_live(model.name, number, STABLE)
        _log.info("version_stable", model=model.name, version=number, before=before)
        self._publish()

    # -- memory --------------------------------------------------------------------------------------------------

    def _kept(self, model: _Model, number: int) -> bool:
        return number == model.stable or number in model.serving.pins

    def _make_room(self, version: _Version) -> None:
        """Unload the least recently used versions until `version` fits; pinned and stable ones never."""
        if not self._memory_limit:
            return
        needed = sum(size for name, size, _ in version.place.stamp if not name.endswith((".json", ".arrow", ".npz")))
        while sum(live.memory_bytes for live in self.live()) + needed > self._memory_limit:
            spare = [
                (known.live.used_at, model, number)
                for model in self._models.values()
                for number, known in model.versions.items()
                if known.live is not None and not self._kept(model, number)
            ]
            if not spare:
                return
            _, model, number = min(spare, key=lambda entry: entry[0])
            self._drop(model, number, "memory limit")

    def _drop(self, model: _Model, number: int, why: str) -> None:
        """Let go of a version; a batch that runs holds on to it until its end."""
        version = model.versions[number]
        if version.live is None:
            return
        version.live, version.on_demand = None, False
        metrics.count_load(model.name, number, "unloaded")
        _log.info("version_unloaded", model=model.name, version=number, why=why)
        # Keras models are full of reference cycles; what start-up left was frozen, so this is quick.
        asyncio.get_running_loop().call_later(1.0, gc.collect)

    def _remove_model(self, name: str) -> None:
        model = self._models[name]
        for number in model.versions:
            self._drop(model, number, "the model's directory is gone")
        del self._models[name]

    # -- loading on demand ---------------------------------------------------------------------------------------

    def _demand(self, model: str, number: int) -> None:
        if (model, number) not in self._wanted:
            self._wanted.add((model, number))
            self._spawn(self._load_on_demand(model, number))

    async def _load_on_demand(self, name: str, number: int) -> None:
        try:
            async with self._lock:
                model = self._models.get(name)
                if model is not None and await self._bring_up(model, number):
                    model.versions[number].on_demand = not self._kept(model, number)
                self._publish()
        finally:
            self._wanted.discard((name, number))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Stop loading; waits for a load that runs."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- admin ---------------------------------------------------------------------------------------------------

    async def admin(self, action: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `EnginePort.admin`."""
        if action == "scan":
            for known in self._models.values():
                self._forgive(known)
            await self.refresh()
            return {"models": sorted(self._models)}
        actions = {"load": self._admin_load, "unload": self._admin_unload, "route": self._admin_route}
        pinning = {"pin": True, "unpin": False}
        async with self._lock:
            model = self._models.get(str(params.get("model")))
            if model is None:
                raise ModelNotFound(f"Model {params.get('model')!r} not found")
            if action in actions:
                await actions[action](model, params)
            elif action in pinning:
                await self._admin_pin(model, params, keep=pinning[action])
            else:
                raise UnknownMethod
            self._publish()
            return {
                "model": model.name,
                "roles": dict(self.catalog.models[model.name].roles),
                "live": self._alive(model),
            }

    def _alive(self, model: _Model) -> list[int]:
        return [number for number, version in model.versions.items() if version.live is not None]

    async def _admin_load(self, model: _Model, params: Mapping[str, Any]) -> None:
        number = self._param_version(model, params)
        await self._insist(model, number)
        model.versions[number].on_demand = not self._kept(model, number)

    async def _admin_unload(self, model: _Model, params: Mapping[str, Any]) -> None:
        number = self._param_version(model, params)
        if self._kept(model, number):
            raise InvalidParams("/version", "a version that is neither stable nor pinned", str(number))
        self._drop(model, number, "admin call")

    async def _admin_route(self, model: _Model, params: Mapping[str, Any]) -> None:
        stable = params.get("stable")
        if stable is not None:
            number = self._param_version(model, {"version": stable}, "/stable")
            await self._insist(model, number, "/stable")
        await self._rewrite(model, stable=stable)

    async def _admin_pin(self, model: _Model, params: Mapping[str, Any], *, keep: bool) -> None:
        number = self._param_version(model, params)
        if keep:
            await self._insist(model, number)
        pins = sorted((set(model.serving.pins) - {number}) | ({number} if keep else set()))
        await self._rewrite(model, pins=pins)

    async def _rewrite(self, model: _Model, **changes: Any) -> None:
        if model.toml_problem:
            raise InvalidParams("/model", "a model whose serving.toml is well-formed", model.toml_problem)
        try:
            model.serving = await asyncio.get_running_loop().run_in_executor(
                None, lambda: rewrite(model.path, **changes)
            )
        except (ConfigError, OSError) as error:
            _log.error("serving_toml_not_written", model=model.name, reason=str(error))
            raise InternalError("serving.toml could not be written") from error
        await self._settle(model, _ADMIN)

    async def _insist(self, model: _Model, number: int, pointer: str = "/version") -> None:
        """Load a version for an admin, who may try a refused one again."""
        if model.versions[number].refused is not None:
            self._attempts.forget(model.name, number)
            model.versions[number] = await self._read(model.versions[number].place)
        if not await self._bring_up(model, number):
            refusal = model.versions[number].refused
            self._publish()
            raise InvalidParams(pointer, "a version that can go live", f"{number}, refused: {refusal}")

    def _forgive(self, model: _Model) -> None:
        for number, version in list(model.versions.items()):
            if version.refused is not None:
                self._attempts.forget(model.name, number)
                del model.versions[number]

    def _param_version(self, model: _Model, params: Mapping[str, Any], pointer: str = "/version") -> int:
        number = params.get("version")
        if not isinstance(number, int) or isinstance(number, bool):
            raise InvalidParams(pointer, "a version number", type(number).__name__)
        if number not in model.versions:
            raise VersionNotFound(f"Model {model.name!r} has no version {number}")
        return number

    # -- telling -------------------------------------------------------------------------------------------------

    def _publish(self, *, ready: bool = False) -> None:
        models = {name: self._status(model) for name, model in sorted(self._models.items())}
        now_ready = ready or self.catalog.ready
        if models == self.catalog.models and now_ready == self.catalog.ready:
            return
        self.catalog = Catalog(models, self.catalog.generation + 1, now_ready)
        self._changed(self.catalog)

    def _status(self, model: _Model) -> ModelStatus:
        versions = tuple(self._version_status(model, n, version) for n, version in sorted(model.versions.items()))
        roles = {} if model.stable is None else {STABLE: model.stable}
        problem = model.toml_problem or model.route_problem or model.redact_problem
        return ModelStatus(model.name, roles, versions, problem, _serving_json(model.serving), model.routed_by)

    def _version_status(self, model: _Model, number: int, version: _Version) -> VersionStatus:
        live = version.live
        signature: Signature | None = version.manifest.signature if version.manifest else None
        state = "live" if live else "loading" if version.loading else "refused" if version.refused else "available"
        return VersionStatus(
            number,
            state,  # type: ignore[arg-type]  # one of the four literals above
            reason=version.refused.reason if version.refused else None,
            signature=signature,
            manifest=version.public,
            executor=live.executor.name if live else None,
            buckets=live.timings if live else (),
            pinned=number in model.serving.pins,
            memory_bytes=live.memory_bytes if live else None,
            load_ms=round(live.load_ms, 1) if live else None,
        )


def _read_public(path: Path) -> tuple[Manifest, dict[str, Any]]:
    """The manifest, and what `models.describe` shows of it, with an example of what to send."""
    manifest = read_version(path)
    public = manifest.public()
    specs, columns = manifest.inputs, read_golden(path, manifest).samples[0].inputs
    values = {spec.name: to_jsonable(column) for spec, column in zip(specs, columns, strict=True)}
    public["example_instance"] = values if len(specs) > 1 else values[specs[0].name]
    return manifest, public


def _serving_json(serving: Serving) -> dict[str, Any]:
    return {
        "stable": serving.stable,
        "pins": list(serving.pins),
        "uncategorized_below": serving.uncategorized_below,
        "batching": {
            "max_batch": serving.batching.max_batch,
            "max_batch_delay_ms": serving.batching.max_batch_delay_ms,
            "max_queue_ms": serving.batching.max_queue_ms,
        },
        "limits": {"max_instances": serving.limits.max_instances},
        "recording": {
            "policy": serving.recording.policy,
            "share": serving.recording.share,
            "low_margin": serving.recording.low_margin,
            "redact": list(serving.recording.redact),
        },
    }


def _redact_problem(model: _Model) -> str | None:
    """A pointer that hides nothing, since somebody believes that it does."""
    stable = model.versions.get(model.stable) if model.stable is not None else None
    if stable is None or stable.manifest is None:
        return None
    names = {spec.name for spec in stable.manifest.inputs}
    for pointer in model.serving.recording.redact:
        if input_of(pointer) not in names:
            return (
                f"recording.redact: {pointer} is no input of version {model.stable}; inputs: {', '.join(sorted(names))}"
            )
    return None
