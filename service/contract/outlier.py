"""When a sample is an outlier: decided here for the engine, which records it, and for the codecs, which answer it."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["DEFAULT_ALPHA", "is_outlier"]

DEFAULT_ALPHA: Final = 0.01
"""The share of normal samples that may be called outliers."""


def is_outlier(p_value: Any, alpha: float) -> Any:
    """Whether a sample is so strange that at most a share alpha of normal ones is called as strange.

    Args:
        p_value: conformal p-value, float32: one of them, or an array.
        alpha: of the version's calibration. It is compared as a float32, so that one p-value and an array agree.

    Returns:
        A bool for one p-value, else bools of the array's shape.
    """
    return p_value <= alpha
