"""A model's files, put in place and loaded back as a server will."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hoverboard.backends.authoring import Written
from hoverboard.backends.tensorflow import artifact
from hoverboard.backends.tensorflow.device import first_operation
from hoverboard.backends.tensorflow.export import export_keras, input_paths
from hoverboard.backends.tensorflow.graph import TensorFlowGraph
from hoverboard.backends.tensorflow.kinds import check_kind, keras_2_hint
from hoverboard.backends.tensorflow.operations import allowed, never
from hoverboard.errors import PublishError, VersionRefused
from hoverboard.versions.manifest import KERAS_FILE, SAVED_MODEL_DIR, GraphNames

__all__ = ["further_ops", "write_artifact"]


def further_ops(names: Sequence[str]) -> tuple[str, ...]:
    """See `Authoring.further_ops`."""
    for name in names:
        if never(name):
            raise PublishError(
                f"operation {name} cannot be allowed: it reaches out of the graph, to files, networks, Python, logs or the process"
            )
    return tuple(sorted(set(names) - allowed()))


def write_artifact(
    model: Any, directory: Path, allowed_ops: Sequence[str], *, export: bool, signature: str | None
) -> Written:
    """Put the model's files in place and load them back.

    Args:
        model: in memory, or a path.
        directory: of the version.
        allowed_ops: operations that the publisher allows by name.
        export: whether to write a Keras model as a SavedModel.
        signature: which one of a SavedModel answers; None where it has one, or `serving_default`.

    Raises:
        PublishError: what was given is no model, or cannot be loaded.
    """
    first_operation()
    if isinstance(model, str | Path):
        source = Path(model)
        if not source.exists():
            raise PublishError(f"{source}: no such file or directory")
        check_kind(source)
        if source.is_dir():
            if export:
                raise PublishError(f"{source} is a SavedModel already: publish it as it is")
            return _copied(source, directory / SAVED_MODEL_DIR, allowed_ops, signature)
    if signature is not None:
        raise PublishError(f"signature {signature!r}: only a SavedModel has signatures")
    if isinstance(model, str | Path):
        if export:
            model = _loaded(Path(model), allowed_ops).model
        else:
            shutil.copyfile(model, directory / KERAS_FILE)
    if export:
        return _exported(model, directory / SAVED_MODEL_DIR, allowed_ops)
    if not isinstance(model, str | Path):
        artifact.wrap_keras(model)  # says what is wrong with it before it is saved
        artifact.save_keras(model, directory / KERAS_FILE)
    graph = _loaded(directory / KERAS_FILE, allowed_ops)
    return Written(KERAS_FILE, graph, graph, layer_classes=artifact.layer_classes(graph.model))


def _copied(source: Path, place: Path, allowed_ops: Sequence[str], signature: str | None) -> Written:
    # A version must be whole wherever it is copied to, and checksums cover files.
    if any(path.is_symlink() for path in source.rglob("*")):
        raise PublishError(f"{source}: holds links, which are not followed")
    shutil.copytree(source, place)
    graph = _loaded(place, allowed_ops, signature)
    known = sorted(graph.keep.signatures)
    if signature is None and len(known) > 1 and artifact.DEFAULT_SIGNATURE not in known:
        raise PublishError(
            f"{source} has signatures {', '.join(known)}, and none is {artifact.DEFAULT_SIGNATURE}: say which one answers, with "
            f"--signature {known[0]} (in Python: signature={known[0]!r})"
        )
    names = GraphNames(inputs=input_paths(graph))
    return Written(SAVED_MODEL_DIR, graph.named(names), None, names, layer_classes=artifact.layer_classes(None))


def _exported(model: Any, place: Path, allowed_ops: Sequence[str]) -> Written:
    exported = export_keras(model, place)
    names = GraphNames(inputs=exported.own)
    graph = _loaded(place, allowed_ops).named(names)
    called = exported.called(graph)
    return Written(SAVED_MODEL_DIR, graph, called, names, exported.doubt, artifact.layer_classes(called.model))


def _loaded(path: Path, allowed_ops: Sequence[str], signature: str | None = None) -> TensorFlowGraph:
    try:
        return artifact.load_artifact(path, allowed_ops, signature)
    except (PublishError, VersionRefused) as refusal:
        raise PublishError(f"{refusal}{keras_2_hint(path)}") from refusal
