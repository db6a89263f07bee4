"""Shipped models with samples that they are asked about: what they answer, and how strange each sample is to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.outliers.studies import ROOT, _shipped
from hoverboard.contract.signature import Array
from hoverboard.outliers import Features, OutlierPackage, load_package, p_values
from hoverboard.publishing.calibration import FeaturesOf
from hoverboard.versions.baseline import Baseline, read_baseline

__all__ = ["SERVED", "Answers", "Columns", "Served", "of_images"]

Columns = Mapping[str, Array]
WRONG_PRICE: Final = 0.25
"""A price is called wrong where it is farther off than this share of the true one."""
DIGITS_ALPHA: Final = 0.05
"""With 150 calibration points the version's own alpha, 1%, flags one row in a thousand: too few to tell anything by."""
DIAMONDS_ALPHA: Final = 0.02
"""Twice the version's own, so that a day of half as many rows has as many outliers."""
_COPIES: Final = 20
_NOISE: Final = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model says of some rows.

    Attributes:
        p: float32 `(rows,)`, conformal p-values.
        z: float32 `(rows, d)`, features.
        answer: float64 `(rows,)`, index of the class, or the value of a regression.
    """

    p: NDArray[np.float32]
    z: NDArray[np.float32]
    answer: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One model.

    Attributes:
        name: of the version.
        baseline: as it was published.
        columns: input name -> `(pool, ...)`, held-out samples.
        truth: float64 `(pool,)`, class or price of each.
        classes: by index; empty for a regression.
        alpha: of its outliers.
        ask: columns -> answers.
        usual: answers to the pool.
    """

    name: str
    baseline: Baseline
    columns: Columns
    truth: NDArray[np.float64]
    classes: tuple[str, ...]
    alpha: float
    ask: Callable[[Columns], Answers]
    usual: Answers

    @property
    def model(self) -> str:
        """Its name without the version."""
        return self.name.partition("/")[0]

    def outputs(self, answer: NDArray[np.float64]) -> Array:
        """What the graph would have said, `(rows, ...)`: the value, or probabilities that are sure of the class."""
        if not self.classes:
            return answer.astype(np.float32)
        sure = np.full((len(answer), len(self.classes)), 0.1 / (len(self.classes) - 1), np.float32)
        sure[np.arange(len(answer)), answer.astype(np.intp)] = 0.9
        return sure

    def wrong(self, answer: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which answers are wrong, bool `(rows,)`."""
        return np.asarray(answer != truth if self.classes else np.abs(answer / truth - 1) > WRONG_PRICE)


def diamonds() -> Served:
    """A table: six measures, three grades, a price."""
    from examples.diamonds.data import load, split

    parts = split(load())
    rows = [*parts.calibration.columns]
    columns = {
        name: np.concatenate([_bytes(part.columns[name]) for part in (parts.calibration, parts.test)])
        for name in sorted(rows)
    }
    price = np.concatenate([parts.calibration.price, parts.test.price]).astype(np.float64)
    features, package, baseline = _loaded("diamonds/2")
    z = features(list(columns.values())).z
    assert z is not None
    # The last layer is linear in z: the model's price is found again by least squares.
    weights, *_ = np.linalg.lstsq(_with_one(z), np.log(price), rcond=None)

    def ask(columns: Columns) -> Answers:
        found = features(list(columns.values()))
        assert found.z is not None
        return Answers(_p(package, found, columns), found.z.astype(np.float32), np.exp(_with_one(found.z) @ weights))

    return Served("diamonds/2", baseline, columns, price, (), DIAMONDS_ALPHA, ask, ask(columns))


def digits() -> Served:
    """An image of 64 pixels, ten classes; each image comes many times with a little noise of its own."""
    from examples.digits.data import load, split

    parts = split(load())
    generator = np.random.default_rng(64)
    pixels = np.concatenate([parts.calibration.pixels, parts.test.pixels])
    truth = np.concatenate([parts.calibration.labels, parts.test.labels]).astype(np.float64)
    noise = generator.normal(0, _NOISE, (_COPIES, *pixels.shape))
    # Paper stays white: the noise is that of the ink.
    noisy = np.clip(np.where(pixels > 0, np.round(pixels + noise), 0), 0, 16).reshape(-1, 64).astype(np.float32)
    return of_images(noisy, np.tile(truth, _COPIES))


def of_images(pixels: NDArray[np.float32], truth: NDArray[np.float64]) -> Served:
    """The model of digits with some images `(pool, 64)` and what they show, `(pool,)`."""
    features, package, baseline = _loaded("digits/3")

    def ask(columns: Columns) -> Answers:
        found = features(list(columns.values()))
        assert found.z is not None
        assert found.logits is not None
        answer = found.logits.argmax(axis=1).astype(np.float64)
        return Answers(_p(package, found, columns), found.z.astype(np.float32), answer)

    columns = {"pixels": pixels}
    return Served("digits/3", baseline, columns, truth, tuple("0123456789"), DIGITS_ALPHA, ask, ask(columns))


SERVED: Final[Mapping[str, Callable[[], Served]]] = {"diamonds": diamonds, "digits": digits}


def _loaded(version: str) -> tuple[FeaturesOf, OutlierPackage, Baseline]:
    directory = ROOT / "models" / version
    baseline = read_baseline(directory)
    assert baseline is not None
    return _shipped(version), load_package(directory / "outliers.npz"), baseline


def _p(package: OutlierPackage, features: Features, columns: Columns) -> NDArray[np.float32]:
    scores = package.detector.score(features)
    if package.watch is not None:
        scores = package.watch.combined(scores, package.watch.by_input(columns))
    return p_values(scores, package.calibration)


def _with_one(z: Array) -> NDArray[np.float64]:
    return np.column_stack([z, np.ones(len(z))]).astype(np.float64)


def _bytes(column: Array) -> Array:
    return np.array([str(value).encode() for value in column], object) if column.dtype == object else column


def taken(columns: Columns, rows: Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]) -> dict[str, Array]:
    """The same columns of some rows."""
    return {name: column[rows] for name, column in columns.items()}
