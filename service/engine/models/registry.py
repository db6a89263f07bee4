"""What answers a call now: the one place the rest of the engine asks about versions; the files beside it keep it true."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from hoverboard.contract.catalog import Catalog
from hoverboard.contract.unavailable import unavailable
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.admin import Admin
from hoverboard.engine.models.catalog import Models
from hoverboard.engine.models.deaths import LoadAttempts
from hoverboard.engine.models.disk_changes import Follower
from hoverboard.engine.models.loads import Loads, LoadVersion
from hoverboard.engine.models.memory import Memory
from hoverboard.engine.models.role_filling import Roles
from hoverboard.engine.models.served_before import Served
from hoverboard.engine.models.state import Model
from hoverboard.engine.models.status import status_of
from hoverboard.errors import RpcError
from hoverboard.versions import Serving

__all__ = ["Registry"]


class Registry:
    """Keeps the live versions in step with the models directory.

    Args:
        models: the directory.
        load: loads one version, blocking; runs on `pool`.
        pool: of two threads.
        attempts: remembers versions on which the process died.
        memory_limit_bytes: of all weights in memory; 0 for no limit.
        changed: called with each new catalog.
        served: where to remember which models have served; None remembers nothing.
    """

    def __init__(
        self,
        models: Path,
        load: LoadVersion,
        pool: Executor,
        attempts: LoadAttempts,
        *,
        memory_limit_bytes: int,
        changed: Callable[[Catalog], None],
        served: Path | None = None,
    ) -> None:
        self._models = Models(changed)
        memory = Memory(self._models, memory_limit_bytes)
        self._loads = Loads(self._models, memory, load, pool, attempts, settle=self._settle)
        self._roles = Roles(self._models, memory, self._loads, Served(served))
        self._follower = Follower(models, self._models, self._loads, self._roles)
        self.live, self.again_in_s, self.aclose = self._models.live, self._loads.again_in_s, self._loads.aclose
        self.admin = Admin(self._models, memory, self._loads, self._roles, self._follower).do

    def _settle(self, model: Model) -> None:
        """Roles have versions loaded, and each load that ends may fill a role: one of the two is made first."""
        self._roles.settle(model)

    @property
    def catalog(self) -> Catalog:
        """What is known of the models now."""
        return self._models.catalog

    def lookup(self, model: str, number_or_role: int | str) -> LiveVersion:
        """The live version that answers to a number or a role now.

        Raises:
            ModelNotFound, VersionNotFound: there is no such thing, or it cannot go live, and why.
            NotReady: it exists and is not loaded; `demand` has it loaded.
        """
        entry = self._models.by_name.get(model)
        if entry is not None:
            live = entry.answering(number_or_role)
            if live is not None:
                return live
        raise self._unavailable(model, entry, number_or_role)

    def _unavailable(self, name: str, model: Model | None, number_or_role: int | str) -> RpcError:
        starting = not self.catalog.ready
        only = number_or_role if isinstance(number_or_role, int) else None
        # An api that remembers the engine before this one may ask while the first look at a model is still under way.
        if model is not None and starting and only is not None and only not in model.versions:
            model = None
        # Not the catalog's status: a look or an admin call that is under way has not published yet.
        status = None if model is None else status_of(model, only)
        return unavailable(name, status, number_or_role, starting=starting, names=self._models.by_name)

    def demand(self, model: str, number_or_role: int | str) -> None:
        """Have a version loaded that somebody called by number, where it is on disk only.

        Raises:
            Overloaded: too many others are being loaded already.
        """
        entry = self._models.by_name.get(model)
        if entry is not None and isinstance(number_or_role, int):
            self._loads.demand(entry, number_or_role)

    def serving(self, model: str) -> Serving:
        """The model's `serving.toml` in force; the defaults for a model that is gone, whose calls may still wait."""
        entry = self._models.by_name.get(model)
        return entry.serving if entry is not None else Serving()

    def hides(self, model: str) -> bool:
        """Whether what callers send to a model must not be written down as it came; so it is where nobody knows."""
        entry = self._models.by_name.get(model)
        return entry is None or entry.hides

    async def refresh(self) -> None:
        """Look at the disk once, and begin what it takes to be in step with it; waits for no load."""
        await self._follower.look()

    async def settled(self) -> None:
        """Wait until every version that is wanted has had its chance, and say so in the catalog."""
        await self._loads.quiet()
        self._models.publish(ready=True)
