"""Which detector a version gets: the best at telling classes that its fit has never seen from those it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array
from hoverboard.outliers.detectors import CANDIDATES, Candidate
from hoverboard.outliers.features import Features, Labels

__all__ = ["Choice", "Fold", "auroc", "choose", "drawn", "folds_of", "leave_one_class_out", "named", "turns_of"]

Progress = Callable[[float], None]
"""Told the share done, 0 to 1."""

MOST_CLASSES: Final = 20
MOST_ROWS: Final = 10_000
_FOLDS: Final = 5
_FEW_ROWS: Final = 2000
_FEW_CLASSES: Final = 5
_WIDE: Final = 1024
MOST_INPUTS: Final = 512
"""Of wider inputs, such as images, so many columns tell how well their tails do."""
TOLERANCE: Final = 0.01
"""Mean AUROC within which two detectors count as equal, and the one listed first in `CANDIDATES` is taken.

The net has learned the class that is left out, which favours some scores by more than a few thousandths: where digits were left
out of training, energy led by up to 0.009 here and was 0.04 behind on the digit that the net had really never seen.
"""


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows to fit on, and other rows to score."""

    fitting: Features
    fitting_labels: Labels
    scoring: Features
    scoring_labels: Labels


@dataclass(frozen=True, slots=True)
class Choice:
    """The detector taken, and why.

    Attributes:
        name: of the detector.
        reason: one sentence.
        auroc: detector -> mean leave-one-class-out AUROC; empty where there were no classes to leave out.
        by_class: detector -> class index -> its AUROC.
    """

    name: str
    reason: str
    auroc: Mapping[str, float] = field(default_factory=dict)
    by_class: Mapping[str, Mapping[int, float]] = field(default_factory=dict)


def auroc(normal: Array, strange: Array) -> float:
    """The chance that a strange sample scores above a normal one, ties counting half; both `(any,)`, not empty."""
    ordered = np.sort(normal)
    below = np.searchsorted(ordered, strange, "left")
    up_to = np.searchsorted(ordered, strange, "right")
    return float((below + up_to).mean() / (2 * len(normal)))


def folds_of(features: Features, labels: Labels, seed: int) -> list[Fold]:
    """The rows of `turns_of` with their features and labels."""
    return [
        Fold(features[fitting], labels[fitting], features[scoring], labels[scoring])
        for fitting, scoring in turns_of(labels, seed, features.width)
    ]


def turns_of(labels: Labels, seed: int, width: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows to fit on, and others to score: five folds of few rows, or one fifth held out of many or wide ones.

    Of more than 10,000 rows, 10,000 are drawn at random.

    Args:
        labels: int64 `(n,)`, of the rows.
        seed: of the draw.
        width: features a row.
    """
    rows = np.random.default_rng(seed).permutation(len(labels))[:MOST_ROWS]
    # By class, in turns: every fold gets its share of each.
    turns = np.empty(len(rows), np.int64)
    turns[np.argsort(labels[rows], kind="stable")] = np.arange(len(rows)) % _FOLDS
    few = len(rows) <= _FEW_ROWS and width <= _WIDE
    return [(rows[turns != turn], rows[turns == turn]) for turn in range(_FOLDS if few else 1)]


def drawn(rows: int, seed: int) -> NDArray[np.int64]:
    """All rows, or 10,000 of them drawn at random, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:MOST_ROWS])


