"""Fit, choose and calibrate a version's outlier detectors on samples that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array, TensorSpec
from hoverboard.errors import PublishError
from hoverboard.outliers import (
    BY_NAME,
    CANDIDATES,
    Calibrated,
    CalibrationFeatures,
    Features,
    OutlierPackage,
    needed_points,
)
from hoverboard.outliers.conformal import check_alpha
from hoverboard.outliers.features import STRANGEST, Labels
from hoverboard.outliers.select import MOST_INPUTS, Choice, Fold, choose, drawn, folds_of, leave_one_class_out, named
from hoverboard.publishing.calibration_file import CalibrationRows
from hoverboard.publishing.watched import Known, watchable_columns, watched

__all__ = ["FeaturesOf", "Progress", "calibrate", "class_indexes", "silent"]

FeaturesOf = Callable[[Sequence[Array]], Features]
"""Columns, one per input, of up to `ROWS` rows -> their features, of as many rows."""
Progress = Callable[[str, float], None]
"""Told the stage (`features`, `choosing`, `fitting`) and the share of it done, 0 to 1."""

ROWS: Final = 256
FEWEST: Final = 20
"""Rows that fitting takes at least."""
MOST_NUMBERS: Final = 200_000_000
"""Features that are kept in memory at once; beyond, samples are drawn at random."""
_ENOUGH: Final = 30
_MANY_COPIES: Final = 0.2


def calibrate(
    features_of: FeaturesOf,
    data: CalibrationRows,
    *,
    inputs: Sequence[TensorSpec] = (),
    classes: Sequence[str] | None = None,
    fitting: CalibrationRows | None = None,
    layer: str | None = None,
    detector: str | None = None,
    alpha: float = 0.01,
    seed: int = 0,
    progress: Progress | None = None,
) -> OutlierPackage:
    """Make what `outliers.npz` holds.

    Half of `data`, by class and at random, fits the detectors and chooses among them; the other half, never looked at
    before, calibrates them. With `fitting` (the training data, say) the detectors are fitted on that, and the first
    half only chooses.

    Args:
        features_of: runs the model; called with up to 256 rows at a time.
        data: samples like those that the service will get, none of which the model was trained on.
        classes: class names by index; None where the task is no classification.
        fitting: other samples to fit on.
        layer: where features come from, for the record.
        detector: the one to take, whatever the AUROC of classes left out; the best of them when left out.
        alpha: the share of normal samples that may be called outliers.
        seed: of every random choice; the same seed and data make the same package.
        progress: called as it goes on.

    Raises:
        PublishError: too few samples for alpha, labels that are not the model's, nothing to tell outliers by, or a
            detector that there is not or that does not suit; one sentence.
    """
    report = progress or silent
    if detector is not None and detector not in (names := [candidate.name for candidate in CANDIDATES]):
        raise PublishError(f"detector {detector!r}: there is none of that name; there are {', '.join(names)}")
    # Before the model runs over everything, which may take minutes; and again below, once rows have been left out.
    check_alpha(alpha, len(data), FEWEST)
    notes = [*data.notes, *_copies(data)]
    extraction = _Extraction(features_of, inputs, classes, seed, report, notes)
    known = extraction.known(data, "calibration")
    check_alpha(alpha, len(known.features), FEWEST)
    chosen_rows, calibration_rows = _halves(len(known.features), known.labels, alpha, seed)
    first, second = known[chosen_rows], known[calibration_rows]
    # Never on the second half: a detector knows the rows that it was fitted on, and would call them too usual.
    base = first if fitting is None else extraction.known(fitting, "fitting")

    suited, unsuited = _suited(base)
    if detector is not None and detector in unsuited:
        raise PublishError(f"detector {detector!r} does not suit: {unsuited[detector]}")
    by_class, why_not = _left_out(base, first, seed, lambda share: report("choosing", share))
    choice = choose(by_class, suited, why_not)
    if detector is not None:
        choice = named(detector, choice)
    detectors = {}
    for done, name in enumerate(suited, 1):
        detectors[name] = _calibrated(name, base, second, choice)
        report("fitting", done / len(suited))
    notes += _unscored(detectors[choice.name])
    watch = None
    if inputs:
        # The watch must not be judged on rows that it was fitted on, either.
        held_out = [(base, first)] if base is not first else base.turns(seed)
        watch = watched(inputs, detectors[choice.name], base, held_out, second, alpha=alpha)
    return OutlierPackage(
        alpha=alpha,
        chosen=choice.name,
        reason=choice.reason,
        detectors=detectors,
        space=known.features.space,
        layer=layer if known.features.space == "features" else None,
        fitted=len(base.features),
        unsuited=unsuited,
        left_out=len(by_class.get(choice.name, ())),
        notes=tuple(notes),
        watch=watch,
        kept=CalibrationFeatures.of(known.features, known.labels, calibration_rows),
    )


def _copies(data: CalibrationRows) -> list[str]:
    """What there is to say of rows that are the same as others; a table of categories has such rows by itself."""
    distinct = {hash(tuple(_content(column[row]) for column in data.columns)) for row in range(len(data))}
    copies = len(data) - len(distinct)
    if copies < _MANY_COPIES * len(data):
        return []
    words = f"{copies} of {len(data)} rows are the same as another"
    return [f"{words}: where they were copied, to weigh a class more, the promise does not hold; give each sample once"]


def _content(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return tuple(value.ravel()) if value.dtype == object else value.tobytes()


def class_indexes(labels: Sequence[Any] | Array, classes: Sequence[str], place: str = "calibration") -> Labels:
    """Class indexes, int64 `(n,)`, from class names or indexes.

    Raises:
        PublishError: a label is none of the model's classes; it is named.
    """
    places = {name: index for index, name in enumerate(classes)}
    found = np.empty(len(labels), np.int64)
    for row, label in enumerate(labels):
        index = places.get(_text(label))
        # Names come first: a model may have classes that are called 0 and 1, in another order.
        if index is None and not isinstance(label, str | bytes | bool) and _whole(label, len(classes)):
            index = int(label)
        if index is None:
            shown = ", ".join(list(classes)[:5]) + (", ..." if len(classes) > 5 else "")
            raise PublishError(
                f"{place}: row {row} (counted from 0): label {label!r} is none of the model's {len(classes)}: {shown}"
            )
        found[row] = index
    return found


def _text(label: Any) -> str:
    if isinstance(label, bytes):
        return label.decode(errors="replace")
    return str(label)


def _whole(label: Any, classes: int) -> bool:
    return isinstance(label, int | float | np.integer | np.floating) and label in range(classes)


@dataclass(frozen=True, slots=True)
class _Extraction:
    """How samples become features, and what there is to say about it."""

    features_of: FeaturesOf
    inputs: Sequence[TensorSpec]
    classes: Sequence[str] | None
    seed: int
    report: Progress
    notes: list[str]

    def known(self, data: CalibrationRows, place: str) -> Known:
        """Run the model over the samples, and settle what class each is."""
        if not len(data):
            raise PublishError(f"{place}: there are no samples")
        if data.labels is not None and len(data.labels) != len(data):
            raise PublishError(f"{place}: {len(data.labels)} labels for {len(data)} samples")
        labels = None
        if self.classes is not None and data.labels is not None:
            labels = class_indexes(data.labels, self.classes, place)
        rows, features = self._extracted(data.columns)
        if len(rows) < len(data):
            self.notes.append(f"{place}: {len(rows)} of {len(data)} samples, drawn at random: no more fit in memory")
        columns = watchable_columns(self.inputs, data.columns, rows)
        if labels is not None:
            self._check_agreement(features, labels[rows], place)
            return Known(features, columns, labels[rows])
        if self.classes is None or features.logits is None:
            return Known(features, columns, None)
        self.notes.append(f"{place}: no labels were given, the model's own predictions stand for them")
        return Known(features, columns, _predicted(features.logits))

    def _extracted(self, columns: Sequence[Array]) -> tuple[NDArray[np.int64], Features]:
        """Rows taken, ascending, and their features."""
        n = len(columns[0])
        width = sum(matrix.shape[1] for _, matrix in self.features_of([column[:1] for column in columns]).parts())
        most = max(1000, MOST_NUMBERS // max(width, 1))
        rows = np.arange(n)
        if n > most:
            # At random and not the first ones: files are often sorted by class or by time.
            rows = np.sort(np.random.default_rng(self.seed).choice(n, most, replace=False))
        pieces = []
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            piece = self.features_of([column[part] for column in columns])
            # A graph that mixes or drops rows has no features of a single sample.
            if len(piece) != len(part):
                raise PublishError(f"the model gives features of {len(piece)} rows for {len(part)} samples")
            pieces.append(piece)
            self.report("features", (start + len(part)) / len(rows))
        return rows, Features.concatenate(pieces)

    def _check_agreement(self, features: Features, labels: Labels, place: str) -> None:
        """Refuse labels that the model gets right no more often than by guessing: another model's, or shifted."""
        if features.logits is None:
            return
        share = float((_predicted(features.logits) == labels).mean())
        guessing = 1 / features.logits.shape[1]
        # Of fewer labels chance alone may give so poor a share.
        if len(labels) >= _ENOUGH and share <= guessing:
            raise PublishError(
                f"{place}: the model agrees with {share:.1%} of the labels, guessing would with {guessing:.1%}: "
                f"they are not this model's, or in another order"
            )
        self.notes.append(f"{place}: the model agrees with {share:.1%} of the labels")


