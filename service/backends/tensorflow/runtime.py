"""A loaded model's graph: inspect, trace, run. Only this file, `artifact.py` and `export.py` import Keras and TensorFlow.

Import it late: the import takes seconds, and only the engine process and publishing need it.
"""

from __future__ import annotations

import os

# Both are read once, when TensorFlow loads: no chatter on stderr, and the framework this module is written for.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hoverboard.backends.tensorflow.quiet import silent_stderr

with warnings.catch_warnings(), silent_stderr():
    warnings.simplefilter("ignore")
    import keras
    import numpy as np
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.framework import convert_to_constants  # its documented way to freeze; it has no other name

from hoverboard.backends.executor import GraphError, OutOfMemory, run_in_pieces
from hoverboard.backends.reasons import reason_of
from hoverboard.backends.tensorflow.heads import head_of
from hoverboard.backends.tensorflow.operations import OURS, check_graph, checks_input
from hoverboard.backends.tensorflow.scores import score_of
from hoverboard.backends.tensorflow.watch import watch_of
from hoverboard.backends.tensorflow.windows import with_checks
from hoverboard.contract.signature import STRING, Array, Head, Signature, TensorSpec
from hoverboard.errors import PublishError, VersionRefused
from hoverboard.machine import check_of
from hoverboard.outliers import features
from hoverboard.outliers.features import Needs, Space
from hoverboard.outliers.package import OutlierPackage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hoverboard.versions.manifest import GraphNames

__all__ = [
    "FeatureExtractor",
    "Graph",
    "Tap",
    "View",
    "configure",
    "device_kind",
    "first_operation",
    "quiet",
    "software",
]

_DIRECT_BYTES: Final = 4 * 1024 * 1024
"""Weights that may become constants, which a session keeps some five times over (measured); a graph with more of them takes
longer than any waiting."""
_log = logging.getLogger(__name__)


def configure(intra_op: int, inter_op: int) -> None:
    """Set thread pools and numerics. Call once, before anything runs.

    Args:
        intra_op: threads one operation may use on the CPU.
        inter_op: operations that may run at once on the CPU.
    """
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        tf.config.threading.set_intra_op_parallelism_threads(intra_op)
        tf.config.threading.set_inter_op_parallelism_threads(inter_op)
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
    except RuntimeError:
        # Whoever embeds the engine used TensorFlow before: its pools stand as they are.
        _log.warning("TensorFlow was in use before the engine started: thread settings do not apply")
    tf.get_logger().setLevel(logging.ERROR)
    first_operation()


def first_operation() -> None:
    """Wake TensorFlow up; it announces the processor's features on stderr when it does."""
    with silent_stderr():
        tf.constant(0)


def device_kind() -> str:
    """`gpu` where TensorFlow sees one, else `cpu`."""
    return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"


def software() -> dict[str, str]:
    """Versions that matter to what a graph computes."""
    return {
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "backend": keras.backend.backend(),
    }


@dataclass(frozen=True, slots=True)
class Tap:
    """Where a Keras model's features are taken.

    Attributes:
        layer: whose output they are; the one before the last dense layer, unless another was asked for. None where
            there is nothing before it but an input.
        width: d, of the features `(n, d)`.
        classes: C, of the logits `(n, C)`: what the last dense layer gives before its activation; None where the model
            does not end in one.
        call: flat tensors in; the outputs, the features and the logits out, the latter two float32.
    """

    layer: str | None
    width: int
    classes: int | None
    call: Callable[..., tuple[list[Any], Any, Any]]


class Watched(NamedTuple):
    """What detectors look at, as float32 tensors: `(rows, d)`, `(rows, C)`, `(rows, m)`; None where there is nothing."""

    z: Any
    logits: Any
    inputs: Any


@dataclass(frozen=True, slots=True)
class View:
    """What a version's detectors look at.

    Attributes:
        space: what z is.
        layer: whose output it is; None for other spaces.
        call: flat tensors in the graph's order in; its outputs and the features out.
    """

    space: Space
    layer: str | None
    call: Callable[..., tuple[list[Any], Watched]]


