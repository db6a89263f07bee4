"""Ways to run a traced graph: as a `tf.function`, plain or compiled with XLA, in a session of the calling thread, or untraced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from hoverboard.backends.executor import GraphError, OutOfMemory
from hoverboard.backends.reasons import reason_of
from hoverboard.backends.tensorflow.device import quiet
from hoverboard.contract.signature import STRING, Array, Signature

with quiet():
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.framework import convert_to_constants  # its documented way to freeze; it has no other name

__all__ = [
    "DIRECT",
    "PLAIN",
    "XLA",
    "TensorFlowExecutor",
    "dense",
    "executor_of",
    "in_session",
    "tensor_specs",
    "tf_dtype",
]

PLAIN: Final = "tf"
DIRECT: Final = "tf-direct"
XLA: Final = "tf-xla"


class TensorFlowExecutor:
    """A graph behind the `Executor` Protocol.

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


def executor_of(name: str, function: Any, concrete: Any, signature: Signature) -> TensorFlowExecutor:
    """A `tf.function` by its concrete function for a signature."""
    # The concrete function, since calling the other one looks through its traces each time; and `tf.constant` with a dtype,
    # which is quicker than letting the call convert arrays.
    dtypes = [tf_dtype(spec.dtype) for spec in signature.inputs]

    def call(columns: Sequence[Array]) -> list[Array]:
        tensors = [tf.constant(column, dtype) for column, dtype in zip(columns, dtypes, strict=True)]
        return [tensor.numpy() for tensor in concrete(*tensors)]

    return TensorFlowExecutor(name, call, function.experimental_get_tracing_count)


def in_session(concrete: Any, inputs: int, intra_op: int) -> TensorFlowExecutor:
    """A concrete function with its weights as constants, in a session that runs in the caller's thread.

    A `tf.function` hands its graph to TensorFlow's own thread, and on busy cores a small graph waits longer for that to be
    scheduled than it runs. Only sessions can be told to run where they are called.

    Args:
        inputs: of the signature.
        intra_op: threads one operation may use.

    Raises:
        ValueError: it holds what cannot be a constant, such as a table.
    """
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
    run = session._make_callable_from_options(options)  # noqa: SLF001 - there is no public way

    def call(columns: Sequence[Array]) -> list[Array]:
        arrays: list[Array] = run(*columns)
        return arrays

    return TensorFlowExecutor(DIRECT, call, lambda: 1)


def tensor_specs(signature: Signature) -> list[Any]:
    """The inputs as TensorFlow takes them, named `i0`, `i1`, ... which is where a session is fed."""
    return [tf.TensorSpec((None, *s.shape), tf_dtype(s.dtype), name=f"i{n}") for n, s in enumerate(signature.inputs)]


def tf_dtype(dtype: str) -> Any:
    return tf.string if dtype == STRING else tf.as_dtype(dtype)


def dense(tensor: Any) -> Any:
    """A tensor as one that NumPy can hold, which knows neither sparse ones nor bfloat16.

    Raises:
        TypeError: it is ragged.
    """
    if isinstance(tensor, tf.RaggedTensor):
        raise TypeError("an output is ragged, its rows differ in length: pad it within the model, with to_tensor()")
    full = tf.sparse.to_dense(tensor) if isinstance(tensor, tf.SparseTensor) else tensor
    return tf.cast(full, tf.float32) if full.dtype == tf.bfloat16 else full
