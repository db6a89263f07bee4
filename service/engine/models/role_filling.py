"""Fills each model's roles: swaps to what is intended once it lives, and lets go of what no role needs any more.

Every method that changes anything runs on the event loop and awaits nothing, so that no two changes mix.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import structlog

from hoverboard.contract.catalog import STABLE
from hoverboard.engine.models.catalog import Models
from hoverboard.engine.models.loads import Loads
from hoverboard.engine.models.memory import Memory
from hoverboard.engine.models.served_before import Served
from hoverboard.engine.models.state import Model
from hoverboard.telemetry import families
from hoverboard.versions.roles import Assignment

__all__ = ["Roles"]

_log = structlog.get_logger(__name__)


class Roles:
    """The roles of all models.

    Args:
        models: whose roles.
        memory: of their versions.
        loads: has versions loaded.
        served: which models have served.
    """

    def __init__(self, models: Models, memory: Memory, loads: Loads, served: Served) -> None:
        self._models = models
        self._memory = memory
        self._loads = loads
        self._served = served

    def add(self, name: str, path: Path) -> Model:
        """The model of a name; a new one where it is not known."""
        model = self._models.by_name.get(name)
        if model is None:
            model = self._models.by_name[name] = Model(name, path, served=name in self._served)
            families.live_version.labels(name, STABLE).set(0)  # until a version does
        return model

    def remove(self, name: str) -> None:
        """Let go of a model whose directory is gone."""
        model = self._models.by_name[name]
        for number in model.versions:
            self._memory.drop(model, number, "the model's directory is gone")
        families.live_version.labels(name, STABLE).set(0)
        self._served.remove(name)
        del self._models.by_name[name]

    def settle(self, model: Model) -> None:
        """Swap to what should serve if it lives, else have it loaded; let go of what nobody wants."""
        for role, assignment, version in list(model.pending()):
            if version.live is not None:
                self._fill(model, role, assignment)
            elif version.loadable:
                self._loads.want(model, version)
        intended = model.intended()
        model.route_problem = _route_problem(model, intended)
        for pin in model.serving.pins:
            pinned = model.versions.get(pin)
            if pinned is not None and pinned.loadable:
                self._loads.want(model, pinned)
        self._let_go(model, intended)

    async def settled(self, model: Model) -> None:
        """Wait until a model's roles are filled as intended, or cannot be."""
        while loads := [load for *_, version in model.pending() if (load := self._loads.of(version)) is not None]:
            await asyncio.shield(loads[0])  # one after the other: what ends may change what is intended

    def _fill(self, model: Model, role: str, assignment: Assignment) -> None:
        before, number = model.filled().get(role), assignment.version
        model.roles[role] = assignment
        model.routed_by = model.actor
        model.served = True
        # From now on the role keeps it in memory: it leaves with the role.
        model.versions[number].on_demand = model.versions[number].ordered = False
        self._served.add(model.name)
        families.live_version.labels(model.name, role).set(number)
        _log.info(f"version_{role}", model=model.name, version=number, before=before)

    def _let_go(self, model: Model, intended: Mapping[str, Assignment]) -> None:
        """Drop what is not kept; one in a role that left the disk goes once another has taken over, or where none can."""
        for number, version in list(model.versions.items()):
            roles = [role for role, each in model.roles.items() if each.version == number]
            if version.gone and intended.keys().isdisjoint(roles):
                self._memory.drop(model, number, "its directory is gone")
                del model.versions[number]
                model.changed()
                for role in roles:
                    del model.roles[role]
                    families.live_version.labels(model.name, role).set(0)
            elif version.live is not None and not (version.on_demand or version.ordered or model.kept(number)):
                self._memory.drop(model, number, "no longer routed to")


def _route_problem(model: Model, intended: Mapping[str, Assignment]) -> str | None:
    """Why what `serving.toml` asks for is not in force, or nothing is."""
    if STABLE not in intended:
        reasons = [f"version {number}: {v.refused.reason}" for number, v in sorted(model.versions.items()) if v.refused]
        nothing = f"no version can go live ({reasons[-1] if reasons else 'there is none'})"
        return nothing if model.stable is None else None
    number = intended[STABLE].version
    version = model.versions.get(number)
    if version is None:
        return f"stable = {number}: no such version"
    if version.refused is not None and number != model.stable:
        return f"stable = {number}: {version.refused.reason}"
    if version.gone and model.serving.stable is not None:
        return (
            f"stable = {number}: its directory is gone, and it answers from memory until the service restarts: "
            f"put it back, or choose another with `hoverboard models route {model.name} N`"
        )
    return None
