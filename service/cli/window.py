"""`--from`, `--to` and `--where`: which recorded samples a command is about, the same in all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import click

from hoverboard.postmortem.window import RecordedWindow, parse_time, parse_where

__all__ = ["EVERYTHING", "window_of", "window_options"]

F = TypeVar("F", bound=Callable[..., Any])

EVERYTHING: Final = timedelta(days=36_500)
"""Longer than anything is kept."""


def window_options(command: F) -> F:
    """Add the three options to a command, which is given them as `from_`, `to` and `where`."""
    options = (
        click.option(
            "--from", "from_", metavar="TIME", help="From then on: 2026-11-30T07:12 (UTC), or 2h for two hours ago."
        ),
        click.option("--to", metavar="TIME", help="Until then.  [default: now]"),
        click.option(
            "--where",
            multiple=True,
            metavar="NAME=VALUE",
            help="Only samples with this tag.NAME, version, label (as answered), caller or process. Repeatable: all must hold.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def window_of(
    model: str,
    from_: str | None,
    to: str | None,
    where: Sequence[str],
    *,
    since: timedelta,
    now: datetime | None = None,
) -> RecordedWindow:
    """The samples that these options mean.

    Args:
        since: how long before its end the time begins, where `--from` is left out.
        now: the present time, unless it is given.

    Raises:
        ConfigError: a time or a condition makes no sense.
    """
    now = now or datetime.now(UTC)
    end = now if to is None else parse_time(to, now)
    start = end - since if from_ is None else parse_time(from_, now)
    return RecordedWindow(model, start, end, parse_where(where))
