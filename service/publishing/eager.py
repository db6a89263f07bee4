"""A version answers as its model does: saved as in memory, and traced as Keras runs it layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from hoverboard.backends.authoring import Draft
from hoverboard.backends.executor import Executor, GraphError, OutOfMemory
from hoverboard.contract.signature import Array, Signature
from hoverboard.errors import PublishError, VersionRefused
from hoverboard.publishing.framework import authoring, keras
from hoverboard.publishing.golden import SIZES, drawn
from hoverboard.versions import GoldenSet
from hoverboard.versions.golden import ABSOLUTE, RELATIVE
from hoverboard.versions.manifest import GraphNames

__all__ = ["check_saved", "check_trace"]

_FURTHER: Final = 3  # elements that the second length has more than the first
_GPU: Final = 100.0  # tolerance on a GPU, as a multiple
_HALF: Final = 1000.0  # likewise, of half precision
_NEXT: Final = (
    "Some layer takes a free dimension for another one when Keras traces it, as TimeDistributed does (a Dense, or another layer "
    "that works on the last axis, needs no TimeDistributed). Replace that layer, or give the dimension its size in keras.Input"
)


def check_trace(called: Draft | None, served: Draft, signature: Signature, golden: GoldenSet) -> None:
    """Hold the traced graph against the model's layers, run one after the other: golden samples, and two lengths where one is free.

    Args:
        called: the Keras model; None where there is none.
        served: the graph that was loaded; the same tensors in and out.
        signature: of the version.
        golden: its samples.

    Raises:
        PublishError: they differ in shape, or in a value by more than rounding.
    """
    if called is None:
        return
    eager, traced = called.eager(signature), served.executor(signature)
    scale = _tolerance(called)
    for sample in golden.samples:
        _compare(signature, sample.inputs, eager, traced, scale)
    if any(spec.variable for spec in signature.inputs):
        for size in SIZES:
            compared = [
                _compare(signature, drawn(signature.inputs, length)[0], eager, traced, scale)
                for length in (size, size + _FURTHER)
            ]
            if all(compared):
                return


def check_saved(model: Any, signature: Signature, golden: GoldenSet, names: GraphNames) -> None:
    """A model given in memory must answer as the file it was saved to does; `names` are the signature's for its own."""
    if isinstance(model, str | Path):
        return
    try:
        executor = authoring().in_memory(model).named(names).executor(signature)
    except VersionRefused as refusal:
        raise PublishError(f"the model in memory: {refusal}") from refusal
    for index, sample in enumerate(golden.samples):
        problem = golden.mismatch(signature, index, executor.run(sample.inputs))
        if problem:
            raise PublishError(f"the saved file does not answer as the model in memory does: {problem}")


def _compare(signature: Signature, columns: Sequence[Array], eager: Executor, traced: Executor, scale: float) -> bool:
    """Whether both could answer; raises where they answer otherwise."""
    try:
        wanted, given = eager.run(columns), traced.run(columns)
    except (GraphError, OutOfMemory):
        return False  # no sample for it: golden samples were answered before
    for spec, want, have in zip(signature.outputs, wanted, given, strict=True):
        problem = _difference(want, have, scale)
        if problem:
            asked = ", ".join(
                f"{spec.name} {list(column.shape[1:])}" for spec, column in zip(signature.inputs, columns, strict=True)
            )
            raise PublishError(
                f"the model does not answer as a graph what it answers in Keras: output {spec.name} for inputs of shape {asked} "
                f"{problem}. {_NEXT}"
            )
    return True


def _difference(want: Array, have: Array, scale: float) -> str | None:
    if want.shape != have.shape:
        return f"has shape {list(have.shape[1:])} as a graph, {list(want.shape[1:])} as Keras calls it"
    if want.dtype.kind != "f":
        return None if np.array_equal(want, have) else "has other values as a graph than as Keras calls it"
    wide, seen = want.astype(np.float64), have.astype(np.float64)
    if not np.isfinite(wide).all():
        return None  # sampled outside of what the model was made for
    # Of the largest value, since the order of sums differs: next to large values, small ones have large errors.
    allowed = scale * (ABSOLUTE + RELATIVE * np.abs(wide).max(initial=0.0))
    errors = np.abs(seen - wide)
    if (errors <= allowed).all():
        return None
    worst = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
    return f"is {seen.flat[worst]:.6g} as a graph, {wide.flat[worst]:.6g} as Keras calls it (element {worst})"


def _tolerance(called: Draft) -> float:
    if called.half_precision:
        return _HALF
    return _GPU if keras().device_kind() == "gpu" else 1.0
