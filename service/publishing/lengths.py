"""How few elements a version's inputs may have along their free dimensions: found in its graph, or declared by its publisher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hoverboard.backends.graph import Fit, Graph, Shapes
from hoverboard.contract.signature import Array, Signature, TensorSpec
from hoverboard.errors import PublishError, VersionRefused
from hoverboard.versions import GoldenSet

__all__ = ["Lengths"]


class Lengths:
    """What lengths a graph can answer.

    Args:
        graph: of the version.
        signature: of the version, with the limits that its publisher declares.

    Raises:
        PublishError: the graph cannot be traced.
    """

    def __init__(self, graph: Graph, signature: Signature) -> None:
        self._graph, self._signature = graph, signature
        self._shapes: Shapes | None = None
        if any(spec.variable for spec in signature.inputs):
            try:
                self._shapes = graph.shapes(signature)
            except VersionRefused as refusal:
                raise PublishError(str(refusal)) from refusal

    def check(self, sample: Sequence[Array]) -> None:
        """Hold a sample `(1, *shape)` of each input against the graph, before the graph is run with it.

        Raises:
            PublishError: it is too short.
        """
        if self._shapes is None:
            return
        sizes = [column.shape[1:] for column in sample]
        # Asked of the shapes, not of the graph: TensorFlow ends the process on some lengths that are too short.
        if self._shapes.fit(sizes) is Fit.SHORT:
            named = zip(self._signature.inputs, sizes, strict=True)
            shapes = ", ".join(f"{spec.name} {list(size)}" for spec, size in named)
            raise PublishError(
                f"the model fails on a golden sample of shape {shapes}: that is too short for a convolution or a pooling in it; "
                "give longer ones with --samples"
            )

    def least(self, golden: GoldenSet) -> tuple[TensorSpec, ...]:
        """The inputs with the `min_length` of each free one: the publisher's, or else the least that the graph can answer.

        Args:
            golden: samples that it can answer.

        Raises:
            PublishError: the publisher declares less than the graph needs.
        """
        if self._shapes is None:
            return self._signature.inputs
        from hoverboard.engine.models.lengths import with_least

        inputs = self._signature.inputs
        # What the graph needs by itself: else the publisher's own word would be what it is held against.
        unsaid = replace(self._signature, inputs=tuple(replace(spec, min_length=None) for spec in inputs))
        found = with_least(self._graph, unsaid, golden, self._shapes)
        return tuple(_declared(spec, need) for spec, need in zip(inputs, found, strict=True))


def _declared(spec: TensorSpec, found: TensorSpec) -> TensorSpec:
    if spec.min_length is None:
        return found
    if any(need > said for need, said in zip(found.least, spec.least, strict=True)):
        raise PublishError(
            f"contract of input {spec.name}: min_length {spec.min_length}: the model needs {found.min_length}; leave it out, or "
            "declare at least that"
        )
    return spec
