"""A model's files, `model.keras` or `saved_model/`: loaded as a graph in safe mode, and written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hoverboard.backends.reasons import reason_of
from hoverboard.backends.tensorflow.device import quiet
from hoverboard.backends.tensorflow.graph import TensorFlowGraph
from hoverboard.backends.tensorflow.keras_archive import check_keras_archive
from hoverboard.backends.tensorflow.operations import never
from hoverboard.backends.tensorflow.saved_model import GRAPH_FILE, check_saved_model

with quiet():
    import keras
    import tensorflow as tf

from hoverboard.contract.signature import NUMERIC_DTYPES, STRING, TensorSpec
from hoverboard.errors import PublishError, VersionRefused
from hoverboard.machine import check_of

_LONGEST_NAME: Final = 128

__all__ = [
    "DEFAULT_SIGNATURE",
    "layer_classes",
    "load",
    "load_artifact",
    "paths",
    "save_keras",
    "unique_names",
    "wrap_keras",
]

DEFAULT_SIGNATURE: Final = "serving_default"


def load(
    directory: Path, artifact: str, allowed_ops: Sequence[str] = (), signature: str | None = None
) -> TensorFlowGraph:
    """Load a version's artifact in safe mode: no pickles, no Lambda, no Python of the model's own.

    Args:
        allowed_ops: operations that the manifest allows by name.
        signature: the one of a SavedModel that the manifest names.

    Raises:
        VersionRefused: it cannot be loaded, or not safely.
    """
    try:
        return load_artifact(directory / artifact, allowed_ops, signature)
    except PublishError as error:
        raise VersionRefused(str(error), check=check_of(error, "load")) from error


def load_artifact(path: Path, allowed_ops: Sequence[str] = (), signature: str | None = None) -> TensorFlowGraph:
    """Load a `.keras` file or a SavedModel directory, in safe mode.

    Args:
        allowed_ops: operations that are allowed by name.
        signature: of a SavedModel; without it `serving_default`, or the first.

    Raises:
        PublishError: it cannot be loaded; one sentence that says why.
        VersionRefused: it would reach out of itself.
    """
    extra = tuple(allowed_ops)
    forbidden = next(filter(never, extra), None)
    if forbidden is not None:
        raise VersionRefused(
            f"allowed_ops: {forbidden[:80]} cannot be allowed: it reaches out of the graph, to files, networks, Python, logs or the "
            "process itself",
            check="safety",
        )
    if path.is_dir():
        return replace(_load_saved_model(path, extra, signature), allowed_ops=extra)
    check_keras_archive(path, lambda name: keras.saving.get_registered_object(name) is not None)
    try:
        with quiet():
            # Losses and metrics may be Python of the trainer's own, and a server needs none.
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise PublishError(f"{path.name} cannot be loaded in safe mode: {_reason(error)}") from error
    return replace(wrap_keras(model), allowed_ops=extra)


def _reason(error: BaseException) -> str:
    """Keras' own words, but never its advice to leave safe mode."""
    return "it holds code, or opens a file, when it is loaded" if "safe_mode" in str(error) else reason_of(error)


