"""A SavedModel is read as data before TensorFlow loads it, because loading one runs code of its own.

Tables are filled, resources made and variables restored by functions that the model brings along. So every node of the graph
and of every function is held against the list of operations first. Files are read in two places only: the loader itself
restores variables, and a table may be filled from a vocabulary file that lies in the model's `assets/`.

Import it late: the format's descriptions come with TensorFlow. Nothing of TensorFlow is run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from google.protobuf.message import DecodeError

from hoverboard.backends.tensorflow.device import quiet
from hoverboard.backends.tensorflow.operations import TABLE_FROM_FILE, check_nodes, functions_of
from hoverboard.errors import VersionRefused
from hoverboard.machine import check_of

with quiet():
    from tensorflow.core.protobuf import saved_model_pb2

__all__ = ["GRAPH_FILE", "check_saved_model"]

GRAPH_FILE: Final = "saved_model.pb"
_LARGEST: Final = 1024**3  # bytes; the format itself ends at twice that, and weights are elsewhere
_ASSETS: Final = "assets"
_CHECKPOINT: Final = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"})
"""Every SavedModel holds functions that write and restore checkpoints. TensorFlow 2 never runs them: its loader reads
`variables/` by itself. They are left alone as long as nothing that is run reaches them."""


def check_saved_model(directory: Path, extra: Collection[str] = ()) -> None:
    """Refuse a SavedModel that would reach out of itself, when it is loaded or when it answers.

    Args:
        directory: of the SavedModel.
        extra: operations that the manifest allows by name.

    Raises:
        VersionRefused: what is wrong, with its place.
    """
    meta = _read(directory / GRAPH_FILE)
    # The loader hands these paths to functions of the model as they are.
    for asset in meta.asset_file_def:
        _check_asset(directory / _ASSETS, asset.filename)
    check_nodes(meta.graph_def, extra, spared=_CHECKPOINT)
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    calls = {name: set(_called(function)) for name, function in functions.items()}
    run = _reached(_roots(meta), calls)
    for name in sorted(run & functions.keys()):
        _check_function(meta, name, functions[name], {caller for caller in run if name in calls.get(caller, ())})


def _read(path: Path) -> Any:
    """The only MetaGraph of a SavedModel of TensorFlow 2."""
    try:
        if path.stat().st_size > _LARGEST:
            raise VersionRefused(f"{path.name} is larger than {_LARGEST // 1024**2} MiB", check="safety")
        saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except OSError as error:
        raise VersionRefused(f"{path.name}: {error.strerror}", check=check_of(error, "load")) from error
    except DecodeError as error:
        raise VersionRefused(f"{path.name} is no SavedModel: it cannot be parsed", check="load") from error
    if len(saved.meta_graphs) != 1:
        found = len(saved.meta_graphs)
        message = f"{path.name} holds {found} graphs, one is needed: export it again, for serving only"
        raise VersionRefused(message, check="load")
    meta = saved.meta_graphs[0]
    if not meta.HasField("object_graph_def"):
        message = (
            f"{path.name} was written by TensorFlow 1, whose initializers cannot be told from what reads and writes files: "
            "load it with TensorFlow 2 and write it again with tf.saved_model.save"
        )
        raise VersionRefused(message, check="safety")
    return meta


def _check_asset(assets: Path, name: str) -> None:
    place = PurePosixPath(name)
    outside = place.is_absolute() or ".." in place.parts or not place.parts or "://" in name or "\\" in name
    path = assets / place
    if outside or any(step.is_symlink() for step in (path, *path.parents[: len(place.parts)])):
        raise VersionRefused(f"asset {name!r} lies outside {_ASSETS}/", check="safety")
    if not path.is_file():
        raise VersionRefused(f"asset {name!r} is no file in {_ASSETS}/", check="load")


def _roots(meta: Any) -> set[str]:
    """Functions that the loader or a caller can run: those the objects hold, and gradients of them."""
    library = meta.graph_def.library
    return {
        *meta.object_graph_def.concrete_functions,
        *(entry.gradient_func for entry in library.gradient),
        *(entry.gradient_func for entry in library.registered_gradients),
    }


def _called(function: Any) -> Iterator[str]:
    for node in function.node_def:
        yield node.op  # a function may also be called as if it were an operation
        for value in node.attr.values():
            yield from functions_of(value)


def _reached(roots: Collection[str], calls: Mapping[str, Collection[str]]) -> set[str]:
    reached: set[str] = set()
    ahead = list(roots)
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead.extend(calls.get(name, ()))
    return reached


def _check_function(meta: Any, name: str, function: Any, callers: Collection[str]) -> None:
    """Hold one function that can run against what may read and write files."""
    assets = _asset_arguments(meta, name, function) if not callers else frozenset()
    for node in function.node_def:
        if node.op in _CHECKPOINT:
            message = f"function {name}, node {node.name}: {node.op} would read or write files when the model is run"
            raise VersionRefused(message, check="safety")
        if node.op in TABLE_FROM_FILE and (len(node.input) < 2 or node.input[1] not in assets):
            message = (
                f"function {name}, node {node.name}: a table may be filled only from a file in {_ASSETS}/ "
                "that the model was saved with"
            )
            raise VersionRefused(message, check="safety")


def _asset_arguments(meta: Any, name: str, function: Any) -> frozenset[str]:
    """Arguments of a function that the loader binds to an asset's path; what it captures comes last."""
    objects = meta.object_graph_def
    if name not in objects.concrete_functions:
        return frozenset()
    bound = list(objects.concrete_functions[name].bound_inputs)
    arguments = [argument.name for argument in function.signature.input_arg]
    if not bound or len(bound) > len(arguments) or not all(0 <= place < len(objects.nodes) for place in bound):
        return frozenset()
    captured = zip(arguments[-len(bound) :], bound, strict=True)
    return frozenset(argument for argument, place in captured if objects.nodes[place].WhichOneof("kind") == "asset")
