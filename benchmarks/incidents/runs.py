"""One day: made, something planted in it, encoded, and explained, with the clock running for the explanation only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.incidents.planted import ABOUT, PLANTS, Planted, deploy, innocent_deployment, start_of
from benchmarks.incidents.rivals import RIVALS, Found, cause_of
from benchmarks.incidents.served import Served
from benchmarks.incidents.tables import counts_of, table_of
from benchmarks.incidents.traffic import CALLERS, PROCESSES, About, Day, make
from hoverboard.postmortem.causes import causes
from hoverboard.postmortem.onset import onset
from hoverboard.postmortem.slices import rows_of, slices
from hoverboard.postmortem.table import Event, Table

__all__ = ["PAIRS", "Result", "Setting", "explain", "quiet_day"]

Setting = Literal["alone", "two at once", "innocent deployment", "sampled recording"]
ROWS: Final = 40_000
SAMPLED: Final = 0.1
PAIRS: Final = (
    ("client's bug", "corrupting process"),
    ("unit change", "bad version"),
    ("novel class", "new client"),
    ("missing field", "corrupting process"),
)
_MINUTE_US: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one day.

    Attributes:
        kind, effect, seed, setting: what was planted, and how.
        found: whether there was an onset.
        first, in_two: whether the true cause is the likeliest, or of the two likeliest; of two at once, one and both.
        error_min: minutes between the onset and the truth, None where there is no onset.
        covered: whether its 90% set holds the truth.
        f1: of bad rows that the first slice holds against those that were touched.
        seconds: for onset, slices and causes.
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
    f1: float
    seconds: float
    rivals: Mapping[str, bool] = field(default_factory=dict)
    told: tuple[tuple[str, str, float], ...] = ()


def explain(served: Served, kind: str, effect: float, seed: int, setting: Setting = "alone") -> Result:
    """Plant an incident in a day of its own, and ask for its cause.

    Args:
        served: the model.
        kind: of incident, a key of `PLANTS`; of two at once the first, whose partner is in `PAIRS`.
        effect: as `planted` says.
        seed: of the day and of the incident.
        setting: what else is the case.
    """
    day = make(served, ROWS, seed, _about(kind))
    start = start_of(day.generator)
    planted = [PLANTS[kind](day, start, effect)]
    if setting == "two at once":
        planted.append(PLANTS[dict(PAIRS)[kind]](day, start, effect))
    elif setting == "innocent deployment":
        innocent_deployment(day, start)
    elif setting == "sampled recording":
        _sampled(day, planted)
    table, drawn = table_of(day)
    counts = counts_of(day)
    started = time.perf_counter()
    when = onset(counts)
    now = table if when is None else when.split(table)
    found = [] if when is None else slices(now)
    answers = causes(table, counts, when, day.events, found)
    seconds = time.perf_counter() - started
    matched = [[_is(one, each.kind, each.subject) for each in answers[:2]] for one in planted]
    touched = np.logical_or.reduce([one.rows for one in planted])[drawn]
    where = found[0].where if found else answers[0].where
    inside = rows_of(table, where) & table.bad
    if when is not None:
        inside &= ~table.since(when.at_us, when.end_us).base
    return Result(
        kind if setting != "two at once" else f"{kind} and {dict(PAIRS)[kind]}",
        effect,
        seed,
        setting,
        when is not None,
        any(each[:1] == [True] for each in matched),
        all(any(each) for each in matched),
        None if when is None else abs(when.at_us - start) / _MINUTE_US,
        when is not None and when.earliest_us <= start <= when.latest_us,
        _f1(inside, touched & table.bad),
        seconds,
        {} if when is None else {name: _rival(now, rival(now), planted) for name, rival in RIVALS.items()},
        tuple((each.kind, each.subject, each.weight) for each in answers[:2]),
    )


def quiet_day(served: Served, seed: int, about: About = "outliers") -> tuple[bool, str]:
    """Whether a day on which nothing is wrong is explained by something, and by what.

    There are deployments, restarts and a new client on it that do no harm.
    """
    day = make(served, ROWS, seed, about)
    at = [start_of(day.generator) for _ in range(4)]
    innocent_deployment(day, at[0])
    deploy(day, at[1], 2, 0.1)
    for number, when in enumerate(at[2:]):
        day.events.append(Event(when, "start", f"engine-{number % PROCESSES}", "restarted"))
    new = (day.at >= at[2]) & (day.generator.random(len(day)) < 0.05)
    day.caller[new] = CALLERS
    table, _ = table_of(day)
    counts = counts_of(day)
    answers = causes(table, counts, onset(counts), day.events)
    first = answers[0]
    return first.kind != "none", f"{first.kind} {first.subject}: {first.evidence}"


def _about(kind: str) -> About:
    return ABOUT.get(kind, "outliers")


def _sampled(day: Day, planted: list[Planted]) -> None:
    """One in ten ordinary rows is recorded; what is bad always is."""
    bad = day.bad
    day.incl_prob = np.where(bad, 1.0, SAMPLED)
    kept = bad | (day.generator.random(len(day)) < SAMPLED)
    names = ("at", "p", "z", "answer", "truth", "source", "delay_h", "caller", "process", "version", "queue_ms")
    for name in (*names, "bucket", "incl_prob"):
        setattr(day, name, getattr(day, name)[kept])
    day.columns = {name: column[kept] for name, column in day.columns.items()}
    planted[:] = [Planted(one.kind, one.subject, one.rows[kept], one.start_us) for one in planted]


def _is(truth: Planted, kind: str, subject: str) -> bool:
    if kind != truth.kind:
        return False
    # "c2" is another client than "c25"; an input is named by its field, "input pixels[3]".
    return (
        not truth.subject
        or truth.subject in (subject.split() if kind != "schema" else subject)
        or (kind == "upstream" and truth.subject in subject)
    )


def _rival(table: Table, found: Found, planted: list[Planted]) -> bool:
    kind, subject = cause_of(table, found)
    return any(_is(one, kind, subject) for one in planted)


def _f1(ours: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    both = int((ours & truth).sum())
    return 2 * both / max(int(ours.sum()) + int(truth.sum()), 1)
