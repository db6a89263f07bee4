"""`python -m benchmarks.outliers.watch`: what the watch over the inputs finds, and what it costs the detector in power.

Of digits, a class left out of training at a time, the detector alone and with the watch beside it; of diamonds, absurd numbers
in each input. Both figures are of the same calibration and the same samples.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from benchmarks.outliers.studies import ROOT, STUDIES, Trial
from hoverboard.contract.signature import Array, Signature
from hoverboard.outliers import Features, OutlierPackage, p_values
from hoverboard.outliers.select import auroc
from hoverboard.publishing.calibration import calibrate
from hoverboard.publishing.calibration_file import CalibrationRows
from hoverboard.versions import read_version

__all__ = ["main"]

LEVELS: Final = (0.01, 0.05)
Scores = tuple[Array, Array]
"""The detector's alone, and combined with the watch."""


def main() -> None:
    """Measure and print Markdown."""
    print("| digits without | | AUROC | found at 1% | at 5% | normal flagged at 1% | at 5% |")
    print("|---|---|---|---|---|---|---|")
    rows = [row for trial in STUDIES["digits"]().left_out() for row in _trial(trial)]
    for index, name in enumerate(("detector alone", "with the watch")):
        means = [
            statistics.fmean(column)
            for column in zip(*(figures for place, figures in rows if place == index), strict=True)
        ]
        print(f"| mean | {name} | {means[0]:.4f} | {' | '.join(f'{value:.2%}' for value in means[1:])} |")
    print()
    print("| diamonds | flagged at 1%: detector alone | with the watch |")
    print("|---|---|---|")
    for words, figures in _absurd():
        print(f"| {words} | {' | '.join(f'{value:.2%}' for value in figures)} |")


def _trial(trial: Trial) -> Iterator[tuple[int, tuple[float, ...]]]:
    signature = read_version(ROOT / "models" / "digits" / "3").signature
    package = calibrate(
        trial.features_of, trial.calibration, inputs=signature.inputs, classes=trial.classes, alpha=max(LEVELS)
    )
    normal, strange = (
        _scores(package, signature, trial.features_of(rows.columns), rows.columns)
        for rows in (trial.normal, trial.strange)
    )
    for index, calibration in enumerate((package.detector.calibration, package.calibration)):
        p = [p_values(scores[index], calibration) for scores in (normal, strange)]
        found = [float((p[1] <= level).mean()) for level in LEVELS]
        wrong = [float((p[0] <= level).mean()) for level in LEVELS]
        figures = (auroc(normal[index], strange[index]), *found, *wrong)
        name = ("detector alone", "with the watch")[index]
        print(
            f"| {trial.name} | {name} | {figures[0]:.4f} | {' | '.join(f'{value:.2%}' for value in figures[1:])} |",
            flush=True,
        )
        yield index, figures


def _absurd() -> Iterator[tuple[str, Sequence[float]]]:
    """Normal diamonds, and diamonds with one number ten times its largest, or negative."""
    from examples.diamonds import train
    from examples.diamonds.data import load, split
    from hoverboard.backends.tensorflow import artifact

    directory = ROOT / "models" / "diamonds" / "2"
    signature = read_version(directory).signature
    extract = artifact.load_artifact(directory / "model.keras").extractor(signature)
    parts = split(load())
    given: CalibrationRows = train.calibration(parts.calibration)
    package = calibrate(extract, given, inputs=signature.inputs)
    columns = train.calibration(parts.test).columns[:]
    yield "normal", _flagged(package, signature, extract(columns), columns)
    some = [column[:500] for column in columns]
    for place, spec in enumerate(signature.inputs):
        if some[place].dtype.kind != "f":
            continue
        for words, value in (("ten times its largest", 10 * columns[place].max()), ("-1", -1.0)):
            changed = [np.full_like(column, value) if at == place else column for at, column in enumerate(some)]
            yield f"{spec.name}: {words}", _flagged(package, signature, extract(changed), changed)


def _scores(package: OutlierPackage, signature: Signature, features: Features, columns: Sequence[Array]) -> Scores:
    scores = package.detector.score(features)
    if package.watch is None:
        return scores, scores
    named: Mapping[str, Array] = {spec.name: column for spec, column in zip(signature.inputs, columns, strict=True)}
    return scores, package.watch.combined(scores, package.watch.by_input(named))


def _flagged(
    package: OutlierPackage, signature: Signature, features: Features, columns: Sequence[Array]
) -> Sequence[float]:
    alone, combined = _scores(package, signature, features, columns)
    pairs = ((alone, package.detector.calibration), (combined, package.calibration))
    return [float((p_values(scores, calibration) <= package.alpha).mean()) for scores, calibration in pairs]


if __name__ == "__main__":
    main()
