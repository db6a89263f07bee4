"""Every formula once more, one sample at a time and as slowly as it reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import Array

Vector = NDArray[np.float64]


def each(score: Callable[[Vector], float]) -> Callable[[Array], list[float]]:
    return lambda rows: [score(row.astype(np.float64)) for row in rows]


def softmax(logits: Vector) -> list[float]:
    largest = max(logits)
    weights = [math.exp(value - largest) for value in logits]
    return [weight / sum(weights) for weight in weights]


def msp(logits: Vector) -> float:
    return 1.0 - max(softmax(logits))


def energy(logits: Vector) -> float:
    return -math.log(sum(math.exp(value) for value in logits))


def gen(logits: Vector, gamma: float, top: int) -> float:
    return float(sum(p**gamma * (1 - p) ** gamma for p in sorted(softmax(logits))[-top:]))


def unit(z: Vector) -> Vector:
    length = math.sqrt(sum(value**2 for value in z))
    return z / length if length > 1e-12 else z


def ledoit_wolf(rows: Vector) -> Vector:
    n, d = rows.shape
    sample = sum(np.outer(row, row) for row in rows) / n
    mean = np.trace(sample) / d
    target = mean * np.eye(d)
    distance = ((sample - target) ** 2).sum() / d
    noise = min(sum(((np.outer(row, row) - sample) ** 2).sum() for row in rows) / (d * n**2), distance)
    shrunk: Vector = noise / distance * target + (1 - noise / distance) * sample
    return shrunk


def shared_inverse(rows: Vector, labels: Any) -> tuple[dict[Any, Vector], Vector]:
    """Class means, and the inverse of the shared shrunk covariance."""
    means = {c: np.mean([row for row, label in zip(rows, labels, strict=True) if label == c], axis=0) for c in labels}
    residuals = np.array([row - means[label] for row, label in zip(rows, labels, strict=True)])
    n, d = residuals.shape
    covariance = ledoit_wolf(residuals) * n / (n - len(means))
    covariance += 1e-5 * np.trace(covariance) / d * np.eye(d)
    return means, np.linalg.inv(covariance)


def mahalanobis(fitted: Array, labels: Any, rows: Array) -> list[float]:
    means, inverse = shared_inverse(np.array([unit(row) for row in fitted.astype(np.float64)]), labels)
    return [
        min(float((unit(row) - mean) @ inverse @ (unit(row) - mean)) for mean in means.values())
        for row in rows.astype(np.float64)
    ]


def relative_mahalanobis(fitted: Array, labels: Any, rows: Array) -> list[float]:
    near, all_ = mahalanobis(fitted, labels, rows), mahalanobis(fitted, [0] * len(fitted), rows)
    return [a - b for a, b in zip(near, all_, strict=True)]


def knn(bank: Array, rows: Array, k: int) -> list[float]:
    return [
        sorted(math.dist(unit(row), unit(other)) for other in bank.astype(np.float64))[k - 1]
        for row in rows.astype(np.float64)
    ]


def tail(values: Vector, x: float) -> float:
    """T of one value that was seen."""
    at_most, at_least = sum(value <= x for value in values), sum(value >= x for value in values)
    return -math.log(min(1.0, 2 * min(at_most, at_least) / (len(values) + 1)))


def p_value(score: float, calibration: Any) -> float:
    return float((1 + sum(one >= score for one in calibration)) / (len(calibration) + 1))


def auroc(normal: Any, strange: Any) -> float:
    wins = [(s > n) + 0.5 * (s == n) for s in strange for n in normal]
    return float(np.mean(wins))