def _predicted(logits: Array) -> Labels:
    predicted: Labels = np.where(np.isnan(logits), -np.inf, logits).argmax(axis=1).astype(np.int64)
    return predicted


def _halves(n: int, labels: Labels | None, alpha: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to choose by, and rows to calibrate on: half of each class, more to calibrate on where alpha needs it.

    Systematic sampling over the rows in random order within their class: every row has the same chance.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(n)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    wanted = max(-(-n // 2), needed_points(alpha))
    steps = np.floor((np.arange(n + 1) * wanted) / n + generator.uniform())
    taken = np.diff(steps) > 0
    return np.sort(order[~taken]), np.sort(order[taken])


def _suited(base: Known) -> tuple[list[str], Mapping[str, str]]:
    """Names of the detectors that can be fitted, and why the others cannot."""
    reasons = {candidate.name: candidate.unsuited(base.features, base.labels) for candidate in CANDIDATES}
    suited = [name for name, reason in reasons.items() if reason is None]
    unsuited = {name: reason for name, reason in reasons.items() if reason is not None}
    if not suited:
        listed = "; ".join(f"{name}: {reason}" for name, reason in unsuited.items())
        raise PublishError(f"calibration: no detector suits: {listed}")
    return suited, unsuited


def _left_out(
    base: Known, first: Known, seed: int, report: Callable[[float], None]
) -> tuple[dict[str, dict[int, float]], str]:
    """AUROC by detector and class, or nothing and why."""
    if base.labels is None or first.labels is None:
        return {}, "there are no classes to leave out"
    fitting, scoring = (known.features.narrowed(MOST_INPUTS) for known in (base, first))
    if base is first:
        folds = folds_of(fitting, base.labels, seed)
    else:
        rows = drawn(len(base.features), seed)
        folds = [Fold(fitting[rows], base.labels[rows], scoring, first.labels)]
    found = leave_one_class_out(folds, seed=seed, progress=report)
    return found, "" if found else "there are too few classes to leave one out"


def _calibrated(name: str, base: Known, second: Known, choice: Choice) -> Calibrated:
    candidate = BY_NAME[name]
    parameters = candidate.fit(base.features, base.labels)
    scores = np.sort(candidate.score(second.features, parameters))
    return Calibrated(name, parameters, scores, choice.auroc.get(name))


def _unscored(detector: Calibrated) -> list[str]:
    """A word where normal samples cannot be scored: they count as strange as can be, and hide what is strange."""
    count = int((detector.calibration >= STRANGEST).sum())
    if not count:
        return []
    n = len(detector.calibration)
    return [
        f"{count} of {n} calibration points have features that are NaN, infinite or too large, and so the largest score"
    ]


def silent(stage: str, share: float) -> None:
    pass
