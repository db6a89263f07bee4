"""The data of each example: held-out normal samples, and models that have never seen a class, with samples of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from hoverboard.backends.tensorflow import artifact
from hoverboard.backends.tensorflow.graph import TensorFlowGraph
from hoverboard.contract.signature import Array, Signature
from hoverboard.outliers import Features
from hoverboard.publishing.calibration import ROWS, FeaturesOf
from hoverboard.publishing.calibration_file import CalibrationRows
from hoverboard.versions import read_version

__all__ = ["SHIPPED", "STUDIES", "Pool", "Study", "Trial"]

ROOT: Final = Path(__file__).parents[2]
DIGITS: Final = "digits/3"
PRODUCTS: Final = "products/3"
DIAMONDS: Final = "diamonds/2"
SHIPPED: Final = (DIGITS, PRODUCTS, DIAMONDS)
"""The versions with calibration in `models/`."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A model, and samples for and against it.

    Attributes:
        name: of what is strange to it.
        features_of: of the model.
        classes: those it knows.
        calibration: held-out samples of the classes it knows.
        normal: more of them.
        strange: samples of what it does not know.
        detector: that the example is published with; None for the one that publishing finds best.
        note: a sentence for the record.
    """

    name: str
    features_of: FeaturesOf
    classes: Sequence[str]
    calibration: CalibrationRows
    normal: CalibrationRows
    strange: CalibrationRows
    detector: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Pool:
    """A shipped model and held-out normal samples, to be split at random.

    Attributes:
        version: of the model, for the record.
        features: of the samples.
        labels: class of each by name; None without classes.
        classes: class names by index; None without classes.
        detector: as in `Trial`.
    """

    version: str
    features: Features
    labels: Sequence[str] | None = None
    classes: Sequence[str] | None = None
    detector: str | None = None


class Study(Protocol):
    """One example."""

    def pool(self) -> Pool:
        """For validity."""

    def left_out(self) -> Iterator[Trial]:
        """One for each class, the model trained anew without it."""

    def unheard_of(self) -> Iterator[Trial]:
        """The shipped model and samples of no class at all."""


class Digits:
    """`digits`, the convolutional net of its version 3."""

    def pool(self) -> Pool:
        from examples.digits import train
        from examples.digits.data import LABELS, load, split

        parts = split(load())
        both = [train.calibration(part) for part in (parts.calibration, parts.test)]
        features = Features.concatenate([_shipped(DIGITS)(rows.columns) for rows in both])
        return Pool(DIGITS, features, [label for rows in both for label in rows.labels or ()], LABELS)

    def left_out(self) -> Iterator[Trial]:
        from examples.digits import train
        from examples.digits.data import LABELS, SEED, Part, load, split

        parts = split(load())

        def rows(part: Part, digit: int, *, of: bool) -> CalibrationRows:
            return train.calibration(part[np.flatnonzero((part.labels == digit) == of)])

        for digit, name in enumerate(LABELS):
            known = parts.train[np.flatnonzero(parts.train.labels != digit)]
            model = train.fit(
                lambda: train.conv(len(LABELS) - 1), Part(known.pixels, known.labels - (known.labels > digit)), SEED
            )
            strange = [rows(part, digit, of=True).columns[0] for part in (parts.train, parts.calibration, parts.test)]
            yield Trial(
                name,
                _trained(model, train.FEATURES),
                [label for label in LABELS if label != name],
                rows(parts.calibration, digit, of=False),
                rows(parts.test, digit, of=False),
                CalibrationRows((np.concatenate(strange),)),
            )

    def unheard_of(self) -> Iterator[Trial]:
        yield from ()


class Products:
    """`products` version 3: dictionary entries, and products in a shop's words, known and modern."""

    def pool(self) -> Pool:
        from examples.products import train
        from examples.products.data import LABELS, load, split

        parts = split(load())
        rows = train.calibration((*parts.calibration, *parts.test))
        return Pool(PRODUCTS, _shipped(PRODUCTS)(rows.columns), list(rows.labels or ()), LABELS, train.DETECTOR)

    def left_out(self) -> Iterator[Trial]:
        from examples.products import train
        from examples.products.data import LABELS, load, split, without

        parts = split(load())
        for name in LABELS:
            strange = [
                entry for entry in (*parts.train, *parts.calibration, *parts.test) if LABELS[entry.label] == name
            ]
            yield Trial(
                name,
                _trained(train.train(parts.train, left_out=name)),
                [label for label in LABELS if label != name],
                train.calibration(without(parts.calibration, name)),
                train.calibration(without(parts.test, name)),
                train.calibration(strange),
                train.DETECTOR,
            )

    def unheard_of(self) -> Iterator[Trial]:
        from examples.products import train
        from examples.products.data import LABELS, load, split

        lists = (
            ("modern products", "", "It was trained on neither."),
            ("modern products, the list to tune by", "tuning-", "Its memory, width and detector were chosen by them."),
        )
        for name, prefix, note in lists:
            yield Trial(
                name,
                _shipped(PRODUCTS),
                LABELS,
                train.calibration(split(load()).calibration),
                train.shop_texts(f"{prefix}known.jsonl"),
                train.shop_texts(f"{prefix}modern.jsonl"),
                train.DETECTOR,
                note,
            )


class Diamonds:
    """`diamonds` version 2: a regression, so that there is no class to leave out."""

    def pool(self) -> Pool:
        from examples.diamonds import train
        from examples.diamonds.data import load, split

        parts = split(load())
        columns = [train.calibration(part).columns for part in (parts.calibration, parts.test)]
        joined = [np.concatenate(both) for both in zip(*columns, strict=True)]
        return Pool(DIAMONDS, _shipped(DIAMONDS)(joined))

    def left_out(self) -> Iterator[Trial]:
        yield from ()

    def unheard_of(self) -> Iterator[Trial]:
        yield from ()


STUDIES: Final[Mapping[str, type[Study]]] = {"digits": Digits, "products": Products, "diamonds": Diamonds}


def _shipped(version: str) -> FeaturesOf:
    """Features of a version in `models/`, by its manifest's signature."""
    directory = ROOT / "models" / version
    manifest = read_version(directory)
    layer = (manifest.outliers or {}).get("layer")
    return _features_of(artifact.load_artifact(directory / "model.keras"), manifest.signature, layer)


def _trained(model: Any, layer: str | None = None) -> FeaturesOf:
    """Features of a classifier in memory."""
    graph = artifact.wrap_keras(model)
    return _features_of(graph, Signature("classification", graph.inputs, graph.outputs, head="softmax"), layer)


def _features_of(graph: TensorFlowGraph, signature: Signature, layer: str | None) -> FeaturesOf:
    """What publishing takes from a Keras model: inner features, logits, and numeric inputs, for any number of rows."""
    extract = graph.extractor(signature, layer)

    def features(columns: Sequence[Array]) -> Features:
        starts = range(0, len(columns[0]), ROWS)
        return Features.concatenate([extract([column[start : start + ROWS] for column in columns]) for start in starts])

    return features
