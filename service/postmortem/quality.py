"""How good a model's answers were, by the labels that have come since, and by its confidences where none have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np

from hoverboard.database.connect import Connection
from hoverboard.database.statements import statements
from hoverboard.errors import ConfigError
from hoverboard.postmortem.bounds import EPOCH, LATEST
from hoverboard.postmortem.confidences import Counted, judge_confidence
from hoverboard.postmortem.estimates import (
    Estimate,
    Kind,
    Sums,
    difference,
    mean_of_kinds,
    pooled,
    share_of_kinds,
    wilson,
)
from hoverboard.postmortem.quality_notes import comparable, next_commands, notes
from hoverboard.postmortem.quality_report import (
    AgeCount,
    ErrorQuality,
    KindCount,
    LabelQuality,
    QualityReport,
    SourceCount,
    VersionDifference,
    VersionQuality,
)
from hoverboard.postmortem.window import Conditions, RecordedWindow

__all__ = ["QualityQuestion", "read_quality"]

_SQL: Final = statements(__file__)
_OF_MEANT: Final = ("labelled", "errors", "by_label", "delays")
"""Statements about labelled answers."""
_HOUR: Final = 3600.0
_AGES: Final = (_HOUR, 24 * _HOUR, 72 * _HOUR, 168 * _HOUR, 720 * _HOUR)
_AGE_WORDS: Final = ("under 1 h", "1 h to 1 d", "1 d to 3 d", "3 d to 7 d", "7 d to 30 d", "over 30 d")
_KINDS: Final = ("ordinary", "low margin", "outlier")
_LEARN_FROM: Final = timedelta(days=30)
"""Before the window, of labels: what a confidence is worth is best known from answers that are old enough to be labelled."""
_MOST_ROWS: Final = 500_000
"""Of all answers, labelled or not: then a mean of confidences is known to a thousandth."""
_DRAW: Final = 256


@dataclass(frozen=True, slots=True)
class QualityQuestion:
    """What is asked.

    Attributes:
        model: its name.
        start, end: of the samples' time.
        now: when it is asked.
        source: whose labels count; None for the latest of anybody.
        within: how soon a label must have come; then younger samples are left out, so that windows of any age compare.
        conditions: which samples.
    """

    model: str
    start: datetime
    end: datetime
    now: datetime
    source: str | None = None
    within: timedelta | None = None
    conditions: Conditions = field(default_factory=lambda: Conditions({}, {}))

    @property
    def until(self) -> datetime:
        """Up to when samples count: those younger than `within` have had no time to be labelled."""
        return self.end if self.within is None else max(min(self.end, self.now - self.within), self.start)


async def read_quality(connection: Connection, question: QualityQuestion) -> QualityReport:
    """Read a window, all of it in one transaction, so that rows and labels are of one moment.

    Args:
        connection: that may read the schema.
        question: what is asked.

    Raises:
        ConfigError: nothing is recorded of such a model.
    """
    versions = await _fetched(connection, "versions", question.model)
    if not versions:
        raise await _unknown(connection, question.model)
    question = replace(question, start=max(question.start, EPOCH), end=min(question.end, LATEST))
    model, start, until = question.model, question.start, question.until
    meant = RecordedWindow(model, EPOCH, LATEST, *question.conditions)
    chosen = (*meant.conditions, *meant.excluded)
    some = any(each is not None for each in chosen)
    labels = (model, start, until, question.source, question.within, some, *chosen)
    draw = await _draw(connection, start, until)
    learned_from = (model, max(start, EPOCH + _LEARN_FROM) - _LEARN_FROM, *labels[2:])
    tasks = {version["task"] for version in versions}
    counts: dict[str, Counted] = {
        "answered": await _fetched(connection, "answered", model, start, until, question.now, _AGES, draw, *chosen),
        "labelled": [],
        "by_label": [],
        "errors": [],
    }
    if tasks != {"regression"}:
        counts["labelled"] = await _fetched(connection, "labelled", *learned_from, start, question.now, _AGES)
        counts["by_label"] = await _fetched(connection, "by_label", *labels)
    if tasks & {"regression", None}:
        counts["errors"] = await _fetched(connection, "errors", *labels, question.now, _AGES)
    delays = {row["version_id"]: row for row in await _fetched(connection, "delays", *labels)}
    (disagreements,) = await _fetched(connection, "disagreements", model, start, until, some, *chosen)
    found = []
    for version in versions:
        own = _Rows(version["id"], counts, _DRAW / draw)
        if own.answered:
            found.append(_judged(version, own, delays.get(version["id"])))
    differences = [each for pair in pairwise(found) if (each := _difference(*pair, question.within is not None))]
    return QualityReport(
        model=model,
        start=start,
        end=question.end,
        asked_at=question.now,
        source=question.source,
        within_s=None if question.within is None else question.within.total_seconds(),
        where=question.conditions.where,
        unless=question.conditions.unless,
        part=draw / _DRAW,
        versions=found,
        differences=differences,
        notes=notes(question.within, found, differences, disagreements, draw / _DRAW),
        next=next_commands(model, found, differences, meant.written),
    )


async def _fetched(connection: Connection, statement: str, *values: object) -> list[dict[str, Any]]:
    sql = _SQL[statement]
    if statement in _OF_MEANT:
        sql = f"with meant as ({_SQL['meant'].rstrip(';')})\n{sql}"
    return [dict(row) for row in await connection.fetch(sql, *values)]


async def _unknown(connection: Connection, model: str) -> ConfigError:
    names = [row["name"] for row in await _fetched(connection, "recorded_models")]
    there = f"recorded are {', '.join(names)}" if names else "nothing is recorded there yet"
    return ConfigError(f"no answer of a model {model!r} is recorded: {there}")


async def _draw(connection: Connection, start: datetime, until: datetime) -> int:
    """How many of 256 equal parts of the rows are read: all of them, unless there are more than anybody needs."""
    plan = msgspec.json.decode(await connection.fetchval(_SQL["expected_rows"], start, until))
    expected = plan[0]["Plan"]["Plan Rows"]
    return max(1, min(_DRAW, int(_DRAW * _MOST_ROWS / max(expected, 1))))


class _Rows:
    """The counts of one version.

    Args:
        version_id: whose.
        counts: of all versions, by the name of the statement that gives them.
        scale: rows that a row of `answered` stands for.
    """

    def __init__(self, version_id: int, counts: Mapping[str, Counted], scale: float) -> None:
        own = {name: [row for row in rows if row["version_id"] == version_id] for name, rows in counts.items()}
        self.answered = own["answered"]
        self.learned = own["labelled"]
        self.labelled = [row for row in self.learned if row["inside_window"]]
        self.errors = own["errors"]
        self.by_label = own["by_label"]
        self.scale = scale

    @property
    def judged(self) -> Counted:
        """Of the window: those that can be compared."""
        return self.errors or self.labelled

    def kinds(self, sums: Callable[[Counted], Sums]) -> dict[str, Kind]:
        """Every kind that was answered."""
        found = {}
        for name in _KINDS:
            every = [row for row in self.answered if row["kind"] == name]
            if every:
                weight = self.scale * sum(row["weight"] for row in every)
                squared = self.scale**2 * sum(row["squared"] for row in every)
                found[name] = Kind(weight, squared, sums([row for row in self.judged if row["kind"] == name]))
        return found


def _judged(version: Mapping[str, Any], own: _Rows, delay: Mapping[str, Any] | None) -> VersionQuality:
    kinds = own.kinds(_right)
    every = _right(own.judged)
    traffic = sum(kind.weight for kind in kinds.values())
    classes = bool(own.labelled) and not own.errors
    return VersionQuality(
        version=version["version"],
        weights_sha256=version["weights_sha256"],
        task=version["task"],
        rows=round(own.scale * sum(row["rows"] for row in own.answered)),
        traffic=traffic,
        labelled=every.rows,
        labelled_traffic=every.weight,
        effective=every.effective,
        left_out=0 if delay is None else delay["left_out"],
        accuracy=share_of_kinds(list(kinds.values())) if classes else None,
        labelled_accuracy=share_of_kinds(pooled(kinds)) if classes else None,
        error=_error(own) if own.errors else None,
        confidence=None if own.errors else judge_confidence(own.answered, own.learned, version["task"]),
        delay_s=None if delay is None else (delay["delays_s"][0], delay["delays_s"][1]),
        ages=_ages(own),
        kinds=[
            KindCount(
                kind=name,
                traffic_share=kind.weight / traffic,
                labelled_share=kind.labelled.weight / (every.weight or 1.0),
                labelled=kind.labelled.rows,
                right=wilson(kind.labelled.mean, kind.labelled.effective) if classes and kind.labelled.rows else None,
            )
            for name, kind in kinds.items()
        ],
        sources=_sources(own),
        labels=_labels(version, own),
    )


def _right(rows: Counted) -> Sums:
    """The share of right answers of some cells."""
    weight = sum(row["w"] * row["rows"] for row in rows)
    if not weight:
        return Sums()
    mean = sum(row["w"] * row["rows"] for row in rows if row.get("correct")) / weight
    scatter = sum(row["rows"] * (row["w"] * (bool(row.get("correct")) - mean)) ** 2 for row in rows) / weight**2
    squared = sum(row["w"] ** 2 * row["rows"] for row in rows)
    return Sums(sum(row["rows"] for row in rows), weight, squared, mean, scatter)


def _moment(first: str, second: str) -> Callable[[Counted], Sums]:
    """The mean of what is summed up as `first` and its squares as `second`."""

    def sums(rows: Counted) -> Sums:
        weight = sum(row["w"] * row["rows"] for row in rows)
        if not weight:
            return Sums()
        mean = sum(row["w"] * row[first] for row in rows) / weight
        scatter = sum(row["w"] ** 2 * (row[second] - 2 * mean * row[first] + mean**2 * row["rows"]) for row in rows)
        squared = sum(row["w"] ** 2 * row["rows"] for row in rows)
        return Sums(sum(row["rows"] for row in rows), weight, squared, mean, max(scatter, 0.0) / weight**2)

    return sums


def _error(own: _Rows) -> ErrorQuality | None:
    def mean(first: str, second: str, *, positive: bool) -> Estimate | None:
        return mean_of_kinds(list(own.kinds(_moment(first, second)).values()), positive=positive)

    absolute, squared = mean("absolute", "second", positive=True), mean("second", "fourth", positive=True)
    bias = mean("first", "second", positive=False)
    if absolute is None or squared is None or bias is None:
        return None
    root = Estimate(*np.sqrt([squared.value, squared.low, squared.high]).tolist())
    return ErrorQuality(absolute=absolute, squared=squared, root_squared=root, bias=bias)


def _ages(own: _Rows) -> list[AgeCount]:
    found = []
    for place, words in enumerate(_AGE_WORDS):
        rows = round(own.scale * sum(row["rows"] for row in own.answered if row["age"] == place))
        if rows:
            found.append(
                AgeCount(age=words, rows=rows, labelled=sum(r["rows"] for r in own.judged if r["age"] == place))
            )
    return found


def _sources(own: _Rows) -> list[SourceCount]:
    found = []
    for source in sorted({row["source"] for row in own.judged}):
        each = _right([row for row in own.judged if row["source"] == source])
        found.append(SourceCount(source=source, labelled=each.rows, right=None if own.errors else each.mean))
    return sorted(found, key=lambda each: -each.labelled)


def _labels(version: Mapping[str, Any], own: _Rows) -> list[LabelQuality]:
    known = set(msgspec.json.decode(version["labels"] or "null") or ())

    def share(row: Mapping[str, Any], of: str) -> Estimate | None:
        return wilson(min(row["both"] / row[of], 1.0), row[of] ** 2 / row[f"{of}_squared"]) if row[of] else None

    return [
        LabelQuality(
            label=row["label"],
            said=row["said_rows"],
            held=row["held_rows"],
            precision=share(row, "said"),
            recall=share(row, "held"),
            known=row["label"] in known,
        )
        for row in own.by_label
    ]


def _difference(before: VersionQuality, after: VersionQuality, within: bool) -> VersionDifference | None:
    """The later version less the earlier; None where one of them has no labels, or they answer different things."""
    if before.accuracy is not None and after.accuracy is not None:
        of, gap = "accuracy", difference(after.accuracy, before.accuracy)
    elif before.error is not None and after.error is not None:
        of, gap = "absolute error", difference(after.error.absolute, before.error.absolute)
    else:
        return None
    return VersionDifference(
        version=after.version,
        against=before.version,
        of=of,
        difference=gap,
        comparable=within or comparable(before, after),
    )
