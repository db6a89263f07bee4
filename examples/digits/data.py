"""The digits data: scikit-learn's bundled handwritten digits (UCI, 1,797 images of 8x8, grey values 0 to 16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

__all__ = ["LABELS", "SEED", "Part", "Parts", "load", "split"]

SEED: Final = 1797
LABELS: Final = tuple("0123456789")


@dataclass(frozen=True, slots=True)
class Part:
    """Images and what they show.

    Attributes:
        pixels: float32 `(n, 64)`, row by row, 0 (paper) to 16 (ink).
        labels: int64 `(n,)`, index into `LABELS`.
    """

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: NDArray[Any]) -> Part:
        return Part(self.pixels[rows], self.labels[rows])


@dataclass(frozen=True, slots=True)
class Parts:
    """Three disjoint parts, stratified by label: about 4/6, 1/6 and 1/6."""

    train: Part
    calibration: Part
    test: Part


def load() -> Part:
    """All 1,797 images, in the package's order."""
    bunch = load_digits()
    return Part(bunch.data.astype(np.float32), bunch.target.astype(np.int64))


def split(part: Part, seed: int = SEED) -> Parts:
    """Reserve 300 images for calibration and 300 for the test; the rest are for training."""
    rows = np.arange(len(part))
    rest, test = train_test_split(rows, test_size=300, random_state=seed, stratify=part.labels)
    train, calibration = train_test_split(rest, test_size=300, random_state=seed, stratify=part.labels[rest])
    return Parts(part[train], part[calibration], part[test])
