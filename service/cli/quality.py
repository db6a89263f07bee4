"""`hoverboard quality`: how good a model's answers were, by labels, and by confidences where there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hoverboard.cli.help import Command
from hoverboard.cli.output import as_json, console, emit, json_option, plain_text, table
from hoverboard.cli.target import data_dir_option, database_url_option
from hoverboard.cli.window import where_option
from hoverboard.config import Settings

if TYPE_CHECKING:
    from hoverboard.postmortem.estimates import Estimate
    from hoverboard.postmortem.quality import QualityQuestion
    from hoverboard.postmortem.quality_report import QualityReport, VersionQuality

__all__ = ["command"]

_TIMEOUT_S: Final = 60.0
_MOST_LABELS: Final = 10
_LEAST_OF_LABEL: Final = 5


@click.command(
    "quality",
    cls=Command,
    short_help="Tell how good a model's answers were, by labels and confidences.",
    examples={
        "The last seven days": "hoverboard quality products",
        "One week, by what support says": "hoverboard quality products --from 2026-03-02 --to 2026-03-09 --source support",
        "Versions of different age, fairly: labels that came within a day": "hoverboard quality products --within 1d",
        "One client's answers": "hoverboard quality products --where tag.customer=17",
        "Those of all others": "hoverboard quality products --where 'tag.customer!=17'",
        "Everything, for a program": "hoverboard quality products --json",
    },
)
@click.argument("model")
@click.option(
    "--from", "start", default="7d", show_default=True, help="Samples from then on: a time, or 12h, 7d for so long ago."
)
@click.option("--to", "end", default="now", show_default=True, help="Samples before then.")
@where_option
@click.option("--source", help="Only labels of this source.  [default: the latest of anybody]")
@click.option(
    "--within", help="Only labels that came so soon after their sample, such as 12h or 7d, and samples that old."
)
@database_url_option
@data_dir_option
@json_option
def command(
    *,
    model: str,
    start: str,
    end: str,
    where: tuple[str, ...],
    source: str | None,
    within: str | None,
    database_url: str | None,
    data_dir: Path | None,
    json_: bool | None,
) -> None:
    """Tell how good a model's answers were: by version, the accuracy (for a regression the error) that labels show, with its interval.

    Beside it stands what the confidences of all answers promise, whether labelled or not. The service may run or not; Postgres must.
    """
    from hoverboard.errors import ConfigError
    from hoverboard.postmortem.quality import QualityQuestion
    from hoverboard.postmortem.window import RecordedWindow, parse_time, parse_where

    now = datetime.now(UTC)
    try:
        window = RecordedWindow(model, parse_time(start, now), parse_time(end, now))
        soon = None if within is None else now - parse_time(within, now)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    if soon is not None and soon <= timedelta(0):
        raise click.UsageError(f"--within {within}: expected how soon labels must have come, such as 12h or 7d")
    question = QualityQuestion(model, window.start, window.end, now, source, soon, parse_where(where))
    report = asyncio.run(_read(Settings.load(data_dir=data_dir, database_url=database_url), question))
    if as_json(json_):
        emit(report)
        return
    for part in _told(report):
        # Sentences are not broken into lines: whoever searches for one finds it.
        if isinstance(part, str):
            click.echo(part)
        else:
            console().print(part)


async def _read(settings: Settings, question: QualityQuestion) -> QualityReport:
    from hoverboard.postmortem.quality import read_quality
    from hoverboard.postmortem.reading import reading

    async with reading(settings, application="hoverboard quality", statement_timeout_s=_TIMEOUT_S) as connection:
        return await read_quality(connection, question)


def _told(report: QualityReport) -> Iterator[Any]:
    if report.versions:
        yield _accuracies(report)
        yield ""
        yield _ages(report)
        for version in report.versions:
            yield from _details(version)
    for each in report.differences:
        gap = _signed(each.difference, percent=each.of == "accuracy")
        doubt = "" if each.comparable else ", but not of equally many labels"
        yield f"Version {each.version} less version {each.against}, {each.of}: {gap}{doubt}"
    yield from report.notes
    for line in report.next:
        yield f"Next: {line}"


def _accuracies(report: QualityReport) -> Any:
    if any(version.error for version in report.versions):
        names = ["version", "answers", "labelled", "absolute error", "root squared", "bias"]
        rows = [
            [
                *_counts(one),
                *(
                    ["", "", ""]
                    if one.error is None
                    else [_plain(one.error.absolute), _plain(one.error.root_squared), _plain(one.error.bias)]
                ),
            ]
            for one in report.versions
        ]
    else:
        names = ["version", "answers", "labelled", "right, by labels", "by confidence"]
        rows = [[*_counts(one), _share(one.accuracy), _promised(one)] for one in report.versions]
    return table(names, rows, right=names)


def _counts(version: VersionQuality) -> list[str]:
    return [str(version.version), f"{version.rows:,}", f"{version.labelled:,} ({version.labelled_share:.1%})"]


def _promised(version: VersionQuality) -> str:
    known = version.confidence
    if known is None or known.estimate is None:
        return ""
    return f"{_share(known.estimate)} published" if known.method == "published" else _share(known.estimate)


def _ages(report: QualityReport) -> Any:
    names = ["version", "asked", "answers", "labelled", "share"]
    rows = [
        [str(one.version), each.age, f"{each.rows:,}", f"{each.labelled:,}", f"{each.labelled / each.rows:.1%}"]
        for one in report.versions
        for each in one.ages
    ]
    return table(names, rows, right=["answers", "labelled", "share"])


def _details(version: VersionQuality) -> Iterator[Any]:
    if version.delay_s is not None:
        yield f"Version {version.version}: half of its labels came within {_span(version.delay_s[0])}, 90% within {_span(version.delay_s[1])}."
    known = version.confidence
    if known is not None and known.ece is not None:
        yield (
            f"Version {version.version}: its confidences are off by {known.ece:.3f} on average (chance alone: {known.ece_by_chance:.3f}), "
            f"on {known.fitted_rows:,} labelled answers."
        )
    if len(version.kinds) > 1 and version.labelled:
        names = ["kind", "of answers", "of labelled", "labelled", "right"]
        yield table(
            names,
            [
                [
                    each.kind,
                    f"{each.traffic_share:.1%}",
                    f"{each.labelled_share:.1%}",
                    f"{each.labelled:,}",
                    _share(each.right),
                ]
                for each in version.kinds
            ],
            right=names[1:],
        )
        yield ""
    if len(version.sources) > 1:
        said = [
            f"{plain_text(one.source)} {one.labelled:,}" + ("" if one.right is None else f" ({one.right:.1%} right)")
            for one in version.sources
        ]
        yield f"Labels that count: {', '.join(said)}."
    worst = [each for each in version.labels if each.held >= _LEAST_OF_LABEL and each.recall is not None]
    worst.sort(key=lambda each: each.recall.value if each.recall else 1.0)
    if worst:
        names = ["label", "true of", "found", "said", "right when said"]
        yield table(
            names,
            [
                [
                    plain_text(each.label),
                    f"{each.held:,}",
                    _share(each.recall),
                    f"{each.said:,}",
                    _share(each.precision),
                ]
                for each in worst[:_MOST_LABELS]
            ],
            right=names[1:],
        )
        left = len(worst) - _MOST_LABELS
        yield f"{left} labels more that are found more often: --json has them." if left > 0 else ""


def _share(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    value = f"{estimate.value:.1%}"
    if estimate.low == estimate.high:
        return value
    return f"{value} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _plain(estimate: Estimate) -> str:
    return f"{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"


def _signed(estimate: Estimate, *, percent: bool) -> str:
    value, low, high = (100 * each if percent else each for each in (estimate.value, estimate.low, estimate.high))
    form, unit = ("+.1f", " points") if percent else ("+.4g", "")
    return f"{value:{form}}{unit} ({low:{form}} to {high:{form}})"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return "a minute"
