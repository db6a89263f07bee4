"""Keeps what is in memory in step with what is wanted: decides, has loaded, swaps, lets go, and tells.

Every method that changes anything runs on the event loop and awaits nothing, so that no two changes mix.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import Callable

import structlog

from hoverboard.contract.catalog import Catalog
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.loads import Load, Loads
from hoverboard.engine.models.served import Served
from hoverboard.engine.models.state import STABLE, Model, Version
from hoverboard.errors import Overloaded, VersionRefused
from hoverboard.machine import pause_s
from hoverboard.telemetry import families

__all__ = ["Keeper", "loadable"]

_log = structlog.get_logger(__name__)
_MOST_ON_DEMAND = 8
"""Versions in memory, or on their way there, only because somebody called them by number."""
_LONGEST_REASON = 2000


class Keeper:
    """The models of an engine.

    Args:
        load: loads one version.
        suspect: whether the process died while a version ran, by model and number.
        served: which models have served.
        memory_limit_bytes: of all weights in memory; 0 for no limit.
        changed: called with each new catalog.
    """

    def __init__(
        self,
        load: Load,
        *,
        suspect: Callable[[str, int], bool],
        served: Served,
        memory_limit_bytes: int,
        changed: Callable[[Catalog], None],
    ) -> None:
        self.models: dict[str, Model] = {}
        self.loads = Loads(self._load, self)
        self.catalog = Catalog()
        self.problem: str | None = None
        self._load_version = load
        self._suspect = suspect
        self._served = served
        self._memory_limit = memory_limit_bytes
        self._changed = changed

    # -- what is wanted ------------------------------------------------------------------------------------------

    def settle(self, model: Model) -> None:
        """Swap to what should serve if it lives, else have it loaded; let go of what nobody wants."""
        wanted = model.wanted()
        version = model.versions.get(wanted) if wanted is not None else None
        if wanted is not None and version is not None and wanted != model.stable:
            if version.live is not None:
                self._swap(model, wanted)
            elif loadable(version):
                self.want(model, version)
        model.route_problem = _route_problem(model, wanted)
        for pin in model.serving.pins:
            pinned = model.versions.get(pin)
            if pinned is not None and loadable(pinned):
                self.want(model, pinned)
        self._let_go(model)

    def want(self, model: Model, version: Version) -> asyncio.Future[None]:
        """Have a version loaded; see `Loads.want`."""
        number = version.place.number
        asked_for = version.ordered or (number == model.serving.stable and model.stable is not None)
        return self.loads.want(model, version, asked_for=asked_for, suspect=self._suspect(model.name, number))

    async def settled(self, model: Model) -> None:
        """Wait until a model's stable version is the wanted one, or cannot be."""
        while (wanted := model.wanted()) is not None and wanted != model.stable:
            version = model.versions.get(wanted)
            job = self.loads.of(version) if version is not None else None
            if job is None:
                return
            await asyncio.shield(job)

    def _let_go(self, model: Model) -> None:
        """Drop what is not kept; a stable version that left the disk goes once another has taken over."""
        replaceable = model.serving.stable is None and model.wanted() is None
        for number, version in list(model.versions.items()):
            if version.gone and (number != model.stable or replaceable):
                self.drop(model, number, "its directory is gone")
                del model.versions[number]
                model.changed()
                if number == model.stable:
                    model.stable = None
                    families.live_version.labels(model.name, STABLE).set(0)
            elif version.live is not None and not (version.on_demand or version.ordered or model.kept(number)):
                self.drop(model, number, "no longer routed to")

    def _swap(self, model: Model, number: int) -> None:
        before, model.stable = model.stable, number
        model.routed_by = model.actor
        model.served = True
        model.versions[number].on_demand = model.versions[number].ordered = False
        self._served.add(model.name)
        families.live_version.labels(model.name, STABLE).set(number)
        _log.info("version_stable", model=model.name, version=number, before=before)

    # -- loads ---------------------------------------------------------------------------------------------------

    def demand(self, model: Model, version: Version) -> None:
        """Have a version loaded since somebody called it by number.

        Raises:
            Overloaded: as many others are on their way already.
        """
        if version.loading:
            return
        waiting = sum(v.on_demand and v.loading for m in self.models.values() for v in m.versions.values())
        if waiting >= _MOST_ON_DEMAND:
            raise Overloaded("Too many versions are being loaded on demand", retry_after_ms=1000)
        version.on_demand = True
        self.want(model, version)
        self.publish()

    async def _load(self, model: Model, version: Version) -> LiveVersion:
        self._make_room(version)
        self.publish()
        started = time.monotonic()
        try:
            return await self._load_version(model, version)
        finally:
            version.took_s = time.monotonic() - started

    def still_wanted(self, model: Model, version: Version) -> bool:
        """See `Owner`."""
        number = version.place.number
        if self.models.get(model.name) is not model or model.versions.get(number) is not version:
            return False
        wanted = number == model.wanted() or number in model.serving.pins or version.on_demand or version.ordered
        return wanted and loadable(version)

    def loaded(self, model: Model, version: Version, outcome: LiveVersion | VersionRefused | None) -> None:
        """See `Owner`."""
        number = version.place.number
        known = self.models.get(model.name) is model and model.versions.get(number) is version
        if isinstance(outcome, VersionRefused):
            self.refuse(model, version, outcome)
        elif outcome is not None and known and not version.gone:
            version.live = outcome
            version.tries = 0
            version.public = {**(version.public or {}), "inputs": outcome.source.manifest["inputs"]}
            outcome.used_at = time.monotonic()
            families.loads.labels(model.name, number, "ok").inc()
            families.memory_bytes.labels(model.name, number).set(outcome.memory_bytes)
            _log.info(
                "version_live",
                model=model.name,
                version=number,
                executor=outcome.executor.name,
                buckets=list(outcome.costs.sizes),
                seconds=round(outcome.load_ms / 1e3, 3),
            )
        if known:
            self.settle(model)
            self._crowd_out()
        self.publish()

    def refuse(self, model: Model, version: Version, refusal: VersionRefused) -> None:
        """Keep a version from going live, for good or until this machine is well again, and say so."""
        refusal = VersionRefused(refusal.reason[:_LONGEST_REASON], check=refusal.check)
        facts = {"model": model.name, "version": version.place.number, "check": refusal.check, "reason": refusal.reason}
        if refusal.passing:
            version.tries += 1
            pause = pause_s(version.tries, version.took_s)
            version.again_at = time.monotonic() + pause
            said = f"{refusal.reason} (something is wrong with this machine, not with the version: tried again in {pause:.0f} s)"
            version.refused = VersionRefused(said, check=refusal.check)
            _log.warning("version_waits", **facts, again_in_s=round(pause), tries=version.tries)
        else:
            version.refused = refusal
            _log.error("version_refused", **facts)
        version.on_demand = version.ordered = False
        model.changed()
        families.loads.labels(model.name, version.place.number, refusal.check).inc()

    def again_in_s(self) -> float:
        """Seconds until the first version that waits for this machine to be well is tried again; infinite where none does."""
        waiting = [v.again_at for m in self.models.values() for v in m.versions.values() if v.again_at is not None]
        return min(waiting, default=math.inf) - time.monotonic()

    # -- memory --------------------------------------------------------------------------------------------------

    def live(self) -> list[LiveVersion]:
        """Every version in memory."""
        return [v.live for model in self.models.values() for v in model.versions.values() if v.live is not None]

    def _make_room(self, version: Version) -> None:
        """Unload the least recently used versions until `version` fits; pinned and stable ones never."""
        if not self._memory_limit:
            return
        needed = sum(size for name, size, *_ in version.place.stamp if not name.endswith((".json", ".arrow", ".npz")))
        while sum(live.memory_bytes for live in self.live()) + needed > self._memory_limit:
            spare = self._spare(lambda model, number, _: not model.kept(number))
            if spare is None:
                return
            self.drop(*spare, "memory limit")

    def _crowd_out(self) -> None:
        """Callers may ask for any number on disk; of what is in memory only for that, the last used ones stay."""
        on_demand = [v for model in self.models.values() for v in model.versions.values() if v.live and v.on_demand]
        if len(on_demand) > _MOST_ON_DEMAND:
            spare = self._spare(lambda model, number, v: v.on_demand and not model.kept(number))
            if spare is not None:
                self.drop(*spare, "others were asked for since")

    def _spare(self, may_go: Callable[[Model, int, Version], bool]) -> tuple[Model, int] | None:
        """The least recently used version in memory among those that may go."""
        spare = [
            (version.live.used_at, model.name, number)
            for model in self.models.values()
            for number, version in model.versions.items()
            if version.live is not None and may_go(model, number, version)
        ]
        if not spare:
            return None
        _, name, number = min(spare)
        return self.models[name], number

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

    # -- models that come and go -----------------------------------------------------------------------------------

    def model(self, name: str, fresh: Model) -> Model:
        """The model of a name; `fresh` where it is new."""
        model = self.models.setdefault(name, fresh)
        if model is fresh:
            model.served = name in self._served
            families.live_version.labels(name, STABLE).set(0)  # until a version does
        return model

    def remove(self, name: str) -> None:
        """Let go of a model whose directory is gone."""
        model = self.models[name]
        for number in model.versions:
            self.drop(model, number, "the model's directory is gone")
        families.live_version.labels(name, STABLE).set(0)
        self._served.remove(name)
        del self.models[name]

    # -- telling -------------------------------------------------------------------------------------------------

    def publish(self, *, ready: bool = False) -> None:
        """Tell everybody what has changed; nothing where nothing has.

        Args:
            ready: say from now on that each model has had its chance.
        """
        models = {name: model.status() for name, model in sorted(self.models.items())}
        now_ready = ready or self.catalog.ready
        known = self.catalog
        if (models, now_ready, self.problem) == (known.models, known.ready, known.problem):
            return
        self.catalog = Catalog(models, known.generation + 1, now_ready, self.problem)
        self._changed(self.catalog)


def loadable(version: Version) -> bool:
    """Whether a version is not in memory, and nothing speaks against that."""
    return version.live is None and version.refused is None and not version.gone


def _route_problem(model: Model, wanted: int | None) -> str | None:
    if wanted is None:
        reasons = [f"version {number}: {v.refused.reason}" for number, v in sorted(model.versions.items()) if v.refused]
        return (
            None
            if model.stable is not None
            else f"no version can go live ({reasons[-1] if reasons else 'there is none'})"
        )
    version = model.versions.get(wanted)
    named = model.serving.stable is not None
    if version is None:
        return f"stable = {wanted}: no such version"
    if version.refused is not None and wanted != model.stable:
        return f"stable = {wanted}: {version.refused.reason}"
    if version.gone and named:
        return (
            f"stable = {wanted}: its directory is gone, and it answers from memory until the service restarts: "
            f"put it back, or choose another with `hoverboard models route {model.name} N`"
        )
    return None
