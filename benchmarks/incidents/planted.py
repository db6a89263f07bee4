"""Twelve kinds of incident, each as a change of a day's arrays.

An effect of e means: while the incident lasts there are about e times as many more bad rows as there usually are. So
effect 1 doubles them, and effect 10 makes eleven of one. A kind takes as many rows as that needs, or all that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.incidents.served import Columns, Served, taken
from benchmarks.incidents.traffic import CALLERS, HOUR_US, PROCESSES, SOURCES, START_US, About, Day
from hoverboard.contract.signature import Array
from hoverboard.postmortem.table import Event

__all__ = ["EFFECTS", "PLANTS", "Planted", "Rows", "about", "innocent_deployment", "start_of"]

EFFECTS: Final = (1, 3, 10)
Rows = NDArray[np.bool_]
_FACTORS: Final = (100.0, 10.0, 0.1, 0.01, 2.54, 25.4)
_TRIED: Final = 512
_FEWEST_OF_A_KIND: Final = 50
_BY_ROW: Final = (
    "p",
    "z",
    "answer",
    "truth",
    "source",
    "delay_h",
    "caller",
    "process",
    "version",
    "queue_ms",
    "bucket",
)


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """The truth about an incident.

    Attributes:
        kind: of the cause, as `causes` names them.
        subject: what its subject must contain; empty where there is none to name.
        rows: bool `(rows,)`, those that it touched.
        start_us: when it began.
    """

    kind: str
    subject: str
    rows: Rows
    start_us: int


Plant = Callable[[Day, int, float], Planted]


def start_of(generator: np.random.Generator) -> int:
    """Some minute between six and twenty o'clock."""
    return START_US + int(generator.integers(6 * 60, 20 * 60)) * 60_000_000 + int(generator.integers(60)) * 1_000_000


def bad_version(day: Day, start: int, effect: float) -> Planted:
    """A new version finds samples strange that are not: deployed to all, or to a fifth as a canary."""
    share = float(day.generator.choice([1.0, 0.2]))
    deploy(day, start, 2, share)
    rows = day.version == 2
    # The same order of strangeness, with a bar that is too low.
    place = np.flatnonzero(rows)
    order = place[np.lexsort((day.generator.random(len(place)), day.p[place]))]
    day.p[order[: round(len(order) * day.usual * (1 + effect / share))]] = day.served.alpha / 2
    return Planted("version", "2", rows, start)


def unit_change(day: Day, start: int, effect: float) -> Planted:
    """An input comes in another unit, from any client."""
    name, change = _unit(day)
    return Planted("schema", name, _changed(day, _since(day, start), effect, change), start)


def swapped_columns(day: Day, start: int, effect: float) -> Planted:
    """Two inputs are exchanged; of an image, rows and columns."""
    return Planted("schema", "", _changed(day, _since(day, start), effect, _swap(day)), start)


def missing_field(day: Day, start: int, effect: float) -> Planted:
    """Something that fills in 0 for an input that it does not have; of an image, for its left half."""
    name = str(day.generator.choice(_numeric(day)))

    def change(columns: Columns, _: np.random.Generator) -> Columns:
        lost = columns[name].copy()
        if lost.ndim == 1:
            lost[:] = 0
        else:
            lost.reshape(-1, 8, 8)[:, :, :4] = 0
        return {**columns, name: lost}

    return Planted("schema", name, _changed(day, _since(day, start), effect, change), start)


def client_bug(day: Day, start: int, effect: float) -> Planted:
    """One client's new release sends another unit, swaps inputs, or sends noise."""
    change = [_unit(day)[1], _swap(day), _noise][int(day.generator.integers(3))]
    since = _since(day, start)
    needed = effect * day.usual * since.sum()
    sizes = np.bincount(day.caller[since], minlength=CALLERS)
    # A client large enough for the effect, but no giant where there is another one.
    fit = np.flatnonzero(sizes >= needed * 1.5)
    caller = int(day.generator.choice(fit)) if len(fit) else int(sizes.argmax())
    rows = _changed(day, since & (day.caller == caller), effect, change, of=since)
    return Planted("caller", f"c{caller}", rows, start)