@dataclass(frozen=True, slots=True)
class Graph:
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

    def watched(self, outliers: OutlierPackage) -> Graph:
        """The same graph, whose executors give the combined score of the chosen detector and the watch after the outputs."""
        return replace(self, outliers=outliers)

    def named(self, names: GraphNames) -> Graph:
        """The same graph, whose inputs and outputs have a version's names."""
        return replace(self, inputs=_named(self.inputs, names.inputs), outputs=_named(self.outputs, names.outputs))

    def head(self, signature: Signature) -> Head | None:
        """What the signature's first output holds, by the operation it ends in; None where that cannot be told.

        Raises:
            VersionRefused: as `executor` does.
        """
        _, concrete = self._traced(signature, jit=False)
        return head_of(concrete.graph.as_graph_def(), concrete.outputs[0].name)

    def executor(self, signature: Signature, *, jit: bool) -> _TensorFlowExecutor:
        """Trace the graph once for a signature's dtypes, shapes and order.

        Args:
            signature: the manifest's; `compare` must have passed.
            jit: compile with XLA.

        Raises:
            VersionRefused: tracing fails, or the graph holds an operation that is not allowed.
        """
        function, concrete = self._traced(signature, jit=jit)
        call = _called(concrete, [spec.dtype for spec in _tensor_specs(signature)])
        return _TensorFlowExecutor("tf-xla" if jit else "tf", call, function.experimental_get_tracing_count)

    def traced(self, signature: Signature) -> Any:
        """The concrete function of a signature, which takes its inputs in order; arguments and errors are those of `executor`."""
        return self._traced(signature, jit=False)[1]

    def eager(self, signature: Signature) -> _TensorFlowExecutor:
        """The calls of a Keras model without a trace: each layer runs by itself, as Keras means it."""
        order, picks, specs = self._order(signature), self._picks(signature), _tensor_specs(signature)

        def call(columns: Sequence[Array]) -> list[Array]:
            tensors = [tf.constant(column, spec.dtype) for column, spec in zip(columns, specs, strict=True)]
            with quiet():
                answers = self.call(*_reordered(tensors, order))
            return [_plain(answers[pick]).numpy() for pick in picks]

        return _TensorFlowExecutor("eager", call, lambda: 0)

    def _traced(self, signature: Signature, *, jit: bool) -> tuple[Any, Any]:
        """The graph as a `tf.function`, and the concrete function of the signature; raises as `executor` does."""
        order, picks = self._order(signature), self._picks(signature)
        outliers = self.outliers
        view = None if outliers is None else self.view(signature, outliers.layer, outliers.space)
        score = None if outliers is None else score_of(tf, outliers.detector)
        combined = watch_of(tf, None if outliers is None else outliers.watch, signature.inputs)
        names = [spec.name for spec in signature.inputs]

        def flat(*tensors: Any) -> list[Any]:
            ordered = _reordered(tensors, order)
            if view is None or score is None:
                answers, scores = self.call(*ordered), []
            else:
                answers, watched = view.call(*ordered)
                with tf.name_scope(OURS):
                    scores = [combined(score(*watched), dict(zip(names, tensors, strict=True)))]
            return [_plain(answers[pick]) for pick in picks] + scores

        specs = _tensor_specs(signature)
        function = tf.function(flat, input_signature=specs, autograph=False, jit_compile=jit)
        try:
            with quiet():
                concrete = function.get_concrete_function()
        except Exception as error:
            said = f"the graph cannot be traced: {reason_of(error)}"
            raise VersionRefused(said, check=check_of(error, "load")) from error
        definition = concrete.graph.as_graph_def()
        check_graph(definition, self.allowed_ops)
        safer = with_checks(concrete, specs, jit=jit)
        if safer is not None:
            function, concrete = safer
            definition = concrete.graph.as_graph_def()
        if jit and checks_input(definition, indexes=any("int" in spec.dtype for spec in signature.inputs)):
            raise VersionRefused("XLA leaves out what the graph checks of its input", check="load")
        return function, concrete

    def direct(self, signature: Signature, intra_op: int) -> _TensorFlowExecutor:
        """The graph with its weights as constants, in a session that runs in the caller's thread.

        A `tf.function` hands its graph to TensorFlow's own thread, and on busy cores a small graph waits longer for
        that to be scheduled than it runs.

        Args:
            signature: as for `executor`.
            intra_op: threads one operation may use.

        Raises:
            VersionRefused: there is a GPU, the weights are large or cannot be constants, or `executor` refuses the graph.
        """
        if device_kind() != "cpu" or self.memory_bytes > _DIRECT_BYTES:
            raise VersionRefused("not a small graph on a CPU", check="load")
        _, concrete = self._traced(signature, jit=False)
        if concrete.graph.as_graph_def().ByteSize() > _DIRECT_BYTES:
            raise VersionRefused("not a small graph: its constants are large", check="load")
        try:
            with quiet():
                call = _session(concrete, len(signature.inputs), intra_op)
        except Exception as error:  # such as tables, which are no constants
            raise VersionRefused(f"the graph cannot be frozen: {reason_of(error)}", check="load") from error
        return _TensorFlowExecutor("tf-direct", call, lambda: 1)

    def tap(self, layer: str | None = None, output: int = 0) -> Tap | None:
        """Find where the features are; None for a SavedModel, and for a model without a layer that suits.

        Args:
            layer: take the output of this one.
            output: place of the output whose last dense layer counts.

        Raises:
            PublishError: there is no such layer, or its output is no vector of numbers.
        """
        return None if self.model is None else _tap(self.model, layer, output)

    def view(self, signature: Signature, layer: str | None = None, space: Space | None = None) -> View:
        """Choose what detectors look at: inner features, else outputs that are a vector, else the numeric inputs.

        Args:
            signature: the manifest's.
            layer: whose output the features are; see `tap`.
            space: what was chosen before; it is found by itself when left out.

        Raises:
            PublishError: there is nothing that a sample could be scored by.
        """
        places = [i for i, spec in enumerate(self.inputs) if spec.dtype != STRING and not spec.variable]
        first = next(i for i, spec in enumerate(self.outputs) if spec.name == signature.outputs[0].name)
        vector = signature.task in ("classification", "multi-label", "embedding") and not self.outputs[first].variable
        # Also where z is the inputs: the logits of a linear model are those of its one layer.
        tap = self.tap(layer, first) if space != "outputs" else None
        best: Space = "outputs" if vector and tap is None else "inputs"
        found: Space = space or ("features" if tap and tap.layer else best)
        if found == "inputs" and not places:
            raise PublishError(
                "outliers: the model has no inner features, and no inputs that are numbers of fixed shape"
            )

        def call(*tensors: Any) -> tuple[list[Any], Watched]:
            outputs, z, logits = tap.call(*tensors) if tap else (self.call(*tensors), None, None)
            inputs = [_flat_float(tensors[i]) for i in places]
            numbers = tf.concat(inputs, axis=1) if inputs else None
            if signature.task == "classification":
                logits = _as_logits(signature, outputs[first]) if logits is None else logits
                logits = tf.concat([-logits / 2, logits / 2], axis=1) if logits.shape[1] == 1 else logits
            else:
                logits = None
            if found != "features":
                z = numbers if found == "inputs" else _flat_float(outputs[first])
            return outputs, Watched(z, logits, numbers)

        return View(found, tap.layer if tap else None, call)

    def extractor(
        self, signature: Signature, layer: str | None = None, space: Space | None = None, rows: int | None = None
    ) -> FeatureExtractor:
        """Trace what gives the features alone; run at most `rows` at once. Other arguments and errors are those of `view`."""
        view = self.view(signature, layer, space)
        order = self._order(signature)

        def watched(*tensors: Any) -> list[Any]:
            _, found = view.call(*_reordered(tensors, order))
            return [tensor for tensor in found if tensor is not None]

        specs = _tensor_specs(signature)
        function = tf.function(watched, input_signature=specs, autograph=False)
        with quiet():
            concrete = function.get_concrete_function()
        call = _called(concrete, [spec.dtype for spec in specs])
        given = _TensorFlowExecutor("tf", call, function.experimental_get_tracing_count)
        names: list[Needs] = ["z"]
        if signature.task == "classification":
            names.append("logits")
        if any(spec.dtype != STRING and not spec.variable for spec in self.inputs):
            names.append("inputs")
        return FeatureExtractor(view.space, view.layer, names, given, rows)

    def _order(self, signature: Signature) -> list[int]:
        """The signature's inputs, as places among the graph's own."""
        return [next(i for i, s in enumerate(self.inputs) if s.name == spec.name) for spec in signature.inputs]

    def _picks(self, signature: Signature) -> list[int]:
        """The signature's outputs, likewise."""
        return [next(i for i, s in enumerate(self.outputs) if s.name == spec.name) for spec in signature.outputs]

    def as_traced(self) -> Graph:
        """The same graph, its outputs as they are once it is traced, where that contradicts what Keras declares.

        Some layers declare another shape than they give: TextVectorization of whole texts, say, one dimension more.

        Raises:
            VersionRefused: as `executor` does.
        """
        _, concrete = self._traced(Signature("raw", self.inputs, self.outputs), jit=False)
        given = zip(self.outputs, concrete.outputs, strict=False)  # a score may follow them
        return replace(self, outputs=tuple(_as_given(spec, tensor) for spec, tensor in given))

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


