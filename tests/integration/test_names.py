"""What inputs and outputs are called: as callers can know them, and as in the version before where Keras only counted on."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.backends.authoring import Written
from hoverboard.backends.tensorflow import artifact
from hoverboard.contract.signature import Array, Signature, TensorSpec
from hoverboard.engine.models.loader import Loader
from hoverboard.errors import PublishError
from hoverboard.publishing import publish
from hoverboard.publishing.names import keep_names
from hoverboard.versions import Manifest, VersionOnDisk, read_version

ROWS = 3


def answers(place: Path, columns: dict[str, Array]) -> dict[str, Array]:
    """What a server's loader answers to columns by name."""
    signature = read_version(place).signature
    live = Loader(lambda job: job(), max_batch=4).load(VersionOnDisk(int(place.name), place, ()))
    done = live.execute([columns[spec.name] for spec in signature.inputs], ROWS, live.costs.bucket_for(ROWS))
    return {spec.name: output[:ROWS] for spec, output in zip(signature.outputs, done.outputs, strict=True)}


def names(specs: Sequence[TensorSpec]) -> list[str]:
    return [spec.name for spec in specs]


def column(value: float) -> Array:
    return np.full((ROWS, 1), value, np.float32)


def debts() -> Any:
    """Subclassed; takes and gives structures; its inputs have one shape, so that a swap would go unseen."""
    import keras

    class Debts(keras.Model):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            risk = x["income"] - 3 * x["user"]["age"]
            return {"risk": risk, "parts": {"of age": [3 * x["user"]["age"]], "of income": x["income"]}}

    model = Debts()
    model({"user": {"age": column(1)}, "income": column(1)})
    return model


def test_an_exported_model_keeps_the_keys_of_its_inputs_and_outputs(tmp_path: Path) -> None:
    place = publish(debts(), name="m", models_dir=tmp_path, export=True, task="raw", max_batch=4)
    assert names(read_version(place).inputs) == ["income", "user.age"]
    found = answers(place, {"income": column(100), "user.age": column(2)})
    assert {name: float(values[0, 0]) for name, values in found.items()} == {
        "parts.of age.0": 6,
        "parts.of income": 100,
        "risk": 94,
    }


def test_a_subclassed_model_that_was_loaded_and_never_called_is_told_to_be_called(tmp_path: Path) -> None:
    import keras

    @keras.saving.register_keras_serializable("names")
    class Own(keras.Model):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            return 2 * x

    model = Own()
    model(column(1))
    artifact.save_keras(model, tmp_path / "own.keras")
    loaded = keras.saving.load_model(tmp_path / "own.keras")
    with pytest.raises(PublishError, match=r"was not called since it was loaded: call it once on a few samples"):
        publish(loaded, name="m", models_dir=tmp_path, export=True)
    loaded(column(1))
    assert publish(loaded, name="m", models_dir=tmp_path, export=True, max_batch=1).name == "1"


def test_names_that_tensorflow_does_not_take_are_kept_by_the_manifest(tmp_path: Path) -> None:
    import keras

    salary, age = keras.Input((1,), name="Gehalt (€)"), keras.Input((1,), name="my age")
    model = keras.Model([salary, age], keras.layers.Subtract(name="left")([salary, age]))
    place = publish(model, name="m", models_dir=tmp_path, export=True, max_batch=4)
    manifest = read_version(place)
    assert names(manifest.inputs) == ["Gehalt (€)", "my age"]
    assert (manifest.format, dict(manifest.graph_names.inputs)) == (3, {"Gehalt (€)": "input_0", "my age": "input_1"})
    assert answers(place, {"Gehalt (€)": column(5), "my age": column(2)})["output_0"][0] == 3


