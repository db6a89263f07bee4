"""The list of operations: real models pass it, and a model that reaches out of itself never runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hoverboard.backends.tensorflow import artifact, operations, saved_model
from hoverboard.errors import PublishError, VersionRefused
from hoverboard.publishing import publish
from hoverboard.versions import read_version
from tests import zoo


def traced(model: Any) -> Any:
    """A Keras model's graph as it would run."""
    import tensorflow as tf

    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]
    pack = [model.inputs, model.input][not isinstance(model.input, list)]
    import keras

    function = tf.function(lambda *x: model(keras.tree.pack_sequence_as(pack, list(x)), training=False))
    return function.get_concrete_function(*specs).graph.as_graph_def()


@pytest.mark.parametrize("kind", sorted(zoo.KERAS))
def test_keras_models_of_every_kind_pass_as_they_are_and_exported(kind: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = zoo.KERAS[kind]()
        operations.check_graph(traced(model))
        model.export(tmp_path / "exported", verbose=False)
    saved_model.check_saved_model(tmp_path / "exported")


@pytest.mark.parametrize("kind", ["photographs", "lookups", "loops"])
def test_saved_models_of_every_kind_pass(kind: str, tmp_path: Path) -> None:
    import tensorflow as tf

    model = zoo.lookups(tmp_path) if kind == "lookups" else getattr(zoo, kind)()
    tf.saved_model.save(model, str(tmp_path / "saved"), signatures={"serving_default": model.serve})
    graph = artifact.load_artifact(tmp_path / "saved")
    assert graph.outputs


def test_every_operation_on_the_list_exists_and_none_of_them_may_never_be_allowed() -> None:
    from tensorflow.python.framework import op_def_registry

    listed = operations.allowed()
    assert not [name for name in listed if op_def_registry.get(name) is None]
    assert not [name for name in listed if operations.never(name)]
    assert not {"ReadFile", "WriteFile", "PrintV2", "SaveV2", "RestoreV2", "Abort", "ImmutableConst"} & listed


# -- hostile models -----------------------------------------------------------------------------------------------------


def saved(build: Callable[[Path], Any], folder: Path) -> Path:
    """A SavedModel with `one` (float32) in, whose body or initializer does what `build` makes."""
    import tensorflow as tf

    model = build(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(model, str(folder / "hostile"), signatures={"serving_default": model.serve})
    return folder / "hostile"


def serving(body: Callable[[Any, Path], Any]) -> Callable[[Path], Any]:
    """A module that does `body` when it is asked."""

    def build(folder: Path) -> Any:
        import tensorflow as tf

        class Hostile(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
            @tf.function(input_signature=[tf.TensorSpec((None, 1), tf.float32, name="one")])  # type: ignore[untyped-decorator]
            def serve(self, one: Any) -> dict[str, Any]:
                return {"y": body(one, folder)}

        return Hostile()

    return build


def loading(body: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """A module that does `body` when it is loaded."""

    def build(folder: Path) -> Any:
        import tensorflow as tf

        class Resource(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]  # TensorFlow has no types
            def _create_resource(self) -> Any:
                return tf.raw_ops.HashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)

            def _initialize(self) -> None:
                body(folder)

        class Hostile(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
            def __init__(self) -> None:
                super().__init__()
                self.resource = Resource()

            @tf.function(input_signature=[tf.TensorSpec((None, 1), tf.float32, name="one")])  # type: ignore[untyped-decorator]
            def serve(self, one: Any) -> dict[str, Any]:
                tf.raw_ops.LookupTableSizeV2(table_handle=self.resource.resource_handle)
                return {"y": one}

        return Hostile()

    return build


def _tf() -> Any:
    import tensorflow as tf

    return tf


def _print(one: Any, folder: Path) -> Any:
    _tf().print("written", output_stream=f"file://{folder}/loot")
    return one


def _write(one: Any, folder: Path) -> Any:
    _tf().io.write_file(str(folder / "loot"), "written")
    return one


def _read(one: Any, folder: Path) -> Any:
    return _tf().strings.length(_tf().io.read_file("/etc/hostname")) + _tf().cast(one, "int32")


def _python(one: Any, folder: Path) -> Any:
    return _tf().ensure_shape(_tf().numpy_function(lambda x: x, [one], "float32"), (None, 1))


def _save(one: Any, folder: Path) -> Any:
    _tf().raw_ops.SaveV2(prefix=str(folder / "loot"), tensor_names=["a"], shape_and_slices=[""], tensors=[one])
    return one


def _restore(one: Any, folder: Path) -> Any:
    return one + _tf().raw_ops.RestoreV2(
        prefix="/tmp/other", tensor_names=["a"], shape_and_slices=[""], dtypes=["float32"]
    )


def _abort(one: Any, folder: Path) -> Any:
    _tf().raw_ops.Abort(error_msg="the end")
    return one


def _debug(one: Any, folder: Path) -> Any:
    return _tf().raw_ops.DebugIdentityV2(input=one, debug_urls=[f"file://{folder}/loot"], tfdbg_context_id="x")


def _dataset(one: Any, folder: Path) -> Any:
    lines = _tf().data.TextLineDataset("/etc/hostname")
    return one + _tf().cast(lines.reduce(_tf().constant(0, "int64"), lambda n, _: n + 1), "float32")


def _nested(one: Any, folder: Path) -> Any:
    return _tf().cond(_tf().reduce_sum(one) > 1e9, lambda: _write(one, folder), lambda: one)


def _collective(one: Any, folder: Path) -> Any:
    return _tf().raw_ops.CollectiveReduce(
        input=one, group_size=1, group_key=1, instance_key=1, merge_op="Add", final_op="Id", subdiv_offsets=[0]
    )


def _weights(one: Any, folder: Path) -> Any:
    return one + _tf().raw_ops.ImmutableConst(dtype="float32", shape=(1,), memory_region_name="/etc/hostname")


@pytest.mark.parametrize(
    ("body", "operation"),
    [
        (_read, "ReadFile"),
        (_write, "WriteFile"),
        (_nested, "WriteFile"),
        (_print, "PrintV2"),
        (_python, "PyFunc"),
        (_save, "SaveV2"),
        (_restore, "RestoreV2"),
        (_abort, "Abort"),
        (_debug, "DebugIdentityV2"),
        (_dataset, "(TextLine|TensorSlice)Dataset"),
        (_collective, "CollectiveReduce"),
        (_weights, "ImmutableConst"),
    ],
)
def test_a_model_that_reaches_out_when_it_is_asked_is_refused(
    body: Callable[[Any, Path], Any], operation: str, tmp_path: Path
) -> None:
    place = saved(serving(body), tmp_path)
    with pytest.raises(VersionRefused, match=f"{operation}.* (reaches|would read or write)") as caught:
        artifact.load_artifact(place)
    assert caught.value.check == "safety"
    assert not (tmp_path / "loot").exists()


def _initial_write(folder: Path) -> None:
    _write(None, folder)


def _initial_print(folder: Path) -> None:
    _print(None, folder)


def _initial_save(folder: Path) -> None:
    _save(_tf().constant([1.0]), folder)


def _initial_abort(folder: Path) -> None:
    _abort(None, folder)


@pytest.mark.parametrize(
    ("body", "operation"),
    [
        (_initial_write, "WriteFile"),
        (_initial_print, "PrintV2"),
        (_initial_save, "SaveV2"),
        (_initial_abort, "Abort"),
    ],
)
def test_a_model_that_reaches_out_when_it_is_loaded_is_refused_before_it_runs(
    body: Callable[[Path], None], operation: str, tmp_path: Path
) -> None:
    place = saved(loading(body), tmp_path)
    with pytest.raises(PublishError, match=operation):
        publish(place, name="hostile", models_dir=tmp_path / "models")
    assert not (tmp_path / "loot").exists()
    assert not (tmp_path / "models" / "hostile").exists()


def patched(place: Path, change: Callable[[Any], None]) -> Path:
    """A SavedModel whose `saved_model.pb` somebody edited by hand."""
    from tensorflow.core.protobuf import saved_model_pb2

    file = place / "saved_model.pb"
    document = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(document)
    file.write_bytes(document.SerializeToString())
    return place


def _function(document: Any, part: str) -> Any:
    return next(f for f in document.meta_graphs[0].graph_def.library.function if part in f.signature.name)


def _climbing(document: Any) -> None:
    document.meta_graphs[0].asset_file_def[0].filename = "../../secret"


def _absolute(document: Any) -> None:
    document.meta_graphs[0].asset_file_def[0].filename = "/etc/hostname"


def _elsewhere(document: Any) -> None:
    document.meta_graphs[0].asset_file_def[0].filename = "ram://x"


def _constant_path(document: Any) -> None:
    function = next(
        f
        for f in document.meta_graphs[0].graph_def.library.function
        if any(node.op == "InitializeTableFromTextFileV2" for node in f.node_def)
    )
    path = function.node_def.add(name="path", op="Const")
    path.attr["dtype"].type = 7
    path.attr["value"].tensor.dtype = 7
    path.attr["value"].tensor.string_val.append(b"/etc/hostname")
    for node in function.node_def:
        if node.op == "InitializeTableFromTextFileV2":
            node.input[1] = "path:output:0"


def _bound_elsewhere(document: Any) -> None:
    objects = document.meta_graphs[0].object_graph_def
    asset = next(place for place, node in enumerate(objects.nodes) if node.WhichOneof("kind") == "asset")
    for function in objects.concrete_functions.values():
        function.bound_inputs[:] = [0 if place == asset else place for place in function.bound_inputs]


def _handle(document: Any) -> None:
    functions = document.meta_graphs[0].graph_def.library.function  # several are named for `serve`, in no certain order
    constant = next(node for function in functions for node in function.node_def if node.op == "Const")
    constant.attr["value"].tensor.dtype = 20


def _unknown_function(document: Any) -> None:
    wrapper = _function(document, "signature_wrapper")
    call = next(node for node in wrapper.node_def if node.op == "StatefulPartitionedCall")
    call.attr["f"].func.name = "WriteFile"


def _two_graphs(document: Any) -> None:
    document.meta_graphs.add().CopyFrom(document.meta_graphs[0])


def _like_tensorflow_1(document: Any) -> None:
    document.meta_graphs[0].ClearField("object_graph_def")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_climbing, "outside assets/"),
        (_absolute, "outside assets/"),
        (_elsewhere, "outside assets/"),
        (_constant_path, "only from a file in assets/"),
        (_bound_elsewhere, "only from a file in assets/"),
        (_handle, "holds a handle"),
        (_unknown_function, "calls WriteFile, which is no function of the model"),
        (_two_graphs, "holds 2 graphs"),
        (_like_tensorflow_1, "TensorFlow 1"),
    ],
)
def test_a_saved_model_edited_by_hand_is_refused(change: Callable[[Any], None], words: str, tmp_path: Path) -> None:
    place = patched(saved(zoo.lookups, tmp_path), change)
    with pytest.raises(VersionRefused, match=words):
        artifact.load_artifact(place)


@pytest.mark.parametrize(
    "operation",
    [
        "DataServiceDatasetV4", "LoadLibrary", "Save", "CollectiveReduceV2", "RpcServer", "EagerPyFunc", "RemoteCall",
        "FixedUnigramCandidateSampler", "GenerateVocabRemapping", "DecodeProtoV2", "DumpTensor", "WriteSummary",
    ],
)  # fmt: skip
def test_an_operation_that_reaches_out_is_refused_even_if_the_manifest_allows_it(
    operation: str, tmp_path: Path
) -> None:
    def change(document: Any) -> None:
        node = next(node for node in _function(document, "serve").node_def if node.op not in ("Const", "Identity"))
        node.op = operation

    place = patched(saved(zoo.lookups, tmp_path), change)
    with pytest.raises(VersionRefused, match=f"operation {operation} is not allowed: it reaches out"):
        saved_model.check_saved_model(place, [operation])
    with pytest.raises(PublishError, match=f"operation {operation} cannot be allowed"):
        publish(place, name="hostile", models_dir=tmp_path / "models", allow_ops=[operation])


def test_an_asset_that_is_a_link_is_refused(tmp_path: Path) -> None:
    place = saved(zoo.lookups, tmp_path)
    asset = next((place / "assets").iterdir())
    asset.unlink()
    asset.symlink_to("/etc/hostname")
    with pytest.raises(VersionRefused, match="outside assets/"):
        artifact.load_artifact(place)


def test_an_unusual_operation_is_served_once_its_publisher_allows_it_by_name(tmp_path: Path) -> None:
    def body(one: Any, folder: Path) -> Any:
        return one + 0.0 * _tf().cast(_tf().timestamp(), "float32")

    place = saved(serving(body), tmp_path)
    with pytest.raises(PublishError, match=r"operation Timestamp is not allowed by default.*--allow-op Timestamp"):
        publish(place, name="clock", models_dir=tmp_path / "models")
    version = publish(place, name="clock", models_dir=tmp_path / "models", allow_ops=["Timestamp", "AddV2"])
    assert read_version(version).allowed_ops == ("Timestamp",)