def new_client(day: Day, start: int, effect: float) -> Planted:
    """A client that was not there before, whose samples are unlike those of the others."""
    since = _since(day, start)
    usual = day.usual
    strange = np.flatnonzero(day.served.usual.p <= day.served.alpha)
    pool = np.concatenate([strange, day.generator.integers(0, len(day.served.truth), 2 * len(strange))])
    rate = float((day.served.usual.p[pool] <= day.served.alpha).mean())
    rows = _some(day, since, effect * usual / max(rate - usual, 1e-3))
    chosen = day.generator.choice(pool, int(rows.sum()))
    place = np.flatnonzero(rows)
    for name, column in day.served.columns.items():
        day.columns[name][place] = column[chosen]
    usual_answers = day.served.usual
    day.p[place], day.z[place] = usual_answers.p[chosen], usual_answers.z[chosen]
    day.answer[place] = usual_answers.answer[chosen]
    day.caller[place] = CALLERS
    return Planted("caller", f"c{CALLERS}", rows, start)


def novel_class(day: Day, start: int, effect: float) -> Planted:
    """A kind of sample that there was not: stones cut otherwise, signs that are no digits. From any client."""

    def change(columns: Columns, generator: np.random.Generator) -> Columns:
        n = len(next(iter(columns.values())))
        if "pixels" in columns:
            # One sign, a frame with a bar across, written a little differently each time.
            sign = np.zeros((8, 8))
            sign[0], sign[7], sign[:, 0], sign[:, 7], sign[3] = 14, 14, 14, 14, 14
            noise = generator.normal(0, 1.5, (n, 8, 8)) * (sign > 0)
            return {"pixels": np.clip(np.round(sign + noise), 0, 16).reshape(n, 64).astype(np.float32)}
        made = {name: column.copy() for name, column in columns.items()}
        # A light simulant: large stones of little weight and the best clarity; each measure is in its usual range.
        side = generator.normal(8.0, 0.1, n)
        made["x"], made["y"] = side.astype(np.float32), (side + generator.normal(0, 0.05, n)).astype(np.float32)
        made["z"] = (side * 0.62).astype(np.float32)
        made["carat"] = generator.normal(0.5, 0.03, n).astype(np.float32)
        made["clarity"], made["cut"] = np.full(n, b"IF", object), np.full(n, b"Fair", object)
        return made

    return Planted("novelty", "", _changed(day, _since(day, start), effect, change), start)


def class_prior(day: Day, start: int, effect: float) -> Planted:
    """One class comes more often than it did, from any client; its samples are as they always were. See `_mix` for a regression."""
    since = _since(day, start)
    usual = day.usual
    if not day.served.classes:
        return _mix(day, start, effect)
    rows = _some(day, since & ~day.bad, min(effect * usual / (1 - usual), 0.9))
    return Planted("labels", "", _as_in_the_pool(day, rows, day.served.usual.answer == day.label), start)


def _mix(day: Day, start: int, effect: float) -> Planted:
    """Of a regression, which has no classes: of all cuts, colours and clarities the one that is strange most often comes more often.

    Its rows are as they always were, and as many of them are strange; what has changed is the mix that comes of that input.
    """
    served, usual = day.served, day.usual
    strange = served.usual.p <= served.alpha
    kinds = [
        (float(strange[of_kind].mean()), name, of_kind)
        for name, column in served.columns.items()
        if column.dtype == object
        for value in sorted(set(column.tolist()))
        if (of_kind := column == value).sum() >= _FEWEST_OF_A_KIND
    ]
    rate, name, of_kind = max(kinds, key=lambda each: each[:2])
    rows = _some(day, _since(day, start), min(effect * usual / max(rate - usual, 1e-3), 0.9))
    return Planted("upstream", name, _as_in_the_pool(day, rows, of_kind), start)


def _as_in_the_pool(day: Day, rows: Rows, among: Rows) -> Rows:
    """Put samples of a part of the pool in the place of some rows; the rows."""
    place = np.flatnonzero(rows)
    chosen = day.generator.choice(np.flatnonzero(among), len(place))
    for name, column in day.served.columns.items():
        day.columns[name][place] = column[chosen]
    answers = day.served.usual
    day.p[place], day.z[place], day.answer[place] = answers.p[chosen], answers.z[chosen], answers.answer[chosen]
    return rows


