"""Where the Postgres is that a service records to: the one of its settings, or the embedded one of its data directory."""

from __future__ import annotations

from typing import Final

from hoverboard.config import ENV_PREFIX, Settings
from hoverboard.postgres.endpoint import embedded_url
from hoverboard.postgres.passwords import RECORDER

__all__ = ["DATABASE_VARIABLE", "database_url"]

DATABASE_VARIABLE: Final = f"{ENV_PREFIX}DATABASE_URL"
"""Holds a password: the supervisor gives it to the recorder alone, and writes it into no file."""


def database_url(settings: Settings, user: str = RECORDER) -> str:
    """The URL of the service's Postgres.

    Args:
        settings: the service's.
        user: of the embedded one; another one's URL names its own.

    Raises:
        ConfigError: it is the embedded one, and that does not run.
    """
    return settings.database_url.get_secret_value() or embedded_url(settings.data_dir, user)
