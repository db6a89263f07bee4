"""`hoverboard alarms`: which versions find more samples strange than they may, and taking note of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hoverboard.cli.help import CommandGroup
from hoverboard.cli.numbers import NUMBER
from hoverboard.cli.output import as_json, console, emit, json_option, table
from hoverboard.cli.target import admin_token, admin_url, connected, data_dir_option, database_url_option, named
from hoverboard.cli.target import data_dir as configured_data_dir
from hoverboard.config import Settings

if TYPE_CHECKING:
    from hoverboard.watch.alarm import Raised
    from hoverboard.watch.alarm_table import AlarmRow

__all__ = ["command"]


@click.group(
    "alarms",
    cls=CommandGroup,
    invoke_without_command=True,
    short_help="List the alarms on outliers, and reset them.",
    examples={
        "How every version's alarm stands": "hoverboard alarms",
        "The same as JSON": "hoverboard alarms --json",
        "Quiet it, once you know why": 'hoverboard alarms reset digits 2 --reason "a new kind of camera"',
    },
)
@database_url_option
@data_dir_option
@json_option
@click.pass_context
def command(context: click.Context, database_url: str | None, data_dir: Path | None, json_: bool | None) -> None:
    """List the alarm of every version with a calibrated detector, as the recorder has written it to Postgres.

    An alarm is raised when a version finds outliers more often than its calibration allows, beyond what chance explains,
    and stays raised until it is reset. The service may run or not; Postgres must.
    """
    if context.invoked_subcommand is not None:
        if database_url or data_dir:
            raise click.UsageError(f"give --database-url and --data-dir after `{context.invoked_subcommand}`")
        return
    rows = asyncio.run(_read(Settings.load(data_dir=data_dir, database_url=database_url)))
    if as_json(json_):
        emit({"alarms": [_values(row) for row in rows]})
    elif rows:
        console().print(_listed(rows))
        for sentence in _raised(rows, named(data_dir, database_url)):
            click.echo(sentence)
    else:
        click.echo("No version with a calibrated detector has been recorded yet.")


@command.command(
    "reset",
    examples={"Quiet it, once you know why": 'hoverboard alarms reset digits 2 --reason "a new kind of camera"'},
)
@click.argument("name")
@click.argument("version", type=NUMBER)
@click.option("--reason", help="Why. It is kept.")
@click.option("--url", help="The admin listener.  [default: http://ADMIN_HOST:ADMIN_PORT of the settings]")
@data_dir_option
@json_option
def reset(
    *, name: str, version: int, reason: str | None, url: str | None, data_dir: Path | None, json_: bool | None
) -> None:
    """Take note of a version's alarm, so that it is quiet and counts anew from now on. Goes to the admin listener."""
    params = {"model": name, "version": version, "reason": reason}
    with connected(url or admin_url(), token=admin_token(data_dir or configured_data_dir())) as client:
        answer = client.call("alarms.reset", params)
    if as_json(json_):
        emit(answer)
    else:
        click.echo(f"{name} version {version}: its alarm is reset as soon as the recorder reads so.")


async def _read(settings: Settings) -> list[AlarmRow]:
    from hoverboard.database.address import database_url
    from hoverboard.database.connect import connected
    from hoverboard.database.migrate import require_current
    from hoverboard.watch.alarm_table import list_alarms

    async with connected(database_url(settings), application="hoverboard alarms", role=None) as connection:
        await require_current(connection)
        return await list_alarms(connection)


def _values(row: AlarmRow) -> dict[str, Any]:
    alarm = row.alarm
    return {
        "model": row.model,
        "version": row.version,
        "weights_sha256": row.weights_sha256,
        "state": "quiet" if alarm.raised is None else "raised",
        "rate": alarm.rate,
        "bound": alarm.bound,
        "log10_e_value": alarm.evidence.log10_e,
        "rows": alarm.evidence.rows,
        "flagged": alarm.evidence.flagged,
        "repeats": alarm.evidence.repeats,
        "since_onset": None if alarm.raised is None else alarm.raised.since_onset,
        "raised_at": None if alarm.raised is None else _moment(alarm.raised.at_us),
        "onset_at": None if alarm.raised is None else _moment(alarm.raised.onset_us),
        "reset_at": None if alarm.reset_us is None else _moment(alarm.reset_us),
        "updated_at": row.updated_at,
    }


def _listed(found: Sequence[AlarmRow]) -> Any:
    names = ["model", "version", "alarm", "flagged now", "bound", "e-value", "samples", "repeats"]
    return table(names, [_cells(row) for row in found], right=names[3:])


def _cells(row: AlarmRow) -> list[str]:
    alarm = row.alarm
    return [
        row.model,
        str(row.version),
        "quiet" if alarm.raised is None else "[red]raised[/]",
        "" if alarm.rate is None else f"{alarm.rate:.2%}",
        f"{alarm.bound:.2%}",
        f"10^{alarm.evidence.log10_e:.1f}",
        f"{alarm.evidence.rows:,}",
        f"{alarm.evidence.repeats:,}",
    ]


def _raised(found: Sequence[AlarmRow], target: str) -> list[str]:
    """A sentence on each alarm that is raised, and what to type to learn why."""
    from hoverboard.watch.alarm_table import question_of

    return [
        f"{row.model} version {row.version}: raised at {_shown(raised.at_us)}; it seems to have begun at "
        f"{_shown(raised.onset_us)}. {_counted(raised)} What is behind it: "
        f"`{' '.join(filter(None, (question_of(row.model, raised), target)))}`."
        for row in found
        if (raised := row.alarm.raised) is not None
    ]


def _counted(raised: Raised) -> str:
    """How much there is of it: since it began, which is what there is to look at, where that was counted."""
    since = raised.since_onset
    if since is None:
        return f"Counted until it was raised: {raised.flagged:,} outliers in {raised.rows:,} samples."
    share = f" ({since.flagged / since.rows:.1%})" if since.rows else ""
    repeats = f", {since.repeats:,} repeats left out" if since.repeats else ""
    return f"Since then: {since.flagged:,} outliers in {since.rows:,} samples{share}{repeats}."


def _moment(at_us: int) -> datetime:
    from hoverboard.contract.times import nearest_time

    return nearest_time(at_us)


def _shown(at_us: int) -> str:
    return f"{_moment(at_us):%Y-%m-%d %H:%M:%S} UTC"
