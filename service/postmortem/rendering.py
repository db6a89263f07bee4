"""A report as text for a terminal, and as Markdown for a wiki or a ticket: the same sections in the same order."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Final

from hoverboard.postmortem.report import Report
from hoverboard.postmortem.sections import Section, answer, asked, not_usual, sections, sql_of, title, took

__all__ = ["command_lines", "render_markdown", "render_text"]

_WIDTH: Final = 80
_ROOM: Final = 26
"""Columns kept for an option's value, such as a time or a condition."""
_WORD: Final = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")
_COMMAND: Final = "    hoverboard "
_NAMED: Final = re.compile("`hoverboard [^`]*`")
_MARKS: Final = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]#|~>"} | {"<": "&lt;", "&": "&amp;"})


def render_text(report: Report, *, sql: bool = False) -> str:
    """For a terminal of 80 columns: the answer first, then why; with the SQL of each section where it is wanted."""
    if not report.changed and not sql:
        return "\n".join(_quiet(report))
    lines = [*_wrapped(answer(report)), "", *_wrapped(f"{asked(report)} {took(report)}")]
    for section in sections(report):
        lines += ["", section.title]
        for line in section.lines:
            lines += command_lines(line, _indent(section, line)) if _typed(section, line) else _wrapped(line, "  ")
        if sql:
            lines += [f"  {line}" for text in sql_of(report, section).values() for line in ("", *text.splitlines())]
    return "\n".join(lines)


def render_markdown(report: Report, *, sql: bool = False) -> str:
    """For a wiki or a ticket."""
    lines = [f"# {_escaped(title(report))}", "", f"**{_escaped(answer(report))}**"]
    for section in sections(report):
        lines += ["", f"## {section.title}", ""]
        lines += _block("sh", "\n".join(section.lines)) if section.code else _items(section)
        if sql:
            for figure, text in sql_of(report, section).items():
                lines += ["", f"SQL: {_escaped(figure)}", "", *_block("sql", text)]
    lines += ["", _escaped(f"{asked(report)} {took(report)}")]
    return "\n".join(lines)


def _quiet(report: Report) -> Iterator[str]:
    """A quiet day needs no page: that it was one, what is missing, and what was looked at."""
    yield from _wrapped(answer(report))
    for section in sections(report):
        if section.title == "What cannot be known" and report.unknown:
            for line in section.lines:
                yield from _wrapped(f"Not known: {line}")
    for line in not_usual(report):
        yield from _wrapped(line)
    yield from _wrapped(title(report))
    yield from command_lines(f"Next: {report.next[0]}")


def command_lines(command: str, indent: str = "") -> list[str]:
    """A command in lines of at most 80 columns, broken before options, which a shell takes together when they are pasted."""
    lines, line = [], indent
    for word in _WORD.findall(command):
        if word.startswith("--") and len(line) + len(word) + _ROOM > _WIDTH and line.strip():
            lines.append(f"{line}\\")
            line = f"{indent}    "
        line += f"{word} "
    return [*lines, line.rstrip()]


def _wrapped(text: str, indent: str = "") -> list[str]:
    more = indent + " " * (len(text) - len(text.lstrip(" ")))
    # What is typed stays in one line: `\0` is in no text that is shown.
    whole = _NAMED.sub(lambda found: found[0].replace(" ", "\0"), text.strip())
    lines = textwrap.wrap(
        whole,
        _WIDTH,
        initial_indent=more,
        subsequent_indent=more + "  " * bool(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]


def _typed(section: Section, line: str) -> bool:
    return section.code or line.startswith(_COMMAND)


def _indent(section: Section, line: str) -> str:
    return "  " if section.code else " " * (len(line) - len(line.lstrip()) + 2)


def _items(section: Section) -> Iterator[str]:
    for line in section.lines:
        if _typed(section, line):
            yield from (f"    {each}" for each in ("", *_block("sh", line.strip()), ""))
        else:
            nested = "  " if line.startswith("  ") else ""
            yield f"{nested}- {_escaped(line.strip())}"


def _block(language: str, text: str) -> list[str]:
    """Code, in a fence that nothing in it can end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [f"{fence}{language}", text, fence]


def _escaped(text: str) -> str:
    """What callers wrote must not become markup of a page that shows this."""
    return text.translate(_MARKS)
