"""What `publish` is given from Python, in the forms that notebooks have it in; what makes no sense is refused in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Any, Final

import msgspec
import numpy as np

from hoverboard.errors import PublishError

__all__ = ["check_contract", "check_notes", "check_parent", "check_version", "labels_of", "names_of", "rows_of"]

_TEXT, _COUNT = (str, "a text"), (int, "a whole number")
_TAKES: Final[Mapping[str, tuple[type | UnionType, str]]] = {
    "name": _TEXT,
    "models_dir": (str | PathLike, "the path of a directory"),
    "task": _TEXT,
    "output": _TEXT,
    "head": _TEXT,
    "thresholds": (Mapping, "probabilities by label"),
    "parent": _COUNT,
    "max_batch": _COUNT,
    "breaking": (bool, "True or False"),
    "alpha": (int | float | np.integer | np.floating, "a number"),
    "feature_layer": _TEXT,
    "detector": _TEXT,
    "export": (bool, "True or False"),
    "signature": _TEXT,
}
_NEVER_NONE: Final = frozenset({"name", "models_dir", "breaking", "alpha", "export"})


def check_types(model: Any, arguments: Mapping[str, Any]) -> None:
    """Pass arguments of `publish` of the types that they have; those that are taken in several forms are checked where they are read.

    Args:
        arguments: all but the model, by name.

    Raises:
        PublishError: one is of another type.
    """
    # A model is whatever can be called, since only the framework knows its classes; a class itself is one that nobody made yet.
    if isinstance(model, type) or not (callable(model) or isinstance(model, str | Path)):
        raise _of_another_type(
            "model", "a built keras.Model, or the path of a .keras file or of a SavedModel directory", model
        )
    for name, (types, words) in _TAKES.items():
        value = arguments[name]
        if value is None and name not in _NEVER_NONE:
            continue
        # True is 1 to Python, and no number to whoever wrote it.
        if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
            raise _of_another_type(name, words, value)
    if not (arguments["progress"] is None or callable(arguments["progress"])):
        raise _of_another_type(
            "progress", "a function of a step's name and the share that is done", arguments["progress"]
        )


def _of_another_type(name: str, words: str, value: Any) -> PublishError:
    got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    return PublishError(f"{name}: expected {words}, got {'None' if value is None else got}")


def rows_of(samples: Any) -> Sequence[Any] | None:
    """Samples in row form.

    Args:
        samples: instances, or an array of them; or an object of arrays by input name, all equally long.

    Raises:
        PublishError: they are something else.
    """
    if samples is None:
        return None
    words = "expected a list of instances, an array of them, or an object of arrays by input name"
    if isinstance(samples, Mapping):
        columns = {str(name): _listed(column, f"samples: {name}", words) for name, column in samples.items()}
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise PublishError(f"samples: the inputs have {', '.join(map(str, sorted(lengths))) or 'no'} rows")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _listed(samples, "samples", words)


def labels_of(labels: Any) -> list[str] | None:
    """Names of classes as text.

    Args:
        labels: texts or whole numbers, by index; an array of them will do, such as an encoder's `classes_`.

    Raises:
        PublishError: they are something else.
    """
    if labels is None:
        return None
    found = _listed(labels, "labels", "expected a list of names", mapping=False)
    for place, label in enumerate(found):
        if isinstance(label, bool) or not isinstance(label, str | int | np.integer):
            raise PublishError(f"labels: name {place} is {label!r}: use texts")
    return [str(label) for label in found]


def names_of(given: Any, what: str) -> tuple[str, ...]:
    """Names of columns or operations.

    Raises:
        PublishError: they are something else.
    """
    found = _listed(given, what, "expected a list of names", mapping=False)
    if not all(isinstance(name, str) for name in found):
        raise PublishError(f"{what}: expected a list of names, got {found!r:.100}")
    return tuple(found)


def check_version(version: Any) -> None:
    """Pass a version's number, or None. Raises PublishError for anything else."""
    if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 1):
        raise PublishError(f"version {version!r}: use a number from 1")


def check_parent(parent: Any, versions: Sequence[int]) -> None:
    """Pass the number of a version that is there, or None. Raises PublishError for another number."""
    # What is no number from 1 is refused with the manifest.
    if isinstance(parent, int) and parent > 0 and parent not in versions:
        there = ", ".join(map(str, sorted(versions))) or "none"
        raise PublishError(f"parent {parent}: there is no such version; versions: {there}")


def check_contract(contract: Any) -> None:
    """Pass limits by input name, or None. Raises PublishError for anything else."""
    if contract is None:
        return
    if not isinstance(contract, Mapping) or not all(isinstance(limits, Mapping) for limits in contract.values()):
        raise PublishError(
            'contract: expected limits by input name, such as {"age": {"min": 0}}; a path is read by the command line only'
        )


def check_notes(notes: Any) -> None:
    """Pass what JSON can hold. Raises PublishError for anything else."""
    try:
        msgspec.json.encode(notes)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise PublishError(
            f"notes: JSON cannot hold them ({error}); use plain numbers, texts, lists, objects"
        ) from error


def _listed(given: Any, what: str, words: str, *, mapping: bool = True) -> list[Any]:
    if isinstance(given, str | bytes | Path):
        raise PublishError(f"{str(given)!r}: {words}, got one text; a path is read by the command line only")
    if not isinstance(given, Iterable) or (isinstance(given, Mapping) and not mapping):
        raise PublishError(f"{what}: {words}, got {type(given).__name__}")
    if isinstance(given, np.ndarray):
        return given.tolist() if given.ndim == 1 else list(given)
    return list(given)
