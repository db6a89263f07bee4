"""What an engine says of its models and versions; frozen values.

Units: durations end in `_ms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hoverboard.contract.signature import Signature

__all__ = ["STABLE", "BucketTiming", "Catalog", "ModelStatus", "VersionState", "VersionStatus", "versions_in_words"]

STABLE: Final = "stable"
"""The role that answers calls that name no version."""
_MOST_NAMED: Final = 10
VersionState = Literal["live", "loading", "available", "refused"]


def versions_in_words(numbers: Iterable[int]) -> str:
    """The versions that there are, for an error on one that is not; of many the highest."""
    ordered = sorted(numbers)
    more = ["..."] if len(ordered) > _MOST_NAMED else []
    return f"it has {', '.join([*more, *map(str, ordered[-_MOST_NAMED:])]) or 'none'}"


@dataclass(frozen=True, slots=True)
class BucketTiming:
    """Execution time of one batch bucket, measured at load: l(b).

    Attributes:
        size: samples in the bucket.
        mean_ms: mean execution time without any queueing, the slowest quarter of the runs left out.
        p99_ms: 99th percentile of all runs.
    """

    size: int
    mean_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version as the engine sees it.

    Attributes:
        version: its number.
        state: `live` (answers), `loading`, `available` (on disk, loaded on demand), `refused` (see `reason`).
        reason: why it is refused, or does not become stable, one sentence.
        signature: known once the manifest has been read.
        manifest: the manifest as JSON-ready values, without checksums; for `models.describe`.
        executor: how its graph runs, such as `tf`, `tf-direct` or `tf-xla`; None unless live.
        buckets: the kept buckets with their timings, smallest first; empty unless live.
        pinned: whether it stays in memory whatever the routing says.
        memory_bytes: what its weights take; None unless live.
        load_ms: what loading took; None unless live.
        sandbox: what kept it from reaching out while it was tried before it was loaded; None unless live.
        passing: whether it is refused only for what is wrong with the machine now: it is tried again by itself.
    """

    version: int
    state: VersionState
    reason: str | None = None
    signature: Signature | None = None
    manifest: Mapping[str, Any] | None = None
    executor: str | None = None
    buckets: tuple[BucketTiming, ...] = ()
    pinned: bool = False
    memory_bytes: int | None = None
    load_ms: float | None = None
    sandbox: str | None = None
    passing: bool = False


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model as the engine sees it.

    Attributes:
        name: its directory's name.
        roles: role -> the live version that fills it; no `stable` key means nothing answers yet.
        versions: every version on disk, highest last.
        problem: what keeps the wished-for configuration from being in force (a malformed serving.toml, a refused
            stable version), one sentence; None when all is well.
        serving: what `serving.toml` says, defaults filled in, JSON-ready.
        routed_by: who chose the present roles: `admin`, or `disk` (a new version, an edited serving.toml, a start).
        served: whether a version of it has ever been stable, also before the last restart.
    """

    name: str
    roles: Mapping[str, int]
    versions: tuple[VersionStatus, ...]
    problem: str | None = None
    serving: Mapping[str, Any] = field(default_factory=dict)
    routed_by: str = "disk"
    served: bool = False

    def number(self, number_or_role: int | str) -> int | None:
        """The version that a number or a role stands for; None for a role that nothing fills."""
        return self.roles.get(number_or_role) if isinstance(number_or_role, str) else number_or_role

    def version(self, number: int) -> VersionStatus | None:
        """The status of one version, or None where there is no such version."""
        return next((status for status in self.versions if status.version == number), None)


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything the engine knows about its models at one moment. Replaced whole, never changed.

    Attributes:
        models: by name.
        generation: grows with every change.
        ready: whether the first scan is over and each model has had its chance to load.
        problem: why the models directory itself cannot be looked at; what is in memory goes on.
    """

    models: Mapping[str, ModelStatus] = field(default_factory=dict)
    generation: int = 0
    ready: bool = False
    problem: str | None = None
