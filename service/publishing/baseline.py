"""A version's baseline, made when it is published: bins of equal mass, and how many samples of a reference fall in each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from hoverboard.contract.heads import read_head
from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.errors import PublishError
from hoverboard.versions.baseline import Baseline, Feature, Reading, Side
from hoverboard.versions.binning import Bins, Place, measure, texts

__all__ = ["make_baseline"]

_BINS: Final = 16
_MOST_ELEMENTS: Final = 256
"""A tensor with more elements than this is looked at as a whole."""
_MOST_FEATURES: Final = 512
"""As is one that would make more features than this, with those before it."""
_MOST_CATEGORIES: Final = 255
_FREQUENT: Final = 64
_COVERED: Final = 0.9
"""Texts are categories where so few of them are so large a share of all."""


def make_baseline(
    signature: Signature, columns: Sequence[Array], outputs: Sequence[Array], p_values: Array | None = None
) -> Baseline:
    """Choose features and bins from a reference, and count it.

    Every element of a small tensor is a feature of its own. Of a larger one, or one whose samples differ in shape, it is
    what its elements are like together. Texts are categories where few of them make up most of the reference.

    Args:
        signature: the version's.
        columns: inputs of samples that the model was not fitted on, `(rows, ...)` each, in the signature's order.
        outputs: what the model answers to them, likewise.
        p_values: `(rows,)`, conformal p-values of them or of as many others; None for a version without detector.

    Raises:
        PublishError: there is no sample, or a column does not suit the signature.
    """
    rows = len(outputs[0]) if outputs else 0
    if not rows:
        raise PublishError("the baseline needs at least one sample")
    places: dict[Place, Array] = {}
    features: list[Feature] = []
    sides: list[tuple[Side, Sequence[TensorSpec], Sequence[Array]]] = [
        ("input", signature.inputs, columns),
        ("output", _monitored(signature), outputs),
    ]
    for side, specs, given in sides:
        for spec, column in zip(specs, given, strict=side == "input"):
            if len(column) != rows:
                raise PublishError(f"{spec.name}: {len(column)} samples, expected {rows}")
            places[side, spec.name] = column
            features += _features_of(side, spec, column, _MOST_FEATURES - len(features))
    for name, values in _predictions(signature, outputs[0], p_values).items():
        places["prediction", name] = values
        features.append(_prediction(name, values, signature.labels or ()))
    return Baseline(tuple(_counted(features, places, signature.labels)), rows)


def _monitored(signature: Signature) -> Sequence[TensorSpec]:
    """Outputs that are features of their own: those of tasks that have no label or value to look at."""
    return signature.outputs[:1] if signature.task in ("embedding", "raw") else ()


def _predictions(signature: Signature, first: Array, p_values: Array | None) -> Mapping[str, Array]:
    reading = read_head(signature, first)
    found = {
        "label": reading.label_index,
        "confidence": reading.confidence,
        "value": reading.value,
        "p_value": None if p_values is None else p_values.astype(np.float32),
    }
    return {name: values for name, values in found.items() if values is not None}


def _prediction(name: str, values: Array, labels: Sequence[str]) -> Feature:
    if name == "label":
        often = np.bincount(values, minlength=len(labels))
        chosen = sorted(np.argsort(-often, kind="stable")[:_MOST_CATEGORIES].tolist())
        return Feature(
            name=name, side="prediction", tensor=name, reading="category", categories=tuple(labels[i] for i in chosen)
        )
    return _numbers(name, "prediction", name, "element", values)


def _features_of(side: Side, spec: TensorSpec, column: Array, room: int) -> Iterator[Feature]:
    name = spec.name
    flat = column.reshape(len(column), -1)
    if spec.dtype == STRING:
        categories = _categories(flat) if flat.shape[1] == 1 and not spec.variable else ()
        if categories:
            yield Feature(name=name, side=side, tensor=name, reading="category", categories=categories)
            return
        for reading in _WHOLE_TEXT:
            yield _numbers(f"{name}.{reading}", side, name, reading, texts(column, reading))
        return
    if not spec.variable and flat.shape[1] <= min(_MOST_ELEMENTS, room):
        for element, suffix in enumerate(_suffixes(spec)):
            yield _numbers(
                f"{name}{suffix}", side, name, "element", flat[:, element], element=element, missing=not spec.finite
            )
        return
    for reading in _WHOLE if spec.variable else _WHOLE[1:]:
        yield _numbers(f"{name}.{reading}", side, name, reading, measure(column, reading), missing=not spec.finite)


_WHOLE: Final[tuple[Reading, ...]] = ("length", "mean", "deviation", "smallest", "largest")
_WHOLE_TEXT: Final[tuple[Reading, ...]] = ("length", "words")


def _suffixes(spec: TensorSpec) -> list[str]:
    """What tells the elements of a tensor apart; nothing where there is one."""
    shape = [dim or 0 for dim in spec.shape]
    if shape in ([], [1]):
        return [""]
    return [f"[{','.join(map(str, index))}]" for index in np.ndindex(*shape)]


def _categories(column: Array) -> tuple[str, ...]:
    """The frequent texts of a column, in alphabetical order; none where they are too many."""
    often = Counter(column.ravel().tolist())
    frequent = [(text, count) for text, count in often.most_common(_FREQUENT) if isinstance(text, bytes)]
    if sum(count for _, count in frequent) < _COVERED * len(column):
        return ()
    return tuple(sorted(text.decode() for text, _ in frequent if _storable(text)))


def _storable(text: bytes) -> bool:
    """Whether Postgres can hold it as text."""
    try:
        return "\0" not in text.decode()
    except UnicodeDecodeError:
        return False


def _numbers(
    name: str,
    side: Side,
    tensor: str,
    reading: Reading,
    values: Array,
    *,
    element: int = 0,
    missing: bool = False,
) -> Feature:
    return Feature(
        name=name, side=side, tensor=tensor, reading=reading, element=element, missing=missing, cuts=_cuts(values)
    )


def _cuts(values: Array) -> tuple[float, ...]:
    """The least value, then bins of about equal mass, and what comes right after the greatest value.

    All are values of the column's own dtype, so that nothing depends on rounding. Few distinct values are a bin each.
    """
    finite = np.sort(values[np.isfinite(values)] if values.dtype.kind == "f" else values)
    if not len(finite):
        return ()
    distinct = np.unique(finite)
    if len(distinct) > _BINS:
        # The value at each 16th, not one between two values.
        distinct = np.unique(finite[(np.arange(_BINS) * len(finite)) // _BINS])
    with np.errstate(over="ignore"):
        beyond = np.nextafter(_real(finite[-1:]), np.inf)[0]
    return tuple(cut for cut in dict.fromkeys(map(float, [*distinct.tolist(), beyond])) if math.isfinite(cut))


def _real(values: Array) -> Array:
    """The same as they are compared with cuts."""
    if values.dtype.kind == "f":
        return values
    return values.astype(np.float32 if values.dtype == np.bool_ else np.float64)


def _counted(
    features: Sequence[Feature], places: Mapping[Place, Array], labels: Sequence[str] | None
) -> Iterator[Feature]:
    try:
        counts = Bins([*features], labels).count(places).tolist()
    except (IndexError, TypeError, ValueError) as error:
        raise PublishError(f"the baseline's samples do not suit the model's signature: {error}") from error
    at = 0
    for feature in features:
        yield replace(feature, counts=tuple(counts[at : at + feature.bins]))
        at += feature.bins
