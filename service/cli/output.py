"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["as_json", "bar", "console", "emit", "json_option", "plain", "plain_text", "table"]

_WORD: Final = 8
"""Cells of a terminal that a column may ask for whatever it holds: words as short as `quiet` never break."""
_TEXT: Final = 12
"""The least width at which a text that breaks can still be read."""
_PADDING: Final = 2

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
    from rich.cells import cell_len
    from rich.table import Table

    widest = {
        name: max((cell_len(line) for row in rows for line in _lines(row[place])), default=0)
        for place, name in enumerate(columns)
    }
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    whole: set[str] = set()
    room = console().width - len(columns)
    if sum(max(widest[name], cell_len(name)) + _PADDING for name in columns) > room:
        # Half a number is a wrong one: where a terminal is narrow, long headers and the texts beside it break instead.
        whole = {name for name in columns if name in right or widest[name] <= _WORD}
        least = sum(max([widest[name], *map(len, name.split())]) if name in whole else _TEXT for name in columns)
        if least + _PADDING * len(columns) > room:
            drawn.padding = 0
        if least > room:
            whole = set()  # a column that may not break would leave no room to the others
    for name in columns:
        header = name.replace(" ", "\n") if name in whole and cell_len(name) > widest[name] else name
        justify: Literal["left", "right"] = "right" if name in right else "left"
        drawn.add_column(header, justify=justify, overflow="fold", no_wrap=name in whole)
    for row in rows:
        drawn.add_row(*row)
    return drawn


def _lines(cell: RenderableType) -> Sequence[str]:
    from rich.text import Text

    return Text.from_markup(cell).plain.splitlines() if isinstance(cell, str) else ()


def plain(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Cells that somebody else has written: their square brackets are no markup, and they reach no terminal's controls."""
    return [[plain_text(cell) for cell in row] for row in rows]


def plain_text(text: str) -> str:
    """The same for one text."""
    from rich.markup import escape

    from hoverboard.database.text import plain_line

    return escape(plain_line(text))


def bar(share: float, width: int = 20) -> str:
    """A share of 0 to 1 as a bar of eighths of a block."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    blocks, rest = divmod(eighths, 8)
    return "█" * blocks + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