def wrap_keras(model: Any) -> TensorFlowGraph:
    """A Keras model in memory as a `Graph`.

    Raises:
        PublishError: it declares no inputs (subclassed or unbuilt), or has a dtype that cannot travel.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise PublishError(
            "the model declares no inputs, as a subclassed one: publish it as a graph, from the script that made it, with "
            "publish(model, ..., export=True), or build it with keras.Input"
        )
    # Sequential models answer neither `input` nor `output` before their first call; they have one of each.
    sequential = isinstance(model, keras.Sequential)
    structure = model.inputs[0] if sequential else model.input
    answer = model.outputs[0] if sequential else model.output
    names_in = unique_names("input", structure, [_input_name(tensor) for tensor in model.inputs])
    names_out = unique_names("output", answer, _output_names(model))
    tensors_in, tensors_out = _freed(model, structure)
    inputs = tuple(_keras_spec(f"input {name}", name, t) for name, t in zip(names_in, tensors_in, strict=True))
    outputs = tuple(_keras_spec(f"output {name}", name, t) for name, t in zip(names_out, tensors_out, strict=True))

    def call(*tensors: Any) -> list[Any]:
        packed = keras.tree.pack_sequence_as(structure, list(tensors))
        return list(keras.tree.flatten(model(packed, training=False)))

    memory = sum(_nbytes(w.shape, str(w.dtype)) for w in model.weights)
    return TensorFlowGraph(inputs, outputs, call, memory, keep=model, model=model)


def _freed(model: Any, structure: Any) -> tuple[Sequence[Any], Sequence[Any]]:
    """The model's input and output tensors, with a free batch axis where it was built for one size but takes any.

    A Sequential that starts without `keras.Input` keeps the size of its first batch, though nothing in it depends on that.

    Raises:
        PublishError: something in it does depend on that.
    """
    fixed = [tensor.shape for tensor in model.inputs if tensor.shape and tensor.shape[0] is not None]
    if not fixed:
        return model.inputs, model.outputs
    layers = model._flatten_layers()  # noqa: SLF001 - `layers` has no inner ones
    stateful = next((layer.name for layer in layers if getattr(layer, "stateful", False)), None)
    if stateful is not None:
        raise PublishError(
            f"{_bound_to(fixed[0])}: layer {stateful} keeps a state for each row: build it with stateful=False"
        )
    inputs = [
        keras.KerasTensor((None, *t.shape[1:]), t.dtype, sparse=t.sparse, ragged=t.ragged, name=t.name)
        for t in model.inputs
    ]
    packed = keras.tree.pack_sequence_as(structure, inputs)
    try:
        with quiet():
            outputs = keras.tree.flatten(model.compute_output_spec(packed, training=False))
    except Exception as error:
        raise PublishError(f"{_bound_to(fixed[0])}: {reason_of(error)}") from error
    if any(not tensor.shape or tensor.shape[0] is not None for tensor in outputs):
        raise PublishError(
            f"{_bound_to(fixed[0])}: its output keeps that number of rows, as after a reshape to it: say -1 for the batch axis"
        )
    return inputs, outputs


def _bound_to(shape: Sequence[int | None]) -> str:
    return f"the model takes batches of {shape[0]} only, and callers send any number of rows: build it with keras.Input({tuple(shape[1:])})"


def save_keras(model: Any, path: Path) -> None:
    """Write a model as a `.keras` file."""
    with quiet():
        model.save(path)


def _load_saved_model(path: Path, allowed_ops: Sequence[str], signature: str | None) -> TensorFlowGraph:
    if not (path / GRAPH_FILE).is_file():
        raise PublishError(f"{path.name}: no {GRAPH_FILE} in it")
    check_saved_model(path, allowed_ops)  # first: loading one runs functions that it brings along
    try:
        with quiet():
            loaded = tf.saved_model.load(str(path))
    except Exception as error:
        raise PublishError(f"{path.name} cannot be loaded: {reason_of(error)}") from error
    signatures = loaded.signatures
    if not signatures:
        raise PublishError(f"{path.name} has no signature: export it with one named {DEFAULT_SIGNATURE}")
    if signature is not None and signature not in signatures:
        raise PublishError(f"{path.name} has no signature {signature!r}; signatures: {', '.join(signatures)}")
    key = signature or (DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in signatures else next(iter(signatures)))
    function = signatures[key]
    # Signatures are dicts, and TensorFlow keeps no order of them: names decide, so that it is the same at every load.
    specs_in, specs_out = function.structured_input_signature[1], function.structured_outputs
    names_in, names_out = sorted(specs_in, key=_by_number), sorted(specs_out, key=_by_number)
    for kind, names in (("input", names_in), ("output", names_out)):
        for name in names:
            _check_tensor_name(kind, name)
    inputs = tuple(_spec(name, specs_in[name].dtype.name, specs_in[name].shape) for name in names_in)
    outputs = tuple(_spec(name, specs_out[name].dtype.name, specs_out[name].shape) for name in names_out)

    def call(*tensors: Any) -> list[Any]:
        answers = function(**dict(zip(names_in, tensors, strict=True)))
        return [answers[name] for name in names_out]

    # By identity, since layers may share one, and variables cannot be told apart by ==, which compares what they hold.
    variables = {id(v): v for v in getattr(loaded, "variables", None) or function.graph.variables}
    memory = sum(_nbytes(v.shape, v.dtype.name) for v in variables.values())
    return TensorFlowGraph(inputs, outputs, call, memory, keep=loaded)


def _by_number(name: str) -> list[str | int]:
    """Sorts `output_2` before `output_10`."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", name))]