def drift(day: Day, start: int, effect: float) -> Planted:
    """An input moves away from what it was within an hour, for everybody: a scale that is off, a lamp that gets dim."""
    since = _since(day, start)
    usual = day.usual
    name = "pixels" if "pixels" in day.columns else str(day.generator.choice(["depth", "table"]))
    place = np.flatnonzero(since)
    tried = day.generator.choice(place, min(_TRIED, len(place)), replace=False)
    ramp = np.clip((day.at[place] - start) / HOUR_US, 0, 1)

    def moved(rows: NDArray[np.intp], by: NDArray[np.float64]) -> dict[str, Array]:
        columns = taken(day.columns, rows)
        column = columns[name].astype(np.float64)
        if column.ndim > 1:
            columns[name] = np.round(column * (1 - by[:, np.newaxis])).astype(np.float32)
        else:
            columns[name] = (column + by * column.std() * 4).astype(np.float32)
        return columns

    # As far as the effect needs, by halves.
    low, high = 0.0, 1.0 if name == "pixels" else 2.0
    for _ in range(8):
        middle = (low + high) / 2
        rate = (day.served.ask(moved(tried, np.full(len(tried), middle))).p <= day.served.alpha).mean()
        low, high = (low, middle) if rate > (1 + effect) * usual else (middle, high)
    columns = moved(place, ramp * high)
    day.replace(place, columns, day.served.ask(columns))
    return Planted("upstream", name, since, start)


def corrupting_process(day: Day, start: int, effect: float) -> Planted:
    """The memory of one process flips bits: some of what it answers is strange, whatever it was asked."""
    usual = day.usual
    process = int(day.generator.integers(PROCESSES))
    mine = _since(day, start) & (day.process == process)
    rows = _some(day, mine, min(effect * usual * PROCESSES, 1.0))
    day.p[rows] = day.served.alpha / 2
    day.z[rows] = day.z[rows] + day.generator.normal(0, 3, day.z[rows].shape) * day.z.std()
    return Planted("machine", f"engine-{process}", mine, start)


def overload(day: Day, start: int, effect: float) -> Planted:
    """Three times the traffic, queues, and calls that miss their deadlines, for one to three hours."""
    end = start + int(day.generator.uniform(1, 3) * HOUR_US)
    inside = (day.at >= start) & (day.at < end)
    usual = day.usual
    place = np.flatnonzero(inside)
    again = np.repeat(place, 2)
    _append(day, again, day.generator.integers(start, end, len(again)))
    inside = (day.at >= start) & (day.at < end)
    waited = day.generator.random(len(day)) < (1 + effect) * usual
    # Everybody waits longer; those beyond the limit are the effect.
    day.queue_ms[inside] = np.minimum(day.queue_ms[inside] * 4 + 40, 390)
    day.queue_ms[inside & waited] = day.generator.uniform(420, 2000, int((inside & waited).sum()))
    day.bucket[inside] = 8
    return Planted("load", "", inside, start)


def wrong_labels(day: Day, start: int, effect: float) -> Planted:
    """One source of labels mistakes classes, or all but complaints come days late."""
    since = _since(day, start)
    usual = day.usual
    source = 0 if effect > 2 else 1
    if day.generator.random() < 0.5 and effect < 2:
        late = since & (day.source != 1)
        day.delay_h[late] += 72
        # Who complains has a reason.
        complaints = np.flatnonzero(since & (day.source == 1) & np.isfinite(day.truth))
        spoil = complaints[day.generator.random(len(complaints)) < effect * usual]
        _mislabel(day, spoil)
        rows = since & (day.source == 1)
        return Planted("labels", "", rows, start)
    mine = since & (day.source == source) & np.isfinite(day.truth)
    share = float((mine & day.labelled).sum() / max((since & day.labelled).sum(), 1))
    _mislabel(day, np.flatnonzero(_some(day, mine, min(effect * usual / max(share, 1e-3), 1.0))))
    return Planted("labels", SOURCES[source], since & (day.source == source), start)


PLANTS: Final[Mapping[str, Plant]] = {
    "bad version": bad_version,
    "unit change": unit_change,
    "swapped columns": swapped_columns,
    "missing field": missing_field,
    "client's bug": client_bug,
    "new client": new_client,
    "novel class": novel_class,
    "class-prior shift": class_prior,
    "drifting feature": drift,
    "corrupting process": corrupting_process,
    "overload": overload,
    "late or wrong labels": wrong_labels,
}
_ABOUT: Final[Mapping[str, About]] = {
    "class-prior shift": "label",
    "overload": "errors",
    "late or wrong labels": "wrong",
}


