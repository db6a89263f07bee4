"""`hoverboard migrate`: the schema of the database that is recorded to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from hoverboard.cli.help import Command
from hoverboard.cli.output import as_json, console, emit, json_option, table
from hoverboard.cli.target import database_url_option
from hoverboard.config import Settings

if TYPE_CHECKING:
    from hoverboard.database.migrate import Status

__all__ = ["command"]


@click.command(
    "migrate",
    cls=Command,
    short_help="Bring the schema of the database up to date.",
    examples={
        "The database of HOVERBOARD_DATABASE_URL or hoverboard.toml": "hoverboard migrate",
        "Look, change nothing": "hoverboard migrate --status",
        "Another database": "hoverboard migrate --database-url postgresql://owner@db/hoverboard",
    },
)
@database_url_option
@click.option("--status", "only_status", is_flag=True, help="Say what is applied and what is pending, and stop.")
@json_option
def command(database_url: str | None, only_status: bool, json_: bool | None) -> None:
    """Apply the migrations that the database lacks.

    Doing it again does nothing, and two at once wait for each other. Migrate before you start a newer Hoverboard. The
    embedded Postgres needs no command: `hoverboard serve` migrates it.
    """
    from hoverboard.database import migrate

    url = _url(database_url)
    done = () if only_status else asyncio.run(migrate.migrate(url))
    status = asyncio.run(migrate.status(url))
    if as_json(json_):
        emit(
            {
                "applied": [{"name": one.name, "applied_at": one.applied_at} for one in status.applied],
                "pending": [one.name for one in status.pending],
                "now": [one.name for one in done],
            }
        )
    elif only_status:
        console().print(_listed(status))
    elif done:
        click.echo(f"Applied {', '.join(one.name for one in done)}.")
    else:
        click.echo(f"Nothing to do: {status.applied[-1].name} is the last migration, and applied.")


def _url(flag: str | None) -> str:
    from hoverboard.database.address import database_url
    from hoverboard.postgres.passwords import USER

    return database_url(Settings.load(database_url=flag), USER)


def _listed(status: Status) -> object:
    applied = [[one.name, f"applied {one.applied_at:%Y-%m-%d %H:%M} UTC"] for one in status.applied]
    return table(["migration", ""], applied + [[one.name, "pending"] for one in status.pending])
