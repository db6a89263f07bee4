"""A loaded model's graph: hold it against its manifest, trace it, and make executors of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from hoverboard.backends.graph import Way
from hoverboard.backends.reasons import reason_of
from hoverboard.backends.tensorflow.device import device_kind, quiet
from hoverboard.backends.tensorflow.executors import (
    DIRECT,
    PLAIN,
    XLA,
    TensorFlowExecutor,
    dense,
    executor_of,
    in_session,
    tensor_specs,
)
from hoverboard.backends.tensorflow.features import FeatureExtractor, View, parts_of, view_of
from hoverboard.backends.tensorflow.heads import head_of
from hoverboard.backends.tensorflow.input_watch import watch_of
from hoverboard.backends.tensorflow.operations import OURS, check_graph, checks_input
from hoverboard.backends.tensorflow.scores import score_of
from hoverboard.backends.tensorflow.shapes import GraphShapes
from hoverboard.backends.tensorflow.windows import with_checks
from hoverboard.contract.signature import STRING, Array, Head, Signature, TensorSpec
from hoverboard.errors import VersionRefused
from hoverboard.machine import check_of
from hoverboard.outliers.features import Space
from hoverboard.outliers.package import OutlierPackage
from hoverboard.versions.manifest import GraphNames

with quiet():
    import tensorflow as tf

__all__ = ["TensorFlowGraph"]

_DIRECT_BYTES: Final = 4 * 1024 * 1024
"""Weights that may become constants, which a session keeps some five times over (measured); a graph with more of them takes
longer than any waiting."""
_XLA_MARGIN: Final = 0.5
"""TensorFlow never frees what XLA compiled (about 1 MB a bucket and load, measured), so XLA has to earn it: it is taken where it
needs at most half the time."""


@dataclass(frozen=True, slots=True)
class TensorFlowGraph:
    """A loaded model, ready to be traced.

    Attributes:
        inputs, outputs: as the graph itself declares them, in the order `call` takes and gives.
        call: flat tensors in, flat tensors out.
        memory_bytes: of its variables.
        keep: what must stay alive while it runs.
        model: the Keras model, where there is one.
        outliers: whose detector's score comes after the outputs; None for none.
        allowed_ops: operations that it may hold beside the usual ones, by name.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    call: Callable[..., list[Any]]
    memory_bytes: int
    keep: Any = field(repr=False, default=None)
    model: Any = field(repr=False, default=None)
    outliers: OutlierPackage | None = field(repr=False, default=None)
    allowed_ops: tuple[str, ...] = ()

    def watched(self, outliers: OutlierPackage) -> TensorFlowGraph:
        """See `backend.Graph`."""
        return replace(self, outliers=outliers)

    @property
    def half_precision(self) -> bool:
        """See `authoring.Draft`."""
        return _half(self.model)

    def named(self, names: GraphNames) -> TensorFlowGraph:
        """The same graph, whose inputs and outputs have a version's names."""
        return replace(self, inputs=_named(self.inputs, names.inputs), outputs=_named(self.outputs, names.outputs))

    def head(self, signature: Signature) -> Head | None:
        """What the signature's first output holds, by the operation it ends in; None where that cannot be told.

        Raises:
            VersionRefused: as `executor` does.
        """
        concrete = self.traced(signature)
        return head_of(concrete.graph.as_graph_def(), concrete.outputs[0].name)

    def executor(self, signature: Signature, *, jit: bool = False) -> TensorFlowExecutor:
        """Trace the graph once for a signature's dtypes, shapes and order.

        Args:
            signature: the manifest's; `compare` must have passed.
            jit: compile with XLA.

        Raises:
            VersionRefused: tracing fails, or the graph holds an operation that is not allowed.
        """
        return executor_of(XLA if jit else PLAIN, *self._traced(signature, jit=jit), signature)

    def direct(self, signature: Signature, intra_op: int) -> TensorFlowExecutor:
        """The graph in a session, see `in_session`.

        Raises:
            VersionRefused: there is a GPU, the weights are large or cannot be constants, or `executor` refuses the graph.
        """
        if device_kind() != "cpu" or self.memory_bytes > _DIRECT_BYTES:
            raise VersionRefused("not a small graph on a CPU", check="load")
        concrete = self.traced(signature)
        if concrete.graph.as_graph_def().ByteSize() > _DIRECT_BYTES:
            raise VersionRefused("not a small graph: its constants are large", check="load")
        try:
            with quiet():
                return in_session(concrete, len(signature.inputs), intra_op)
        except Exception as error:  # such as tables, which are no constants
            raise VersionRefused(f"the graph cannot be frozen: {reason_of(error)}", check="load") from error

    def ways(self, signature: Signature, threads: tuple[int, int], *, xla: bool) -> dict[str, Way]:
        """See `backend.Graph`."""
        found = {}
        if threads[1] == 1:  # a session of one thread runs one operation at a time
            found[DIRECT] = Way(partial(self.direct, signature, threads[0]), 1.0)
        # Strings have no XLA kernels, and a variable dimension would mean a compilation per length.
        specs = (*signature.inputs, *signature.outputs)
        if xla and not any(spec.dtype == STRING or spec.variable for spec in specs):
            found[XLA] = Way(partial(self.executor, signature, jit=True), _XLA_MARGIN)
        return found

    def eager(self, signature: Signature) -> TensorFlowExecutor:
        """The calls of a Keras model without a trace: each layer runs by itself, as Keras means it."""
        order, picks, specs = self._order(signature), self._picks(signature), tensor_specs(signature)

        def call(columns: Sequence[Array]) -> list[Array]:
            tensors = [tf.constant(column, spec.dtype) for column, spec in zip(columns, specs, strict=True)]
            with quiet():  # layers warn when they are called, here each time
                answers = self.call(*_reordered(tensors, order))
            return [dense(answers[pick]).numpy() for pick in picks]

        return TensorFlowExecutor("eager", call, lambda: 0)

    def traced(self, signature: Signature) -> Any:
        """The concrete function of a signature, which takes its inputs in order; arguments and errors are those of `executor`."""
        return self._traced(signature, jit=False)[1]

    def shapes(self, signature: Signature) -> GraphShapes:
        """See `backend.Graph`."""
        return GraphShapes(self.traced(signature), len(signature.inputs))

    def _traced(self, signature: Signature, *, jit: bool) -> tuple[Any, Any]:
        """The graph as a `tf.function`, and the concrete function of the signature; raises as `executor` does."""
        order, picks = self._order(signature), self._picks(signature)
        outliers = self.outliers
        view = None if outliers is None else self.view(signature, outliers.layer, outliers.space)
        score = None if outliers is None else score_of(outliers.detector)
        combined = watch_of(None if outliers is None else outliers.watch, signature.inputs)
        names = [spec.name for spec in signature.inputs]

        def flat(*tensors: Any) -> list[Any]:
            ordered = _reordered(tensors, order)
            if view is None or score is None:
                answers, scores = self.call(*ordered), []
            else:
                answers, watched = view.call(*ordered)
                with tf.name_scope(OURS):
                    scores = [combined(score(watched), dict(zip(names, tensors, strict=True)))]
            return [dense(answers[pick]) for pick in picks] + scores

        specs = tensor_specs(signature)
        # Nothing here is Python control flow for autograph to rewrite, and rewriting a model's own functions can fail.
        function = tf.function(flat, input_signature=specs, autograph=False, jit_compile=jit)
        try:
            with quiet():
                concrete = function.get_concrete_function()
        except Exception as error:
            message = f"the graph cannot be traced: {reason_of(error)}"
            raise VersionRefused(message, check=check_of(error, "load")) from error
        # Once more, though the file was looked at before: what Keras makes of a configuration is known only now.
        definition = concrete.graph.as_graph_def()
        check_graph(definition, self.allowed_ops)
        safer = with_checks(concrete, specs, jit=jit)
        if safer is not None:
            function, concrete = safer
            definition = concrete.graph.as_graph_def()
        # XLA has no way to fail: it drops assertions, so that bad input would be answered instead of refused.
        if jit and checks_input(definition, indexes=any("int" in spec.dtype for spec in signature.inputs)):
            raise VersionRefused("XLA leaves out what the graph checks of its input", check="load")
        return function, concrete

    def view(self, signature: Signature, layer: str | None = None, space: Space | None = None) -> View:
        """Choose what detectors look at, see `view_of`."""
        return view_of(self.model, self.call, self.inputs, self.outputs, signature, layer=layer, space=space)

    def extractor(
        self, signature: Signature, layer: str | None = None, space: Space | None = None, rows: int | None = None
    ) -> FeatureExtractor:
        """Trace what gives the features alone; run at most `rows` at once. Other arguments and errors are those of `view_of`."""
        view = self.view(signature, layer, space)
        order = self._order(signature)

        def watched(*tensors: Any) -> list[Any]:
            _, parts = view.call(*_reordered(tensors, order))
            return [tensor for tensor in parts if tensor is not None]

        function = tf.function(watched, input_signature=tensor_specs(signature), autograph=False)
        with quiet():
            concrete = function.get_concrete_function()
        executor = executor_of(PLAIN, function, concrete, signature)
        return FeatureExtractor(view.space, view.layer, parts_of(signature, self.inputs), executor, rows)

    def _order(self, signature: Signature) -> list[int]:
        """The signature's inputs, as places among the graph's own."""
        return [next(i for i, s in enumerate(self.inputs) if s.name == spec.name) for spec in signature.inputs]

    def _picks(self, signature: Signature) -> list[int]:
        """The signature's outputs, likewise."""
        return [next(i for i, s in enumerate(self.outputs) if s.name == spec.name) for spec in signature.outputs]

    def as_traced(self) -> TensorFlowGraph:
        """The same graph, its outputs as they are once it is traced, where that contradicts what Keras declares.

        Some layers declare another shape than they give: TextVectorization of whole texts, say, one dimension more.

        Raises:
            VersionRefused: as `executor` does.
        """
        concrete = self.traced(Signature("raw", self.inputs, self.outputs))
        pairs = zip(self.outputs, concrete.outputs, strict=False)  # a score may follow them
        return replace(self, outputs=tuple(_as_given(spec, tensor) for spec, tensor in pairs))

    def compare(self, signature: Signature) -> None:
        """Hold the graph against a manifest's signature.

        Raises:
            VersionRefused: an input or output differs in name, dtype or shape; it is named.
        """
        _compare("input", self.inputs, signature.inputs, exact=True)
        try:
            _compare("output", self.outputs, signature.outputs, exact=False)
        except VersionRefused:
            _compare("output", self.as_traced().outputs, signature.outputs, exact=False)