def _spec(name: str, dtype: Any, shape: Iterable[int | None]) -> TensorSpec:
    dtype = _keras_dtype(str(dtype))
    dims = tuple(shape)
    if dtype not in (*NUMERIC_DTYPES, STRING):
        raise PublishError(f"{name}: dtype {dtype} is not supported")
    if not dims or dims[0] is not None:
        raise PublishError(f"{name}: shape {list(dims)} has no free batch axis in front")
    return TensorSpec(name, dtype, tuple(None if dim is None else int(dim) for dim in dims[1:]))


def _keras_dtype(dtype: str) -> str:
    # bfloat16 has no NumPy dtype: such outputs leave the graph as float32, see `executors.dense`.
    return "float32" if dtype == "bfloat16" else dtype


def _keras_spec(place: str, name: str, tensor: Any) -> TensorSpec:
    if getattr(tensor, "ragged", False):
        raise PublishError(f"{place} is ragged, its rows differ in length: pad it within the model")
    if getattr(tensor, "sparse", False) and place.startswith("input"):
        raise PublishError(f"{place} is sparse: build the model with keras.Input(..., sparse=False)")
    return _spec(name, tensor.dtype, tensor.shape)


def unique_names(kind: str, structure: Any, flat: Sequence[str]) -> list[str]:
    """Dict keys where the model was built with a dict, else the tensors' or layers' own names, made unique.

    A structure within a structure gives its path, such as `user.age` or `views.0`.
    """
    keys = paths(structure)
    if keys:
        flat = keys
        twice = next((name for name in flat if flat.count(name) > 1), None)
        if twice is not None:
            raise PublishError(f"two {kind}s are both called {twice!r}: a key must not look like a path")
    for name in flat:
        _check_tensor_name(kind, name)
    seen: dict[str, int] = {}
    names = []
    for name in flat:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return names


def paths(structure: Any) -> list[str] | None:
    """A path for each tensor of a structure that has keys, in the order they are flattened; None where it has none."""
    every = [path for path, _ in keras.tree.flatten_with_path(structure)]
    if not any(isinstance(part, str) for path in every for part in path):
        return None
    return [".".join(map(str, path)) for path in every]


def _check_tensor_name(kind: str, name: str) -> None:
    """Names travel as JSON keys, in SQL, in metrics and on terminals: any printable text will do, of a sane length."""
    if not name or not name.isprintable() or len(name.encode()) > _LONGEST_NAME:
        raise PublishError(
            f"{kind} {name[:_LONGEST_NAME]!r}: a name has 1 to {_LONGEST_NAME} bytes, and no control characters: rename the "
            f"keras.Input, layer or key"
        )


def _input_name(tensor: Any) -> str:
    """The input layer's name, which a file keeps; an unnamed `keras.Input` has another one as a tensor, in memory alone."""
    operation = getattr(getattr(tensor, "_keras_history", None), "operation", None)
    return str(operation.name if isinstance(operation, keras.layers.InputLayer) else tensor.name)


def _output_names(model: Any) -> list[str]:
    names = getattr(model, "output_names", None)
    if names and len(names) == len(model.outputs):
        return list(names)
    return [model.layers[-1].name] if len(model.outputs) == 1 else [f"output_{i}" for i in range(len(model.outputs))]


def layer_classes(model: Any) -> frozenset[str]:
    """Classes of layers, in lower case: Keras names a layer after its class, with a number, where its author does not.

    Args:
        model: whose inputs' and outputs' layers are meant; None for all of Keras.
    """
    if model is None:
        return frozenset(map(str.lower, dir(keras.layers)))
    tensors = [*(getattr(model, "inputs", None) or ()), *(getattr(model, "outputs", None) or ())]
    return frozenset(type(tensor._keras_history.operation).__name__.lower() for tensor in tensors)  # noqa: SLF001 - nowhere else


def _nbytes(shape: Iterable[int | None], dtype: str) -> int:
    size = 8 if dtype in (STRING, "object") else tf.as_dtype(dtype).size
    return math.prod(dim or 1 for dim in shape) * int(size)
