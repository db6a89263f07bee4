"""What a file or directory is, by its first bytes: other formats of models are named, with what to do instead."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Final

from hoverboard.errors import PublishError
from hoverboard.versions.manifest import KERAS_FILE

__all__ = ["check_kind", "keras_2_hint"]

_SAVE: Final = "load it with what wrote it, and save it again with model.save('model.keras')"
_RETRAIN: Final = "Hoverboard serves Keras models and TensorFlow SavedModels: rebuild it in Keras"
_WEIGHTS: Final = (
    "holds weights without a model: build the model in Python, load them with model.load_weights(...), and save it with "
    "model.save('model.keras')"
)
_HEAD: Final = 4096
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_PACKED: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x78\x01", b"\x78\x9c", b"\x78\xda")


def check_kind(source: Path) -> None:
    """Let Keras archives and SavedModel directories pass, by what is in them.

    Raises:
        PublishError: it is something else; one sentence that says what, and what to do.
    """
    problem = _directory(source) if source.is_dir() else _file(source)
    if problem:
        raise PublishError(f"{source} {problem}")


def keras_2_hint(source: Path) -> str:
    """What to do about an archive that Keras 2 wrote, where Keras 3 cannot load it; empty for any other."""
    try:
        with zipfile.ZipFile(source) as archive:
            version = str(json.loads(archive.read("metadata.json"))["keras_version"])
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile):
        return ""
    if not version.startswith("2."):
        return ""
    return f". Keras {version} wrote it: there, model.export('folder') gives a SavedModel, which can be published"


def _directory(source: Path) -> str | None:
    names = {path.name for path in source.iterdir()}
    if "saved_model.pb" in names:
        return None
    within = [name for name in sorted(names) if (source / name / "saved_model.pb").is_file()]
    if within:
        return f"is no SavedModel itself, {within[0]} within it is: publish {source / within[0]}"
    if "saved_model.pbtxt" in names:
        return "is a SavedModel in text form: save it again with tf.saved_model.save"
    if "checkpoint" in names or any(name.endswith(".index") for name in names):
        return f"is a TensorFlow checkpoint, which {_WEIGHTS}"
    if {"config.json", "metadata.json"} <= names:
        return "is an unpacked .keras file: pack it again as a zip file, or save the model again with model.save('model.keras')"
    return f"is no SavedModel, it has no saved_model.pb: make one with model.export('{source.name}'), or give a .keras file"


def _file(source: Path) -> str | None:
    with source.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PK\x03\x04"):
        return _zip(source)
    if head.startswith(_HDF5):
        return _hdf5(source)
    name = source.name
    if name.endswith(".index") or ".data-0" in name or head.startswith(b"model_checkpoint_path"):
        return f"is part of a TensorFlow checkpoint, which {_WEIGHTS}"
    return _other(source, head)


def _zip(source: Path) -> str | None:
    try:
        with zipfile.ZipFile(source) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "is a zip file that was cut off: copy it again"
    if "config.json" in names:
        return None
    if any(name.endswith("/data.pkl") for name in names):
        return f"is a PyTorch model. {_RETRAIN}"
    if any(name.endswith("saved_model.pb") for name in names):
        return "is a packed SavedModel: unpack it, and publish the directory"
    if names and all(name.endswith(".npy") for name in names):
        return "holds NumPy arrays, no model: save the model with model.save('model.keras')"
    return "is a zip file, but no Keras model: it has no config.json. Save the model with model.save('model.keras')"


def _hdf5(source: Path) -> str:
    import h5py

    try:
        with h5py.File(source, "r") as file:
            whole, version = "model_config" in file.attrs, file.attrs.get("keras_version")
    except OSError:
        return "is an HDF5 file that cannot be read: copy it again"
    if not whole:
        return f"is an HDF5 file that {_WEIGHTS}"
    wrote = version.decode() if isinstance(version, bytes) else version
    return f"is a model in the HDF5 format{f' of Keras {wrote}' if wrote else ''}: {_SAVE}"


def _other(source: Path, head: bytes) -> str:
    if not head:
        return "is empty: copy it again"
    # In this order, since later marks are short: bytes that mean something elsewhere may begin another format, too.
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself: git lfs pull fetches it"
    if head[4:8] == b"TFL3":
        return "is a TensorFlow Lite model, which is made from a Keras model: publish that one"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        made = " of scikit-learn" if b"sklearn" in head else ""
        return f"is a pickle{made}, and loading one runs any code that is in it. {_RETRAIN}"
    if source.suffix == ".joblib" or head.startswith(_PACKED):
        return f"is a packed file, such as joblib writes for scikit-learn, and no Keras model. {_RETRAIN}"
    if source.suffix != ".pb" and (
        source.suffix == ".onnx" or (head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a"))
    ):
        return f"is an ONNX model. {_RETRAIN}"
    if head.lstrip()[:1] in (b"{", b"["):
        return f"is JSON: an architecture without weights is no model. Save it whole with model.save('{KERAS_FILE}')"
    if source.suffix == ".pb" or head[:1] == b"\x0a":
        return "is a TensorFlow graph: publish the SavedModel directory that it lies in, or make one with tf.saved_model.save"
    return "is no Keras model: a .keras file is a zip file, and a SavedModel a directory. Save the model with model.save('model.keras')"
