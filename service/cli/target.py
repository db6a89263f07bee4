"""Where the server, its models and its data are, when a command is not told."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hoverboard.config import Settings

__all__ = ["admin_url", "data_dir", "models_dir", "public_url"]

_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104 - reached by loopback


def public_url() -> str:
    """The public listener of the settings in force here."""
    settings = Settings.load()
    return _url(settings.host, settings.port)


def admin_url() -> str:
    """The admin listener of the settings in force here."""
    settings = Settings.load()
    return _url(settings.admin_host, settings.admin_port)


def data_dir() -> Path:
    """The data directory of the settings in force here."""
    return Settings.load().data_dir


def models_dir() -> Path:
    """The models directory of the settings in force here."""
    return Settings.load().models


def _url(host: str, port: int) -> str:
    reached = _WILDCARDS.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{reached}:{port}"
