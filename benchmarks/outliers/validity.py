"""Validity: over random calibration splits, how often is a normal sample flagged, and is that what was promised?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.outliers.studies import Pool
from hoverboard.outliers import CANDIDATES, Features, OutlierPackage
from hoverboard.outliers.conformal import flag_rank
from hoverboard.publishing.calibration import calibrate
from hoverboard.publishing.calibration_file import CalibrationRows

__all__ = ["CHOSEN", "LEVELS", "Validity", "beta_binomial_interval", "table", "validity"]

LEVELS: Final = (0.01, 0.05)
CHOSEN: Final = "the one that answers"


@dataclass(frozen=True, slots=True)
class Validity:
    """Flags of fresh normal samples over many splits.

    Attributes:
        splits: how many.
        points, fresh: calibration points and fresh samples of one split.
        flagged: detector -> level -> number of fresh samples with p <= level, one a split.
        p_values: those of the chosen detector, float32 `(splits, fresh)`.
        times_chosen: detector -> in how many splits.
    """

    splits: int
    points: int
    fresh: int
    flagged: Mapping[str, Mapping[float, NDArray[np.int64]]]
    p_values: NDArray[np.float32]
    times_chosen: Mapping[str, int]

    def interval(self, level: float) -> tuple[int, int]:
        """What 95% of splits shall flag, from and to."""
        return beta_binomial_interval(self.points, self.fresh, level)

    def inside(self, detector: str, level: float) -> float:
        """Share of splits within that interval."""
        low, high = self.interval(level)
        counts = self.flagged[detector][level]
        return float(((low <= counts) & (counts <= high)).mean())


def validity(pool: Pool, splits: int) -> Validity:
    """Calibrate on a random half of the pool, the whole way through fitting and choosing; flag the other half."""
    found: dict[str, dict[float, list[int]]] = {}
    times_chosen: dict[str, int] = {}
    p_values = []
    points = 0
    for seed in range(splits):
        package, normal = _split(pool, seed)
        points = package.points
        times_chosen[package.chosen] = times_chosen.get(package.chosen, 0) + 1
        for name, detector in package.detectors.items():
            p = detector.p_values(detector.score(normal))
            for place in (name, CHOSEN) if name == package.chosen else (name,):
                for level in LEVELS:
                    found.setdefault(place, {}).setdefault(level, []).append(int((p <= level).sum()))
            if name == package.chosen:
                p_values.append(p)
    flagged = {name: {level: np.array(counts) for level, counts in by.items()} for name, by in found.items()}
    return Validity(splits, points, len(p_values[0]), flagged, np.stack(p_values), times_chosen)


def _split(pool: Pool, seed: int) -> tuple[OutlierPackage, Features]:
    order = np.random.default_rng(10_000 + seed).permutation(len(pool.features))
    first, second = np.split(order, [len(order) // 2])
    rows = CalibrationRows((first,), None if pool.labels is None else [pool.labels[row] for row in first])
    package = calibrate(
        lambda columns: pool.features[columns[0]],
        rows,
        classes=pool.classes,
        detector=pool.detector,
        alpha=0.01,
        seed=seed,
    )
    return package, pool.features[second]


def beta_binomial_interval(n: int, m: int, alpha: float) -> tuple[int, int]:
    """95% of the counts of p <= alpha among m fresh samples, given n calibration points: BetaBin(m, l, n + 1 - l)."""
    a = flag_rank(n, alpha)
    b = n + 1 - a

    def log_beta(x: float, y: float) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    def log_choose(k: int) -> float:
        return math.lgamma(m + 1) - math.lgamma(k + 1) - math.lgamma(m - k + 1)

    weights = [math.exp(log_choose(k) + log_beta(k + a, m - k + b) - log_beta(a, b)) for k in range(m + 1)]
    total = np.cumsum(weights)
    return int(np.searchsorted(total, 0.025)), int(np.searchsorted(total, 0.975))


def table(found: Validity, *, asked: str | None = None) -> list[str]:
    """As Markdown: a row a detector; `asked` is the one that was asked for, where none was chosen."""
    chosen = "chosen" if asked is None else "answers"
    lines = [
        f"{found.splits} random splits of held-out normal samples; {found.points} points calibrate, {found.fresh} are fresh.",
        *(
            f"At {level:.0%} the law (beta-binomial) puts 95% of splits between {low} and {high} flags."
            for level in LEVELS
            for low, high in [found.interval(level)]
        ),
        "",
        f"| detector | {chosen} in | flagged at 1% | splits within | flagged at 5% | splits within |",
        "|---|---|---|---|---|---|",
    ]
    for name in [*(candidate.name for candidate in CANDIDATES if candidate.name in found.flagged), CHOSEN]:
        cells = [
            f"{found.flagged[name][level].mean() / found.fresh:.2%} | {found.inside(name, level):.1%}"
            for level in LEVELS
        ]
        times = "" if name == CHOSEN else str(found.times_chosen.get(name, 0))
        lines.append(f"| {name} | {times} | {' | '.join(cells)} |")
    return lines
