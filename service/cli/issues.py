"""`hoverboard issues`: outliers that are alike, and what somebody decided about them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hoverboard.cli.help import CommandGroup
from hoverboard.cli.numbers import NUMBER
from hoverboard.cli.output import as_json, console, emit, json_option
from hoverboard.cli.target import data_dir_option, database_url_option, whoever_asks
from hoverboard.config import Settings

if TYPE_CHECKING:
    from hoverboard.database.connect import Connection
    from hoverboard.watch.issue_changes import IssueActor

__all__ = ["command"]

T = TypeVar("T")

_number = click.argument("number", type=NUMBER, metavar="N")
_reason = click.option("--reason", default="", help="Why. It is kept.")


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every one of them takes."""
    for option in (json_option, data_dir_option, database_url_option):
        command = option(command)
    return command


@click.group(
    "issues",
    cls=CommandGroup,
    invoke_without_command=True,
    short_help="List kinds of outliers, and say what becomes of them.",
    examples={
        "What is open, of every model": "hoverboard issues",
        "Everything of one model": "hoverboard issues list digits --all",
        "One issue: its history, its samples": "hoverboard issues show 12",
        "Version 4 will be right": 'hoverboard issues resolve 12 --in 4 --reason "trained on the new camera"',
        "Not now, unless it becomes more": "hoverboard issues archive 12 --until-escalating",
    },
)
@_options
@click.pass_context
def command(context: click.Context, database_url: str | None, data_dir: Path | None, json_: bool | None) -> None:
    """List kinds of outliers: each is one issue, with a state that the recorder and people change.

    The recorder puts outliers that are alike into one issue as it copies them. An issue is listed from its fifth member on.
    The service may run or not; Postgres must.
    """
    if context.invoked_subcommand is not None:
        # Click would take them here and forget them: the command would ask another database than the one that was named.
        if database_url or data_dir:
            raise click.UsageError(f"give --database-url and --data-dir after `{context.invoked_subcommand}`")
        return
    _list(None, every=False, settings=_settings(database_url, data_dir), json_=json_)


@command.command(
    "list", examples={"Also what is archived, resolved, ignored or merged": "hoverboard issues list --all"}
)
@click.argument("model", required=False)
@click.option("--all", "every", is_flag=True, help="Also those that are archived, resolved, ignored or merged.")
@_options
def list_(
    *, model: str | None, every: bool, database_url: str | None, data_dir: Path | None, json_: bool | None
) -> None:
    """List the open issues, of a model or of all: what escalates, has regressed or is new comes first, then the largest of the last day."""
    _list(model, every=every, settings=_settings(database_url, data_dir), json_=json_)


@command.command("show", examples={"Why it is open, and its latest samples": "hoverboard issues show 12"})
@_number
@_options
def show(*, number: int, database_url: str | None, data_dir: Path | None, json_: bool | None) -> None:
    """Show one issue: why it is as it is, how often it came, whose it is, its samples, and what became of it."""
    from hoverboard.cli.issue_pages import shown
    from hoverboard.watch.issue_reading import read_issue

    detail = asyncio.run(_read(_settings(database_url, data_dir), lambda connection: read_issue(connection, number)))
    if as_json(json_):
        emit(asdict(detail))
        return
    for part in shown(detail):
        console().print(part)


@command.command(
    "resolve",
    examples={"Version 4 will be right": 'hoverboard issues resolve 12 --in 4 --reason "trained on the new camera"'},
)
@_number
@click.option(
    "--in",
    "version",
    type=NUMBER,
    metavar="V",
    help="The first version that is right.  [default: the next one]",
)
@_reason
@_options
def resolve(*, number: int, version: int | None, reason: str, json_: bool | None, **where: Any) -> None:
    """Say that a version is right again. Only a sample from after this moment that this version or a later one finds brings it back."""
    from hoverboard.watch.issue_changes import resolve as change

    found = _change(where, reason, lambda connection, actor: change(connection, number, actor, version))
    _done(json_, number, f"Issue {number} is resolved in version {found}.")


@command.command(
    "archive", examples={"Not now, unless it becomes more": "hoverboard issues archive 12 --until-escalating"}
)
@_number
@click.option(
    "--until-escalating", is_flag=True, help="Until it comes more often than on the 7 days before.  [default: for ever]"
)
@_reason
@_options
def archive(*, number: int, until_escalating: bool, reason: str, json_: bool | None, **where: Any) -> None:
    """Put an issue out of sight, for ever or until it escalates."""
    from hoverboard.watch.issue_changes import archive as change

    _change(
        where, reason, lambda connection, actor: change(connection, number, actor, until_escalating=until_escalating)
    )
    _done(json_, number, f"Issue {number} is archived {'until it escalates' if until_escalating else 'for ever'}.")


@command.command("ignore", examples={"Known, and no matter": 'hoverboard issues ignore 12 --reason "test traffic"'})
@_number
@_reason
@_options
def ignore(*, number: int, reason: str, json_: bool | None, **where: Any) -> None:
    """Count an issue and do nothing else about it."""
    from hoverboard.watch.issue_changes import ignore as change

    _change(where, reason, lambda connection, actor: change(connection, number, actor))
    _done(json_, number, f"Issue {number} is ignored.")


@command.command("reopen", examples={"It is not right yet": "hoverboard issues reopen 12"})
@_number
@_reason
@_options
def reopen(*, number: int, reason: str, json_: bool | None, **where: Any) -> None:
    """Make an issue unresolved again, whatever was decided about it."""
    from hoverboard.watch.issue_changes import reopen as change

    _change(where, reason, lambda connection, actor: change(connection, number, actor))
    _done(json_, number, f"Issue {number} is open again.")


