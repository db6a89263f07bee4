"""The signature a version is published with: what the graph declares, what the publisher declares, and the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, get_args

import msgspec
import numpy as np

from hoverboard.contract.heads import DEFAULT_THRESHOLD
from hoverboard.contract.signature import STRING, Array, Head, Task, TensorSpec
from hoverboard.errors import PublishError
from hoverboard.versions.manifest import least_problem

__all__ = ["apply_contract", "default_labels", "head_of", "infer_task", "main_first", "thresholds_of"]


class _Contract(msgspec.Struct, forbid_unknown_fields=True):
    """What a publisher may declare of an input; see `TensorSpec`."""

    min: float | None = None
    max: float | None = None
    max_length: int | None = None
    min_length: int | tuple[int, ...] | None = None
    allowed: tuple[str | int | float, ...] | None = None
    finite: bool = True
    description: str = ""


_SUM_TOLERANCE: Final = 1e-3


def apply_contract(inputs: Sequence[TensorSpec], contract: Mapping[str, Any] | None) -> tuple[TensorSpec, ...]:
    """Add declared limits to the graph's inputs.

    Args:
        inputs: as the graph has them.
        contract: input name -> `min`, `max`, `max_length`, `min_length`, `allowed`, `finite`, `description`.

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
    limited = replace(spec, **{name: getattr(declared, name) for name in declared.__struct_fields__})
    problem = _contract_problem(spec, declared)
    if problem is None and limited.min_length is not None:
        least = least_problem(limited)
        problem = least and f"min_length {least}"
    if problem:
        raise PublishError(f"contract of input {spec.name}: {problem}")
    return limited


def _contract_problem(spec: TensorSpec, declared: _Contract) -> str | None:
    """Why an input's limits cannot be meant; None where they can."""
    if spec.dtype == STRING and (declared.min is not None or declared.max is not None):
        return "min and max are for numbers, its dtype is string"
    # Refused here and not in `TensorSpec`: versions on disk that declare it are read as before.
    if spec.dtype == STRING and not declared.finite:
        return 'finite is for numbers, its dtype is string: leave it out, and send the empty text ("") where a word is missing'
    if declared.min is not None and declared.max is not None and declared.min > declared.max:
        return f"min {declared.min} is above max {declared.max}"
    if declared.allowed is not None and not declared.allowed:
        return "allowed: the list is empty, so that every call would be refused"
    for value in declared.allowed or ():
        if isinstance(value, str) != (spec.dtype == STRING):
            return f"allowed value {value!r} does not suit {spec.dtype}"
    return None


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
    elif labels and task in (None, "classification", "multi-label"):
        fitting = [spec for spec in outputs if spec.shape == (len(labels),)]
        if len(fitting) > 1 and main not in fitting:
            names = ", ".join(spec.name for spec in fitting)
            raise PublishError(f"outputs {names} have a column for each label: say with --output which is the answer")
        main = fitting[0] if len(fitting) == 1 else main
    return (main, *(spec for spec in outputs if spec is not main))


def infer_task(task: str | None, labels: Sequence[str] | None, first: TensorSpec, head: str | None) -> Task:
    """The task given, or else told from labels and head.

    Labels make a classification, or with a sigmoid for each of several a multi-label version; without labels one number a
    sample makes a regression, and all else is raw.

    Raises:
        PublishError: no such task.
    """
    known: Task | None = _one_of(get_args(Task), "task", task)
    if known is not None:
        return known
    if labels:
        return "multi-label" if head == "sigmoid" and first.shape != (1,) else "classification"
    return "regression" if first.shape in ((), (1,)) and first.dtype.startswith("float") else "raw"


def default_labels(first: TensorSpec) -> tuple[str, ...]:
    """Labels of a classification whose publisher named none: the class indexes."""
    if len(first.shape) != 1 or first.shape[0] is None:
        raise PublishError(f"a classification's first output has shape [classes], {first.name} has {list(first.shape)}")
    return tuple(str(index) for index in range(max(2, first.shape[0])))


def head_of(found: Head | None, asked: str | None, task: Task, first: TensorSpec, values: Array) -> Head:
    """What a first output of classes or labels holds.

    Args:
        found: what the graph says, by its last operation; None where that says nothing.
        asked: what the publisher says; it wins.
        task: `classification` or `multi-label`.
        first: the output.
        values: `(rows, classes)`, of golden samples: where they contradict what the publisher says, it is refused.

    Raises:
        PublishError: nobody knows, or it does not suit the task or the values.
    """
    declared: Head | None = _one_of(get_args(Head), "head", asked)
    head = declared or found
    place = f"output {first.name}"
    one = first.shape == (1,)
    if head is None:
        raise PublishError(
            f"{place}: its last operation does not say whether it holds a softmax, sigmoids or logits: say it with --head"
        )
    if task == "classification" and one and head != "sigmoid" and asked != "logits":
        raise PublishError(
            f"{place}: a classification with one output column needs a sigmoid at its end, not {head}. Where the column is the "
            "logit of the second label, as after a loss with from_logits=True, say --head logits"
        )
    if task == "classification" and not one and head == "sigmoid":
        raise PublishError(
            f"{place}: ends in a sigmoid for each of {first.shape[0]} labels, so that several may hold: that is --task multi-label"
        )
    if task == "multi-label" and head == "softmax":
        raise PublishError(f"{place}: ends in a softmax, of which one class holds: that is --task classification")
    if head == "logits" and found is not None and found != "logits":
        raise PublishError(f"{place}: ends in a {found}: what it holds are no logits any more. Leave --head out")
    # The graph itself says so: there is nothing to check on values.
    if head == found:
        return head
    # In float16 a sum of many classes is off by more than the tolerance.
    wide = values.astype(np.float64)
    if head != "logits" and not ((wide >= -_SUM_TOLERANCE) & (wide <= 1 + _SUM_TOLERANCE)).all():
        raise PublishError(
            f"{place}: a {head} lies between 0 and 1, on golden samples it does not: say what it is with --head"
        )
    if head == "softmax" and not (np.abs(wide.sum(axis=1) - 1) < _SUM_TOLERANCE).all():
        raise PublishError(f"{place}: a softmax sums to 1, on golden samples it does not: say what it is with --head")
    return head


def _one_of(choices: Sequence[str], what: str, value: str | None) -> Any:
    """A publisher's choice as it is; None where none was made."""
    if value is not None and value not in choices:
        raise PublishError(f"{what} {value!r}: use one of {', '.join(choices)}")
    return value


def thresholds_of(
    labels: Sequence[str] | None, task: Task, wanted: Mapping[str, float] | None
) -> tuple[float, ...] | None:
    """From which probability on each label of a multi-label version holds; None where nobody said.

    Raises:
        PublishError: another task, a label that there is not, or a number that is no probability.
    """
    if not wanted:
        return None
    if task != "multi-label" or labels is None:
        raise PublishError(f"thresholds are for --task multi-label, this is a {task}")
    for label, threshold in wanted.items():
        if label not in labels:
            raise PublishError(f"threshold of {label!r}: the model has no such label; labels: {', '.join(labels)}")
        if not 0 <= threshold <= 1:
            raise PublishError(f"threshold of {label!r}: expected a probability from 0 to 1, got {threshold:g}")
    return tuple(float(wanted.get(label, DEFAULT_THRESHOLD)) for label in labels)