def _half(layer: Any) -> bool:
    """Whether a layer, or one within it, computes in half precision."""
    half = getattr(layer, "compute_dtype", None) in ("float16", "bfloat16")
    return half or any(map(_half, getattr(layer, "layers", ())))


def _named(specs: Sequence[TensorSpec], names: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    """Specs by a version's names, from which `names` leads to the graph's."""
    ours = {own: name for name, own in names.items()}
    return tuple(replace(spec, name=ours.get(spec.name, spec.name)) for spec in specs)


def _reordered(tensors: Sequence[Any], places: Sequence[int]) -> list[Any]:
    ordered: list[Any] = [None] * len(tensors)
    for tensor, place in zip(tensors, places, strict=True):
        ordered[place] = tensor
    return ordered


def _as_given(spec: TensorSpec, tensor: Any) -> TensorSpec:
    """A declared output with the dtype and shape that it has in the traced graph, where the two cannot both be right."""
    if tensor.shape.rank is None:
        return spec
    shape = tuple(tensor.shape[1:])
    known = len(shape) == len(spec.shape) and all(
        None in (have, declared) or have == declared for have, declared in zip(shape, spec.shape, strict=True)
    )
    dtype = STRING if tensor.dtype == tf.string else tensor.dtype.name
    return replace(spec, dtype=dtype, shape=spec.shape if known else shape)


def _compare(kind: str, have: Sequence[TensorSpec], want: Sequence[TensorSpec], *, exact: bool) -> None:
    named = {spec.name: spec for spec in have}
    if exact and named.keys() != {spec.name for spec in want}:
        raise VersionRefused(
            f"{kind}s differ: the graph has {sorted(named)}, the manifest {sorted(s.name for s in want)}",
            check="signature",
        )
    for spec in want:
        real = named.get(spec.name)
        if real is None:
            raise VersionRefused(f"{kind} {spec.name}: the graph has only {sorted(named)}", check="signature")
        if (real.dtype, real.shape) != (spec.dtype, spec.shape):
            raise VersionRefused(
                f"{kind} {spec.name}: the graph has {real.dtype} {list(real.shape)}, "
                f"the manifest {spec.dtype} {list(spec.shape)}",
                check="signature",
            )
