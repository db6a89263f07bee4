"""What sizes of its inputs a graph can answer, told from the shapes of its tensors alone: nothing of it is run.

A convolution or a pooling whose window is larger than what it is given has nothing to compute. TensorFlow's operations do not all
say so: some answer with unset memory, and one divides by zero, which ends the process. So running a graph is no way to find out.

Import it late, as `runtime`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

from service.engine.runtime import Graph, quiet

with quiet():
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

from service.types import Signature

__all__ = ["Fit", "Shapes"]

_WINDOW: Final = re.compile(r"Conv[23]D|DepthwiseConv|Pool|Dilation2D|Patches")
_REDUCED: Final = frozenset({"Mean", "Max", "Min", "ArgMax", "ArgMin"})  # nothing has none of these
_TOO_FEW: Final = re.compile(r"[Nn]egative dimension size|output size would be negative")
_CALLS: Final = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


class Fit(Enum):
    """Whether a graph can answer inputs of certain sizes."""

    GOOD = "good"
    SHORT = "short"
    """Some window is larger than what it is given. With more it would not be."""
    OTHER = "other"
    """They do not fit for another reason, such as being no multiple of something, or not as long as another input."""


class Shapes:
    """What sizes a graph can answer.

    Args:
        graph: the graph.
        signature: its version's.

    Raises:
        VersionRefused: as `Graph.executor` does.
    """

    def __init__(self, graph: Graph, signature: Signature) -> None:
        concrete = graph.traced(signature)
        self._definition = _definition(concrete)
        nodes = {node.name: node for node in self._definition.node}
        self._inputs = [nodes[tensor.op.name] for tensor in concrete.inputs[: len(signature.inputs)]]
        for node in self._inputs:
            node.attr.pop("_output_shapes", None)

    def fit(self, sizes: Sequence[Sequence[int]]) -> Fit:
        """Whether one sample can be answered, as far as shapes tell.

        Args:
            sizes: of each input in the signature's order, without the batch axis.
        """
        for node, size in zip(self._inputs, sizes, strict=True):
            node.attr["shape"].shape.CopyFrom(tf.TensorShape((1, *size)).as_proto())
        try:
            with quiet(), tf.Graph().as_default() as graph:
                tf.graph_util.import_graph_def(self._definition, name="")
                return Fit.SHORT if _lacks(graph) else Fit.GOOD
        except Exception as error:  # noqa: BLE001 - whatever the inference does not like, the graph may still be served
            return Fit.SHORT if _TOO_FEW.search(str(error)) else Fit.OTHER


def _lacks(graph: Any) -> bool:
    """Whether an operation of it has nothing to compute from."""
    for operation in graph.get_operations():
        if _WINDOW.search(operation.type):
            found = any(_empty(tensor) for tensor in (*operation.inputs, *operation.outputs))
        else:
            reduced = operation.type in _REDUCED
            found = reduced and _empty(operation.inputs[0]) and not _empty(operation.outputs[0])
        if found:
            return True
    return False


def _empty(tensor: Any) -> bool:
    return tensor.shape.rank is not None and 0 in tensor.shape.as_list()


def _definition(concrete: Any) -> Any:
    """The operations of a graph, with the shapes that are known of their outputs, and none hidden in functions that it calls."""
    plain = concrete.graph.as_graph_def(add_shapes=True)
    if not any(node.op in _CALLS for node in plain.node):
        return plain
    try:
        flat = _flattened(concrete)
    except Exception:  # noqa: BLE001 - then less is known of it, as long as it serves
        return plain
    values = {}
    for outside, inside in concrete.graph.captures:
        data = getattr(outside, "_handle_data", None)  # of a variable: TensorFlow keeps it nowhere else
        if data is not None and data.is_set:
            values[inside.op.name] = data.shape_and_type[0]
    _read_by_shape(flat, values)
    return flat


def _flattened(concrete: Any) -> Any:
    """As TensorFlow's own optimizer puts functions in the place of their calls."""
    meta = meta_graph_pb2.MetaGraphDef(graph_def=concrete.graph.as_graph_def())
    kept = meta.collection_def["train_op"].node_list.value
    kept.extend(tensor.name for tensor in (*concrete.inputs, *concrete.outputs))
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1  # however few there are
    options.optimizers.append("function")
    options.function_optimization = options.AGGRESSIVE
    return tf_optimizer.OptimizeGraph(config, meta)


def _read_by_shape(definition: Any, values: Mapping[str, Any]) -> None:
    """Give variables their shapes, which get lost with the functions: what reads one becomes a tensor of that shape."""
    source = {node.name: node.input[0] for node in definition.node if node.op == "Identity"}
    for node in definition.node:
        if node.op not in ("ReadVariableOp", "ResourceGather"):
            continue
        name = node.input[0]
        while name in source:
            name = source[name]
        value = values.get(name)
        if value is None:
            continue
        if node.op == "ReadVariableOp":
            _hold(node, value)
        else:
            held, first = definition.node.add(name=f"{node.name}/held"), definition.node.add(name=f"{node.name}/first")
            _hold(held, value)
            first.op = "Const"
            first.attr["dtype"].type = tf.int32.as_datatype_enum
            first.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0, tf.int32))
            node.op = "GatherV2"
            indices = node.input[1]
            kinds = {"Tparams": value.dtype, "Tindices": node.attr["Tindices"].type, "Taxis": tf.int32.as_datatype_enum}
            rows = node.attr["batch_dims"].i
            node.ClearField("attr")
            for key, kind in kinds.items():
                node.attr[key].type = kind
            node.attr["batch_dims"].i = rows
            node.ClearField("input")
            node.input.extend([held.name, indices, first.name])


def _hold(node: Any, value: Any) -> None:
    node.ClearField("attr")
    node.ClearField("input")
    node.op = "Placeholder"
    node.attr["dtype"].type = value.dtype
    node.attr["shape"].shape.CopyFrom(value.shape)
