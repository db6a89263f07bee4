"""One day: made, something planted in it, recorded, and explained, with the clock running for the explanation only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal

import numpy as np

from benchmarks.incidents.planted import PLANTS, Planted, Rows, about, deploy, innocent_deployment, start_of
from benchmarks.incidents.recorded import Asked, Recorders
from benchmarks.incidents.rivals import RIVALS, Found, cause_of
from benchmarks.incidents.served import Served
from benchmarks.incidents.traffic import CALLERS, PROCESSES, About, Day, make
from hoverboard.contract.times import time_of
from hoverboard.postmortem.slices import rows_of
from hoverboard.postmortem.table import Event, Table

__all__ = ["PAIRS", "Result", "Setting", "explain", "quiet_day", "rows_of_a_day"]

Setting = Literal["alone", "two at once", "innocent deployment", "sampled recording"]
BAD: Final = 400
"""Bad rows of a quiet day, about: what can be told of a day goes by how many there are. So a day has as many rows as that needs."""
MOST_ROWS: Final = 30_000
PAIRS: Final = (
    ("client's bug", "corrupting process"),
    ("unit change", "bad version"),
    ("novel class", "new client"),
    ("missing field", "corrupting process"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one day.

    Attributes:
        kind, effect, seed, setting: what was planted, and how.
        found: whether there was an onset.
        first, in_two: whether the true cause is the likeliest, or of the two likeliest; of two at once, one and both.
        error_min: minutes that the onset is later than the truth, None where there is no onset.
        covered: whether its 90% set holds the truth.
        width_min: minutes of that set.
        f1: of bad rows that the first slice holds against those that were touched.
        seconds: of the whole postmortem.
        rivals: name -> whether what it puts first is the cause.
        told: kind, subject and weight of the first two causes.
    """

    kind: str
    effect: float
    seed: int
    setting: Setting
    found: bool
    first: bool
    in_two: bool
    error_min: float | None
    covered: bool
    width_min: float | None
    f1: float
    seconds: float
    rivals: Mapping[str, bool] = field(default_factory=dict)
    told: tuple[tuple[str, str, float], ...] = ()


def explain(
    recorders: Recorders, served: Served, kind: str, effect: float, seed: int, *, setting: Setting = "alone"
) -> Result:
    """Plant an incident in a day of its own, and ask for its cause.

    Args:
        recorders: where it is recorded.
        served: the model.
        kind: of incident, a key of `PLANTS`; of two at once the first, whose partner is in `PAIRS`.
        effect: as `planted` says.
        seed: of the day and of the incident.
        setting: what else is the case.
    """
    day = _day(served, seed, about(kind, served))
    start = start_of(day.generator)
    planted = [PLANTS[kind](day, start, effect)]
    if setting == "two at once":
        planted.append(PLANTS[dict(PAIRS)[kind]](day, start, effect))
    elif setting == "innocent deployment":
        innocent_deployment(day, start)
    asked = recorders.ask(day, sampled=setting == "sampled recording")
    onset, answers = asked.report.onset, asked.report.causes
    at = time_of(start)
    matched = [[_is(one, each.kind, each.subject) for each in answers[:2]] for one in planted]
    touched = np.logical_or.reduce([one.rows for one in planted])
    return Result(
        kind if setting != "two at once" else f"{kind} and {dict(PAIRS)[kind]}",
        effect,
        seed,
        setting,
        onset is not None,
        any(each[:1] == [True] for each in matched),
        all(any(each) for each in matched),
        None if onset is None else (onset.at - at).total_seconds() / 60,
        onset is not None and onset.earliest <= at <= onset.latest,
        None if onset is None else (onset.latest - onset.earliest).total_seconds() / 60,
        _f1(asked, touched),
        asked.report.seconds,
        {} if onset is None else {name: _rival(asked, rival, planted) for name, rival in RIVALS.items()},
        tuple((each.kind, each.subject, round(each.weight, 3)) for each in answers[:2]),
    )


def quiet_day(recorders: Recorders, served: Served, seed: int, of: About = "outliers") -> tuple[bool, str]:
    """Whether a day on which nothing is wrong is explained by something, and by what.

    There are deployments, restarts and a new client on it that do no harm.
    """
    day = _day(served, seed, of)
    at = [start_of(day.generator) for _ in range(4)]
    innocent_deployment(day, at[0])
    deploy(day, at[1], 2, 0.1)
    for number, when in enumerate(at[2:]):
        day.events.append(Event(when, "start", f"engine-{number % PROCESSES}", "restarted"))
    new = (day.at >= at[2]) & (day.generator.random(len(day)) < 0.05)
    day.caller[new] = CALLERS
    first = recorders.ask(day).report.causes[0]
    return first.kind != "none", f"{first.kind} {first.subject}: {first.evidence}"


def _day(served: Served, seed: int, of: About) -> Day:
    return make(served, rows_of_a_day(served, of), seed, of)


@cache
def rows_of_a_day(served: Served, of: About) -> int:
    """So many that some `BAD` ones are among them, at most `MOST_ROWS`."""
    return min(MOST_ROWS, round(BAD / max(float(make(served, MOST_ROWS, 0, of).bad.mean()), 1e-6)))


def _is(truth: Planted, kind: str, subject: str) -> bool:
    if kind != truth.kind:
        return False
    # "c2" is another client than "c25"; an input is named by its field, "input pixels[3]".
    return (
        not truth.subject
        or truth.subject in (subject.split() if kind != "schema" else subject)
        or (kind == "upstream" and truth.subject in subject)
    )


def _rival(asked: Asked, rival: Callable[[Table], Found], planted: list[Planted]) -> bool:
    if asked.table is None:
        return False
    kind, subject = cause_of(asked.table, rival(asked.table))
    return any(_is(one, kind, subject) for one in planted)


def _f1(asked: Asked, touched: Rows) -> float:
    """Of the bad rows of the incident that the first slice holds, or the likeliest cause where there is none."""
    table = asked.table
    if table is None:
        return 0.0
    where = asked.report.slices[0].where if asked.report.slices else {}
    inside = rows_of(table, tuple(where.items())) & table.bad & ~table.base
    truth = touched[asked.rows] & table.bad
    return 2 * int((inside & truth).sum()) / max(int(inside.sum()) + int(truth.sum()), 1)
