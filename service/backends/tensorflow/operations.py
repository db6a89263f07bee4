"""Which operations a graph may hold: `operations.txt`, what the publisher adds by name, and what nobody can add.

A graph is a program. A list of what is forbidden is always behind what TensorFlow learns next, so this is a list of what is
allowed. It takes graphs as they are parsed, and imports nothing of TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from hoverboard.errors import VersionRefused

__all__ = ["OURS", "TABLE_FROM_FILE", "allowed", "check_graph", "check_nodes", "checks_input", "functions_of", "never"]

_LIST: Final = Path(__file__).with_name("operations.txt")
_NEVER: Final = re.compile(
    # Internal ones; files; sources of data, which open files, pipes and sockets; Python; debuggers and logs.
    r"_.*|.*(?:File|Dataset|Reader|Iterator|PyFunc|Debug|Print|Dump|Summary|Event|Stats|Proto(?=V|$)|Library).*"
    # Checkpoints; other processes and devices; the process's own life and that of other callers.
    r"|.*(?:Save|Restore|Checkpoint|Collective|Nccl|Send|Recv|Rpc|Remote|TPU|Tpu|DTensor|Infeed|Outfeed|Session).*"
    r"|Abort|Sleep.*|Worker.*|XlaCustomCall.*|XlaHostCompute|XlaLaunch.*|CustomAggregator|Copy(?:Host|Op|ToMesh.*)?"
    # These read or write a file, which their names do not say.
    r"|ImmutableConst|FixedUnigramCandidateSampler|GenerateVocabRemapping|LoadAndRemapMatrix|Skipgram|RecordInput"
)
TABLE_FROM_FILE: Final = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})
_ASSERTIONS: Final = frozenset({"Assert", "CheckNumerics", "CheckNumericsV2"})
_GATHERS: Final = frozenset({"Gather", "GatherV2", "GatherNd", "ResourceGather", "ResourceGatherNd"})
OURS: Final = "hoverboard"
"""Scope of the nodes that score a sample, which look nothing up by what callers send."""
_HANDLES: Final = frozenset({20, 21, 120, 121})
"""DT_RESOURCE and DT_VARIANT, and references to them: as constants they name things of other models in this process."""


@cache
def allowed() -> frozenset[str]:
    """The names in `operations.txt`."""
    lines = _LIST.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def never(name: str) -> bool:
    """Whether an operation reaches files, networks, Python, logs or the process itself, so that nobody can allow it."""
    return name not in allowed() and _NEVER.fullmatch(name) is not None


def check_graph(graph: Any, extra: Collection[str] = ()) -> None:
    """Hold a traced graph, a `GraphDef`, and every function in its library against the list.

    Args:
        graph: what is about to run; nothing in it may read a file, not even the model's own.
        extra: operations that the manifest allows by name.

    Raises:
        VersionRefused: one is not allowed; it is named, with its place.
    """
    check_nodes(graph, extra, refused=TABLE_FROM_FILE)


def check_nodes(
    graph: Any, extra: Collection[str], *, refused: Collection[str] = (), spared: Collection[str] = ()
) -> None:
    """Hold the nodes of a `GraphDef` and its functions against the list.

    Args:
        refused: names that are refused although they are on the list.
        spared: names that are looked at elsewhere.

    Raises:
        VersionRefused: an operation is not allowed, a constant is a handle, or a function is not what its name says.
    """
    functions = {function.signature.name for function in graph.library.function}
    known = ((allowed() | {name for name in extra if not never(name)}) - set(refused)) | set(spared)
    # Else a function could stand for an allowed operation here, and be something else where TensorFlow looks its name up.
    for name in functions:
        if name in known or (never(name) and not name.startswith("_")):
            raise VersionRefused(f"a function has the name of an operation: {name}", check="safety")
    for where, nodes in _bodies(graph):
        for node in nodes:
            if node.op not in known and node.op not in functions:
                raise VersionRefused(_words(node.op, node.name, where), check="safety")
            for value in node.attr.values():
                _check_value(value, node.name, where, functions)


def checks_input(graph: Any, *, indexes: bool) -> bool:
    """Whether a model's `GraphDef` refuses some inputs by itself, which it does no more once XLA has compiled it.

    XLA drops assertions, and takes the nearest row for an index that there is not.

    Args:
        indexes: whether callers send whole numbers, which may be indexes; other gathers pick shapes apart.
    """
    wanted = _ASSERTIONS | _GATHERS if indexes else _ASSERTIONS
    return any(
        node.op in wanted and not node.name.startswith(f"{OURS}/") for _, nodes in _bodies(graph) for node in nodes
    )


def functions_of(value: Any) -> Iterator[str]:
    """Names of the functions that an attribute, an `AttrValue`, holds."""
    kind = value.WhichOneof("value")
    for function in (value.func,) if kind == "func" else value.list.func if kind == "list" else ():
        yield function.name
        for inner in function.attr.values():
            yield from functions_of(inner)


def _bodies(graph: Any) -> Iterator[tuple[str, Iterable[Any]]]:
    yield "the graph", graph.node
    for function in graph.library.function:
        yield f"function {function.signature.name}", function.node_def


def _check_value(value: Any, node: str, where: str, functions: Collection[str]) -> None:
    for name in functions_of(value):
        if name and name not in functions:
            raise VersionRefused(
                f"{where}, node {node}: calls {name}, which is no function of the model", check="safety"
            )
    kind = value.WhichOneof("value")
    for tensor in (value.tensor,) if kind == "tensor" else value.list.tensor if kind == "list" else ():
        if tensor.dtype in _HANDLES:
            raise VersionRefused(f"{where}, node {node}: holds a handle as a constant", check="safety")


def _words(op: str, node: str, where: str) -> str:
    place = f"{where}, node {node}: operation {op} is not allowed"
    if never(op) or op in TABLE_FROM_FILE:
        return f"{place}: it reaches out of the graph, to files, networks, Python, logs or the process itself"
    return f"{place} by default: where you know what it does, publish with --allow-op {op}"
