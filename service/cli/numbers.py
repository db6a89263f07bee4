"""Numbers of versions and issues on the command line."""

from __future__ import annotations

from typing import Any, Final

import click

__all__ = ["NUMBER"]

_LARGEST: Final = 2**63 - 1
_SHOWN: Final = 20


class _Number(click.IntRange):
    """What the database can hold of them; anything else is refused in a sentence, before anybody is asked."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:  # no number, or one of thousands of digits
            number = 0
        if not 1 <= number <= _LARGEST:
            text = str(value)
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            self.fail(f"{shown}: expected a whole number from 1 to {_LARGEST}", param, ctx)
        return number


NUMBER: Final = _Number(1, _LARGEST)
"""A number of a version or an issue."""