def test_the_keys_of_what_keras_itself_exported_are_found_in_the_file(tmp_path: Path) -> None:
    import keras

    class Difference(keras.Model):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            return {"risk": x["income"] - 3 * x["age"]}

    model = Difference()
    model({"income": column(1), "age": column(1)})
    model.export(tmp_path / "exported", verbose=False)
    place = publish(tmp_path / "exported", name="m", models_dir=tmp_path / "models", max_batch=4)
    assert dict(read_version(place).graph_names.inputs) == {"age": "args_0", "income": "args_0_1"}
    assert answers(place, {"income": column(100), "age": column(2)})["risk"][0] == 94

    # A version of before keeps the names that it was published with.
    old = json.loads((place / "manifest.json").read_text())
    for spec, name in zip(old["inputs"], ["args_0", "args_0_1"], strict=True):
        spec["name"] = name
    del old["graph_names"], old["saved_signature"]
    (place / "manifest.json").write_text(json.dumps({**old, "format": 1}))
    golden = (place / "golden.json").read_text().replace('"age"', '"args_0"').replace('"income"', '"args_0_1"')
    (place / "golden.json").write_text(golden)
    manifest = read_version(place)
    graph = artifact.load(place, manifest.artifact).named(manifest.graph_names)
    graph.compare(manifest.signature)


def test_it_is_said_where_keras_keeps_no_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import keras

    class Pair(keras.Model):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            return x[0] - x[1]

    model = Pair()
    model([column(1), column(1)])
    with caplog.at_level(logging.WARNING):
        place = publish(model, name="m", models_dir=tmp_path, export=True, max_batch=4)
    assert names(read_version(place).inputs) == ["args_0", "args_0_1"]
    assert answers(place, {"args_0": column(5), "args_0_1": column(2)})["output_0"][0] == 3
    assert "inputs args_0, args_0_1" in caplog.text
    assert "called with a dict" in caplog.text


def test_a_subclassed_model_that_takes_other_dtypes_is_told_how_to_give_its_signature(tmp_path: Path) -> None:
    import keras

    class Words(keras.Model):  # type: ignore[misc]  # Keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.look_up = keras.layers.StringLookup(vocabulary=["a", "b"])

        def call(self, x: Any) -> Any:
            return self.look_up(x["word"])

    import tensorflow as tf

    model = Words()
    model({"word": tf.constant([["a"]])})
    with pytest.raises(PublishError, match=r"float32, or more than one argument.*Keras keeps.*input_signature="):
        publish(model, name="m", models_dir=tmp_path, export=True)
    given = {"word": keras.InputSpec(shape=(None, 1), dtype="string")}
    model.export(tmp_path / "folder", input_signature=[given], verbose=False)
    (word,) = read_version(publish(tmp_path / "folder", name="m", models_dir=tmp_path, task="raw", max_batch=1)).inputs
    assert (word.name, word.dtype) == ("word", "string")


def test_a_subclassed_model_of_several_arguments_is_told_how_to_give_its_signature(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import keras

    class Difference(keras.Model):  # type: ignore[misc]  # Keras has no types
        def call(self, income: Any, age: Any) -> Any:
            return income - age

    model = Difference()
    model(column(1), column(1))
    with pytest.raises(PublishError, match=r"more than one argument.*Keras keeps.*an entry for each argument"):
        publish(model, name="m", models_dir=tmp_path, export=True)
    spec = keras.InputSpec(shape=(None, 1), dtype="float32")
    model.export(tmp_path / "folder", input_signature=[spec, spec], verbose=False)
    place = publish(tmp_path / "folder", name="m", models_dir=tmp_path, max_batch=4)
    assert "inputs args_0, args_1 are the model's, in the order" in caplog.text
    assert answers(place, {"args_0": column(5), "args_1": column(2)})["output_0"][0] == 3


def test_an_argument_that_an_export_leaves_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import keras

    class Difference(keras.Model):  # type: ignore[misc]  # Keras has no types
        def call(self, income: Any, age: Any = None, training: Any = None, mask: Any = None, scale: float = 2.0) -> Any:
            return scale * (income if age is None else income - age)

    model = Difference()
    model(column(1), column(1))
    publish(model, name="m", models_dir=tmp_path, export=True, max_batch=1)
    assert "left out of what callers send, since it has a default: age. If it takes" in caplog.text


def classifier() -> Any:
    import keras

    model = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(3, "softmax")])
    model.build((None, 2))
    return model


