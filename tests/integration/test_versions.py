"""From a model to a version that serves: publishing, and every reason why a version must not go live."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.backends.backend import backend_of
from hoverboard.backends.executor import GraphError
from hoverboard.engine.models.loader import Loader
from hoverboard.errors import PublishError, VersionRefused
from hoverboard.publishing import publish
from hoverboard.publishing.calibration_file import CalibrationRows
from hoverboard.versions import VersionOnDisk, read_version
from hoverboard.versions.store import VersionWriter, read_golden


def load(directory: Path, **more: Any) -> Any:
    loader = Loader(lambda job: job(), max_batch=8, **{"xla": False, **more})
    return loader.load(VersionOnDisk(int(directory.name), directory, ()))


def rewritten(version: Path, change: Callable[[Path], None], number: int = 7) -> Path:
    """A copy of a version with other content and checksums that hold: what a wrong publisher would write."""
    manifest = json.loads((version / "manifest.json").read_text())
    with VersionWriter(version.parent) as writer:
        shutil.copytree(version, writer.path, dirs_exist_ok=True)
        (writer.path / "manifest.json").unlink()
        change(writer.path)
        manifest |= {"version": number, "sha256": dict(writer.checksums())}
        override = writer.path / "override.json"
        if override.exists():
            manifest |= json.loads(override.read_text())
            override.unlink()
            manifest["sha256"].pop("override.json")
        target = version.parent / str(number)
        shutil.copytree(writer.path, target)
        (target / "manifest.json").write_text(json.dumps(manifest))
    return target


def override(**values: Any) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        (directory / "override.json").write_text(json.dumps(values))

    return change


def golden(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        file = directory / "golden.json"
        document = json.loads(file.read_text())
        change(document)
        file.write_text(json.dumps(document))

    return apply


def _other_answer(document: dict[str, Any]) -> None:
    document["samples"][0]["outputs"]["y"][0] += 0.01


def _other_input(name: str) -> dict[str, Any]:
    return {"inputs": [{"name": name, "dtype": "float32", "shape": [2]}]}


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (golden(_other_answer), "golden", r"golden sample 0, output y: 1 at element 0, expected 1\.0"),
        (override(inputs=[{"name": "x", "dtype": "float32", "shape": [2]}]), "golden", "golden.json"),
        (override(outputs=[{"name": "z", "dtype": "float32", "shape": [1]}]), "golden", "golden.json"),
        (override(max_batch=0), "manifest", "max_batch"),
        (lambda v: (v / "model.keras").write_bytes(b"PK\x03\x04 no model"), "load", "is no whole Keras archive"),
        (lambda v: (v / "model.keras").write_bytes(b""), "load", "is no whole Keras archive"),
    ],
)
def test_a_version_that_is_wrong_inside_is_refused_with_the_check_that_found_it(
    models: Path, change: Callable[[Path], None], check: str, words: str
) -> None:
    version = rewritten(models / "constant" / "1", change)
    with pytest.raises(VersionRefused, match=words) as caught:
        load(version)
    assert caught.value.check == check


def test_a_manifest_that_promises_another_shape_than_the_graph_has_is_refused(models: Path) -> None:
    def shorten(document: dict[str, Any]) -> None:
        for sample in document["samples"]:
            sample["inputs"]["features"] = [1, 2, 3]

    def change(directory: Path) -> None:
        override(inputs=[{"name": "features", "dtype": "float32", "shape": [3]}])(directory)
        golden(shorten)(directory)

    with pytest.raises(
        VersionRefused, match=r"input features: the graph has float32 \[2\], the manifest float32 \[3\]"
    ):
        load(rewritten(models / "constant" / "1", change))


def test_a_lambda_layer_is_refused_by_publishing_and_by_the_server(models: Path, tmp_path: Path) -> None:
    import keras

    sneaky = keras.Sequential([keras.Input((2,), name="features"), keras.layers.Lambda(lambda x: x[:, :1], name="y")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sneaky.save(tmp_path / "sneaky.keras")
    with pytest.raises(PublishError, match="is a Lambda"):
        publish(tmp_path / "sneaky.keras", name="sneaky", models_dir=tmp_path / "out")
    assert not (tmp_path / "out" / "sneaky").exists()

    def swap(directory: Path) -> None:
        shutil.copy(tmp_path / "sneaky.keras", directory / "model.keras")

    version = rewritten(models / "constant" / "1", swap)
    with pytest.raises(VersionRefused, match="is a Lambda") as caught:
        load(version)
    assert caught.value.check == "safety"


def test_a_saved_model_that_touches_files_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    class Thief(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="path")])  # type: ignore[untyped-decorator]
        def serve(self, path: Any) -> dict[str, Any]:
            return {"content": tf.map_fn(tf.io.read_file, path)}

    thief = Thief()
    tf.saved_model.save(thief, str(tmp_path / "thief"), signatures={"serving_default": thief.serve})
    with pytest.raises(PublishError, match="operation ReadFile is not allowed"):
        publish(tmp_path / "thief", name="thief", models_dir=tmp_path / "out", samples=["/etc/hostname"])


def test_a_saved_model_serves_like_the_keras_model_it_came_from(tmp_path: Path, keras_models: dict[str, Any]) -> None:
    model = keras_models["mixed"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(tmp_path / "saved", verbose=False)
    place = publish(
        tmp_path / "saved",
        name="mixed",
        models_dir=tmp_path / "models",
        labels=["no", "yes"],
        samples=[{"word": "small", "size": 1}, {"word": "unheard of", "size": -3}],
    )
    manifest = read_version(place)
    assert manifest.artifact == "saved_model"
    live = load(place)
    columns = {"word": np.array([b"small", b"large", b"?"], object), "size": np.array([[1], [2], [3]], np.float32)}
    done = live.execute([columns[spec.name] for spec in manifest.inputs], 3, 4)
    words = np.array(["small", "large", "?"])
    expected = np.asarray(model({"word": words, "size": columns["size"]}))
    np.testing.assert_allclose(done.outputs[0], expected, rtol=1e-4, atol=1e-5)
    assert live.memory_bytes > 0


@pytest.mark.parametrize("name", ["dense", "mixed", "lengths", "poisoned"])
def test_every_bucket_gives_what_keras_gives(models: Path, name: str, keras_models: dict[str, Any]) -> None:
    live = load(models / name / "1")
    golden_set = read_golden(models / name / "1", live.manifest)
    for sample_index, sample in enumerate(golden_set.samples):
        for bucket in (1, 2, 4, 8):
            outputs = live.execute(sample.inputs, 1, bucket).outputs
            assert golden_set.mismatch(live.signature, sample_index, outputs) is None


def test_publishing_takes_the_next_number_and_never_overwrites(tmp_path: Path, keras_models: dict[str, Any]) -> None:
    first = publish(keras_models["one"], name="c", models_dir=tmp_path)
    second = publish(keras_models["two"], name="c", models_dir=tmp_path, parent=1, notes={"why": "better"})
    assert (first.name, second.name) == ("1", "2")
    assert read_version(second).parent == 1
    assert read_version(second).notes == {"why": "better"}
    with pytest.raises(PublishError, match="immutable"):
        publish(keras_models["two"], name="c", models_dir=tmp_path, version=1)
    assert publish(keras_models["two"], name="c", models_dir=tmp_path, version=20).name == "20"


@pytest.mark.parametrize(
    "given", [{"samples": "rows.jsonl"}, {"labels": "labels.txt"}, {"samples": Path("rows.jsonl")}]
)
def test_a_path_is_not_taken_for_a_list_of_letters(
    tmp_path: Path, keras_models: dict[str, Any], given: dict[str, Any]
) -> None:
    with pytest.raises(PublishError, match=r"'(rows|labels)\.\w+': expected a list of"):
        publish(keras_models["dense1"], name="m", models_dir=tmp_path, **given)


def test_arrays_are_taken_where_notebooks_have_them(tmp_path: Path, keras_models: dict[str, Any]) -> None:
    model = keras_models["dense1"]
    given: dict[str, Any] = {"name": "m", "models_dir": tmp_path, "labels": np.array(["red", "green", "blue"])}
    rows = np.random.default_rng(0).random((20, 8), np.float32)
    for samples in (rows, list(rows), rows.tolist(), {"features": rows}):
        place = publish(model, samples=samples, **given)
        manifest = read_version(place)
        assert manifest.labels == ("red", "green", "blue")
        (first, *_) = read_golden(place, manifest).samples
        np.testing.assert_array_equal(first.inputs[0][0], rows[0])
    assert read_version(publish(model, name="n", models_dir=tmp_path, labels=np.arange(3))).labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"samples": 7}, "samples: expected a list of instances.*got int"),
        ({"samples": {"features": np.ones((2, 8)), "other": np.ones((3, 1))}}, "samples: the inputs have 2, 3 rows"),
        ({"labels": [1.5, None, "c"]}, "labels: name 0 is 1.5: use texts"),
        ({"labels": {"0": "a"}}, "labels: expected a list of names, got dict"),
        ({"contract": "contract.toml"}, "contract: expected limits by input name"),
        ({"contract": ["features"]}, "contract: expected limits by input name"),
        ({"calibration": {"features": []}}, "calibration: expected the path of a file"),
        ({"version": "9"}, "version '9': use a number from 1"),
        ({"parent": 0}, "parent: expected a version's number"),
        ({"notes": {"auc": np.float32(0.9)}}, "notes: JSON cannot hold them"),
        ({"allow_ops": "ReadFile"}, "'ReadFile': expected a list of names"),
        ({"alpha": 0.5}, "alpha is for outliers: give calibration samples"),
        ({"head": "softmax"}, "head: softmax is what an output of classes or labels holds"),
        ({"labels": ["a", "b", "c"], "head": "logits"}, "ends in a softmax: what it holds are no logits"),
    ],
)
def test_what_publish_cannot_use_is_refused_in_words(
    tmp_path: Path, keras_models: dict[str, Any], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(PublishError, match=words):
        publish(keras_models["dense1"], name="m", models_dir=tmp_path, **given)
    assert not list(tmp_path.glob("m/[!.]*"))


def test_a_version_that_breaks_callers_of_the_one_before_needs_a_word(
    tmp_path: Path, keras_models: dict[str, Any]
) -> None:
    contract = {"features": {"min": 0, "max": 9}}
    given: dict[str, Any] = {"name": "d", "models_dir": tmp_path}
    publish(keras_models["dense1"], labels=["red", "green", "blue"], contract=contract, **given)
    words = (
        r"callers of d version 1 may break.*labels: 3 with blue before, 3 with grey now.*input features: min: 0 before"
    )
    with pytest.raises(PublishError, match=words + r".*--breaking"):
        publish(keras_models["dense2"], labels=["red", "green", "grey"], **given)
    assert not (tmp_path / "d" / "2").exists()
    place = publish(keras_models["dense2"], labels=["red", "green", "grey"], breaking=True, **given)
    assert read_version(place).breaking
    # It is held against the one before it: not against the last where it is put in between.
    publish(keras_models["dense1"], labels=["red", "green", "grey"], version=9, **given)
    with pytest.raises(PublishError, match="callers of d version 2"):
        publish(keras_models["dense1"], labels=["red", "green", "blue"], version=5, **given)


def test_tasks_and_heads_are_inferred(models: Path) -> None:
    found = {name: read_version(models / name / "1") for name in ("dense", "constant", "mixed", "poisoned", "lengths")}
    assert (found["dense"].task, found["dense"].head) == ("classification", "softmax")
    assert found["constant"].task == "regression"
    assert (found["mixed"].task, found["mixed"].head) == ("classification", "sigmoid")
    assert found["poisoned"].task == "raw"
    assert found["lengths"].task == "raw"
    assert found["dense"].inputs[0].max == 9


def several() -> Any:
    """Outputs by name, sorted: an amount, an embedding, and the verdict, which is what the labels are about."""
    import keras

    keras.utils.set_random_seed(4)
    x = keras.Input((3,), name="x")
    z = keras.layers.Dense(8, activation="tanh", name="hidden")(x)
    verdict = keras.layers.Dense(3, activation="softmax", name="a_verdict_layer")(z)
    amount = keras.layers.Dense(1, name="an_amount_layer")(keras.layers.Dense(5, name="other")(x))
    return keras.Model(x, {"verdict": verdict, "amount": amount, "direction": keras.layers.Dense(2)(z)})


def test_of_several_outputs_the_one_with_a_column_for_each_label_is_the_answer(tmp_path: Path) -> None:
    model = several()
    x = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    expected = {name: np.asarray(value) for name, value in model(x).items()}
    labels = np.array(["no", "yes", "maybe"])[expected["verdict"].argmax(axis=1)]
    place = publish(
        model,
        name="m",
        models_dir=tmp_path,
        labels=["no", "yes", "maybe"],
        calibration=CalibrationRows((x,), labels.tolist()),
    )
    manifest = read_version(place)
    assert [spec.name for spec in manifest.outputs] == ["verdict", "amount", "direction"]
    assert (manifest.task, manifest.head) == ("classification", "softmax")
    assert manifest.public()["outliers"]["layer"] == "hidden"  # what the verdict is made of, not the amount
    done = load(place).execute([x[:8]], 8, 8)
    for spec, found in zip(manifest.outputs, done.outputs, strict=True):
        np.testing.assert_allclose(found, expected[spec.name][:8], rtol=1e-4, atol=1e-5)
    assert done.p_value is not None
    assert np.isfinite(done.p_value).all()


def test_the_output_that_is_named_is_the_answer(tmp_path: Path) -> None:
    model = several()
    regression = read_version(publish(model, name="m", models_dir=tmp_path))
    assert (regression.task, regression.outputs[0].name) == ("regression", "amount")
    named = read_version(publish(model, name="n", models_dir=tmp_path, output="direction", labels=["left", "right"]))
    assert [spec.name for spec in named.outputs] == ["direction", "amount", "verdict"]
    assert (named.task, named.head) == ("classification", "logits")
    with pytest.raises(
        PublishError, match=r"output 'verdct': the model has none.*; outputs: amount, direction, verdict"
    ):
        publish(model, name="m", models_dir=tmp_path, output="verdct")
    with pytest.raises(PublishError, match="output amount: a classification with one output column needs a sigmoid"):
        publish(model, name="m", models_dir=tmp_path, output="amount", labels=["left", "right"], samples=[[9, 9, 9]])


def test_where_several_outputs_could_be_the_answer_one_must_be_named(tmp_path: Path) -> None:
    import keras

    x = keras.Input((3,), name="x")
    outputs = {name: keras.layers.Dense(width)(x) for name, width in (("amount", 1), ("left", 3), ("right", 3))}
    with pytest.raises(PublishError, match="outputs left, right have a column for each label: say with --output which"):
        publish(keras.Model(x, outputs), name="m", models_dir=tmp_path, labels=["a", "b", "c"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "../up"}, "model name"),
        ({"version": 0}, "version 0"),
        ({"task": "clustering"}, "task 'clustering'"),
        ({"labels": ["a", "b", "c"]}, "one output column needs a sigmoid at its end, not logits"),
        ({"labels": ["a", "b", "c"], "head": "sigmoid"}, "3 labels for 2 classes"),
        ({"labels": ["a", "a"]}, "the same"),
        ({"contract": {"nope": {}}}, "no input 'nope'"),
        ({"contract": {"features": {"minimum": 1}}}, "minimum"),
        ({"contract": {"features": {"min": 2, "max": 1}}}, "min 2.0 is above max 1.0"),
        ({"contract": {"features": {"allowed": ["x"]}}}, "allowed value 'x'"),
        ({"contract": {"features": {"allowed": []}}}, "allowed: the list is empty"),
        ({"notes": "x" * 70_000}, "notes: larger than 64 KiB"),
        ({"parent": -5}, "parent: expected a version's number"),
        ({"parent": 99}, "parent 99: there is no such version; versions: none"),
        ({"labels": ["a\0", "b"], "head": "logits"}, "label 0 holds a zero byte"),
        ({"samples": []}, "empty"),
        ({"samples": [[1, 2], [1]]}, "samples: /1: expected 2 numbers, got 1"),
        ({"samples": [[1, "x"]]}, "samples: /0/1"),
        ({"model": "/nowhere/model.keras"}, "no such file"),
    ],
)
def test_what_cannot_become_a_version_is_said_in_one_sentence_and_nothing_stays(
    tmp_path: Path, keras_models: dict[str, Any], arguments: dict[str, Any], words: str
) -> None:
    given = {"model": keras_models["one"], "name": "c", "models_dir": tmp_path / "out", **arguments}
    with pytest.raises(PublishError, match=words) as caught:
        publish(given.pop("model"), **given)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.keras"))


def test_a_model_without_declared_inputs_is_explained(tmp_path: Path) -> None:
    import keras

    with pytest.raises(PublishError, match="declares no inputs"):
        publish(keras.Sequential([keras.layers.Dense(1)]), name="c", models_dir=tmp_path)


def test_a_model_that_fails_on_drawn_samples_asks_for_real_ones(tmp_path: Path, keras_models: dict[str, Any]) -> None:
    import keras

    number = keras.Input((1,), name="number")
    always_nan = keras.Model(number, keras.layers.Identity(name="y")(keras.ops.log(-1.0 - number * number)))
    with pytest.raises(PublishError, match="NaN or infinite"):
        publish(always_nan, name="c", models_dir=tmp_path)


def test_xla_is_used_only_where_it_is_worth_it_and_never_for_strings_and_lengths(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoverboard.backends.tensorflow.graph._XLA_MARGIN", 0.0)
    assert load(models / "dense" / "1", xla=True).executor.name != "tf-xla"
    monkeypatch.setattr("hoverboard.backends.tensorflow.graph._XLA_MARGIN", 1e9)
    assert load(models / "dense" / "1", xla=True).executor.name == "tf-xla"
    assert load(models / "mixed" / "1", xla=True).executor.name == "tf"
    assert load(models / "lengths" / "1", xla=True).executor.name != "tf-xla"


def test_a_small_graph_runs_in_its_callers_thread_and_answers_the_same(models: Path) -> None:
    direct, plain = load(models / "dense" / "1"), load(models / "dense" / "1", threads=(1, 2))
    assert (direct.executor.name, plain.executor.name) == ("tf-direct", "tf")  # asked for two operations at once
    for rows in (1, 3, 8, 8, 1):
        x = np.random.default_rng(rows).uniform(0, 9, (rows, 8)).astype(np.float32)
        (given,), (wanted,) = direct.executor.run([x]), plain.executor.run([x])
        assert (given.dtype, given.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(given, wanted, rtol=1e-6)
    steps = np.ones((2, 5, 2), np.float32)
    lengths = load(models / "lengths" / "1"), load(models / "lengths" / "1", threads=(1, 2))
    for given, wanted in zip(*(version.executor.run([steps]) for version in lengths), strict=True):
        np.testing.assert_allclose(given, wanted, rtol=1e-6)


def test_what_cannot_be_frozen_runs_as_it_is(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(models / "mixed" / "1").executor.name == "tf"  # a table of strings
    monkeypatch.setattr("hoverboard.backends.tensorflow.graph._DIRECT_BYTES", 100)
    assert load(models / "dense" / "1").executor.name == "tf"  # weights too large to keep twice


def test_a_sample_that_breaks_a_direct_graph_is_a_graph_error(models: Path) -> None:
    version = load(models / "poisoned" / "1")
    assert version.executor.name == "tf-direct"
    poison = np.array([[10]], np.int32)
    with pytest.raises(GraphError):
        version.executor.run([poison])


def test_timings_are_remembered_by_weights_and_machine(models: Path, tmp_path: Path) -> None:
    first = load(models / "dense" / "1", xla=True, timings_dir=tmp_path / "timings")
    (file,) = (tmp_path / "timings").iterdir()
    again = load(models / "dense" / "1", xla=True, timings_dir=tmp_path / "timings")
    assert again.timings == first.timings
    assert again.executor.name == first.executor.name
    file.write_text("rubbish")
    assert load(models / "dense" / "1", xla=True, timings_dir=tmp_path / "timings").timings
    load(models / "dense" / "2", xla=True, timings_dir=tmp_path / "timings")
    assert len(list((tmp_path / "timings").iterdir())) == 2


def test_what_is_remembered_is_of_the_ways_there_are_and_put_right(models: Path, tmp_path: Path) -> None:
    def executor(**more: Any) -> str:
        return str(load(models / "dense" / "1", timings_dir=tmp_path / "timings", **more).executor.name)

    assert executor() == "tf-direct"
    (file,) = (tmp_path / "timings").iterdir()
    file.write_text(file.read_text().replace("tf-direct", "tf-xla"))  # which is off, and so fails
    assert executor() == "tf"
    assert '"tf"' in file.read_text()
    other = replace(backend_of("model.keras"), executors=("another release's",))
    assert executor(backend=lambda artifact, threads: other) == "tf-direct"  # measured again
    assert len(list((tmp_path / "timings").iterdir())) == 2
