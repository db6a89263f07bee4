"""A model's files, put in place and loaded back as a server will."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hoverboard.errors import PublishError, VersionRefused
from hoverboard.publishing.kinds import check_kind, keras_2_hint
from hoverboard.versions.manifest import KERAS_FILE, SAVED_MODEL_DIR, GraphNames

if TYPE_CHECKING:
    from hoverboard.backends.tensorflow.graph import Graph

__all__ = ["Written", "write_artifact"]


@dataclass(frozen=True, slots=True)
class Written:
    """A model's files in a version's directory.

    Attributes:
        artifact: which they are.
        graph: as a server loads it.
        called: the Keras model behind the same tensors; None for a SavedModel from elsewhere.
        names: where these inputs are called otherwise than in the file.
        doubt: what may be wrong where it cannot answer samples; empty, or words that follow a sentence.
    """

    artifact: Literal["model.keras", "saved_model"]
    graph: Graph
    called: Graph | None = None
    names: GraphNames = field(default_factory=GraphNames)
    doubt: str = ""


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
    from hoverboard.backends.tensorflow import artifact, device

    device.first_operation()
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
    return Written("model.keras", graph, graph)


def _copied(source: Path, place: Path, allowed_ops: Sequence[str], signature: str | None) -> Written:
    from hoverboard.backends.tensorflow.artifact import DEFAULT_SIGNATURE
    from hoverboard.backends.tensorflow.export import input_paths

    if any(path.is_symlink() for path in source.rglob("*")):
        raise PublishError(f"{source}: holds links, which are not followed")
    shutil.copytree(source, place)
    graph = _loaded(place, allowed_ops, signature)
    known = sorted(graph.keep.signatures)
    if signature is None and len(known) > 1 and DEFAULT_SIGNATURE not in known:
        raise PublishError(
            f"{source} has signatures {', '.join(known)}, and none is {DEFAULT_SIGNATURE}: say which one answers, with "
            f"--signature {known[0]} (in Python: signature={known[0]!r})"
        )
    names = GraphNames(inputs=input_paths(graph))
    return Written("saved_model", graph.named(names), None, names)


def _exported(model: Any, place: Path, allowed_ops: Sequence[str]) -> Written:
    from hoverboard.backends.tensorflow.export import export_keras

    exported = export_keras(model, place)
    names = GraphNames(inputs=exported.own)
    graph = _loaded(place, allowed_ops).named(names)
    return Written("saved_model", graph, exported.called(graph), names, exported.doubt)


def _loaded(path: Path, allowed_ops: Sequence[str], signature: str | None = None) -> Graph:
    from hoverboard.backends.tensorflow import artifact

    try:
        return artifact.load_artifact(path, allowed_ops, signature)
    except (PublishError, VersionRefused) as refusal:
        raise PublishError(f"{refusal}{keras_2_hint(path)}") from refusal
