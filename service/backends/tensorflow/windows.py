"""Windows of a graph, in convolutions and poolings, must find enough in what they are given.

Where that depends on the sizes of the inputs alone, short samples are refused before they reach the graph (`lengths`). Where it
depends on what they hold, such as the words of a text, the graph itself has to look. For TensorFlow's operations do not all say that
there is too little: some answer with unset memory, and one divides by zero, which ends the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hoverboard.backends.graph import TOO_SHORT
from hoverboard.backends.tensorflow.device import quiet
from hoverboard.backends.tensorflow.shapes import CHECK, GraphShapes, has_windows

with quiet():
    import tensorflow as tf

__all__ = ["with_checks"]

_SIZES: Final = (64, 96, 210, 512)  # of free dimensions; what is not known then depends on more than these
_INT: Final = tf.int32.as_datatype_enum
_SCOPE: Final = "checked"


def with_checks(concrete: Any, specs: Sequence[Any], *, jit: bool) -> tuple[Any, Any] | None:
    """A graph that refuses what is too short for a window of it.

    Args:
        concrete: the graph, a concrete function.
        specs: of its inputs.
        jit: compile with XLA.

    Returns:
        The graph as a `tf.function` and its concrete function; None where no window depends on what a sample holds.
    """
    if not has_windows(concrete):
        return None
    shapes = GraphShapes(concrete, len(specs))
    for size in _SIZES:
        least = shapes.unknown([[dim or size for dim in spec.shape[1:]] for spec in specs])
        if least is not None:
            return _rebuilt(concrete, shapes.runnable, least, specs, jit=jit) if least else None
    return None


def _rebuilt(
    concrete: Any, definition: Any, least: Mapping[str, Sequence[int]], specs: Sequence[Any], *, jit: bool
) -> tuple[Any, Any]:
    for node in list(definition.node):
        if node.name in least:
            _check(definition, node, least[node.name])
    # Inputs and variables are handed in by the new graph.
    outside = {inside.op.name for inside in concrete.inputs}
    rest = tf.compat.v1.GraphDef(versions=definition.versions, library=definition.library)
    rest.node.extend(node for node in definition.node if node.name not in outside)
    for node in rest.node:
        inputs = [name for name in node.input if not name.startswith("^") or name[1:] not in outside]
        del node.input[:]
        node.input.extend(inputs)
    used = {name for node in rest.node for name in node.input}
    outputs = [tensor.name for tensor in concrete.outputs]

    def flat(*tensors: Any) -> list[Any]:
        graph = tf.compat.v1.get_default_graph()
        mapped = dict(zip((tensor.name for tensor in concrete.inputs), tensors, strict=False))
        mapped |= {inside.name: graph.capture(captured) for captured, inside in concrete.graph.captures}
        for variable in concrete.graph.variables:
            graph.watch_variable(variable)  # else it would not know that handles are variables, as freezing must
        mapped = {name: tensor for name, tensor in mapped.items() if {name, name.partition(":")[0]} & used}
        return list(tf.graph_util.import_graph_def(rest, mapped, outputs, name=_SCOPE))

    function = tf.function(flat, input_signature=specs, autograph=False, jit_compile=jit)
    return function, function.get_concrete_function()


def _check(definition: Any, window: Any, least: Sequence[int]) -> None:
    """Put a check before the first input of a window: its sizes are at least these."""
    source, name = window.input[0], f"{window.name}/{CHECK}"
    kind = window.attr["T"].type
    shape = definition.node.add(op="Shape", name=f"{name}/shape", input=[source])
    shape.attr["T"].type, shape.attr["out_type"].type = kind, _INT
    _constant(definition, f"{name}/least", tf.constant(list(least), tf.int32))
    each = definition.node.add(op="GreaterEqual", name=f"{name}/each", input=[shape.name, f"{name}/least"])
    each.attr["T"].type = _INT
    _constant(definition, f"{name}/axis", tf.constant([0], tf.int32))
    every = definition.node.add(op="All", name=f"{name}/all", input=[each.name, f"{name}/axis"])
    every.attr["Tidx"].type, every.attr["keep_dims"].b = _INT, False
    _constant(definition, f"{name}/words", tf.constant(TOO_SHORT))
    check = definition.node.add(op="Assert", name=f"{name}/assert", input=[every.name, f"{name}/words"])
    check.attr["T"].list.type.append(tf.string.as_datatype_enum)
    check.attr["summarize"].i = 1
    passed = definition.node.add(
        op="Identity", name=f"{name}/passed", input=[source, f"^{check.name}"]
    )  # ^: only once the check has passed
    passed.attr["T"].type = kind
    window.input[0] = passed.name


def _constant(definition: Any, name: str, value: Any) -> None:
    node = definition.node.add(op="Const", name=name)
    node.attr["dtype"].type = value.dtype.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
