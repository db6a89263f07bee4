"""What sizes of its inputs a graph can answer, told from the shapes of its tensors alone: nothing of it is run.

A convolution or a pooling whose window is larger than what it is given has nothing to compute. TensorFlow's operations do not all
say so: some answer with unset memory, and one divides by zero, which ends the process. So running a graph is no way to find out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hoverboard.backends.graph import Fit
from hoverboard.backends.tensorflow.device import quiet

with quiet():
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

__all__ = ["CHECK", "GraphShapes", "has_windows"]

CHECK: Final = "enough"
"""Last in the names of checks that `windows` puts into a graph, but for their parts."""

_WINDOW: Final = re.compile(r"Conv[23]D|DepthwiseConv|Pool|Dilation2D|Patches")
_REDUCED: Final = frozenset({"Mean", "Max", "Min", "ArgMax", "ArgMin"})  # nothing has none of these
_TOO_FEW: Final = re.compile(r"[Nn]egative dimension size|output size would be negative")
_CALLS: Final = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


class GraphShapes:
    """What sizes a graph can answer.

    Args:
        concrete: the graph, a concrete function.
        inputs: how many of its inputs are a sample's, the first ones; others are variables.
    """

    def __init__(self, concrete: Any, inputs: int) -> None:
        self._concrete = concrete
        self._definition = _definition(concrete)
        nodes = {node.name: node for node in self._definition.node}
        self._inputs = [nodes[tensor.op.name] for tensor in concrete.inputs[:inputs]]
        for node in self._inputs:
            node.attr.pop("_output_shapes", None)  # else the import would hold sizes against those of the trace

    def fit(self, sizes: Sequence[Sequence[int]]) -> Fit:
        """Whether one sample can be answered, as far as shapes tell.

        Args:
            sizes: of each input in the signature's order, without the batch axis.
        """
        try:
            return Fit.SHORT if _lacks(self._inferred(sizes)) else Fit.GOOD
        except Exception as error:  # noqa: BLE001 - whatever the inference does not like, the graph may still be served
            return Fit.SHORT if _TOO_FEW.search(str(error)) else Fit.OTHER

    @property
    def checked(self) -> bool:
        """Whether the graph itself looks at what some windows are given, so that it does no harm to run it."""
        return any(f"/{CHECK}/" in node.name for node in self._definition.node)

    def unknown(self, sizes: Sequence[Sequence[int]]) -> dict[str, list[int]] | None:
        """Windows whose input has a size that these do not tell, so that it depends on what a sample holds.

        Returns:
            An operation's name -> the least sizes of its input, dimension by dimension; None where these sizes do not fit.
        """
        try:
            operations = self._inferred(sizes).get_operations()
        except Exception:  # noqa: BLE001 - as above
            return None
        return {each.name: least for each in operations if (least := _least_of(each)) is not None}

    @property
    def runnable(self) -> Any:
        """The operations that `unknown` names, in a `GraphDef` that can be run."""
        return _plain(self._concrete)

    def _inferred(self, sizes: Sequence[Sequence[int]]) -> Any:
        for node, size in zip(self._inputs, sizes, strict=True):
            node.attr["shape"].shape.CopyFrom(tf.TensorShape((1, *size)).as_proto())
        # Importing a graph infers the shape of every tensor in it, from its inputs on, and runs nothing.
        with tf.Graph().as_default() as graph:
            tf.graph_util.import_graph_def(self._definition, name="")
        return graph


def has_windows(concrete: Any) -> bool:
    """Whether a graph has windows at all, in its functions too, over sizes that its trace does not tell."""
    return any(_open(each) for each in concrete.graph.get_operations()) or any(
        _WINDOW.search(node.op)
        for function in concrete.graph.as_graph_def().library.function
        for node in function.node_def
    )


def _open(operation: Any) -> bool:
    if not _WINDOW.search(operation.type) or not operation.inputs:
        return False
    shape = operation.inputs[0].shape
    return shape.rank is None or None in shape.as_list()[1:]


def _least_of(operation: Any) -> list[int] | None:
    """The least sizes of a window's input, where they are not known to be there."""
    if not _open(operation) or operation.inputs[0].shape.rank is None:
        return None
    sizes = operation.inputs[0].shape.as_list()
    around = _attribute(operation, "padding") != b"VALID"  # padded: any window finds something, if there is one element
    window = [1] * len(sizes) if around else _window(operation, len(sizes))
    missing = [size is None for size in sizes]
    # How many rows there are is no matter of windows.
    return [0, *(size if free else 0 for size, free in zip(window[1:], missing[1:], strict=True))]


def _window(operation: Any, rank: int) -> list[int]:
    """How far a window reaches along each dimension of its input."""
    pooled = _attribute(operation, "ksize") or _attribute(operation, "ksizes")
    if pooled is not None and len(pooled) == rank:
        return list(pooled)
    kernel = operation.inputs[1].shape.as_list() if len(operation.inputs) > 1 and operation.inputs[1].shape.rank else []
    apart = _attribute(operation, "dilations") or [1] * rank
    if len(kernel) != rank or len(apart) != rank or None in kernel:
        return [1] * rank
    first = 2 if _attribute(operation, "data_format") in (b"NCHW", b"NCDHW") else 1
    reach = [1] * rank
    for place, size in enumerate(kernel[: rank - 2], first):
        reach[place] = (size - 1) * apart[place] + 1
    return reach


def _attribute(operation: Any, name: str) -> Any:
    try:
        return operation.get_attr(name)
    except ValueError:
        return None


def _lacks(graph: Any) -> bool:
    """Whether an operation of it has nothing to compute from."""
    for operation in graph.get_operations():
        if _WINDOW.search(operation.type):
            lacks = any(_empty(tensor) for tensor in (*operation.inputs, *operation.outputs))
        else:
            reduced = operation.type in _REDUCED
            lacks = reduced and _empty(operation.inputs[0]) and not _empty(operation.outputs[0])
        if lacks:
            return True
    return False


def _empty(tensor: Any) -> bool:
    return tensor.shape.rank is not None and 0 in tensor.shape.as_list()


def _definition(concrete: Any) -> Any:
    """The operations of a graph, with the shapes that are known of their outputs, and none hidden in functions that it calls."""
    flat = _plain(concrete, add_shapes=True)
    values = {}
    for outside, inside in concrete.graph.captures:
        data = getattr(outside, "_handle_data", None)  # of a variable: TensorFlow keeps it nowhere else
        if data is not None and data.is_set:
            values[inside.op.name] = data.shape_and_type[0]
    _read_by_shape(flat, values)
    return flat


def _plain(concrete: Any, *, add_shapes: bool = False) -> Any:
    """The operations of a graph, none hidden in functions that it calls."""
    plain = concrete.graph.as_graph_def(add_shapes=add_shapes)
    if not any(node.op in _CALLS for node in plain.node):
        return plain
    try:
        return _flattened(concrete)
    except Exception:  # noqa: BLE001 - then less is known of it, as long as it serves
        return plain


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