@command.command("merge", examples={"The same thing twice": "hoverboard issues merge 12 15"})
@_number
@click.argument("other", type=NUMBER, metavar="OTHER")
@click.option("--again", is_flag=True, help="Also where somebody took the two apart.")
@_reason
@_options
def merge(*, number: int, other: int, again: bool, reason: str, json_: bool | None, **where: Any) -> None:
    """Make issue OTHER part of issue N, with all that comes of it later."""
    from hoverboard.watch.issue_changes import merge as change

    _change(where, reason, lambda connection, actor: change(connection, number, other, actor, again=again))
    _done(json_, number, f"Issue {other} is part of issue {number} from now on.")


@command.command("unmerge", examples={"They were two things after all": "hoverboard issues unmerge 15"})
@_number
@_reason
@_options
def unmerge(*, number: int, reason: str, json_: bool | None, **where: Any) -> None:
    """Take issue N out of the one that it was merged into; the two are not merged again by accident."""
    from hoverboard.watch.issue_changes import unmerge as change

    whole = _change(where, reason, lambda connection, actor: change(connection, number, actor))
    _done(json_, number, f"Issue {number} is no part of issue {whole} any more.")


@command.command(
    "carry",
    examples={
        "Version 5 was trained anew; its outliers shall join what is known": "hoverboard issues carry digits --to 5"
    },
)
@click.argument("model")
@click.option("--to", "version", type=NUMBER, metavar="V", help="[default: the stable one]")
@click.option("--models", type=click.Path(path_type=Path, file_okay=False), help="The models directory.")
@_options
def carry(*, model: str, version: int | None, models: Path | None, json_: bool | None, **where: Any) -> None:
    """Make known issues known to a version with other weights: the samples that lead them run through it."""
    from hoverboard.cli.framework import load_as_guest
    from hoverboard.postmortem.carrying import carry as change

    load_as_guest("issues")
    # As whoever records, and not as a reader: it writes leaders and merges.
    settings = Settings.load(**where, models=models)
    found = asyncio.run(
        _changed(settings, "", lambda connection, _: change(connection, settings.models, model, version))
    )
    if as_json(json_):
        emit(asdict(found))
        return
    click.echo(f"Version {found.version} knows {len(found.issues):,} more issues, by {found.leaders:,} samples.")
    if found.merged:
        numbers = ", ".join(map(str, found.merged))
        click.echo(f"What it had found of them itself is part of them from now on: {numbers}.")
    if found.left_out:
        click.echo(f"{found.left_out:,} samples cannot be given to it: they are redacted, or not its inputs.")


@command.command("note", examples={"What the customer said": 'hoverboard issues note 12 "a new camera since Monday"'})
@_number
@click.argument("text")
@_options
def note(*, number: int, text: str, json_: bool | None, **where: Any) -> None:
    """Keep what you know of an issue."""
    from hoverboard.watch.issue_changes import note as change

    _change(where, text, lambda connection, actor: change(connection, number, actor))
    _done(json_, number, f"Noted on issue {number}.")


def _settings(database_url: str | None, data_dir: Path | None) -> Settings:
    return Settings.load(data_dir=data_dir, database_url=database_url)


async def _read(settings: Settings, question: Callable[[Connection], Awaitable[T]]) -> T:
    from hoverboard.postmortem.reading import reading

    async with reading(settings, application="hoverboard issues") as connection:
        return await question(connection)


def _change(where: dict[str, Any], reason: str, change: Callable[[Connection, IssueActor], Awaitable[T]]) -> T:
    """Run a change as the recorder: to read is not enough."""
    return asyncio.run(_changed(_settings(**where), reason, change))


async def _changed(settings: Settings, reason: str, change: Callable[[Connection, IssueActor], Awaitable[T]]) -> T:
    from hoverboard.database.address import database_url
    from hoverboard.database.connect import connected, place
    from hoverboard.database.failures import sentence, transient
    from hoverboard.database.migrate import require_current
    from hoverboard.errors import DatabaseUnavailable, HoverboardError
    from hoverboard.watch.issue_changes import IssueActor

    url = database_url(settings)
    try:
        async with connected(url, application="hoverboard issues") as connection:
            await require_current(connection)
            return await change(connection, IssueActor(whoever_asks(), reason))
    except Exception as error:
        # A sentence of ours says what to do; what Postgres says needs who it was and that nothing happened.
        if isinstance(error, HoverboardError) or not transient(error):
            raise
        raise DatabaseUnavailable(f"nothing was changed: {place(url)}: {sentence(error)}") from error


def _done(json_: bool | None, number: int, sentence: str) -> None:
    if as_json(json_):
        emit({"issue": number, "done": sentence})
    else:
        click.echo(sentence)


def _list(model: str | None, *, every: bool, settings: Settings, json_: bool | None) -> None:
    from hoverboard.cli.issue_pages import listed, unknown
    from hoverboard.watch.issue_reading import UnknownIssues, list_issues, ungrouped, unknown_issues

    async def question(connection: Connection) -> tuple[list[dict[str, Any]], int, list[UnknownIssues]]:
        rows = await list_issues(connection, model, every=every)
        return rows, await ungrouped(connection, model), await unknown_issues(connection, model)

    rows, left_out, to_carry = asyncio.run(_read(settings, question))
    if as_json(json_):
        emit({"issues": rows, "ungrouped": left_out, "unknown": [asdict(each) for each in to_carry]})
        return
    if rows:
        for part in listed(rows):
            console().print(part)
    else:
        click.echo(
            "No issues." if every else "No open issues; --all lists the others, too." if model else "No open issues."
        )
    if left_out:
        click.echo(f"{left_out:,} outliers joined no issue; the recorder's log says why.")
    for each in to_carry:
        click.echo(unknown(each))