def about(kind: str, served: Served) -> About:
    """What is asked about; of a model without classes no label can be."""
    asked = _ABOUT.get(kind, "outliers")
    return "outliers" if asked == "label" and not served.classes else asked


def deploy(day: Day, at: int, version: int, share: float) -> None:
    """Let a version answer a share of the rows from then on."""
    chosen = _since(day, at) & (day.generator.random(len(day)) < share)
    day.version[chosen] = version
    if share < 1:
        day.canaries.add(version)
    day.events.append(Event(at, "deployment", str(version), f"stable, {share:.0%} of calls"))


def innocent_deployment(day: Day, at: int) -> None:
    """A version for all that is as good as the one before."""
    deploy(day, at, 3, 1.0)


def _since(day: Day, start: int) -> Rows:
    return np.asarray(day.at >= start)


def _some(day: Day, among: Rows, share: float) -> Rows:
    return np.asarray(among & (day.generator.random(len(day)) < share))


def _changed(day: Day, among: Rows, effect: float, change: Any, of: Rows | None = None) -> Rows:
    """Change the inputs of as many rows as the effect needs; the rows."""
    usual = day.usual
    tried = day.generator.choice(np.flatnonzero(among), min(_TRIED, int(among.sum())), replace=False)
    rate = float((day.served.ask(change(taken(day.columns, tried), day.generator)).p <= day.served.alpha).mean())
    whole = among if of is None else of
    share = effect * usual / max(rate - usual, 0.01) * whole.sum() / among.sum()
    rows = _some(day, among, share)
    place = np.flatnonzero(rows)
    if len(place):
        columns = change(taken(day.columns, place), day.generator)
        day.replace(place, columns, day.served.ask(columns))
    return rows


def _numeric(day: Day) -> list[str]:
    return [name for name, column in day.columns.items() if column.dtype != object and name not in ("z", "table")]


def _unit(day: Day) -> tuple[str, Any]:
    """The input with its change: whichever of the usual factors the model finds strange often enough."""
    sample = taken(day.columns, day.generator.choice(len(day), _TRIED, replace=False))
    tries = [(name, factor) for name in _numeric(day) for factor in _FACTORS]
    for place in day.generator.permutation(len(tries)):
        name, factor = tries[int(place)]

        def change(columns: Columns, _: Any, name: str = name, factor: float = factor) -> Columns:
            return {**columns, name: (columns[name] * np.float32(factor)).astype(np.float32)}

        if (day.served.ask(change(sample, None)).p <= day.served.alpha).mean() > 0.2:
            return name, change
    raise ValueError("no unit that the model would notice")


def _swap(day: Day) -> Any:
    if "pixels" in day.columns:

        def transposed(columns: Columns, _: Any) -> Columns:
            return {"pixels": columns["pixels"].reshape(-1, 8, 8).transpose(0, 2, 1).reshape(-1, 64).copy()}

        return transposed
    pairs = (("x", "depth"), ("y", "table"), ("carat", "x"), ("depth", "y"))
    one, other = pairs[int(day.generator.integers(len(pairs)))]
    return lambda columns, _: {**columns, one: columns[other], other: columns[one]}


def _noise(columns: Columns, generator: np.random.Generator) -> Columns:
    """All numeric inputs with noise as wide as they are."""
    made = dict(columns)
    for name, column in columns.items():
        if column.dtype != object:
            noisy = column + generator.normal(0, 1, column.shape) * (column.std(axis=0) + 1e-3)
            made[name] = np.maximum(noisy, 0).astype(np.float32)
    return made


def _mislabel(day: Day, rows: NDArray[np.intp]) -> None:
    classes = len(day.served.classes)
    if classes:
        day.truth[rows] = (day.truth[rows] + day.generator.integers(1, classes, len(rows))) % classes
    else:
        day.truth[rows] = day.truth[rows] * day.generator.choice([0.4, 2.5], len(rows))


def _append(day: Day, rows: NDArray[np.intp], at: NDArray[np.int64]) -> None:
    """More rows like some that are there, at other times."""
    order = np.argsort(np.concatenate([day.at, at]), kind="stable")
    for name in _BY_ROW:
        column = getattr(day, name)
        setattr(day, name, np.concatenate([column, column[rows]])[order])
    day.columns = {name: np.concatenate([column, column[rows]])[order] for name, column in day.columns.items()}
    day.at = np.concatenate([day.at, at])[order]
