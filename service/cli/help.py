"""Help pages that end with examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

__all__ = ["Command", "CommandGroup"]


class _Examples:
    """Adds a section `Examples` to a command's help: what it does, then the line that does it."""

    def __init__(self, *args: Any, examples: Mapping[str, str] | None = None, **extra: Any) -> None:
        extra.setdefault("context_settings", {}).setdefault("max_content_width", 110)
        extra["context_settings"].setdefault("help_option_names", ["-h", "--help"])
        super().__init__(*args, **extra)
        self.examples = dict(examples or {})

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click passes it
        """Write the examples after everything else."""
        if self.examples:
            with formatter.section("Examples"):
                for what, line in self.examples.items():
                    formatter.write(f"{'':>{formatter.current_indent}}# {what}\n")
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class Command(_Examples, click.Command):
    """A command whose help ends with examples."""


class CommandGroup(_Examples, click.Group):
    """A group whose help ends with examples."""

    command_class = Command
