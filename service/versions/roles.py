"""What a role means: which version is to fill it, decided from what is on disk alone.

Stable is the version that `serving.toml` names. Where it names none, the highest one is, but a version on which callers of the
one before may break waits for a word from a person. The versions are walked upwards, so that a restart comes to the same
answer as the service that ran before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from hoverboard.contract.catalog import STABLE
from hoverboard.versions.compare import Difference, breaking
from hoverboard.versions.manifest import Manifest
from hoverboard.versions.serving import Serving

__all__ = ["Assignment", "Lineage", "Waiting", "intended", "lineage"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """What fills a role.

    Attributes:
        version: its number.
        share: of the role's calls that it answers, 0 to 1.
    """

    version: int
    share: float = 1.0


def intended(serving: Serving, line: Lineage, refused: Collection[int] = ()) -> Mapping[str, Assignment]:
    """What is to fill each role, whether it is in memory yet or not; no entry for a role that nothing can fill.

    Args:
        serving: what `serving.toml` says.
        line: the versions on disk in order.
        refused: versions that cannot go live now. One that is named is intended all the same: another one in its place
            would be against somebody's word.
    """
    stable = serving.stable if serving.stable is not None else line.highest(refused)
    return {} if stable is None else {STABLE: Assignment(stable)}


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a version does not become stable by being the highest.

    Attributes:
        before: the version whose callers may break on it.
        differences: on what.
    """

    before: int
    differences: tuple[Difference, ...]

    def sentence(self, model: str, number: int) -> str:
        """One sentence that ends in what to do."""
        differences = "; ".join(map(str, self.differences))
        return (
            f"version {number} waits, since callers of version {self.before} may break on it ({differences}): "
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
        line = _walk(rest)
        if not line.waiting or line.highest(refused) is not None:
            return line
        rest = {number: rest[number] for number in line.waiting}


def _walk(manifests: Mapping[int, Manifest]) -> Lineage:
    accepted: list[int] = []
    waiting: dict[int, Waiting] = {}
    for number, manifest in manifests.items():
        differences: tuple[Difference, ...] = ()
        # None: published before versions were compared. What has served until now goes on.
        # True: its publisher meant it to break callers.
        if accepted and manifest.breaking is False:
            differences = breaking(manifests[accepted[-1]], manifest)
        if differences:
            waiting[number] = Waiting(accepted[-1], differences)
        else:
            accepted.append(number)
    return Lineage(tuple(accepted), waiting)
