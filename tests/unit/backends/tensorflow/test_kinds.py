from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from hoverboard.backends.tensorflow.kinds import check_kind, keras_2_hint
from hoverboard.errors import PublishError


def written(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def zipped(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "{}")

    return write


def hdf5(**attributes: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.attrs.update(attributes)

    return write


def folder(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(b"")

    return write


class SVC:
    """Stands for scikit-learn's."""


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("m.h5", hdf5(model_config="{}", keras_version="2.11.0"), r"HDF5 format of Keras 2.11.0: load it.*model\.save"),
        ("m.keras", hdf5(model_config="{}"), r"a model in the HDF5 format: load it"),
        ("m.weights.h5", hdf5(), r"holds weights without a model: build the model.*load_weights"),
        ("m.pkl", written(pickle.dumps(SVC())), "is a pickle, and loading one runs any code"),
        ("m.joblib", written(b"\x80\x04\x95 sklearn.svm._classes"), "is a pickle of scikit-learn"),
        ("m.joblib", written(b"\x78\x9c packed"), "joblib writes for scikit-learn"),
        ("m.onnx", written(b"\x08\x09\x12\x07pytorch"), "is an ONNX model"),
        ("saved_model.pb", written(b"\x08\x01\x12\xc8\x04"), "publish the SavedModel directory that it lies in"),
        ("m.keras", written(b"\x1c\x00\x00\x00TFL3"), "is a TensorFlow Lite model"),
        ("m.pt", zipped("m/data.pkl", "m/version"), "is a PyTorch model"),
        ("m.npz", zipped("a.npy"), "holds NumPy arrays, no model"),
        ("m.zip", zipped("export/saved_model.pb"), "is a packed SavedModel: unpack it"),
        ("m.keras", zipped("else"), "no Keras model: it has no config.json"),
        ("m.keras", written(b"PK\x03\x04 cut off"), "was cut off"),
        ("m.keras", written(b""), "is empty"),
        ("m.keras", written(b"version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
        ("m.json", written(b'{"class_name": "Functional"}'), "an architecture without weights"),
        ("m.keras", written(b"no model"), "a .keras file is a zip file"),
        ("ckpt.index", written(b"\x00\x00"), "part of a TensorFlow checkpoint"),
        ("ckpt", folder("checkpoint", "a.index"), "is a TensorFlow checkpoint"),
        ("up", folder("export/saved_model.pb"), "export within it is: publish .*up/export"),
        ("text", folder("saved_model.pbtxt"), "in text form"),
        ("unpacked", folder("config.json", "metadata.json"), "an unpacked .keras file"),
        ("empty", folder("readme"), r"it has no saved_model.pb: make one with model\.export"),
    ],
)
def test_what_is_no_model_of_ours_is_named_with_what_to_do(
    tmp_path: Path, name: str, write: Callable[[Path], None], words: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(PublishError, match=words) as refused:
        check_kind(tmp_path / name)
    assert "safe_mode" not in str(refused.value)


@pytest.mark.parametrize("write", [zipped("config.json", "metadata.json"), folder("saved_model.pb")])
def test_keras_archives_and_saved_models_pass_whatever_their_names(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "model.whatever")
    check_kind(tmp_path / "model.whatever")


def test_an_archive_of_keras_2_is_told_by_its_metadata(tmp_path: Path) -> None:
    for version, hint in (("2.15.0", "Keras 2.15.0 wrote it"), ("3.12.0", "")):
        with zipfile.ZipFile(tmp_path / version, "w") as archive:
            archive.writestr("metadata.json", f'{{"keras_version": "{version}"}}')
        assert hint in keras_2_hint(tmp_path / version)
        assert bool(keras_2_hint(tmp_path / version)) == bool(hint)
    assert keras_2_hint(tmp_path / "nowhere") == ""