@dataclass(frozen=True, slots=True)
class FeatureExtractor:
    """What detectors look at, for samples at hand.

    Attributes:
        space, layer: as in `View`.
    """

    space: Space
    layer: str | None
    _names: Sequence[Needs]
    _executor: _TensorFlowExecutor
    _rows: int | None = None

    def __call__(self, columns: Sequence[Array]) -> features.Features:
        """Features of `(rows, *shape)` columns, in the signature's order.

        Raises:
            GraphError, OutOfMemory: as an executor does.
        """
        given = run_in_pieces(self._executor, columns, self._rows or len(columns[0]))
        found = dict(zip(self._names, given, strict=True))
        return features.Features(**found, space=self.space)


class _TensorFlowExecutor:
    """A traced graph behind the `Executor` Protocol.

    Attributes:
        name: how it runs.
    """

    __slots__ = ("_call", "_traces", "name")

    def __init__(self, name: str, call: Callable[[Sequence[Array]], list[Array]], traces: Callable[[], int]) -> None:
        self.name, self._call, self._traces = name, call, traces

    def run(self, columns: Sequence[Array]) -> list[Array]:
        try:
            return self._call(columns)
        except tf.errors.ResourceExhaustedError as error:
            raise OutOfMemory(reason_of(error)) from error
        except MemoryError as error:
            raise OutOfMemory("the host is out of memory") from error
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise GraphError(reason_of(error)) from error

    def traces(self) -> int:
        return self._traces()


