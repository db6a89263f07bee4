"""Where the server, its models and its data are, when a command is not told; and a client for it."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click

from hoverboard.config import TOKEN_FILE, Settings
from hoverboard.errors import ConfigError
from hoverboard.shell import shell_word

if TYPE_CHECKING:
    from hoverboard.client.sync import Client

__all__ = [
    "admin_token",
    "admin_url",
    "connected",
    "data_dir",
    "data_dir_option",
    "database_url_option",
    "models_dir",
    "named",
    "public_url",
    "whoever_asks",
]

_PATIENCE_S: Final = 630.0
"""Seconds that a command waits: the longest deadline that a service allows unless told otherwise, and then some."""


database_url_option = click.option(
    "--database-url", metavar="URL", help="The database.  [default: that of the settings]"
)
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of the service.  [default: data_dir of the settings]",
)


def whoever_asks() -> str:
    """The user's name; the number of one without a name, as containers have them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user id {os.getuid()}"


def named(data_dir: Path | None, database_url: str | None) -> str:
    """`--data-dir` and `--database-url` as a command was given them, quoted for a shell.

    A URL with a password stays out of what is printed and passed on: the variable of the settings stands for it.
    """
    words = [] if data_dir is None else ["--data-dir", shell_word(str(data_dir))]
    if database_url is not None:
        secret = urlsplit(database_url).password is not None or "password=" in database_url
        words += ["--database-url", '"$HOVERBOARD_DATABASE_URL"' if secret else shell_word(database_url)]
    return " ".join(words)


def public_url() -> str:
    """The public listener of the settings in force here."""
    return Settings.load().public_url


def admin_url() -> str:
    """The admin listener of the settings in force here."""
    return Settings.load().admin_url


def data_dir() -> Path:
    """The data directory of the settings in force here."""
    return Settings.load().data_dir


def models_dir() -> Path:
    """The models directory of the settings in force here."""
    return Settings.load().models


def connected(url: str, *, token: str | None = None) -> Client:
    """A client for one command: patient with a server that is busy, and not with one that is not there.

    Raises:
        ConfigError: the URL is none.
    """
    # Imported late: `--help` should not wait for what it does not need.
    from hoverboard.client.retries import Retries
    from hoverboard.client.sync import Client

    try:
        return Client(url, token=token, retries=Retries(unreachable=False), patience_s=_PATIENCE_S)
    except ConfigError as error:
        raise ConfigError(f"--url {error}") from error


def admin_token(data_dir: Path) -> str:
    """The admin listener's bearer token.

    Raises:
        ConfigError: no server has been started on that data directory, or the file is not ours to read.
    """
    path = data_dir / TOKEN_FILE
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"{path}: {(error.strerror or '').lower()}; `hoverboard serve` writes it, --data-dir says where"
        ) from error
