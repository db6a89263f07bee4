"""What is known of each model and version."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hoverboard.contract.catalog import STABLE
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.deaths import CRASH
from hoverboard.errors import MACHINE, VersionRefused
from hoverboard.versions import Manifest, Serving, VersionOnDisk
from hoverboard.versions.roles import Assignment, Lineage, intended, lineage

__all__ = ["ADMIN", "DISK", "Model", "Version"]

DISK: Final = "disk"
ADMIN: Final = "admin"


@dataclass(slots=True, eq=False)
class Version:
    """One version: what was read of it, and whether it lives.

    Attributes:
        place: its directory.
        manifest, public: what was read of it.
        refused: why it must not go live.
        live: what answers, once it is loaded.
        loading: whether it waits to be loaded, or is being loaded.
        on_demand: it is in memory since somebody called it by number.
        ordered: it is in memory since a person said so.
        stale: to be read again at the next look, whether its files have changed or not.
        unseen: looks in a row that did not find its directory.
        gone: its directory is gone. It may still answer until another version takes over.
        tries: how often in a row this machine, not the version, has kept it from being read or loaded.
        took_s: what the last load took.
        again_at: when it is read and, where it is wanted, loaded again for that, seconds on the monotonic clock; else None.
    """

    place: VersionOnDisk
    manifest: Manifest | None = None
    public: Mapping[str, Any] | None = None
    refused: VersionRefused | None = None
    live: LiveVersion | None = None
    loading: bool = False
    on_demand: bool = False
    ordered: bool = False
    stale: bool = False
    unseen: int = 0
    gone: bool = False
    tries: int = 0
    took_s: float = 0.0
    again_at: float | None = None

    @property
    def loadable(self) -> bool:
        """Whether it is not in memory, and nothing speaks against that."""
        return self.live is None and self.refused is None and not self.gone

    @property
    def waits(self) -> bool:
        """Whether it is refused only until this machine is well again."""
        return self.refused is not None and self.refused.passing


@dataclass(slots=True, eq=False)
class Model:
    """One model.

    Attributes:
        name: its directory's.
        path: of the directory.
        serving: the last good `serving.toml`.
        serving_read: whether there was one, or no file; until then nobody knows what it wants left out of what is recorded.
        revision: grows with each admin call that rewrote it, so that an older look at the disk changes nothing.
        rewriting: held while it is rewritten.
        versions: by number; those that are on disk, and a stable one that has just left it.
        roles: what fills each role now; only what is in memory does.
        served: whether one ever has, also before the last restart.
        routed_by: who chose it.
        actor: who changed something last, for the next swap.
        disk_problem, route_problem: what is wrong with the directory or its `serving.toml`; with the stable version.
        passed_over: what looks like a version and is none.
        unseen: looks in a row that did not find it.
    """

    name: str
    path: Path
    serving: Serving = field(default_factory=Serving)
    serving_read: bool = False
    revision: int = 0
    rewriting: asyncio.Lock = field(default_factory=asyncio.Lock)
    versions: dict[int, Version] = field(default_factory=dict)
    roles: dict[str, Assignment] = field(default_factory=dict)
    served: bool = False
    routed_by: str = DISK
    actor: str = DISK
    disk_problem: str | None = None
    route_problem: str | None = None
    passed_over: tuple[str, ...] = ()
    unseen: int = 0
    _lineage: Lineage | None = None

    def lineage(self) -> Lineage:
        """Which versions may become stable by being the highest."""
        if self._lineage is None:
            # One on which the engine died, or this machine failed, may have served: its callers are there still.
            unfit = {number for number, version in self.versions.items() if _unfit(version)}
            read = {n: v.manifest for n, v in self.versions.items() if v.manifest is not None and not v.gone}
            self._lineage = lineage(read, unfit)
        return self._lineage

    def changed(self) -> None:
        """Say that a version came, went or was refused."""
        self._lineage = None

    def intended(self) -> Mapping[str, Assignment]:
        """What is to fill each role."""
        return intended(
            self.serving, self.lineage(), {number for number, each in self.versions.items() if each.refused}
        )

    def pending(self) -> Iterator[tuple[str, Assignment, Version]]:
        """The roles that are not filled as intended yet, with the version that is to fill them."""
        for role, assignment in self.intended().items():
            version = self.versions.get(assignment.version)
            if version is not None and assignment != self.roles.get(role):
                yield role, assignment, version

    def answering(self, number_or_role: int | str) -> LiveVersion | None:
        """The version that answers to a number or a role now; asked for every call, and for every batch of a role."""
        number = number_or_role
        if isinstance(number, str):
            role = self.roles.get(number)
            if role is None:
                return None
            number = role.version
        version = self.versions.get(number)
        return None if version is None else version.live

    @property
    def stable(self) -> int | None:
        """The version that answers calls that name none."""
        role = self.roles.get(STABLE)
        return None if role is None else role.version

    def filled(self) -> dict[str, int]:
        """The numbers of the versions that fill the roles."""
        return {role: each.version for role, each in self.roles.items()}

    def kept(self, number: int) -> bool:
        """Whether a version stays in memory whatever else is short."""
        return number in self.serving.pins or number in self.filled().values()

    def alive(self) -> list[int]:
        """The numbers of the versions in memory."""
        return sorted(number for number, version in self.versions.items() if version.live is not None)

    @property
    def hides(self) -> bool:
        """Whether what callers send must not be written down as it came."""
        return not self.serving_read or self.serving.recording.hides

    @property
    def needed(self) -> bool:
        """Whether callers know it, or a person has named a version of it."""
        return self.served or self.serving.stable is not None


def _unfit(version: Version) -> bool:
    return version.refused is not None and version.refused.check not in (CRASH, MACHINE)