def leave_one_class_out(
    folds: Sequence[Fold], *, candidates: Sequence[Candidate] = CANDIDATES, seed: int = 0, progress: Progress
) -> dict[str, dict[int, float]]:
    """AUROC of each left-out class against the held-out rows of the others.

    A class is left out of the fit, of the means and of the logits; all rows of it that are at hand are scored. What looks
    at logits takes no part where fewer than two of them would be left: between two classes there is none. Up to 20
    classes take part, drawn at random where there are more; fewer where the features are so wide that it would take long.

    Returns:
        Detector -> class index -> AUROC, the mean over the folds; without the detectors that some class does not suit.
    """
    classes = _held_out(folds, seed)
    aurocs: dict[str, dict[int, list[float]]] = {candidate.name: {} for candidate in candidates}
    done = 0
    for fold in folds:
        for left_out in classes:
            for name, value in _one(fold, left_out, candidates).items():
                aurocs[name].setdefault(left_out, []).append(value)
            done += 1
            progress(done / (len(folds) * len(classes)))
    return {
        name: {index: float(np.mean(values)) for index, values in by_class.items()}
        for name, by_class in aurocs.items()
        if len(by_class) == len(classes) > 0
    }


def choose(by_class: Mapping[str, Mapping[int, float]], fitted: Sequence[str], why_not: str) -> Choice:
    """Take the best mean AUROC, or without any the first of `CANDIDATES` that could be fitted.

    Args:
        by_class: what `leave_one_class_out` found; empty where it could not be done.
        fitted: names of the detectors that can be had, at least one.
        why_not: why there is no AUROC, in words.
    """
    ordered = [candidate.name for candidate in CANDIDATES if candidate.name in fitted]
    means = {name: float(np.mean(list(by_class[name].values()))) for name in ordered if name in by_class}
    if not means:
        return Choice(ordered[0], f"{why_not}: the first that suits, in the order {', '.join(ordered)}")
    best = max(means.values())
    name = next(name for name in ordered if means.get(name, -1.0) >= best - TOLERANCE)
    count = len(next(iter(by_class.values())))
    reason = f"best at telling {count} left-out classes from the rest: mean AUROC {means[name]:.3f}"
    if means[name] < best:
        reason += f", within {TOLERANCE:g} of the best, {best:.3f}, and preferred to it"
    return Choice(name, reason, means, {known: dict(by_class[known]) for known in means})


def named(name: str, chosen: Choice) -> Choice:
    """The detector that a publisher asked for; where classes could be left out, with its AUROC and the one that won."""
    reason = "asked for when this was published"
    if name in chosen.auroc:
        reason += f"; mean AUROC of left-out classes {chosen.auroc[name]:.3f}"
        reason += "" if name == chosen.name else f", of {chosen.name} {chosen.auroc[chosen.name]:.3f}"
    return Choice(name, reason, chosen.auroc, chosen.by_class)


def _held_out(folds: Sequence[Fold], seed: int) -> list[int]:
    """Classes that every fold can fit without and score; none where fewer than two are there."""
    both = [set(np.unique(fold.scoring_labels)) & set(np.unique(fold.fitting_labels)) for fold in folds]
    classes = sorted(int(index) for index in set.intersection(*both)) if both else []
    if len(classes) < 2:
        return []
    # Each class left out is a fit of its own, and that of a covariance grows with the cube of the width.
    most = _FEW_CLASSES if folds[0].fitting.width > _WIDE else MOST_CLASSES
    if len(classes) <= most:
        return classes
    return sorted(np.random.default_rng(seed).choice(classes, most, replace=False).tolist())


def _one(fold: Fold, left_out: int, candidates: Sequence[Candidate]) -> dict[str, float]:
    others = fold.fitting_labels != left_out
    fitting, labels = fold.fitting[others].without_class(left_out), fold.fitting_labels[others]
    scoring = fold.scoring.without_class(left_out)
    strange = np.flatnonzero(fold.scoring_labels == left_out)
    aurocs = {}
    for candidate in candidates:
        if candidate.unsuited(fitting, labels) is not None:
            continue
        parameters = candidate.fit(fitting, labels)
        scores = candidate.score(scoring, parameters)
        # The left-out rows of the fitting part are as unseen as the others.
        more = candidate.score(fold.fitting[~others].without_class(left_out), parameters)
        normal = np.delete(scores, strange)
        aurocs[candidate.name] = auroc(normal, np.concatenate([scores[strange], more]))
    return aurocs