def _named(specs: Sequence[TensorSpec], names: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    """Specs by a version's names, from which `names` leads to the graph's."""
    ours = {own: name for name, own in names.items()}
    return tuple(replace(spec, name=ours.get(spec.name, spec.name)) for spec in specs)


def _called(concrete: Any, dtypes: Sequence[Any]) -> Callable[[Sequence[Array]], list[Array]]:
    """A concrete function, from arrays to arrays."""

    def call(columns: Sequence[Array]) -> list[Array]:
        tensors = [tf.constant(column, dtype) for column, dtype in zip(columns, dtypes, strict=True)]
        return [tensor.numpy() for tensor in concrete(*tensors)]

    return call


def _session(concrete: Any, inputs: int, intra_op: int) -> Callable[[Sequence[Array]], list[Array]]:
    """A concrete function without its variables, from arrays to arrays, in a session of one thread."""
    frozen = convert_to_constants.convert_variables_to_constants_v2(concrete)
    if len(frozen.inputs) != inputs:
        raise ValueError("it holds more than variables")
    # Below zero there is no pool for operations: they run where the session is called.
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=-1, intra_op_parallelism_threads=intra_op)
    config.experimental.optimize_for_static_graph = True  # and keep no copy of the graph to extend
    config.experimental.disable_output_partition_graphs = True
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(frozen.graph.as_graph_def(), name="")
    session = tf.compat.v1.Session(graph=graph, config=config)
    options = config_pb2.CallableOptions(
        feed=[f"i{place}:0" for place in range(inputs)], fetch=[tensor.name for tensor in frozen.outputs]
    )
    # What `make_callable` gives takes feeds through `run`, in Python: 46 us a call, where a graph like that of `digits` takes 15.
    # This one converts nothing: columns have the signature's dtypes already. An output may share memory with a column.
    given = session._make_callable_from_options(options)  # noqa: SLF001 - there is no public way

    def call(columns: Sequence[Array]) -> list[Array]:
        arrays: list[Array] = given(*columns)
        return arrays

    return call


def _tensor_specs(signature: Signature) -> list[Any]:
    return [tf.TensorSpec((None, *s.shape), _tf_dtype(s.dtype), name=f"i{n}") for n, s in enumerate(signature.inputs)]


def _reordered(tensors: Sequence[Any], places: Sequence[int]) -> list[Any]:
    ordered: list[Any] = [None] * len(tensors)
    for tensor, place in zip(tensors, places, strict=True):
        ordered[place] = tensor
    return ordered


