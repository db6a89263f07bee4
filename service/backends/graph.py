"""A loaded version, and how to run it: what loading and the search for lengths ask of a framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple, Protocol

from hoverboard.backends.executor import Executor
from hoverboard.contract.signature import Array, Signature
from hoverboard.outliers import Features, OutlierPackage
from hoverboard.outliers.features import Space

__all__ = ["TOO_SHORT", "Fit", "Graph", "Shapes", "Way"]

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
