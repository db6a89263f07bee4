"""What detectors look at: a model's inner features, its logits, its inputs; one row a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array
from hoverboard.errors import PublishError

__all__ = [
    "STRANGEST",
    "WIDEST",
    "Features",
    "Labels",
    "Matrix",
    "Needs",
    "Space",
    "check_shapes",
    "chunks",
    "finite_rows",
    "half",
    "never_nan",
    "row_squares",
    "two_sided",
]

Needs = Literal["z", "logits", "inputs"]
Space = Literal["features", "outputs", "inputs"]
Labels = NDArray[np.int64]
Matrix = NDArray[np.float64]

STRANGEST: Final = float(np.finfo(np.float32).max)
"""The score of a row that cannot be scored: NaN or Infinity in its features, squares or a distance beyond float32."""

WIDEST: Final = 4096
"""Features wider than this have no covariance fitted: it would take many minutes, and gigabytes."""
_CELLS: Final = 1 << 22
_MOST_HALF: Final = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class Features:
    """The rows of one or more batches. At least one of the three is there.

    Attributes:
        z: `(n, d)`, what the last dense layer is given; where there is no such layer, `space` says what stands there.
        logits: `(n, C)`, C >= 2; log-probabilities where a model gives nothing else. See `two_sided` for a sigmoid.
        inputs: `(n, m)`, the numeric inputs of a tabular model, NaN for missing.
        space: what z is: inner features, outputs (probabilities, an embedding), or inputs.

    Raises:
        PublishError: two of them differ in rows, or one is no matrix of numbers.
    """

    z: Array | None = None
    logits: Array | None = None
    inputs: Array | None = None
    space: Space = "features"

    def __post_init__(self) -> None:
        rows = set()
        for name, matrix in self.parts():
            if matrix.ndim != 2 or matrix.dtype.kind not in "fiub":
                raise PublishError(f"{name}: expected a matrix of numbers, got {matrix.dtype} {list(matrix.shape)}")
            rows.add(len(matrix))
        if len(rows) != 1:
            raise PublishError("features: nothing to score a sample by" if not rows else "features differ in rows")

    def parts(self) -> list[tuple[Needs, Array]]:
        """Those that are there, by name."""
        every: list[tuple[Needs, Array | None]] = [("z", self.z), ("logits", self.logits), ("inputs", self.inputs)]
        return [(name, matrix) for name, matrix in every if matrix is not None]

    def __len__(self) -> int:
        return len(self.parts()[0][1])

    def __getitem__(self, rows: Any) -> Features:
        """The same for some rows."""
        return Features(**{name: matrix[rows] for name, matrix in self.parts()}, space=self.space)

    @property
    def unit(self) -> bool:
        """Whether z is compared by direction, on the unit sphere: not where it is inputs, nor a single number."""
        return self.space != "inputs" and self.z is not None and self.z.shape[1] > 1

    def get(self, name: Needs) -> Array:
        """One of them, which must be there."""
        return dict(self.parts())[name]

    @property
    def width(self) -> int:
        """d, of z; 0 where there is none."""
        return 0 if self.z is None else self.z.shape[1]

    def narrowed(self, most: int) -> Features:
        """With at most so many columns of the inputs, evenly spread over them."""
        if self.inputs is None or self.inputs.shape[1] <= most:
            return self
        places = np.linspace(0, self.inputs.shape[1] - 1, most).round().astype(np.int64)
        return Features(self.z, self.logits, self.inputs[:, places], self.space)

    def without_class(self, index: int) -> Features:
        """As if the model had never heard of a class: its logit is left out; a single one left is no logit to score by."""
        if self.logits is None or self.logits.shape[1] <= index:
            return self
        left = np.delete(self.logits, index, axis=1)
        # One alone has nothing to weigh against, and tells the class that was left out by construction.
        return Features(self.z, left if left.shape[1] > 1 else left[:, :0], self.inputs, self.space)

    @staticmethod
    def concatenate(pieces: Sequence[Features]) -> Features:
        """The rows of several, in order."""
        names = [name for name, _ in pieces[0].parts()]
        joined = {name: np.concatenate([piece.get(name) for piece in pieces]) for name in names}
        return Features(**joined, space=pieces[0].space)


def two_sided(logits: Array) -> Array:
    """Logits of two classes `(n, 2)` from a sigmoid's one `(n, 1)`: -l/2 and l/2, which give the same probabilities."""
    if logits.shape[1] != 1:
        return logits
    half = logits / 2
    return np.concatenate([-half, half], axis=1)


def finite_rows(matrix: Array, *, missing: bool = False, unit: bool = False) -> NDArray[np.bool_]:
    """Rows that can be fitted on, bool `(n,)`: without Infinity and, unless `missing` is allowed, without NaN.

    With `unit`, where only their direction counts, also those whose squares add up to no float32 cannot: a version's
    graph, in float32, finds no direction in them.
    """
    if unit:
        with np.errstate(invalid="ignore", over="ignore"):
            finite: NDArray[np.bool_] = (matrix.astype(np.float64) ** 2).sum(axis=1) <= STRANGEST
        return finite
    bad = np.isinf(matrix) if missing else ~np.isfinite(matrix)
    good: NDArray[np.bool_] = np.logical_not(bad.any(axis=1))
    return good


def never_nan(scores: Matrix) -> NDArray[np.float32]:
    """Scores as they are compared and stored: float32, finite; what is not finite is as strange as can be."""
    # The largest float32 and not Infinity: scores are sorted, stored as JSON and compared, and Infinity minus itself is NaN.
    with np.errstate(invalid="ignore", over="ignore"):
        clipped = np.where(np.isfinite(scores), np.clip(scores, -STRANGEST, STRANGEST), STRANGEST)
    narrow: NDArray[np.float32] = clipped.astype(np.float32)
    return narrow


def half(z: Array) -> NDArray[np.float16]:
    """Features as they are recorded and kept: little-endian float16; what that cannot hold is its largest number, NaN stays."""
    narrow: NDArray[np.float16] = np.clip(z, -_MOST_HALF, _MOST_HALF).astype("<f2")
    return narrow


def check_shapes(**shapes: tuple[Array, tuple[int, ...]]) -> None:
    """Whether parameters fit together.

    Raises:
        ValueError: an array has another shape than the one it is given with.
    """
    for name, (array, shape) in shapes.items():
        if array.shape != shape or 0 in shape:
            raise ValueError(f"{name} has shape {list(array.shape)}, expected {list(shape)}")


def row_squares(rows: Array) -> Matrix:
    """The squared length of each row, float64 `(n,)`: the part of a squared distance that is known before a sample comes."""
    squares: Matrix = (rows.astype(np.float64, copy=False) ** 2).sum(axis=1)
    return squares


def chunks(rows: int, width: int) -> list[slice]:
    """Slices of `rows` rows such that one, `width` numbers wide, stays within 32 MB of float64."""
    step = max(1, _CELLS // max(1, width))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
