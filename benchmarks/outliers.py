"""Outliers: does the promise hold (validity), and what does it catch (power)? `python -m benchmarks.outliers --model digits`."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.engine import runtime
from service.outliers import CANDIDATES, Features, OutlierPackage, two_sided
from service.outliers.conformal import flag_rank
from service.outliers.reading import input_matrix
from service.outliers.select import auroc
from service.publishing.calibration import FeaturesOf, calibrate
from service.publishing.calibration_file import CalibrationRows
from service.types import Array, Signature

ROOT = Path(__file__).parent.parent
ALPHA = 0.05
CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class Trial:
    """A model that has never seen a class, and samples for and against it.

    Attributes:
        name: of the class.
        features_of: of the model.
        classes: those it knows.
        training: what it was trained on.
        calibration: held-out samples of the classes it knows.
        normal: more of them.
        strange: samples of the class it does not know.
    """

    name: str
    features_of: FeaturesOf
    classes: Sequence[str]
    training: CalibrationRows
    calibration: CalibrationRows
    normal: CalibrationRows
    strange: CalibrationRows


@dataclass(frozen=True, slots=True)
class Pool:
    """A shipped model and held-out normal samples, to be split at random."""

    features: Features
    labels: NDArray[np.int64] | None
    classes: Sequence[str] | None


class Study(Protocol):
    """One model's data.

    Args:
        seed: of training; None for the example's own.
    """

    def __init__(self, seed: int | None) -> None: ...

    def trials(self) -> Iterator[Trial]:
        """One for each class that is left out of training."""

    def pool(self) -> Pool:
        """For validity."""


class Digits:
    """`digits`, the convolutional net of its version 2."""

    def __init__(self, seed: int | None) -> None:
        self._seed = seed

    def trials(self) -> Iterator[Trial]:
        from examples.digits import train
        from examples.digits.data import LABELS, SEED, Part, load, split

        parts = split(load())
        seed = SEED if self._seed is None else self._seed

        def rows(part: Part, digit: int, *, of: bool) -> CalibrationRows:
            kept = (part.labels == digit) == of
            return CalibrationRows((part.pixels[kept],), [LABELS[label] for label in part.labels[kept]])

        for digit, name in enumerate(LABELS):
            known = parts.train[np.flatnonzero(parts.train.labels != digit)]
            renumbered = Part(known.pixels, known.labels - (known.labels > digit))
            model = _without_output(train.fit, train.conv, renumbered, seed)
            training, calibration, normal = (
                rows(part, digit, of=False) for part in (parts.train, parts.calibration, parts.test)
            )
            strange = [rows(part, digit, of=True) for part in (parts.train, parts.calibration, parts.test)]
            yield Trial(
                name,
                features_of(runtime.wrap_keras(model)),
                [label for label in LABELS if label != name],
                training,
                calibration,
                normal,
                CalibrationRows((np.concatenate([one.columns[0] for one in strange]),)),
            )

    def pool(self) -> Pool:
        from examples.digits.data import LABELS, load, split

        parts = split(load())
        pixels = np.concatenate([parts.calibration.pixels, parts.test.pixels])
        labels = np.concatenate([parts.calibration.labels, parts.test.labels])
        graph = runtime.load_artifact(ROOT / "models" / "digits" / "2" / "model.keras")
        return Pool(features_of(graph)([pixels]), labels, LABELS)


STUDIES: Mapping[str, type[Study]] = {"digits": Digits}


def _without_output(fit: Any, build: Any, part: Any, seed: int) -> Any:
    """Train the net with one output fewer than the ten it has."""
    import keras

    def smaller() -> Any:
        whole = build()
        last = whole.layers[-1]
        head = keras.layers.Dense(last.units - 1, activation="softmax", name=last.name)
        return keras.Model(whole.inputs, head(last.input))

    return fit(smaller, part, seed)


def features_of(graph: runtime.Graph) -> FeaturesOf:
    """What publishing takes from a Keras model: inner features, logits, and numeric inputs."""
    import tensorflow as tf

    tap = graph.tap()
    assert tap is not None
    call = tf.function(tap.call, autograph=False)
    signature = Signature("raw", graph.inputs, graph.outputs)

    def features(columns: Sequence[Array]) -> Features:
        _, z, logits = call(*(tf.constant(column) for column in columns))
        return Features(z.numpy(), two_sided(logits.numpy()), input_matrix(signature, columns))

    return features


@dataclass(frozen=True, slots=True)
class Power:
    """Of one detector against one class: AUROC, share of it found at alpha 5%, share of normal samples flagged."""

    auroc: float
    recall: float
    false_alarms: float


def power(trial: Trial, *, on_training: bool) -> tuple[str, dict[str, Power]]:
    """The detector that publishing would choose, and how each does, it again under `chosen`."""
    package = calibrate(
        trial.features_of,
        trial.calibration,
        classes=trial.classes,
        fitting=trial.training if on_training else None,
        alpha=ALPHA,
    )
    normal, strange = trial.features_of(trial.normal.columns), trial.features_of(trial.strange.columns)
    found = {name: _power(package, name, normal, strange) for name in package.detectors}
    return package.chosen, found | {CHOSEN: found[package.chosen]}


def _power(package: OutlierPackage, name: str, normal: Features, strange: Features) -> Power:
    detector = package.detectors[name]
    scores = detector.score(normal), detector.score(strange)
    flags = [float((detector.p_values(one) <= ALPHA).mean()) for one in scores]
    return Power(auroc(*scores), flags[1], flags[0])


def power_table(study: Study) -> list[str]:
    """Mean over the classes, for every detector, fitted on the training data and on half of the calibration samples."""
    results: dict[bool, list[tuple[str, str, dict[str, Power]]]] = {True: [], False: []}
    for trial in study.trials():
        for on_training, rows in results.items():
            chosen, found = power(trial, on_training=on_training)
            rows.append((trial.name, chosen, found))
            best = max((name for name in found if name != CHOSEN), key=lambda name: found[name].auroc)
            _say(
                f"without {trial.name}, fitted on {'training' if on_training else 'calibration'}: chosen {chosen} "
                f"{found[chosen].auroc:.3f}, best {best} {found[best].auroc:.3f}"
            )
    lines = []
    for on_training, rows in results.items():
        where = "the training data" if on_training else "half of the calibration samples"
        lines += [f"Detectors fitted on {where}:", "", *_means(rows), ""]
        lines += [*_by_class(rows), ""]
    return lines


def _means(rows: Sequence[tuple[str, str, dict[str, Power]]]) -> list[str]:
    lines = [
        "| detector | mean AUROC | lowest | recall at 5% | lowest | normal flagged | chosen for |",
        "|---|---|---|---|---|---|---|",
    ]
    names = [*(candidate.name for candidate in CANDIDATES), CHOSEN]
    for name in names:
        found = [one[name] for _, _, one in rows if name in one]
        if not found:
            continue
        aurocs, recalls = [one.auroc for one in found], [one.recall for one in found]
        times = sum(chosen == name for _, chosen, _ in rows)
        lines.append(
            f"| {name} | {np.mean(aurocs):.4f} | {min(aurocs):.3f} | {np.mean(recalls):.1%} | {min(recalls):.1%} "
            f"| {np.mean([one.false_alarms for one in found]):.1%} | {f'{times} of {len(rows)}' if name != CHOSEN else ''} |"
        )
    return lines


def _by_class(rows: Sequence[tuple[str, str, dict[str, Power]]]) -> list[str]:
    names = [candidate.name for candidate in CANDIDATES if candidate.name in rows[0][2]]
    lines = [f"| left out | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for name, chosen, found in rows:
        cells = [f"**{found[one].auroc:.3f}**" if one == chosen else f"{found[one].auroc:.3f}" for one in names]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, "", "AUROC; bold: the detector that leave-one-class-out among the classes known chose."]


def validity_table(study: Study, splits: int) -> list[str]:
    """Flag rates on fresh normal samples over random splits, against the beta-binomial law."""
    pool = study.pool()
    levels = (0.01, 0.05)
    inside: dict[tuple[str, float], list[bool]] = {}
    rates: dict[tuple[str, float], list[float]] = {}
    n = m = 0
    for split in range(splits):
        package, normal = _split(pool, split)
        n, m = package.points, len(normal)
        for name in [*package.detectors, CHOSEN]:
            detector = package.detectors[package.chosen if name == CHOSEN else name]
            p = detector.p_values(detector.score(normal))
            for level in levels:
                count = int((p <= level).sum())
                low, high = beta_binomial_interval(n, m, level)
                inside.setdefault((name, level), []).append(low <= count <= high)
                rates.setdefault((name, level), []).append(count / m)
        if (split + 1) % 20 == 0:
            _say(f"split {split + 1} of {splits}")
    lines = [
        f"{splits} random splits: {n} calibration points and {m} fresh samples each.",
        "",
        "| detector | rate at 1% | splits inside the 95% interval | rate at 5% | splits inside |",
        "|---|---|---|---|---|",
    ]
    for name in [*(candidate.name for candidate in CANDIDATES), CHOSEN]:
        if (name, levels[0]) in inside:
            cells = [f"{np.mean(rates[name, a]):.2%} | {np.mean(inside[name, a]):.1%}" for a in levels]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _split(pool: Pool, seed: int) -> tuple[OutlierPackage, Features]:
    """Publish with a random half of the pool, the whole way through fitting and choosing; the other half is fresh."""
    order = np.random.default_rng(10_000 + seed).permutation(len(pool.features))
    first, second = np.split(order, [len(order) // 2])
    rows = CalibrationRows((first,), None if pool.labels is None else pool.labels[first].tolist())
    package = calibrate(lambda columns: pool.features[columns[0]], rows, classes=pool.classes, alpha=0.01, seed=seed)
    return package, pool.features[second]


def beta_binomial_interval(n: int, m: int, alpha: float) -> tuple[int, int]:
    """95% of the counts of p <= alpha among m fresh samples, given n calibration points: BetaBin(m, l, n + 1 - l)."""
    a = flag_rank(n, alpha)
    b = n + 1 - a

    def log_beta(x: float, y: float) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    weights = [
        math.exp(
            math.lgamma(m + 1)
            - math.lgamma(k + 1)
            - math.lgamma(m - k + 1)
            + log_beta(k + a, m - k + b)
            - log_beta(a, b)
        )
        for k in range(m + 1)
    ]
    total = np.cumsum(weights)
    return int(np.searchsorted(total, 0.025)), int(np.searchsorted(total, 0.975))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outliers", description=__doc__)
    parser.add_argument("--model", choices=sorted(STUDIES), required=True)
    parser.add_argument("--only", choices=("power", "validity"))
    parser.add_argument("--splits", type=int, default=200, help="random splits for validity")
    parser.add_argument("--seed", type=int, help="of training; the example's own when left out")
    options = parser.parse_args()
    runtime.configure(1, 1)
    study = STUDIES[options.model](options.seed)
    started = time.perf_counter()
    if options.only != "power":
        print(f"## {options.model}: validity\n")
        print("\n".join(validity_table(study, options.splits)), flush=True)
    if options.only != "validity":
        print(f"\n## {options.model}: power\n")
        print("\n".join(power_table(study)))
    _say(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
