"""What values a tensor's elements may take: its dtype's range and the publisher's limits, in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hoverboard.contract.signature import STRING, TensorSpec

__all__ = ["Bounds", "bounds_of"]

_OVERFLOW = {"float16": 65520.0, "float32": 3.4028235677973366e38}
"""The first magnitude that rounds to infinity: half a step above the largest finite value."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The range of one tensor's elements.

    Attributes:
        low, high: smallest and largest value allowed, both inclusive; infinite where there is no such limit.
        overflow: magnitudes from here on do not fit a floating dtype; infinite for float64 and everything else.
        integral: whether only whole numbers fit.
    """

    low: float
    high: float
    overflow: float
    integral: bool


def bounds_of(spec: TensorSpec) -> Bounds:
    """The bounds of a tensor's elements, from its dtype and its declared limits."""
    low = -math.inf if spec.min is None else spec.min
    high = math.inf if spec.max is None else spec.max
    if spec.dtype in ("bool", STRING):
        return Bounds(-math.inf, math.inf, math.inf, integral=False)
    if spec.dtype.startswith("float"):
        return Bounds(low, high, _OVERFLOW.get(spec.dtype, math.inf), integral=False)
    info = np.iinfo(spec.dtype)
    # As Python integers: int64 and uint64 have ends that no float64 is equal to.
    lowest = int(info.min) if low == -math.inf else max(int(info.min), math.ceil(low))
    highest = int(info.max) if high == math.inf else min(int(info.max), math.floor(high))
    return Bounds(lowest, highest, math.inf, integral=True)
