"""What publishing asks of a framework that models are written in: more than running a version takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hoverboard.backends.executor import Executor
from hoverboard.backends.graph import Graph
from hoverboard.contract.signature import Array, Head, Signature, TensorSpec
from hoverboard.outliers import Features, OutlierPackage
from hoverboard.outliers.features import Space
from hoverboard.versions.manifest import GraphNames

__all__ = ["Authoring", "Draft", "Extractor", "Written"]


class Extractor(Protocol):
    """What gives the features that detectors look at."""

    @property
    def layer(self) -> str | None:
        """Whose output they are; None where they are no inner features."""

    def __call__(self, columns: Sequence[Array]) -> Features:
        """Features of `(rows, *shape)` columns. Raises GraphError and OutOfMemory."""


class Draft(Graph, Protocol):
    """A graph that is about to become a version: it has inputs and outputs, but no manifest yet."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """As the graph declares them."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Likewise."""

    @property
    def half_precision(self) -> bool:
        """Whether something in it computes in half precision, so that rounding is coarse."""

    def named(self, names: GraphNames) -> Draft:
        """The same graph, whose inputs and outputs have other names."""

    def as_traced(self) -> Draft:
        """The same graph with the outputs that it really gives, where it declares others. Raises VersionRefused."""

    def head(self, signature: Signature) -> Head | None:
        """What the first output holds, by the operation it ends in; None where that cannot be told. Raises VersionRefused."""

    def watched(self, outliers: OutlierPackage) -> Draft:
        """See `Graph.watched`."""

    def eager(self, signature: Signature) -> Executor:
        """The model as its author runs it, layer by layer."""

    def extractor(
        self, signature: Signature, layer: str | None = None, space: Space | None = None, rows: int | None = None
    ) -> Extractor:
        """See `Graph.extractor`; at most `rows` are run at once. Raises PublishError."""


@dataclass(frozen=True, slots=True)
class Written:
    """A model's files in a version's directory.

    Attributes:
        artifact: which they are.
        graph: as a server loads it.
        called: the model that its author has behind the same tensors; None where there is none.
        names: where these inputs are called otherwise than in the file.
        doubt: what may be wrong where it cannot answer samples; empty, or words that follow a sentence.
        layer_classes: in lower case, those after which its inputs and outputs may be named by the framework itself.
    """

    artifact: str
    graph: Draft
    called: Draft | None = None
    names: GraphNames = field(default_factory=GraphNames)
    doubt: str = ""
    layer_classes: frozenset[str] = frozenset()


class _Write(Protocol):
    def __call__(
        self, model: Any, directory: Path, allowed_ops: Sequence[str], *, export: bool, signature: str | None
    ) -> Written: ...


@dataclass(frozen=True, slots=True)
class Authoring:
    """How models become files, and what can be said of them before they do.

    Attributes:
        write: a model in memory or a path -> its files in a version's directory, loaded back. `allowed_ops`: by name;
            `export`: write it as a graph; `signature`: of a SavedModel. Raises PublishError.
        in_memory: a model in memory as a graph. Raises PublishError.
        further_ops: names of operations that a publisher allows -> those that are not allowed anyway. Raises PublishError for
            one that nobody can allow.
        layer_classes: of the whole framework, as in `Written`.
        numbered: whether an input's name is one that the framework made up from a number alone.
    """

    write: _Write
    in_memory: Callable[[Any], Draft]
    further_ops: Callable[[Sequence[str]], tuple[str, ...]]
    layer_classes: Callable[[], frozenset[str]]
    numbered: Callable[[str], bool]
