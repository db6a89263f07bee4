"""What answers a call now: the one place the rest of the engine asks about versions; `engine/models` keeps it true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hoverboard.engine.models.attempts import LoadAttempts
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.admin import Admin
from hoverboard.engine.models.follow import Follower
from hoverboard.engine.models.keeper import Keeper, loadable
from hoverboard.engine.models.served import Served
from hoverboard.engine.models.state import STABLE, Model, Version
from hoverboard.errors import ModelNotFound, NotReady, VersionNotFound
from hoverboard.contract.catalog import Catalog
from hoverboard.versions import Serving, VersionOnDisk

__all__ = ["STABLE", "Registry"]

LoadVersion = Callable[[VersionOnDisk, int | None], LiveVersion]


class Registry:
    """Keeps the live versions in step with the models directory.

    Args:
        models: the directory.
        load: loads one version, blocking; runs on `loader`.
        loader: a pool of two threads.
        attempts: remembers versions on which the process died.
        memory_limit_bytes: of all weights in memory; 0 for no limit.
        changed: called with each new catalog.
        served: where to remember which models have served; None remembers nothing.
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
        served: Path | None = None,
    ) -> None:
        self._load_version = load
        self._loader = loader
        self._attempts = attempts
        self._keeper = Keeper(
            self._load,
            suspect=lambda model, number: attempts.deaths(model, number) > 0,
            served=Served(served),
            memory_limit_bytes=memory_limit_bytes,
            changed=changed,
        )
        self._follower = Follower(models, self._keeper)
        self._admin = Admin(self._keeper, self._follower, attempts.forget)

    @property
    def catalog(self) -> Catalog:
        """What is known of the models now."""
        return self._keeper.catalog

    def lookup(self, model: str, wanted: int | str) -> LiveVersion:
        """The live version that answers to a number or a role now.

        Raises:
            ModelNotFound, VersionNotFound: there is no such thing, or it cannot go live, and why.
            NotReady: it exists and is not loaded; `demand` has it loaded.
        """
        entry = self._keeper.models.get(model)
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
        if version.refused is not None and version.waits:
            reason = version.refused.reason
            raise NotReady(f"Version {number} of {model!r} cannot be loaded now: {reason}", retry_after_ms=1000)
        if version.refused is not None:
            raise VersionNotFound(f"Version {number} of {model!r} was refused: {version.refused.reason}")
        if version.gone:
            raise VersionNotFound(f"Version {number} of {model!r} is not on disk any more")
        raise NotReady(f"Version {number} of {model!r} is loading", retry_after_ms=1000)

    def demand(self, model: str, wanted: int | str) -> None:
        """Have a version loaded that somebody called by number, where it is on disk only.

        Raises:
            Overloaded: too many others are being loaded already.
        """
        entry = self._keeper.models.get(model)
        version = entry.versions.get(wanted) if entry is not None and isinstance(wanted, int) else None
        if entry is not None and version is not None and loadable(version):
            self._keeper.demand(entry, version)

    def _number(self, entry: Model, wanted: int | str) -> int:
        if isinstance(wanted, int):
            return wanted
        if wanted != STABLE:
            raise VersionNotFound(f"Model {entry.name!r} has no role {wanted!r}; roles: {STABLE}")
        if entry.stable is not None:
            return entry.stable
        if entry.loads() or not self.catalog.ready:
            raise NotReady(f"Model {entry.name!r} has no live version yet", retry_after_ms=1000)
        reason = entry.status().problem or "no version is on disk"
        said, details = f"Model {entry.name!r} has no live version: {reason}", {"model": entry.name, "reason": reason}
        if any(version.waits for version in entry.versions.values()):
            raise NotReady(said, details=details, retry_after_ms=1000)
        raise VersionNotFound(said, details=details)

    def serving(self, model: str) -> Serving:
        """The model's `serving.toml` in force; the defaults for a model that is gone, whose calls may still wait."""
        entry = self._keeper.models.get(model)
        return entry.serving if entry is not None else Serving()

    def hides(self, model: str) -> bool:
        """Whether what callers send to a model must not be written down as it came; so it is where nobody knows."""
        entry = self._keeper.models.get(model)
        return entry is None or entry.hides

    def live(self) -> list[LiveVersion]:
        """Every version in memory."""
        return self._keeper.live()

    def again_in_s(self) -> float:
        """Seconds until the next look is due for a version that this machine keeps from being loaded; infinite for none."""
        return self._keeper.again_in_s()

    async def refresh(self) -> None:
        """Look at the disk once, and begin what it takes to be in step with it; waits for no load."""
        await self._follower.look()

    async def settled(self) -> None:
        """Wait until every version that is wanted has had its chance, and say so in the catalog."""
        await self._keeper.loads.quiet()
        self._keeper.publish(ready=True)

    async def admin(self, action: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `EnginePort.admin`."""
        return await self._admin.do(action, params)

    async def aclose(self) -> None:
        """Stop loading; waits for a load that runs."""
        await self._keeper.loads.aclose()

    async def _load(self, model: Model, version: Version) -> LiveVersion:
        number, max_batch = version.place.number, model.serving.batching.max_batch
        self._attempts.check(model.name, number)
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._loader, self._load_version, version.place, max_batch
            )
        finally:
            self._attempts.survived(model.name, number)
