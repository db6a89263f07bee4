"""`.keras` files that reach out of themselves are refused before Keras loads them."""

from __future__ import annotations

import io
import json
import stat
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hoverboard.backends.tensorflow import artifact
from hoverboard.errors import VersionRefused
from tests import zoo


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as Keras writes it, with a vocabulary and weights."""
    import keras

    words = keras.Input((), name="words", dtype="string")
    lookup = keras.layers.StringLookup(name="lookup")
    lookup.adapt(["red", "blue"])
    out = keras.layers.Dense(2, name="scores")(keras.layers.Embedding(5, 3)(lookup(words)))
    path = tmp_path_factory.mktemp("plain") / "model.keras"
    saved(keras.Model(words, out), path)
    return path


def saved(model: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


Members = dict[str, bytes]


def rewritten(
    plain: Path, path: Path, change: Callable[[Members], Mapping[str | zipfile.ZipInfo, bytes] | None]
) -> Path:
    """The archive with other members, unpacked and packed again."""
    with zipfile.ZipFile(plain) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    more = change(members) or {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in (*members.items(), *more.items()):
            archive.writestr(name, content)
    return path


def refused(path: Path, words: str, check: str = "safety") -> None:
    with pytest.raises(VersionRefused, match=words) as caught:
        artifact.load_artifact(path)
    assert caught.value.check == check
    assert "safe_mode" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(zoo.KERAS))
def test_what_keras_writes_is_loaded(kind: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = zoo.KERAS[kind]()
    model.compile(loss=lambda y, x: x)  # a loss of the trainer's own is none of the server's business
    assert artifact.load_artifact(saved(model, tmp_path / "model.keras")).outputs


def test_a_vocabulary_that_was_learned_travels_in_the_archive(plain: Path) -> None:
    import tensorflow as tf

    graph = artifact.load_artifact(plain)
    assert graph.call(tf.constant(["red"]))[0].shape == (1, 2)


def test_keras_layers_that_are_registered_in_this_process_are_loaded(tmp_path: Path) -> None:
    import keras

    @keras.saving.register_keras_serializable("tests")
    class Doubling(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            return 2 * x

    @keras.saving.register_keras_serializable("tests")  # type: ignore[untyped-decorator]
    def halved(x: Any) -> Any:
        return x / 2

    number = keras.Input((1,))
    out = Doubling()(keras.layers.Activation(halved)(number))
    path = saved(keras.Model(number, out), tmp_path / "model.keras")
    assert artifact.load_artifact(path).outputs
    for name in ("tests>Doubling", "tests>halved"):
        kept = keras.saving.get_custom_objects().pop(name)
        refused(path, r"Python code of your own \(.*model\.export")
        keras.saving.get_custom_objects()[name] = kept


def test_layers_that_hold_code_are_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    number = keras.Input((1,))
    lambdas = keras.Model(number, keras.layers.Lambda(lambda x: x + 1, name="plus")(number))
    refused(saved(lambdas, tmp_path / "lambda.keras"), r"layer 'plus' is a Lambda, .*write it with keras\.ops")

    class Writer(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec((None, 1))])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            tf.io.write_file(str(tmp_path / "loot"), "written")
            return x

    tf.saved_model.save(Writer(), str(tmp_path / "inner"))
    layer = keras.layers.TFSMLayer(str(tmp_path / "inner"), call_endpoint="__call__", name="inner")
    outer = keras.Model(number, layer(number))
    refused(saved(outer, tmp_path / "outer.keras"), "layer 'inner' is a TFSMLayer, .*can be published as it is")
    assert not (tmp_path / "loot").exists()


@pytest.mark.parametrize("path", ["/etc/hostname", "vocabulary.txt"])
def test_a_vocabulary_that_is_a_path_is_refused(plain: Path, tmp_path: Path, path: str) -> None:
    def change(members: Members) -> None:
        config = json.loads(members["config.json"])
        lookup = next(layer for layer in config["config"]["layers"] if layer["config"]["name"] == "lookup")
        lookup["config"]["vocabulary"] = path
        members["config.json"] = json.dumps(config).encode()

    refused(rewritten(plain, tmp_path / "model.keras", change), "layer 'lookup': its vocabulary is the path of a file")


def _reconfigured(**values: Any) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        config = json.loads(members["config.json"])
        config["config"]["layers"][-1].update(values)
        members["config.json"] = json.dumps(config).encode()

    return change


def _nested(members: Members) -> None:
    members["config.json"] = b'{"config": ' + b"[" * 500 + b"]" * 500 + b"}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_reconfigured(module="os", class_name="system", registered_name=None), r"your own \(system of os\)"),
        (_reconfigured(module="builtins", class_name="function", config="exec"), r"your own \(function exec\)"),
        (_reconfigured(module="mine.layers", class_name="Mine", registered_name="Mine"), r"Mine of mine\.layers"),
        (_reconfigured(config={"name": ".."}), "its name would climb"),
        (_nested, "nested deeper"),
    ],
)
def test_a_configuration_that_names_other_code_is_refused(
    plain: Path, tmp_path: Path, change: Callable[[Members], None], words: str
) -> None:
    refused(rewritten(plain, tmp_path / "model.keras", change), words)


def _link() -> dict[str | zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo("assets/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return {info: b"/etc/hostname"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"../loot": b""}, "outside the archive"),
        ({"assets/../../loot": b""}, "outside the archive"),
        ({"/tmp/loot": b""}, "outside the archive"),
        ({"assets\\..\\loot": b""}, "outside the archive"),
        ({zipfile.ZipInfo("config.json"): b"{}"}, "'config.json' twice"),
        (_link(), "is a link or a special file"),
        ({"model.weights.npz": b""}, "no file of Keras' format"),
        ({"assets/bomb": bytes(80_000_000)}, "would become"),
    ],
)
def test_an_archive_that_climbs_or_grows_is_refused(
    plain: Path, tmp_path: Path, more: Mapping[str | zipfile.ZipInfo, bytes], words: str
) -> None:
    refused(rewritten(plain, tmp_path / "model.keras", lambda members: more), words)


def _external_link(file: Any, folder: Path) -> None:
    import h5py

    file["layers/embedding/vars/more"] = h5py.ExternalLink("/etc/hostname", "/")


def _soft_link(file: Any, folder: Path) -> None:
    import h5py

    file["more"] = h5py.SoftLink("/layers")


def _external_storage(file: Any, folder: Path) -> None:
    (folder / "secret").write_bytes(bytes(64))
    file.create_dataset("stolen", (16,), "f4", external=[(str(folder / "secret"), 0, 64)])


def _virtual(file: Any, folder: Path) -> None:
    import h5py

    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4,))
    file.create_virtual_dataset("pieced", layout)


def _huge(file: Any, folder: Path) -> None:
    file.create_dataset("huge", (10**12,), "f4", chunks=(1024,))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_external_link, "is a link, perhaps to another file"),
        (_soft_link, "is a link"),
        (_external_storage, "is kept in another file"),
        (_virtual, "put together from other files"),
        (_huge, "when they are read"),
    ],
)
def test_weights_that_point_at_other_files_are_refused(
    plain: Path, tmp_path: Path, change: Callable[[Any, Path], None], words: str
) -> None:
    import h5py

    def rewrite(members: Members) -> None:
        content = io.BytesIO(members["model.weights.h5"])
        with h5py.File(content, "a") as file:
            change(file, tmp_path)
        members["model.weights.h5"] = content.getvalue()

    refused(rewritten(plain, tmp_path / "model.keras", rewrite), words)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_an_archive_that_lacks_a_file_says_which(plain: Path, tmp_path: Path, name: str) -> None:
    def change(members: Members) -> None:
        del members[name]

    refused(rewritten(plain, tmp_path / "model.keras", change), f"holds no {name}", "load")


@pytest.mark.parametrize("kind", [["Dense"], {"a": 1}, 7, True])
def test_a_class_name_that_is_no_text_is_refused_in_words(plain: Path, tmp_path: Path, kind: Any) -> None:
    def change(members: Members) -> None:
        config = json.loads(members["config.json"])
        config["config"]["layers"][-1]["class_name"] = kind
        members["config.json"] = json.dumps(config).encode()

    refused(rewritten(plain, tmp_path / "model.keras", change), "a class_name is .*, not a text", check="load")


def test_damage_in_what_is_packed_is_refused_in_words(plain: Path, tmp_path: Path) -> None:
    path = rewritten(plain, tmp_path / "model.keras", lambda members: None)
    content = bytearray(path.read_bytes())
    start = content.find(b"config.json") + 11
    for place in range(start + 30, start + 60):
        content[place] ^= 0xFF
    path.write_bytes(content)
    refused(path, "no whole Keras archive", check="load")


def test_an_operation_that_nobody_can_allow_is_refused_by_name(plain: Path) -> None:
    with pytest.raises(VersionRefused, match="allowed_ops: ReadFile cannot be allowed") as caught:
        artifact.load(plain.parent, plain.name, ["ReadFile"])
    assert caught.value.check == "safety"
