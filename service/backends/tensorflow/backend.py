"""TensorFlow as a backend: Keras archives and SavedModels. Importing it takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hoverboard.backends.authoring import Authoring
from hoverboard.backends.backend import Backend
from hoverboard.backends.tensorflow.artifact import layer_classes, load, wrap_keras
from hoverboard.backends.tensorflow.device import configure, device_kind, software
from hoverboard.backends.tensorflow.executors import DIRECT, PLAIN, XLA
from hoverboard.backends.tensorflow.export import numbered
from hoverboard.backends.tensorflow.graph import TensorFlowGraph
from hoverboard.backends.tensorflow.writing import further_ops, write_artifact
from hoverboard.versions.manifest import Manifest

__all__ = ["BACKEND"]


def _load(directory: Path, manifest: Manifest) -> TensorFlowGraph:
    graph = load(directory, manifest.artifact, manifest.allowed_ops, manifest.saved_signature)
    named = graph.named(manifest.graph_names)
    named.compare(manifest.signature)
    return named


BACKEND: Final = Backend(
    load=_load,
    configure=configure,
    device_kind=device_kind,
    software=software,
    packages=("keras", "tensorflow", "numpy", "h5py"),
    executors=(PLAIN, DIRECT, XLA),
    authoring=Authoring(
        write=write_artifact,
        in_memory=wrap_keras,
        further_ops=further_ops,
        layer_classes=lambda: layer_classes(None),
        numbered=numbered,
    ),
)
