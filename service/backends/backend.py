"""What a folder of `backends/` offers, and which one runs a version.

To add one: write the folder, end its `backend.py` with `BACKEND = Backend(...)`, and give its kind of artifact a row in
`versions.manifest.ARTIFACTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from hoverboard.backends.executor import Executor
from hoverboard.contract.signature import Array, Signature
from hoverboard.outliers import Features, OutlierPackage
from hoverboard.outliers.features import Space
from hoverboard.versions.manifest import ARTIFACTS, Manifest

__all__ = ["TOO_SHORT", "Backend", "Fit", "Graph", "Shapes", "Way", "backend_of", "configured", "installed"]

TOO_SHORT: Final = "it is too short for a convolution or a pooling of the model"
"""What a graph says that looks at the lengths of what it is given, see `Shapes.checked`."""


class Fit(Enum):
    """Whether a graph can answer inputs of certain sizes."""

    GOOD = "good"
    SHORT = "short"
    """Some window is larger than what it is given. With more it would not be."""
    OTHER = "other"
    """They do not fit for another reason, such as being no multiple of something, or not as long as another input."""


class Shapes(Protocol):
    """What sizes of its inputs a graph can answer."""

    def fit(self, sizes: Sequence[Sequence[int]]) -> Fit:
        """Whether one sample can be answered, as far as shapes tell.

        Args:
            sizes: of each input in the signature's order, without the batch axis.
        """

    @property
    def checked(self) -> bool:
        """Whether the graph itself looks at what some windows are given, so that it does no harm to run it."""


class Way(NamedTuple):
    """Another way to run a graph than the plain one: how to have it, and the share of the best time so far that it must stay below."""

    build: Callable[[], Executor]
    margin: float


class Graph(Protocol):
    """A loaded version."""

    @property
    def memory_bytes(self) -> int:
        """What its weights take."""

    def watched(self, outliers: OutlierPackage) -> Graph:
        """The same graph, whose executors give the combined score of the chosen detector and the watch after the outputs."""

    def executor(self, signature: Signature) -> Executor:
        """The plain way to run it, which the others are held against. Raises VersionRefused."""

    def ways(self, signature: Signature, threads: tuple[int, int], *, xla: bool) -> Mapping[str, Way]:
        """The others by their executors' names, in the order to try them.

        Args:
            threads: within an operation and operations at once, as for `Backend.configure`.
            xla: whether compilers that take long may be used.
        """

    def extractor(
        self, signature: Signature, layer: str | None, space: Space | None
    ) -> Callable[[Sequence[Array]], Features]:
        """What gives the features that detectors look at, of `(rows, *shape)` columns; see `OutlierPackage`."""

    def shapes(self, signature: Signature) -> Shapes:
        """What sizes it can answer; asked for versions with a variable dimension only. Raises VersionRefused."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One framework.

    Attributes:
        load: a version's directory and manifest -> its graph, without running code of the model's own. Raises VersionRefused
            where it cannot be loaded safely, or is not what its manifest says.
        configure: threads within an operation, and operations at once; called once, before anything runs.
        device_kind: `gpu` or `cpu`, what graphs run on.
        software: versions of what a graph computes with, by package.
        packages: modules whose files it reads while it loads a version: the sandbox of trials lets it.
        executors: names of all its ways to run a graph. Timings are remembered for as long as these stay the same.
    """

    load: Callable[[Path, Manifest], Graph]
    configure: Callable[[int, int], None]
    device_kind: Callable[[], str]
    software: Callable[[], dict[str, str]]
    packages: tuple[str, ...]
    executors: tuple[str, ...]


def backend_of(artifact: str) -> Backend:
    """The backend of a kind of artifact. Imports it, which takes seconds the first time."""
    return _imported(ARTIFACTS[artifact])


def configured(artifact: str, threads: tuple[int, int]) -> Backend:
    """The backend of a kind of artifact, ready to run with so many threads; see `Backend.configure`."""
    return _configured(ARTIFACTS[artifact], threads)


def installed() -> Iterator[Backend]:
    """Each backend whose framework can be imported here."""
    for folder in dict.fromkeys(ARTIFACTS.values()):
        with suppress(ModuleNotFoundError):
            yield _imported(folder)


@cache
def _configured(folder: str, threads: tuple[int, int]) -> Backend:
    backend = _imported(folder)
    backend.configure(*threads)
    return backend


def _imported(folder: str) -> Backend:
    # By its name, and late: no process imports a framework for versions that it does not have.
    found: Backend = import_module(f"hoverboard.backends.{folder}.backend").BACKEND
    return found
