"""Help pages that end with exit statuses and examples."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["Command", "CommandGroup"]


class _Examples:
    """Adds sections to a command's help.

    Args:
        examples: what a line does -> the line.
        statuses: exit statuses that are the command's own, beside 0 (done), 1 (failed) and 2 (the line makes no sense).
    """

    def __init__(
        self,
        *args: Any,
        examples: Mapping[str, str] | None = None,
        statuses: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        extra.setdefault("context_settings", {}).setdefault("max_content_width", 110)
        extra["context_settings"].setdefault("help_option_names", ["-h", "--help"])
        super().__init__(*args, **extra)
        self.examples = dict(examples or {})
        self.statuses = dict(statuses or {})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does.

        Raises:
            click.BadParameter: a name or a value is no text. Paths may be any bytes.
        """
        rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        params: list[click.Parameter] = getattr(self, "params", [])
        for param in params:
            given = ctx.params.get(param.name or "")
            for value in given if isinstance(given, tuple) else (given,):
                if isinstance(value, str) and isinstance(param.type, click.types.StringParamType):
                    _check_text(value, ctx, param)
        return rest

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click passes it
        """Write them after everything else."""
        if self.statuses:
            with formatter.section("Exit status"):
                formatter.write_dl(list(self.statuses.items()))
        if self.examples:
            with formatter.section("Examples"):
                for what, line in self.examples.items():
                    formatter.write(f"{'':>{formatter.current_indent}}# {what}\n")
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _check_text(value: str, ctx: click.Context, param: click.Parameter) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise click.BadParameter(f"{os.fsencode(value)!r} is no UTF-8", ctx, param) from error


class Command(_Examples, click.Command):
    """A command whose help ends with examples."""


class CommandGroup(_Examples, click.Group):
    """A group whose help ends with examples."""

    command_class = Command
