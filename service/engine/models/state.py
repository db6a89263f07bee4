"""What is known of each model and version, and how it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hoverboard.engine.models.attempts import CRASH
from hoverboard.engine.live import LiveVersion
from hoverboard.errors import MACHINE, VersionRefused
from hoverboard.engine.recording.policy import redact_problem
from hoverboard.contract.catalog import ModelStatus, VersionStatus
from hoverboard.contract.signature import Signature
from hoverboard.versions import Manifest, Serving, VersionOnDisk
from hoverboard.versions.roles import Lineage, lineage

__all__ = ["ADMIN", "DISK", "STABLE", "Model", "Version"]

STABLE: Final = "stable"
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
        stable: the version that answers calls that name none.
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
    stable: int | None = None
    served: bool = False
    routed_by: str = DISK
    actor: str = DISK
    disk_problem: str | None = None
    route_problem: str | None = None
    passed_over: tuple[str, ...] = ()
    unseen: int = 0
    _lineage: Lineage | None = None

    # -- roles ---------------------------------------------------------------------------------------------------

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

    def wanted(self) -> int | None:
        """The version that should be stable: the one that is named, else the highest that may."""
        if self.serving.stable is not None:
            return self.serving.stable
        return self.lineage().highest({number for number, version in self.versions.items() if version.refused})

    def kept(self, number: int) -> bool:
        """Whether a version stays in memory whatever else is short."""
        return number == self.stable or number in self.serving.pins

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

    def loads(self) -> bool:
        """Whether any version is on its way into memory."""
        return any(version.loading for version in self.versions.values())

    # -- telling -------------------------------------------------------------------------------------------------

    def status(self) -> ModelStatus:
        """What everybody may know."""
        versions = tuple(self._version_status(n, version) for n, version in sorted(self.versions.items()))
        roles = {} if self.stable is None else {STABLE: self.stable}
        problem = "; ".join(self._problems()) or None
        return ModelStatus(
            self.name, roles, versions, problem, self._serving_json(), self.routed_by, served=self.served
        )

    def _problems(self) -> Iterator[str]:
        """What keeps the wished-for configuration from being in force, most severe first."""
        yield from filter(None, (self.disk_problem, self.route_problem, self._waiting_problem(), self._redact_problem()))
        yield from self.passed_over

    def _waiting_problem(self) -> str | None:
        waiting = self.lineage().waiting
        if self.serving.stable is not None or not waiting:
            return None
        newest = max(waiting)
        if newest < (self.stable or 0) or self.versions[newest].refused:
            return None
        return waiting[newest].sentence(self.name, newest)

    def _redact_problem(self) -> str | None:
        """Why nothing of a version that answers is recorded; of the stable one first."""
        for number in sorted(self.alive(), key=lambda each: each != self.stable):
            manifest = self.versions[number].manifest
            problem = None if manifest is None else redact_problem(self.serving.recording.redact, manifest.signature)
            if problem is not None:
                return f"{problem}; nothing of version {number} is recorded until this is right"
        return None

    def _serving_json(self) -> dict[str, Any]:
        said = _serving_json(self.serving)
        return said if self.serving_read else said | {"unread": True}

    def _version_status(self, number: int, version: Version) -> VersionStatus:
        live = version.live
        signature: Signature | None = version.manifest.signature if version.manifest else None
        if live is not None:
            signature = live.signature  # it knows the least lengths that an old manifest does not say
        state = "live" if live else "loading" if version.loading else "refused" if version.refused else "available"
        return VersionStatus(
            number,
            state,  # type: ignore[arg-type]  # one of the four literals above
            reason=self._reason(number, version),
            signature=signature,
            manifest=version.public,
            executor=live.executor.name if live else None,
            buckets=live.timings if live else (),
            pinned=number in self.serving.pins,
            memory_bytes=live.memory_bytes if live else None,
            load_ms=round(live.load_ms, 1) if live else None,
            sandbox=live.sandbox if live else None,
            passing=version.waits,
        )

    def _reason(self, number: int, version: Version) -> str | None:
        if version.refused is not None:
            return version.refused.reason
        if version.gone:
            return "its directory is gone"
        waiting = self.lineage().waiting.get(number)
        return waiting.sentence(self.name, number) if waiting is not None and version.live is None else None


def _unfit(version: Version) -> bool:
    return version.refused is not None and version.refused.check not in (CRASH, MACHINE)


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