@pytest.mark.parametrize("form", ["memory", "file", "export", "folder"])
def test_the_same_script_run_twice_in_a_process_publishes_two_versions_under_the_same_names(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    places: list[Path] = []
    for _ in range(2):
        model = given = classifier()
        if form == "file":
            given = tmp_path / "model.keras"
            artifact.save_keras(model, given)
        if form == "folder":
            given = tmp_path / f"folder{len(places)}"
            model.export(given, verbose=False)
        # A script may read the names from its model, which are other ones each time.
        (name,) = names((artifact.load_artifact(given) if form == "folder" else artifact.wrap_keras(model)).inputs)
        places.append(
            publish(
                given,
                name="m",
                models_dir=tmp_path / "models",
                labels=["a", "b", "c"],
                export=form == "export",
                contract={name: {"min": -9, "max": 9}},
                max_batch=4,
            )
        )
    before, after = map(read_version, places)
    assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
    assert dict(after.graph_names.inputs) == {after.inputs[0].name: name}
    words = (
        f"m keeps the names of the version before, where Keras only numbered them: {after.inputs[0].name} ({name} in"
    )
    assert words in caplog.text
    x = np.random.default_rng(0).normal(size=(ROWS, 2)).astype(np.float32)
    (found,) = answers(places[1], {after.inputs[0].name: x}).values()
    np.testing.assert_allclose(found, model(x), rtol=1e-4, atol=1e-5)


def kept(model: Any, inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]]) -> tuple[Any, Any]:
    """Names of a model, beside a version before with these names and widths."""
    specs = [tuple(TensorSpec(name, "float32", (width,)) for name, width in side) for side in (inputs, outputs)]
    before = Manifest(
        name="m",
        version=1,
        created="",
        artifact="model.keras",
        task="raw",
        inputs=specs[0],
        outputs=specs[1],
        sha256={},
    )
    graph = artifact.wrap_keras(model)
    draft = Written("model.keras", graph, graph, layer_classes=artifact.layer_classes(model))
    written, found = keep_names(draft, before)
    assert names(written.graph.inputs) == [
        {own: name for name, own in found.inputs.items()}.get(spec.name, spec.name) for spec in graph.inputs
    ]
    return dict(found.inputs), dict(found.outputs)


def two_inputs(*, turned: bool = False, widths: tuple[int, int] = (1, 1), named: str | None = None) -> tuple[Any, Any]:
    """Two inputs that Keras numbers, and the number of the first."""
    import keras

    first, second = keras.Input((widths[0],), name=named), keras.Input((widths[1],))
    dense = keras.layers.Dense(1)(keras.layers.Concatenate()([first, second]))
    model = keras.Model([second, first] if turned else [first, second], dense)
    return model, [tensor._keras_history.operation.name for tensor in (first, second)]


def test_inputs_that_keras_numbered_are_kept_in_the_order_of_their_numbers() -> None:
    model, (first, second) = two_inputs()
    (dense,) = names(artifact.wrap_keras(model).outputs)
    old = [("input_layer_9", 1), ("input_layer_10", 1)]
    assert kept(model, old, [("dense", 1)]) == ({"input_layer_9": first, "input_layer_10": second}, {"dense": dense})
    # One of the names may be the other one's of before: both go by their order.
    number = int(second.rpartition("_")[2])
    shifted = [(f"input_layer_{number}", 1), (f"input_layer_{number + 1}", 1)]
    assert kept(model, shifted, [("dense", 1)])[0] == {shifted[0][0]: first, shifted[1][0]: second}


