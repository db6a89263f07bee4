"""How good a version's answers to the labelled rows of its calibration are, where their labels are no classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from hoverboard.contract.heads import held, read_head
from hoverboard.contract.signature import Array, Signature

__all__ = ["agreement"]


def agreement(signature: Signature, first: Array, labels: Sequence[Any] | Array | None) -> tuple[str, ...]:
    """One sentence; nothing where no label can be compared, and of a classification, whose labels `calibrate` compares.

    Args:
        signature: the version's.
        first: its main output for each row, `(rows, ...)`.
        labels: what each row truly is: a number, or a list of labels; None without.
    """
    if labels is None:
        return ()
    if signature.task == "regression":
        value = read_head(signature, first).value
        truths = np.array([_number(label) for label in labels], np.float64)
        errors = np.abs(np.asarray(value, np.float64) - truths)
        known = np.isfinite(errors)
        return (
            (f"calibration: the model is off from the labels by {errors[known].mean():.6g} on average",)
            if known.any()
            else ()
        )
    if signature.task == "multi-label":
        names = signature.labels or ()
        places, _, counts = held(signature, first)
        ends = np.concatenate([[0], np.cumsum(counts)]).tolist()
        said = [{names[place] for place in places[start:end].tolist()} for start, end in pairwise(ends)]
        pairs = [
            (one, set(label))
            for one, label in zip(said, labels, strict=True)
            if isinstance(label, list | tuple | np.ndarray)
        ]
        right = sum(one == true for one, true in pairs)
        return (f"calibration: the model agrees with {right / len(pairs):.1%} of the labels",) if pairs else ()
    return ()


def _number(label: Any) -> float:
    try:
        return float(label)
    except (TypeError, ValueError):
        return float("nan")