def _tap(model: Any, layer: str | None, output: int) -> Tap | None:
    head = _head(model.outputs[output])
    below = None if head is None else head.input._keras_history.operation  # noqa: SLF001 - Keras keeps it nowhere else
    if below is not None and _width(head.input) is not None and layer in (None, below.name):
        # Not looked up by its name: a Sequential model hides its input, and a layer may be called more than once.
        features = head.input
        layer = None if layer is None and isinstance(below, keras.layers.InputLayer) else str(below.name)
    elif layer is not None:
        source = next((known for known in model.layers if known.name == layer), None)
        if source is None:
            names = ", ".join(known.name for known in model.layers)
            raise PublishError(f"feature layer {layer!r}: the model has no such layer; layers: {names}")
        features = source.output
        if _width(features) is None:
            raise PublishError(f"feature layer {layer!r}: its output is no vector of numbers a sample")
    else:
        return None
    width = _width(features)
    tapped = keras.Model(model.inputs, [*model.outputs, features, features if head is None else head.input])

    def call(*tensors: Any) -> tuple[list[Any], Any, Any]:
        *outputs, z, under = tapped(list(tensors), training=False)
        flat = tf.reshape(tf.cast(z, tf.float32), (-1, width))
        return outputs, flat, None if head is None else _logits(head, under)

    return Tap(layer, int(width or 0), None if head is None else int(head.units), call)


def _head(output: Any) -> Any:
    """The dense layer that an output comes from, with nothing but layers without weights behind it."""
    operation = output._keras_history.operation  # noqa: SLF001 - Keras keeps it nowhere else
    while not isinstance(operation, keras.layers.Dense):
        below = getattr(operation, "input", None)
        if getattr(operation, "weights", None) or not isinstance(below, keras.KerasTensor):
            return None
        operation = below._keras_history.operation  # noqa: SLF001 - see above
        if isinstance(operation, keras.layers.InputLayer):
            return None
    return operation if isinstance(operation.input, keras.KerasTensor) and len(operation.input.shape) == 2 else None


def _flat_float(tensor: Any) -> Any:
    return tf.reshape(tf.cast(_plain(tensor), tf.float32), (-1, math.prod(tensor.shape[1:])))


def _as_logits(signature: Signature, first: Any) -> Any:
    """Logits from a classification's first output `(rows, classes)`; of a sigmoid `(rows, 1)`."""
    values = tf.cast(first, tf.float32)
    if signature.head == "logits":
        return values
    smallest = np.finfo(np.float32).tiny
    log = tf.math.log(tf.maximum(values, smallest))
    return log - tf.math.log(tf.maximum(1.0 - values, smallest)) if signature.head == "sigmoid" else log


def _logits(head: Any, below: Any) -> Any:
    logits = tf.matmul(below, tf.cast(head.kernel, below.dtype))
    logits = logits + tf.cast(head.bias, logits.dtype) if head.use_bias else logits
    return tf.cast(logits, tf.float32)


def _width(tensor: Any) -> int | None:
    """Numbers a sample; None where that varies, or they are none."""
    fit = isinstance(tensor, keras.KerasTensor) and str(tensor.dtype).startswith(("float", "bfloat"))
    if not fit or any(dim is None for dim in tensor.shape[1:]):
        return None
    width: int = math.prod(tensor.shape[1:])
    return width


def _as_given(spec: TensorSpec, tensor: Any) -> TensorSpec:
    """A declared output with the dtype and shape that it has in the traced graph, where the two cannot both be right."""
    if tensor.shape.rank is None:
        return spec
    shape = tuple(tensor.shape[1:])
    known = len(shape) == len(spec.shape) and all(
        None in (have, said) or have == said for have, said in zip(shape, spec.shape, strict=True)
    )
    dtype = STRING if tensor.dtype == tf.string else tensor.dtype.name
    return replace(spec, dtype=dtype, shape=spec.shape if known else shape)


def _plain(tensor: Any) -> Any:
    if isinstance(tensor, tf.RaggedTensor):
        raise TypeError("an output is ragged, its rows differ in length: pad it within the model, with to_tensor()")
    dense = tf.sparse.to_dense(tensor) if isinstance(tensor, tf.SparseTensor) else tensor
    return tf.cast(dense, tf.float32) if dense.dtype == tf.bfloat16 else dense


def _tf_dtype(dtype: str) -> Any:
    return tf.string if dtype == STRING else tf.as_dtype(dtype)


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


@contextmanager
def quiet() -> Iterator[None]:
    """Keras and TensorFlow warn about things a server's operator can do nothing about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
