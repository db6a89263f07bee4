"""A Keras model written as a SavedModel, under names that callers can tell its tensors by.

Keras' own export forgets the keys of a subclassed model's inputs, and fails on structures within structures.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from hoverboard.backends.reasons import reason_of
from hoverboard.backends.tensorflow.artifact import paths, unique_names, wrap_keras
from hoverboard.backends.tensorflow.device import quiet
from hoverboard.backends.tensorflow.graph import TensorFlowGraph

with quiet():
    import keras
    import tensorflow as tf

from hoverboard.errors import PublishError

__all__ = ["Exported", "export_keras", "input_paths", "numbered"]

_log = logging.getLogger(__name__)
_NO_TENSORS: Final = ("training", "mask")
_SERVE: Final = "serve"  # Keras' name of the endpoint that becomes `serving_default`
_OURS: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""Names that TensorFlow leaves as they are for an input of a signature."""
_NUMBERED: Final = re.compile(r"args_\d+(_\d+)?")
_NEXT: Final = (
    ". If it takes other dtypes than float32, or more than one argument, neither of which Keras keeps: "
    "model.export('folder', input_signature=[{'name': keras.InputSpec(shape=(None, 3), dtype='int32')}]), with an entry for "
    "each argument, writes a SavedModel that can be published"
)


@dataclass(frozen=True, slots=True)
class Exported:
    """How the tensors of a Keras model and of its export belong together.

    Attributes:
        inputs, outputs: names in the order that `call` takes and gives; those of the SavedModel are the same, but for inputs
            whose names TensorFlow would change.
        own: what those inputs are called in the SavedModel.
        call: the Keras model, flat tensors in and out.
        doubt: what may be wrong where the export fails, or its answers; empty for a model that declares its inputs.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    own: dict[str, str]
    call: Callable[..., list[Any]]
    model: Any
    doubt: str

    def called(self, graph: TensorFlowGraph) -> TensorFlowGraph:
        """The Keras model itself behind the tensors of the graph that was loaded, which has the version's names."""
        endpoint = {spec.name: spec for spec in graph.inputs}
        given = {spec.name: spec for spec in graph.outputs}
        return replace(
            graph,
            inputs=tuple(endpoint[name] for name in self.inputs),
            outputs=tuple(given[name] for name in self.outputs),
            call=self.call,
            keep=self.model,
            model=self.model,
        )


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """What a Keras model is called with: names and tensors' specs in flat order, and the call that packs them."""

    names: list[str]
    specs: list[Any]
    call: Callable[[Sequence[Any]], Any]


def export_keras(model: Any, path: Path) -> Exported:
    """Write a model as a SavedModel, which holds its layers' graphs and none of their Python.

    Raises:
        PublishError: it is not built, or Keras cannot export it.
    """
    declares = (
        isinstance(model, keras.Sequential) or not isinstance(model, keras.Model) or getattr(model, "inputs", None)
    )
    endpoint, doubt = (_declared(model), "") if declares else (_seen(model), _NEXT)
    valid = all(map(_OURS.fullmatch, endpoint.names)) and len({name.lower() for name in endpoint.names}) == len(
        endpoint.names
    )
    known = endpoint.names if valid else [f"input_{place}" for place in range(len(endpoint.names))]
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in zip(known, endpoint.specs, strict=True)]
    outputs: list[str] = []

    def serve(tensors: Sequence[Any]) -> dict[str, Any]:
        answer = endpoint.call(tensors)
        flat = keras.tree.flatten(answer)
        outputs[:] = unique_names("output", answer, [f"output_{place}" for place in range(len(flat))])
        return dict(zip(outputs, flat, strict=True))

    archive = keras.export.ExportArchive()
    try:
        with quiet():
            archive.track(model)
            archive.add_endpoint(_SERVE, serve, input_signature=[specs])
            archive.write_out(path, verbose=False)
    except PublishError:
        raise
    except Exception as error:
        raise PublishError(f"the model cannot be exported: {reason_of(error)}{doubt}") from error
    own = {name: other for name, other in zip(endpoint.names, known, strict=True) if name != other}
    return Exported(
        tuple(endpoint.names),
        tuple(outputs),
        own,
        lambda *tensors: list(keras.tree.flatten(endpoint.call(tensors))),
        model,
        doubt,
    )


