"""What changed between two versions of a model, and what of it their callers notice.

A pure function of two manifests: publishing asks it before a version is written, the engine before one becomes stable by
being the highest, and `hoverboard models diff` shows what it finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hoverboard.contract.heads import thresholds
from hoverboard.contract.signature import TensorSpec
from hoverboard.versions.manifest import Manifest

__all__ = ["Difference", "breaking", "compare"]

_FEW: Final = 5
"""Most labels or allowed values that are named one by one."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two versions do not have in common.

    Attributes:
        what: such as `task` or `input pixels: shape`.
        before, after: in words.
        breaking: whether a caller of the one before may break on it, or a promise to callers is gone.
    """

    what: str
    before: str
    after: str
    breaking: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.before} before, {self.after} now"


def compare(before: Manifest, after: Manifest) -> tuple[Difference, ...]:
    """Every difference of what callers send and are answered; those that break callers come first.

    Weights, notes and the like are no difference: that is what a new version is for.
    """
    differences = [
        *_answers(before, after),
        *_inputs(before.inputs, after.inputs),
        *_outputs(before.outputs, after.outputs),
    ]
    # `sorted` is stable: within both kinds they stay in the order of the manifest.
    return tuple(sorted(differences, key=lambda difference: not difference.breaking))


def breaking(before: Manifest, after: Manifest) -> tuple[Difference, ...]:
    """Those of `compare` that callers of the one before may break on; none means that the other can take its place."""
    return tuple(difference for difference in compare(before, after) if difference.breaking)


def _answers(before: Manifest, after: Manifest) -> Iterator[Difference]:
    if before.task != after.task:
        yield Difference("task", before.task, after.task, breaking=True)
    if before.labels != after.labels:
        yield Difference("labels", *_label_words(before.labels or (), after.labels or ()), breaking=True)
    # The same shape, and other numbers for whoever reads whole outputs.
    if before.labels and after.labels and before.head != after.head:
        yield Difference("head", before.head, after.head, breaking=True)
    if before.task == after.task == "multi-label" and before.labels == after.labels:
        yield from _thresholds(before, after)
    if before.outputs[0].name != after.outputs[0].name:
        yield Difference("main output", before.outputs[0].name, after.outputs[0].name, breaking=True)
    # Whoever acts on `outlier` would get null from now on, and no error.
    if (before.outliers is None) != (after.outliers is None):
        yield Difference("outliers", _calibrated(before), _calibrated(after), breaking=after.outliers is None)
    yield from _outliers(before, after)
    # How a version is run is nothing that a caller sees.
    if before.max_batch != after.max_batch:
        yield Difference("max_batch", _batch(before), _batch(after), breaking=False)


def _outliers(before: Manifest, after: Manifest) -> Iterator[Difference]:
    """Which samples are called outliers changes with these; the answer keeps its form, so that nothing breaks."""
    if before.outliers is None or after.outliers is None:
        return
    for name in ("alpha", "detector"):
        was, now = before.outliers.get(name), after.outliers.get(name)
        if was != now:
            yield Difference(f"outliers: {name}", _said(was), _said(now), breaking=False)


def _thresholds(before: Manifest, after: Manifest) -> Iterator[Difference]:
    """Another threshold is a choice; none any more was forgotten."""
    old, new = ([float(str(each)) for each in thresholds(manifest.signature)] for manifest in (before, after))
    lost = before.thresholds is not None and after.thresholds is None
    for label, was, now in zip(before.labels or (), old, new, strict=True):
        if was != now:
            yield Difference(f"threshold of {label}", _number(was), _number(now), breaking=lost)


def _inputs(before: Sequence[TensorSpec], after: Sequence[TensorSpec]) -> Iterator[Difference]:
    was, now = {spec.name: spec for spec in before}, {spec.name: spec for spec in after}
    yield from _come_and_gone("input", was, now, added_breaks=True)
    for name in sorted(was.keys() & now.keys()):
        old, new = was[name], now[name]
        place = f"input {name}"
        if old.dtype != new.dtype:
            yield Difference(f"{place}: dtype", old.dtype, new.dtype, breaking=True)
        if old.shape != new.shape:
            yield Difference(f"{place}: shape", _shape(old), _shape(new), breaking=not _takes(new, old))
        for limit in ("min", "max", "max_length"):
            yield from _limit(place, limit, getattr(old, limit), getattr(new, limit))
        yield from _least(place, old, new)
        if old.finite != new.finite:
            yield Difference(f"{place}: finite", _word(old.finite), _word(new.finite), breaking=new.finite)
        if old.allowed != new.allowed:
            # As with limits: a longer list breaks nobody, and one that is gone was forgotten.
            wider = old.allowed is not None and new.allowed is not None and set(old.allowed) <= set(new.allowed)
            yield Difference(f"{place}: allowed", _values(old.allowed), _values(new.allowed), breaking=not wider)


def _limit(place: str, name: str, old: float | None, new: float | None) -> Iterator[Difference]:
    """A limit may be widened. One that is narrower refuses what was taken; one that is gone was forgotten, or so it seems."""
    if old == new:
        return
    wider = old is not None and new is not None and (new < old if name == "min" else new > old)
    yield Difference(f"{place}: {name}", _number(old), _number(new), breaking=not wider)


def _least(place: str, old: TensorSpec, new: TensorSpec) -> Iterator[Difference]:
    """The fewest elements; of a version from before they were looked for, nobody knows."""
    if old.shape != new.shape or None in (old.min_length, new.min_length) or old.least == new.least:
        return
    narrower = any(now > was for was, now in zip(old.least, new.least, strict=True))
    yield Difference(f"{place}: min_length", str(old.min_length), str(new.min_length), breaking=narrower)


def _outputs(before: Sequence[TensorSpec], after: Sequence[TensorSpec]) -> Iterator[Difference]:
    was, now = {spec.name: spec for spec in before}, {spec.name: spec for spec in after}
    yield from _come_and_gone("output", was, now, added_breaks=False)
    for name in sorted(was.keys() & now.keys()):
        old, new = was[name], now[name]
        if old.dtype != new.dtype:
            yield Difference(f"output {name}: dtype", old.dtype, new.dtype, breaking=True)
        if old.shape != new.shape:
            yield Difference(f"output {name}: shape", _shape(old), _shape(new), breaking=True)


def _come_and_gone(
    kind: str, was: dict[str, TensorSpec], now: dict[str, TensorSpec], *, added_breaks: bool
) -> Iterator[Difference]:
    for name in sorted(was.keys() - now.keys()):
        yield Difference(f"{kind} {name}", f"{was[name].dtype} {_shape(was[name])}", "none", breaking=True)
    for name in sorted(now.keys() - was.keys()):
        yield Difference(f"{kind} {name}", "none", f"{now[name].dtype} {_shape(now[name])}", breaking=added_breaks)


def _takes(new: TensorSpec, old: TensorSpec) -> bool:
    """Whether every shape that suited the old spec suits the new one."""
    return len(new.shape) == len(old.shape) and all(
        dim in (None, was) for dim, was in zip(new.shape, old.shape, strict=True)
    )


def _label_words(before: Sequence[str], after: Sequence[str]) -> tuple[str, str]:
    """Two lists of labels, told by what one has and the other has not."""
    if not before or not after:
        return _values(before), _values(after)
    gone, new = [x for x in before if x not in set(after)], [x for x in after if x not in set(before)]
    if not gone and not new:
        return "in one order", "in another"
    return (
        f"{len(before)}" + (f" with {_values(gone)}" if gone else ""),
        f"{len(after)}" + (f" with {_values(new)}" if new else ""),
    )


def _calibrated(manifest: Manifest) -> str:
    return "not calibrated" if manifest.outliers is None else "calibrated"


def _batch(manifest: Manifest) -> str:
    return "the server's" if manifest.max_batch is None else str(manifest.max_batch)


def _values(values: Sequence[Any] | None) -> str:
    if not values:
        return "none"
    more = f" and {len(values) - _FEW} more" if len(values) > _FEW else ""
    return ", ".join(map(str, values[:_FEW])) + more


def _shape(spec: TensorSpec) -> str:
    return "[" + ", ".join("any" if dim is None else str(dim) for dim in spec.shape) + "]"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.12g}"


def _said(value: Any) -> str:
    return "none" if value is None else str(value)


def _word(value: bool) -> str:
    return "yes" if value else "no"
