"""`--from`, `--to`, `--where` and what leaves rows out: which recorded samples a command is about, the same in all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import click

from hoverboard.cli.numbers import NUMBER
from hoverboard.errors import ConfigError
from hoverboard.postmortem.window import RecordedWindow, RowChoice, parse_time, parse_where

__all__ = ["EVERYTHING", "choice_of", "choice_options", "where_option", "window_of", "window_options"]

F = TypeVar("F", bound=Callable[..., Any])

EVERYTHING: Final = timedelta(days=36_500)
"""Longer than anything is kept."""


def where_option(command: F) -> F:
    """Add `--where` to a command, which is given it as `where`."""
    return click.option(
        "--where",
        multiple=True,
        metavar="NAME=VALUE",
        help="Only samples with this tag.NAME, version, label (as answered), caller or process; NAME!=VALUE: only those "
        "without. Repeatable: all must hold.",
    )(command)


def window_options(command: F) -> F:
    """Add the three options to a command, which is given them as `from_`, `to` and `where`."""
    options = (
        click.option(
            "--from",
            "from_",
            metavar="TIME",
            help="From then on: 2026-11-30T07:12 (UTC), or 2h or -2h for two hours ago.",
        ),
        click.option("--to", metavar="TIME", help="Until then.  [default: now]"),
        where_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def choice_options(command: F) -> F:
    """Add the options that say which samples by what came of them; `choice_of` takes what they give."""
    options = (
        click.option("--labelled", is_flag=True, help="Only samples with a label."),
        click.option("--issue", type=NUMBER, help="Only outliers of this issue."),
        click.option("--without-issue", type=NUMBER, multiple=True, help="No outliers of this issue. Repeatable."),
        click.option("--without-outliers", is_flag=True, help="No samples that any version found strange."),
        click.option("--label-source", multiple=True, metavar="NAME", help="Only labels of this source. Repeatable."),
        click.option(
            "--without-label-source", multiple=True, metavar="NAME", help="No labels of this source. Repeatable."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def choice_of(options: Mapping[str, Any]) -> RowChoice:
    """The rows that those options mean.

    Raises:
        ConfigError: they mean none.
    """
    without = tuple(sorted(set(options["without_issue"])))
    if options["issue"] is not None and (options["without_outliers"] or options["issue"] in without):
        raise ConfigError(
            f"--issue {options['issue']} means outliers that --without-outliers or --without-issue leaves out: no sample is left"
        )
    sources, others = (tuple(sorted(set(options[name]))) for name in ("label_source", "without_label_source"))
    if both := sorted(set(sources) & set(others)):
        raise ConfigError(
            f"--label-source {both[0]} and --without-label-source {both[0]}: one of them leaves out what the other means"
        )
    return RowChoice(options["labelled"], options["issue"], without, options["without_outliers"], sources, others)


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
    return RecordedWindow(model, start, end, *parse_where(where))