def _declared(model: Any) -> _Endpoint:
    """Of a model that declares its inputs."""
    wrapped = wrap_keras(model)
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    specs = [tf.TensorSpec((None, *spec.shape), spec.dtype) for spec in wrapped.inputs]

    def call(tensors: Sequence[Any]) -> Any:
        return model(keras.tree.pack_sequence_as(structure, list(tensors)), training=False)

    return _Endpoint([spec.name for spec in wrapped.inputs], specs, call)


def _seen(model: Any) -> _Endpoint:
    """Of a subclassed model: Keras keeps the shapes that it was first called with, by argument."""
    shapes = getattr(model, "_build_shapes_dict", None)  # Keras' own export reads it, too
    if not model.built or not shapes or not model._called:  # noqa: SLF001 - likewise
        state = "was not called since it was loaded" if model.built else "is not built"
        raise PublishError(f"the model {state}: call it once on a few samples, model(samples), then publish it")
    arguments = {name.removesuffix("_shape"): _tensors(shape, model.input_dtype) for name, shape in shapes.items()}
    one = len(arguments) == 1  # `input`, whatever `call` calls it
    named = next(iter(arguments.values())) if one else arguments
    _tell_left_out(model, len(arguments))
    flat = keras.tree.flatten(named)
    numbered = ["args_0", *(f"args_0_{place}" for place in range(1, len(flat)))]  # as Keras' export does

    def call(tensors: Sequence[Any]) -> Any:
        packed = keras.tree.pack_sequence_as(named, list(tensors))
        return model(packed, training=False) if one else model(**packed, training=False)

    return _Endpoint(unique_names("input", named, numbered), flat, call)


def _tell_left_out(model: Any, known: int) -> None:
    """Keras does not keep whether the model was called with an argument that may be left out: the publisher may have meant it."""
    arguments = list(inspect.signature(model.call).parameters.values())[known:]
    left_out = [one.name for one in arguments if one.default is None and one.name not in _NO_TENSORS]
    if left_out:
        _log.warning("left out of what callers send, since it has a default: %s%s", ", ".join(left_out), _NEXT)


def _tensors(shape: Any, dtype: str) -> Any:
    """A structure of shapes as one of tensors; a sequence of numbers is a shape."""
    if isinstance(shape, dict):
        return {name: _tensors(inner, dtype) for name, inner in shape.items()}
    if shape is None:
        raise PublishError(f"the model was called with a None among its tensors{_NEXT}")
    if all(inner is None or isinstance(inner, int) for inner in shape):
        return tf.TensorSpec((None, *shape[1:]), dtype)
    return [_tensors(inner, dtype) for inner in shape]


def numbered(name: str) -> bool:
    """Whether an input has such a name as Keras' own export gives to those of a model that declares none."""
    return _NUMBERED.fullmatch(name) is not None


def input_paths(graph: TensorFlowGraph) -> dict[str, str]:
    """Names for the inputs of a SavedModel that Keras' export numbered: the keys of the dict that the model is called with.

    Returns:
        Path, such as `user.age`, -> the signature's name; empty where the file does not say.
    """
    if not all(numbered(spec.name) for spec in graph.inputs):
        return {}
    functions: Any = getattr(getattr(graph.keep, _SERVE, None), "concrete_functions", ())
    if len(functions) != 1:
        return {}
    arguments = functions[0].structured_input_signature[0]
    structure = arguments[0] if len(arguments) == 1 else arguments
    found, flat = paths(structure), keras.tree.flatten(structure)
    # The signature's inputs are numbered in the same flat order.
    kinds = [(spec.dtype.name, tuple(spec.shape[1:])) for spec in flat]
    if found is None or kinds != [(spec.dtype, spec.shape) for spec in graph.inputs]:
        return {}
    return {name: spec.name for name, spec in zip(found, graph.inputs, strict=True)}
