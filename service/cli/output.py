"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["as_json", "bar", "console", "emit", "json_option", "table"]

json_option = click.option(
    "--json/--pretty",
    "json_",
    default=None,
    help="Print JSON, or tables.  [default: tables on a terminal, JSON in a pipe]",
)


def as_json(flag: bool | None) -> bool:
    """Whether to print JSON: as the flag says, or else wherever stdout is no terminal."""
    return not sys.stdout.isatty() if flag is None else flag


def emit(value: Any) -> None:
    """Print a value as one indented JSON document."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def console(*, stderr: bool = False) -> Console:
    """A terminal to draw on."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[RenderableType]], *, right: Sequence[str] = ()
) -> RenderableType:
    """A plain table: a line under the header, none around; the columns in `right` are aligned to the right."""
    from rich import box
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        drawn.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    return drawn


def bar(share: float, width: int = 20) -> str:
    """A share of 0 to 1 as a bar of eighths of a block."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    blocks, rest = divmod(eighths, 8)
    return "█" * blocks + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
