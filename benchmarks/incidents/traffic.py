"""A day of traffic to a model: who asks for what and when, who answers, and how it went. Nothing is wrong with it yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.incidents.served import Answers, Columns, Served, taken
from hoverboard.contract.signature import Array
from hoverboard.postmortem.table import Event

__all__ = ["DAY_US", "HOUR_US", "START_US", "About", "Day", "make"]

About = Literal["outliers", "wrong", "errors", "label"]
HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
START_US: Final = 1_764_460_800_000_000
CALLERS: Final = 30
PROCESSES: Final = 4
SOURCES: Final = ("review", "customer", "audit")
_CALL: Final = 3.0  # rows of a call, on average
_LIMIT_MS: Final = 400.0


@dataclass(slots=True, eq=False)
class Day:
    """Rows in the order of time. Incidents change these arrays, and nothing else.

    Attributes:
        served: the model.
        generator: of all that is random.
        at: int64 `(rows,)`, microseconds.
        columns: input name -> `(rows, ...)`.
        p, z, answer: as in `Answers`.
        truth: float64 `(rows,)`; NaN where no label came.
        source, delay_h: of the label, an index of `SOURCES` and hours.
        caller, process, version: int64 `(rows,)`.
        queue_ms, bucket: how it was run.
        about: what is called bad.
        label: of `about` label, the class.
        usual: share of bad rows while nothing is wrong.
        events: what happened.
        canaries: versions that answer a share of the calls.
    """

    served: Served
    generator: np.random.Generator
    at: NDArray[np.int64]
    columns: dict[str, Array]
    p: NDArray[np.float32]
    z: NDArray[np.float32]
    answer: NDArray[np.float64]
    truth: NDArray[np.float64]
    source: NDArray[np.int64]
    delay_h: NDArray[np.float64]
    caller: NDArray[np.int64]
    process: NDArray[np.int64]
    version: NDArray[np.int64]
    queue_ms: NDArray[np.float64]
    bucket: NDArray[np.int64]
    about: About = "outliers"
    label: int = 0
    usual: float = 0.0
    events: list[Event] = field(default_factory=list)
    canaries: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.at)

    @property
    def bad(self) -> NDArray[np.bool_]:
        """Rows that the question is about, bool `(rows,)`."""
        if self.about == "outliers":
            return np.asarray((self.p <= self.served.alpha) & ~self.late)
        if self.about == "errors":
            return self.late
        if self.about == "label":
            return np.asarray(self.answer == self.label)
        return self.labelled & self.served.wrong(self.answer, np.nan_to_num(self.truth, nan=1.0))

    @property
    def late(self) -> NDArray[np.bool_]:
        """Rows that missed their deadline, bool `(rows,)`: nobody got their answer."""
        return np.asarray(self.queue_ms > _LIMIT_MS)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Rows whose label has come by the end of the day."""
        return np.isfinite(self.truth) & ~self.late & (self.at + self.delay_h * HOUR_US < START_US + DAY_US)

    @property
    def asked(self) -> NDArray[np.bool_]:
        """Rows that can be good or bad."""
        return self.labelled if self.about == "wrong" else np.ones(len(self), np.bool_)

    def replace(self, rows: NDArray[np.intp], columns: Columns, answers: Answers) -> None:
        """Give some rows other inputs."""
        for name, column in columns.items():
            self.columns[name][rows] = column
        self.p[rows], self.z[rows], self.answer[rows] = answers.p, answers.z, answers.answer


def make(served: Served, rows: int, seed: int, about: About = "outliers") -> Day:
    """A quiet day: a rhythm of hours, clients of all sizes who send several rows at a time, each with habits of its own."""
    generator = np.random.default_rng(seed)
    # Calls come by the rhythm of a day, twice as many at its height as in the night.
    drawn = generator.random(int(rows / _CALL * 3))
    kept = generator.random(len(drawn)) < 0.67 + 0.33 * np.sin(2 * np.pi * (drawn - 0.3))
    calls = np.sort(drawn[kept][: int(rows / _CALL)])
    sizes = generator.geometric(1 / _CALL, len(calls))
    popular = generator.dirichlet(np.full(CALLERS, 0.7))
    caller = np.repeat(generator.choice(CALLERS, len(calls), p=popular), sizes)
    at = START_US + (np.repeat(calls, sizes) * DAY_US).astype(np.int64)
    n = len(at)
    rows_of = _habits(served, caller, generator)
    usual = served.usual
    answer = usual.answer[rows_of].copy()
    truth = served.truth[rows_of].astype(np.float64)
    truth[generator.random(n) > 0.6] = np.nan
    day = Day(
        served,
        generator,
        at,
        {name: column.copy() for name, column in taken(served.columns, rows_of).items()},
        usual.p[rows_of].copy(),
        usual.z[rows_of].copy(),
        answer,
        truth,
        generator.choice(len(SOURCES), n, p=(0.7, 0.2, 0.1)),
        generator.exponential(2.0, n),
        caller,
        np.repeat(generator.integers(0, PROCESSES, len(calls)), sizes),
        np.ones(n, np.int64),
        generator.gamma(2.0, 4.0, n) * np.where(generator.random(n) < 0.015, 80.0, 1.0),
        1 << generator.integers(0, 4, n),
        about,
    )
    day.usual = float(day.bad[day.asked].mean())
    return day


def _habits(served: Served, caller: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.intp]:
    """The pool's row that each row is: clients prefer different parts of the pool."""
    pool = len(served.truth)
    rank = np.argsort(np.argsort(served.truth + generator.random(pool) * 1e-6)) / pool
    center, width = generator.random(CALLERS * 2), generator.uniform(0.3, 2.0, CALLERS * 2)
    rows = np.empty(len(caller), np.intp)
    for one in np.unique(caller):
        mine = np.flatnonzero(caller == one)
        weight = np.exp(-np.abs(rank - center[one]) / width[one])
        rows[mine] = generator.choice(pool, len(mine), p=weight / weight.sum())
    return rows
