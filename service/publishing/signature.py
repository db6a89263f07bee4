"""The signature a version is published with: what the graph declares, what the publisher declares, and the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import msgspec
import numpy as np

from service.errors import PublishError
from service.types import STRING, Array, Task, TensorSpec

__all__ = ["apply_contract", "default_labels", "head_of", "infer_task", "main_first"]


class _Contract(msgspec.Struct, forbid_unknown_fields=True):
    """What a publisher may declare of an input; see `TensorSpec`."""

    min: float | None = None
    max: float | None = None
    max_length: int | None = None
    allowed: tuple[str | int | float, ...] | None = None
    finite: bool = True
    description: str = ""


_SUM_TOLERANCE: Final = 1e-3


def apply_contract(inputs: Sequence[TensorSpec], contract: Mapping[str, Any] | None) -> tuple[TensorSpec, ...]:
    """Add declared limits to the graph's inputs.

    Args:
        inputs: as the graph has them.
        contract: input name -> `min`, `max`, `max_length`, `allowed`, `finite`, `description`.

    Raises:
        PublishError: an input that does not exist, an unknown key, or a limit that does not suit the dtype.
    """
    contract = contract or {}
    unknown = contract.keys() - {spec.name for spec in inputs}
    if unknown:
        raise PublishError(f"contract: no input {min(unknown)!r}; inputs: {', '.join(s.name for s in inputs)}")
    return tuple(_declare(spec, contract.get(spec.name, {})) for spec in inputs)


def _declare(spec: TensorSpec, values: Any) -> TensorSpec:
    try:
        declared = msgspec.convert(values, _Contract)
    except msgspec.ValidationError as error:
        raise PublishError(f"contract of input {spec.name}: {error}") from error
    if spec.dtype == STRING and (declared.min is not None or declared.max is not None):
        raise PublishError(f"contract of input {spec.name}: min and max are for numbers, its dtype is string")
    if declared.min is not None and declared.max is not None and declared.min > declared.max:
        raise PublishError(f"contract of input {spec.name}: min {declared.min} is above max {declared.max}")
    for value in declared.allowed or ():
        if isinstance(value, str) != (spec.dtype == STRING):
            raise PublishError(f"contract of input {spec.name}: allowed value {value!r} does not suit {spec.dtype}")
    return replace(spec, **{name: getattr(declared, name) for name in declared.__struct_fields__})


def main_first(
    outputs: Sequence[TensorSpec], output: str | None, labels: Sequence[str] | None, task: str | None
) -> tuple[TensorSpec, ...]:
    """Outputs with the main one, whose values become answers, in front; the others stay in the graph's order.

    Args:
        outputs: as the graph has them.
        output: name of the main one. Where it is left out and labels make a classification, the only output of one column
            a label is taken; else the first.
        labels, task: as given to `publish`.

    Raises:
        PublishError: no output has that name, or several could be meant.
    """
    main = outputs[0]
    if output is not None:
        named = {spec.name: spec for spec in outputs}
        if output not in named:
            raise PublishError(f"output {output!r}: the model has none of that name; outputs: {', '.join(named)}")
        main = named[output]
    elif labels and task in (None, "classification"):
        fitting = [spec for spec in outputs if spec.shape == (len(labels),)]
        if len(fitting) > 1 and main not in fitting:
            names = ", ".join(spec.name for spec in fitting)
            raise PublishError(f"outputs {names} have a column for each label: say with --output which is the answer")
        main = fitting[0] if len(fitting) == 1 else main
    return (main, *(spec for spec in outputs if spec is not main))


def infer_task(task: str | None, labels: Sequence[str] | None, first: TensorSpec) -> Task:
    """The task given, or else: labels make a classification, one number a sample a regression, all else is raw.

    Raises:
        PublishError: no such task.
    """
    known: tuple[Task, ...] = ("classification", "regression", "embedding", "raw")
    for name in known:
        if task == name:
            return name
    if task is not None:
        raise PublishError(f"task {task!r}: use one of {', '.join(known)}")
    if labels:
        return "classification"
    return "regression" if first.shape in ((), (1,)) and first.dtype.startswith("float") else "raw"


def default_labels(first: TensorSpec) -> tuple[str, ...]:
    """Labels of a classification whose publisher named none: the class indexes."""
    if len(first.shape) != 1 or first.shape[0] is None:
        raise PublishError(f"a classification's first output has shape [classes], {first.name} has {list(first.shape)}")
    return tuple(str(index) for index in range(max(2, first.shape[0])))


def head_of(name: str, first: Array) -> Literal["softmax", "logits", "sigmoid"]:
    """What a classifier's first output `(rows, classes)` holds, judged by its values on the golden samples."""
    values = first.astype(np.float64)
    probabilities = bool((values >= 0).all() and (values <= 1 + _SUM_TOLERANCE).all())
    if first.shape[1] == 1:
        if not probabilities:
            raise PublishError(f"output {name}: a classification with one output column needs a sigmoid at its end")
        return "sigmoid"
    sums_to_one = bool((np.abs(values.sum(axis=1) - 1) < _SUM_TOLERANCE).all())
    return "softmax" if probabilities and sums_to_one else "logits"
