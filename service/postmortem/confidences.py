"""What a version's own confidences say of its accuracy, over all answers and without a label; and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from hoverboard.postmortem.calibration import LEAST_ROWS, ConfidenceFit, Values, expected_error, fit
from hoverboard.postmortem.estimates import Estimate, wilson
from hoverboard.postmortem.quality_report import ConfidenceQuality, ReliabilityBin

__all__ = ["Counted", "judge_confidence"]

Counted: TypeAlias = Sequence[Mapping[str, Any]]
"""Rows that are alike in all that matters, counted: what a statement of quality.sql gives."""

_REDRAWS: Final = 200
_SEED: Final = 0
"""The same rows give the same interval."""


def judge_confidence(answered: Counted, labelled: Counted, task: str | None) -> ConfidenceQuality | None:
    """Estimate the accuracy of all answers by their confidences; None where the answers have none.

    The confidence of a multi-label answer is the product of those of its labels. That is no probability of the whole being right, so
    it is only used once labelled rows have told what it is worth.

    Args:
        answered: counts of all answers, as the statement `answered` gives them.
        labelled: counts of the labelled ones to learn from, as `labelled` gives them.
        task: of the version.
    """
    scored = [row for row in answered if row["score"] is not None]
    if not scored:
        return None
    weight = np.array([row["weight"] for row in scored])
    confidence = np.array([row["score"] for row in scored]) / weight
    cells = _Learned([row for row in labelled if row["score"] is not None])
    learned = cells.fit(cells.rows)
    published = learned.method == "published"
    whole = task != "multi-label"
    estimate: Estimate | None = None
    if whole or not published:
        value = float(weight @ learned(confidence) / weight.sum())
        rows = np.array([row["rows"] for row in scored], np.float64)
        estimate = Estimate(value, *((value, value) if published else cells.interval(confidence, weight, rows)))
    ece, chance, reliability = cells.reliability()
    return ConfidenceQuality(
        mean=float(weight @ confidence / weight.sum()) if whole else None,
        estimate=estimate,
        method=learned.method,
        fitted_rows=int(cells.rows.sum()),
        ece=ece if whole else None,
        ece_by_chance=chance if whole else None,
        reliability=reliability,
    )


class _Learned:
    """Labelled rows by confidence.

    Args:
        cells: counts of those that have one.
    """

    def __init__(self, cells: Counted) -> None:
        self.rows = np.array([row["rows"] for row in cells], np.float64)
        self._w = np.array([row["w"] for row in cells], np.float64)
        self._right = np.array([row["correct"] for row in cells], np.float64)
        self._tenth = np.array([row["tenth"] for row in cells], np.int64)
        score = np.array([row["score"] for row in cells], np.float64)
        place = np.array([[row["bin"], row["tenth"]] for row in cells], np.int64).reshape(-1, 2)
        # Counted of one confidence but other weights, kinds or sources are one point of the curve.
        points, self._point = np.unique(place, axis=0, return_inverse=True)
        self._point = self._point.reshape(-1)
        self._score = score
        self._points = len(points)
        self._confidence = self._sum(score) / np.maximum(self._sum(self.rows), 1)

    def _sum(self, values: Values) -> Values:
        return np.bincount(self._point, values, self._points).astype(np.float64)

    def fit(self, rows: Values) -> ConfidenceFit:
        """What confidences are worth, were there so many rows in each cell."""
        weight = self._sum(self._w * rows)
        there = np.flatnonzero(weight)
        order = there[np.argsort(self._confidence[there], kind="stable")]
        right = self._sum(self._w * rows * self._right)
        squared = float((self._w**2 * self.rows).sum())
        effective = float((self._w * self.rows).sum()) ** 2 / squared if squared else 0.0
        if not len(order):
            effective = 0.0
        return fit(self._confidence[order], right[order] / weight[order], weight[order], effective)

    def interval(self, confidence: Values, weight: Values, rows: Values) -> tuple[float, float]:
        """Of the mean calibrated confidence: the same from rows drawn again (Poisson's bootstrap, Hanley and MacGibbon 2006).

        Args:
            confidence, weight: of cells of all answers.
            rows: in each of them.
        """
        random = np.random.default_rng(_SEED)
        means = []
        for _ in range(_REDRAWS):
            learned = self.fit(random.poisson(self.rows).astype(np.float64))
            drawn = weight * random.poisson(rows) / rows
            means.append(float(drawn @ learned(confidence) / drawn.sum()))
        low, high = np.quantile(means, [0.025, 0.975])
        return float(low), float(high)

    def reliability(self) -> tuple[float | None, float | None, list[ReliabilityBin]]:
        """ECE, what chance makes of it, and the bins that have rows."""
        found, parts = [], []
        for tenth in range(10):
            inside = self._tenth == tenth
            rows = float(self.rows[inside].sum())
            if not rows:
                continue
            w = self._w[inside]
            weight = float(w @ self.rows[inside])
            right = min(float((w * self.rows[inside]) @ self._right[inside]) / weight, 1.0)
            confidence = min(float(w @ self._score[inside]) / weight, 1.0)
            effective = weight**2 / float((w**2) @ self.rows[inside])
            parts.append((confidence, right, weight, effective))
            found.append(
                ReliabilityBin(
                    low=tenth / 10,
                    high=(tenth + 1) / 10,
                    rows=int(rows),
                    confidence=confidence,
                    right=wilson(right, effective),
                )
            )
        if not parts or self.rows.sum() < LEAST_ROWS:
            return None, None, found
        confidences, rights, weights, counts = np.array(parts).T
        ece, chance = expected_error(confidences, rights, weights, counts)
        return ece, chance, found