def test_where_it_is_in_doubt_which_input_is_which_no_name_is_kept() -> None:
    old = [("input_layer", 1), ("input_layer_1", 1)]
    assert kept(two_inputs(turned=True)[0], old, [("dense", 1)])[0] == {}, "another order"
    assert kept(two_inputs(widths=(1, 2))[0], old, [("dense", 1)])[0] == {}, "another shape"
    assert kept(two_inputs()[0], [*old, ("input_layer_2", 1)], [("dense", 1)])[0] == {}, "another number of inputs"
    assert kept(two_inputs(named="age")[0], old, [("dense", 1)])[0] == {}, "a name that was given"


def test_names_that_were_given_are_never_taken_for_numbers() -> None:
    import keras

    x = keras.Input((1,), name="x_2")
    model = keras.Model(x, keras.layers.Dense(1, name="y_2")(x))
    assert kept(model, [("x_1", 1)], [("y_1", 1)]) == ({}, {})


def test_of_a_single_numbered_input_the_true_difference_is_told(tmp_path: Path) -> None:
    import keras

    for width in (2, 3):
        x = keras.Input((width,))
        model = keras.Model(x, keras.layers.Dense(1, name="y")(x))
        if width == 2:
            publish(model, name="m", models_dir=tmp_path, max_batch=1)
    with pytest.raises(
        PublishError, match=r"break on this one: input input_layer\w*: shape: \[2\] before, \[3\] now\. "
    ):
        publish(model, name="m", models_dir=tmp_path)


def test_where_numbered_names_cannot_be_kept_the_refusal_tells_the_cure(tmp_path: Path) -> None:
    publish(two_inputs()[0], name="m", models_dir=tmp_path, max_batch=1)
    with pytest.raises(PublishError, match=r"Keras numbers the layers.*keras.Input\(\.\.\., name='x'\).*clear_session"):
        publish(two_inputs(turned=True)[0], name="m", models_dir=tmp_path)


def two_signatures(place: Path, *, default: bool = False) -> Path:
    import tensorflow as tf

    class Several(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec((None, 1), tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def twice(self, x: Any) -> dict[str, Any]:
            return {"y": x * 2.0}

        @tf.function(input_signature=[tf.TensorSpec((None, 1), tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def half(self, x: Any) -> dict[str, Any]:
            return {"y": x / 2.0}

    module = Several()
    tf.saved_model.save(
        module, str(place), {"serving_default" if default else "twice": module.twice, "half": module.half}
    )
    return place


def test_of_several_signatures_the_publisher_says_which_one_answers(tmp_path: Path) -> None:
    saved, models = two_signatures(tmp_path / "saved"), tmp_path / "models"
    with pytest.raises(PublishError, match=r"signatures half, twice, and none is serving_default.*--signature half"):
        publish(saved, name="m", models_dir=models)
    with pytest.raises(PublishError, match=r"no signature 'third'; signatures: .*half"):
        publish(saved, name="m", models_dir=models, signature="third")
    for signature, expected in (("half", 2), ("twice", 8)):
        place = publish(saved, name="m", models_dir=models, signature=signature, max_batch=4)
        manifest = read_version(place)
        assert (manifest.saved_signature, manifest.format) == (signature, 3)
        assert answers(place, {"x": column(4)})["y"][0] == expected


def test_serving_default_answers_where_nobody_says_otherwise(tmp_path: Path) -> None:
    saved = two_signatures(tmp_path / "saved", default=True)
    place = publish(saved, name="m", models_dir=tmp_path / "models", max_batch=4)
    assert read_version(place).saved_signature is None
    assert answers(place, {"x": column(4)})["y"][0] == 8


def test_a_manifest_that_names_no_signature_takes_the_first_as_it_always_did(tmp_path: Path) -> None:
    graph = artifact.load_artifact(two_signatures(tmp_path / "saved"))
    signature = Signature("raw", graph.inputs, graph.outputs)
    first = next(iter(graph.keep.signatures))
    wanted = {"half": 2.0, "twice": 8.0}[first]
    assert graph.executor(signature, jit=False).run([column(4)])[0][0] == wanted


def test_only_a_savedmodel_has_signatures(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="only a SavedModel has signatures"):
        publish(classifier(), name="m", models_dir=tmp_path, signature="half")
