"""Power: what each detector finds of samples that its model knows nothing of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.outliers.studies import Trial
from hoverboard.outliers import CANDIDATES, Features, OutlierPackage
from hoverboard.outliers.select import auroc
from hoverboard.publishing.calibration import calibrate

__all__ = ["ALPHA", "Found", "Power", "by_class", "means", "measure"]

ALPHA: Final = 0.05


@dataclass(frozen=True, slots=True)
class Power:
    """Of one detector.

    Attributes:
        auroc: of strange against normal samples.
        recall: share of the strange ones with p <= alpha.
        flagged: share of the normal ones with p <= alpha.
        normal, strange: p-values, float32 `(any,)`.
    """

    auroc: float
    recall: float
    flagged: float
    normal: NDArray[np.float32]
    strange: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Found:
    """Of one trial.

    Attributes:
        name: of what was strange.
        chosen: the detector that answers.
        powers: detector -> its power.
        note: the trial's.
    """

    name: str
    chosen: str
    powers: Mapping[str, Power]
    note: str


def measure(trial: Trial) -> Found:
    """Calibrate as publishing does, and score."""
    package = calibrate(
        trial.features_of, trial.calibration, classes=trial.classes, detector=trial.detector, alpha=ALPHA
    )
    normal, strange = trial.features_of(trial.normal.columns), trial.features_of(trial.strange.columns)
    return Found(
        trial.name,
        package.chosen,
        {name: _power(package, name, normal, strange) for name in package.detectors},
        trial.note,
    )


def _power(package: OutlierPackage, name: str, normal: Features, strange: Features) -> Power:
    detector = package.detectors[name]
    scores = detector.score(normal), detector.score(strange)
    p = [detector.p_values(one) for one in scores]
    return Power(auroc(*scores), float((p[1] <= ALPHA).mean()), float((p[0] <= ALPHA).mean()), p[0], p[1])


def means(found: Sequence[Found]) -> list[str]:
    """Over all trials, as Markdown: a row a detector, and one for the detector that answers."""
    lines = [
        "| detector | mean AUROC | lowest | recall at 5% | lowest | normal flagged | answers for |",
        "|---|---|---|---|---|---|---|",
    ]
    names = [candidate.name for candidate in CANDIDATES if all(candidate.name in one.powers for one in found)]
    rows = {name: [one.powers[name] for one in found] for name in names}
    rows["the one that answers"] = [one.powers[one.chosen] for one in found]
    for name, powers in rows.items():
        aurocs, recalls = [one.auroc for one in powers], [one.recall for one in powers]
        times = f"{sum(one.chosen == name for one in found)} of {len(found)}" if name in names else ""
        lines.append(
            f"| {name} | {np.mean(aurocs):.3f} | {min(aurocs):.3f} | {np.mean(recalls):.1%} | {min(recalls):.1%} "
            f"| {np.mean([one.flagged for one in powers]):.1%} | {times} |"
        )
    return lines


def by_class(found: Sequence[Found]) -> list[str]:
    """AUROC by trial and detector, as Markdown; the chosen one's is bold."""
    names = [candidate.name for candidate in CANDIDATES if candidate.name in found[0].powers]
    lines = [f"| left out | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for one in found:
        cells = [f"{one.powers[name].auroc:.3f}" for name in names]
        marked = [f"**{cell}**" if name == one.chosen else cell for name, cell in zip(names, cells, strict=True)]
        lines.append(f"| {one.name} | {' | '.join(marked)} |")
    return lines
