"""Which version answers calls that name none, where `serving.toml` does not say: decided from what is on disk alone.

The highest one does, but a version on which callers of the one before may break waits for a word from a person. The
versions are walked upwards, so that a restart comes to the same answer as the service that ran before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from hoverboard.versions.compare import Difference, breaking
from hoverboard.versions.manifest import Manifest

__all__ = ["Lineage", "Waiting", "lineage"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a version does not become stable by being the highest.

    Attributes:
        before: the version whose callers may break on it.
        differences: on what.
    """

    before: int
    differences: tuple[Difference, ...]

    def said(self, model: str, number: int) -> str:
        """One sentence that ends in what to do."""
        found = "; ".join(map(str, self.differences))
        return (
            f"version {number} waits, since callers of version {self.before} may break on it ({found}): "
            f"`hoverboard models route {model} {number}` makes it stable"
        )


@dataclass(frozen=True, slots=True)
class Lineage:
    """The versions of a model in order.

    Attributes:
        accepted: those that may become stable by being the highest, ascending.
        waiting: the others.
    """

    accepted: tuple[int, ...] = ()
    waiting: Mapping[int, Waiting] = field(default_factory=dict)

    def highest(self, refused: Collection[int]) -> int | None:
        """The highest accepted version that was not refused."""
        return max((number for number in self.accepted if number not in refused), default=None)


def lineage(manifests: Mapping[int, Manifest], refused: Collection[int] = ()) -> Lineage:
    """Walk the versions upwards, each held against the last one that was accepted.

    Args:
        manifests: by number, as far as they could be read.
        refused: versions that cannot go live. Where all that were accepted are refused, nobody calls them, and the
            walk begins again with the rest.
    """
    rest = dict(sorted(manifests.items()))
    while True:
        found = _walk(rest)
        if not found.waiting or found.highest(refused) is not None:
            return found
        rest = {number: rest[number] for number in found.waiting}


def _walk(manifests: Mapping[int, Manifest]) -> Lineage:
    accepted: list[int] = []
    waiting: dict[int, Waiting] = {}
    for number, manifest in manifests.items():
        differences: tuple[Difference, ...] = ()
        # None: published before versions were compared. What has served until now goes on.
        if accepted and manifest.breaking is False:
            differences = breaking(manifests[accepted[-1]], manifest)
        if differences:
            waiting[number] = Waiting(accepted[-1], differences)
        else:
            accepted.append(number)
    return Lineage(tuple(accepted), waiting)
