"""How an output ends: read from the graph's last operation, never guessed from values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hoverboard.contract.signature import Head

__all__ = ["head_of"]

_ENDS: Final[Mapping[str, Head]] = {
    "Softmax": "softmax",
    "Sigmoid": "sigmoid",
    "LogSoftmax": "logits",  # the softmax of logarithms of probabilities gives the probabilities
    "MatMul": "logits",
    "BatchMatMulV2": "logits",
    "Einsum": "logits",
    "BiasAdd": "logits",
}
_PASSED: Final = frozenset(
    [
        "Identity",
        "IdentityN",
        "Reshape",
        "Cast",
        "Squeeze",
        "ExpandDims",
        "StopGradient",
        "EnsureShape",
        "CheckNumerics",
    ]
)
_CALLS: Final = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_SUMS: Final = frozenset({"Add", "AddV2"})
_WEIGHTS: Final = frozenset({"ReadVariableOp", "Const", "Placeholder", "Identity"})
_MOST_STEPS: Final = 1000


def head_of(graph_def: Any, tensor: str) -> Head | None:
    """What an output holds, by the operation that it comes from; None where that is none of the usual ones.

    Args:
        graph_def: a traced graph, with the functions it calls.
        tensor: the output's name, such as `Identity:0`.
    """
    functions = {function.signature.name: function for function in graph_def.library.function}
    nodes: Mapping[str, Any] = {node.name: node for node in graph_def.node}
    for _ in range(_MOST_STEPS):  # a graph is a stranger's, and functions of one may call themselves
        name, place = _parsed(tensor)
        node = nodes.get(name)
        if node is None:
            return None
        if node.op in _ENDS:
            return _ENDS[node.op]
        if node.op in _CALLS:
            function = functions.get(node.attr["f"].func.name)
            if function is None:
                return None
            tensor = function.ret[function.signature.output_arg[place].name]
            nodes = {inner.name: inner for inner in function.node_def}
        elif node.op in _SUMS:
            return _sum(nodes, node.input)
        elif node.op in _PASSED:
            tensor = node.input[place if node.op == "IdentityN" else 0]
        else:
            return None
    return None


def _sum(nodes: Mapping[str, Any], inputs: Sequence[str]) -> Head | None:
    """A product and weights, as a dense layer adds its bias; of any other sum nobody knows what it holds."""
    ops = [nodes[name].op if name in nodes else "Placeholder" for name, _ in map(_parsed, inputs)]
    products = [op for op in ops if _ENDS.get(op) == "logits"]
    return "logits" if len(products) == 1 and all(op in _WEIGHTS for op in ops if op not in products) else None


def _parsed(tensor: str) -> tuple[str, int]:
    """A node's name and which of its outputs: from `node`, `node:1`, or `node:output:1` within a function."""
    name, *places = tensor.lstrip("^").split(":")
    return name, int(places[-1]) if places else 0
