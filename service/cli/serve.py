"""`hoverboard serve`: a flag for every setting."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from hoverboard.cli.help import Command
from hoverboard.config import ENV_PREFIX, Settings
from hoverboard.errors import ConfigError

__all__ = ["command", "setting_options"]


def setting_options() -> list[click.Option]:
    """One option for each field of `Settings`, in its order; its help is the field's docstring.

    An option that is not given is None, so that the environment and `hoverboard.toml` have their say.
    """
    return [_option(name, field) for name, field in Settings.model_fields.items()]


def _option(name: str, field: FieldInfo) -> click.Option:
    flag = f"--{name.replace('_', '-')}"
    return click.Option(
        [f"{flag}/--no-{flag[2:]}" if field.annotation is bool else flag],
        type=_type(field.annotation),
        default=None,
        help=f"{field.description}  [default: {_shown(field.default)}; {ENV_PREFIX}{name.upper()}]",
    )


def _shown(default: Any) -> Any:
    return "empty" if isinstance(default, SecretStr) else default


def _type(annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation), case_sensitive=False)
    if annotation is Path:
        return click.Path(path_type=Path)
    if annotation is SecretStr:
        return str
    return annotation


def _serve(**flags: Any) -> None:
    # Before the supervisor: its engine would die again and again, and say why in a log only.
    from hoverboard.backends.backend import require_framework

    settings = Settings.load(**flags)
    require_framework("hoverboard serve", extra=None if _has_postgres(settings) else "local")
    from hoverboard.supervisor import Supervisor

    sys.exit(Supervisor(settings).run())


def _has_postgres(settings: Settings) -> bool:
    """Whether what the settings record has somewhere to go, as far as what is installed has a say."""
    from hoverboard.postgres.programs import binaries

    if settings.recording == "off" or settings.database_url.get_secret_value():
        return True
    try:
        binaries()
    except ConfigError:
        return False
    return True


command = Command(
    "serve",
    params=[*setting_options()],
    callback=_serve,
    help="""Serve every model of a directory over JSON-RPC, until SIGTERM or Ctrl-C.

    Each flag is a setting. A flag wins over its environment variable, that over `hoverboard.toml` in the working
    directory, and that over the default.
    """,
    short_help="Serve every model of a directory over JSON-RPC.",
    examples={
        "Serve ./models on 127.0.0.1:8080": "hoverboard serve",
        "Another directory and port, two api processes": (
            "hoverboard serve --models /srv/models --port 9000 --api-workers 2"
        ),
        "The same by environment": "HOVERBOARD_MODELS=/srv/models HOVERBOARD_PORT=9000 hoverboard serve",
        "Answer the machine's other addresses too": "hoverboard serve --host 0.0.0.0",
    },
    statuses={"0": "It was asked to stop, and has drained.", "1": "It did not start; stderr says why."},
)
