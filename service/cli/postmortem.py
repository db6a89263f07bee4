"""`hoverboard postmortem`: since when, how much, who, what differs, and what it looks like."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hoverboard.cli.help import Command
from hoverboard.cli.output import as_json, emit, json_option
from hoverboard.cli.steps import steps
from hoverboard.cli.target import data_dir_option, database_url_option, named
from hoverboard.cli.window import where_option
from hoverboard.config import Settings
from hoverboard.errors import ConfigError, EngineMissing

if TYPE_CHECKING:
    from hoverboard.postmortem.confirming import Confirmer
    from hoverboard.postmortem.counting import Progress
    from hoverboard.postmortem.question import Question
    from hoverboard.postmortem.report import Report

__all__ = ["command"]


@click.command(
    "postmortem",
    cls=Command,
    short_help="Explain what changed: since when, who, what differs, why.",
    examples={
        "What is behind the raised alarm, or else what changed most in the last day": "hoverboard postmortem digits",
        "Outliers of one hour, against the hour before": (
            "hoverboard postmortem digits --about outliers --from 2026-11-30T14:00 --to 2026-11-30T15:00"
        ),
        "Errors of one customer since two hours ago": (
            "hoverboard postmortem digits --about errors --from 2h --where tag.customer=17"
        ),
        "What else is wrong, beside what one camera sends": "hoverboard postmortem digits --where 'tag.camera!=east'",
        "A page to send around": "hoverboard postmortem digits --html digits.html",
    },
)
@click.argument("model")
@click.option("--about", help="outliers, errors, refusals, wrong, slow or label=X.  [default: what changed most]")
@click.option("--from", "start", metavar="TIME", help="Such as 2026-11-30T14:00 (UTC), or 2h or -2h for two hours ago.")
@click.option("--to", "end", metavar="TIME", help="Needs --from.  [default: now]")
@click.option("--against", metavar="TIME..TIME", help="What was usual.  [default: as long a time before --from]")
@where_option
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write one page that needs nothing else.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option(
    "--replay/--no-replay",
    "replay",
    default=None,
    help="Run rows of likely causes through models here, 40 s at most.  [default: where the models are]",
)
@click.option("--sql", is_flag=True, help="Show the SQL behind each section, too.")
@click.option(
    "--models", type=click.Path(path_type=Path), help="Models directory, for what it redacts.  [default: models]"
)
@database_url_option
@data_dir_option
@json_option
def command(
    *,
    model: str,
    about: str | None,
    start: str | None,
    end: str | None,
    against: str | None,
    where: tuple[str, ...],
    html: Path | None,
    markdown: bool,
    replay: bool | None,
    sql: bool,
    models: Path | None,
    database_url: str | None,
    data_dir: Path | None,
    json_: bool | None,
) -> None:
    """Explain what happened to MODEL, from what was recorded.

    Without times it looks at the raised alarm, else at the largest change of the last day. It only reads, through one
    connection. The service may run or not; Postgres must.

    Where the models are on this machine, some hundred rows of a likely version, process or way of writing inputs are run once more with the cause undone: that says
    whether it is the cause. --no-replay leaves that out.
    """
    from hoverboard.postmortem.rendering import render_markdown, render_text

    now = datetime.now(UTC)
    if markdown and json_:
        raise ConfigError("--markdown and --json: a report is printed as one of them")
    settings = Settings.load(data_dir=data_dir, database_url=database_url, models=models)
    if html is not None and not html.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {html.absolute().parent} to write {html.name} to")
    question = replace(
        _question(model, about, (start, end, against), where, now),
        models=None if models is None else str(models),
        target=named(data_dir, database_url),
    )
    report = asyncio.run(_asked(settings, question, now, replay=replay))
    if html is not None:
        from hoverboard.postmortem.page import render_html
        from hoverboard.postmortem.sections import answer
        from hoverboard.postmortem.written import write_page

        write_page(html, render_html(report))
        asked = markdown or json_  # for the report itself, beside the page
        click.echo(f"Written to {html}." if asked else f"{answer(report)}\nWritten to {html}.", err=bool(asked))
        if not asked:
            return
    if markdown:
        click.echo(render_markdown(report, sql=sql))
    elif json_ or (as_json(json_) and not sql):  # JSON has the SQL anyway
        emit(report)
    else:
        click.echo(render_text(report, sql=sql))


def _question(
    model: str,
    about: str | None,
    times: tuple[str | None, str | None, str | None],
    where: tuple[str, ...],
    now: datetime,
) -> Question:
    from hoverboard.postmortem.question import About, Question
    from hoverboard.postmortem.window import parse_time, parse_where

    start, end, against = times
    usual = None
    if against is not None:
        first, dots, last = against.partition("..")
        if not dots:
            raise ConfigError(f"--against {against!r}: expected two times with .. between them")
        usual = parse_time(first, now), parse_time(last, now)
    return Question(
        model,
        None if about is None else About.of(about),
        None if start is None else parse_time(start, now),
        None if end is None else parse_time(end, now),
        usual,
        *parse_where(where),
    )


async def _asked(settings: Settings, question: Question, now: datetime, *, replay: bool | None) -> Report:
    from hoverboard.postmortem.asking import postmortem
    from hoverboard.postmortem.export import blanked_inputs
    from hoverboard.postmortem.reading import reading

    question = replace(question, blanked=blanked_inputs(settings.models, question.model))
    with steps({}) as told:
        async with reading(settings, application="hoverboard postmortem") as connection:
            return await postmortem(connection, question, now, told, _confirmer(settings, question, replay, told))


def _confirmer(settings: Settings, question: Question, replay: bool | None, told: Progress) -> Confirmer | None:
    """What runs models, where they and what runs them are here."""
    from hoverboard.backends.backend import require_framework
    from hoverboard.cli.framework import load_as_guest
    from hoverboard.postmortem.confirming import Confirmer

    if replay is False or (replay is None and not (settings.models / question.model).is_dir()):
        return None
    try:
        require_framework("hoverboard postmortem --replay")
    except EngineMissing:
        if replay:
            raise
        return None
    # What fails is told in the report; a log would stand in the middle of what people read.
    return Confirmer(settings.models, partial(load_as_guest, "postmortem", shown=False, level="critical"), told)
