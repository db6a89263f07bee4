"""A day of traffic as a postmortem reads it: counts a minute, and a table of all bad rows and a part of the others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.incidents.traffic import DAY_US, PROCESSES, SOURCES, START_US, Day
from hoverboard.contract.signature import Array
from hoverboard.postmortem.table import ABSENT, BinnedCounts, Field, Table
from hoverboard.versions.baseline import Feature

__all__ = ["counts_of", "table_of"]

SHARE: Final = 0.05
_MINUTE_US: Final = 60_000_000
_QUEUE_MS: Final = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_DELAY_H: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_LEADERS: Final = 40


def counts_of(day: Day) -> BinnedCounts:
    """Of all rows, by 1 / incl_prob."""
    bins = DAY_US // _MINUTE_US
    place = (day.at - START_US) // _MINUTE_US
    asked = day.asked
    weight = 1 / day.incl_prob
    rows, bad = (np.bincount(place, weight * part, bins).astype(np.float64) for part in (asked, day.bad))
    return BinnedCounts(START_US + np.arange(bins) * _MINUTE_US, rows, bad)


def table_of(day: Day) -> tuple[Table, NDArray[np.intp]]:
    """The rows that were drawn, and which of the day's they are."""
    bad = day.bad
    drawn = np.flatnonzero(day.asked & (bad | (day.generator.random(len(day)) < SHARE)))
    weight = np.where(bad, 1.0, 1 / SHARE) / day.incl_prob
    table = Table(
        day.at[drawn],
        bad[drawn],
        np.zeros(len(drawn), np.bool_),
        weight[drawn],
        day.caller[drawn].astype(np.int32),
        tuple(_fields(day, drawn)),
        np.zeros(len(drawn), "V16"),
    )
    return table, drawn


def _fields(day: Day, rows: NDArray[np.intp]) -> Iterator[Field]:
    yield _coded("tag customer", "tag", [f"c{i}" for i in range(int(day.caller.max()) + 1)], day.caller[rows])
    yield _coded("process", "process", [f"engine-{i}" for i in range(PROCESSES)], day.process[rows])
    yield _coded("version", "version", ["1", "2", "3"], day.version[rows] - 1)
    yield _coded("bucket", "bucket", ["1", "2", "4", "8"], np.log2(day.bucket[rows]).astype(np.int64))
    yield _binned("queue", "bucket", _QUEUE_MS, day.queue_ms[rows], "ms")
    yield _coded("hour", "hour", [str(i) for i in range(24)], (day.at[rows] - START_US) // (DAY_US // 24))
    if day.served.classes:
        yield _coded("label", "label", [*day.served.classes], day.answer[rows].astype(np.int64))
    if day.about == "wrong":
        yield _coded("label source", "label", [*SOURCES], day.source[rows])
        yield _binned("label delay", "label", _DELAY_H, day.delay_h[rows], "h")
        if day.served.classes:
            yield _coded("label given", "label", [*day.served.classes], day.truth[rows].astype(np.int64))
    if day.about == "outliers":
        yield _clusters(day, rows)
    for feature in day.served.baseline.features:
        if feature.side == "input":
            yield _input(day.columns[feature.tensor][rows], feature)


def _coded(name: str, kind: object, values: list[str], codes: Array) -> Field:
    return Field(name, kind, (ABSENT, *values), (codes + 1).astype(np.uint8))  # type: ignore[arg-type]


def _binned(name: str, kind: object, cuts: tuple[float, ...], numbers: Array, unit: str) -> Field:
    words = [f"below {cuts[0]:g} {unit}"]
    words += [f"{low:g} to {high:g} {unit}" for low, high in pairwise(cuts)]
    return _coded(name, kind, [*words, f"above {cuts[-1]:g} {unit}"], np.searchsorted(cuts, numbers, side="right"))


def _input(column: Array, feature: Feature) -> Field:
    name = f"input {feature.name}"
    if feature.reading == "category":
        place = {text.encode(): i for i, text in enumerate(feature.categories)}
        codes = np.array([place.get(value, len(place)) for value in column.tolist()])
        return _coded(name, "input", feature.labels(), codes)
    numbers = column.reshape(len(column), -1)[:, feature.element].astype(np.float32)
    codes = np.searchsorted(np.array(feature.cuts), numbers, side="right") + 1
    return Field(name, "input", (ABSENT, *feature.labels()), codes.astype(np.uint8), numbers)


def _clusters(day: Day, rows: NDArray[np.intp]) -> Field:
    """Bad rows by the nearest of some leaders in whitened unit z, as issues are grouped."""
    usual = day.served.usual.z
    center, scale = usual.mean(axis=0), usual.std(axis=0) + 1e-6

    def whitened(z: Array) -> Array:
        unit = (z - center) / scale
        return np.asarray(unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9))

    sample = whitened(usual[:: max(1, len(usual) // 500)])
    distances = ((sample[:, None] - sample[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    radius = float(np.quantile(distances.min(axis=1), 0.99))
    bad = np.flatnonzero(day.bad[rows])
    unit = whitened(day.z[rows[bad]])
    codes = np.zeros(len(rows), np.uint8)
    leaders: list[Array] = []
    for place, each in zip(bad.tolist(), unit, strict=True):
        near = [float(((leader - each) ** 2).sum()) for leader in leaders] or [np.inf]
        best = int(np.argmin(near))
        if near[best] > radius and len(leaders) < _LEADERS:
            leaders.append(each)
            best = len(leaders) - 1
        codes[place] = best + 1
    return Field("cluster", "cluster", (ABSENT, *(f"{i + 1}" for i in range(max(1, len(leaders))))), codes)
