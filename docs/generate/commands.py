"""docs/reference/commands.md, from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping

import click

from docs.generate.markdown import Row, sentence, table
from hoverboard.cli import main

__all__ = ["page"]


def page() -> str:
    """Every command with its options, exit statuses and examples."""
    sections = [_command(path, command) for path, command in _walk(("hoverboard",), main)]
    return "# Commands\n\n" + "\n".join(sections)


def _walk(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None  # noqa: S101 - it is on the list
            yield from _walk((*path, name), inner)


def _command(path: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(path))
    usage = " ".join([context.info_name or "", *command.collect_usage_pieces(context)])
    paragraphs = inspect.cleandoc((command.help or "").replace("\b\n", "")).split("\n\n")
    parts = [f"## {' '.join(path)}\n", f"```text\n{usage}\n```\n", *(f"{sentence(text)}\n" for text in paragraphs)]
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    if path == ("hoverboard", "serve"):
        parts.append("Each option is one of the [settings](settings.md).\n")
    elif options:
        parts.append(table(["option", "values", "meaning"], [_option(one, context) for one in options]))
    statuses: Mapping[str, str] = getattr(command, "statuses", {})
    if statuses:
        parts.append(table(["exit status", "meaning"], [[f"`{status}`", text] for status, text in statuses.items()]))
    examples: Mapping[str, str] = getattr(command, "examples", {})
    lines = [f"# {what}\n{line}" for what, line in examples.items()]
    parts.append("```text\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(parts)


def _option(option: click.Option, context: click.Context) -> Row:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    meaning = sentence(option.help)
    if option.show_default and option.default not in (None, ()):
        meaning += f" Default: `{option.default}`."
    # Other defaults stand in the help, since what they are is known only when the command runs.
    return [names, _values(option, context), re.sub(r" ?\[default: (.*?)\]", r" Default: \1.", meaning)]


def _values(option: click.Option, context: click.Context) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return ", ".join(f"`{value}`" for value in option.type.choices)
    if isinstance(option.type, click.IntRange):
        low, high = option.type.min, option.type.max
        return f"integer, at least {low}" if high is None else f"integer, {low} to {high}"
    return option.make_metavar(context).lower().strip("[]")
