"""A report as one HTML page that needs nothing else: no script, no other file, no host. Whatever was recorded is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from hoverboard.postmortem.report import Report
from hoverboard.postmortem.sections import sections, title, took

__all__ = ["render_html"]

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
li { margin: .3rem 0; overflow-wrap: anywhere; } .sentence { font-size: 1.1rem; }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; } summary { cursor: pointer; color: #555; }
@media (prefers-color-scheme: dark) { body { color: #e6e6e6; background: #161616; } pre { background: #242424; } summary { color: #aaa; } }
"""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def render_html(report: Report) -> str:
    """The page, UTF-8; each section folds out the SQL behind it."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    named = escape(title(report))
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>{named}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield f'<h1>{named}</h1>\n<p class="sentence">{escape(report.summary)}</p>'
    for section in sections(report):
        yield f"<section>\n<h2>{escape(section.title)}</h2>"
        if section.code:
            commands = escape("\n".join(section.lines))
            yield f"<pre>{commands}</pre>"
        else:
            yield "<ul>"
            yield from (f"<li>{escape(line.strip())}</li>" for line in section.lines)
            yield "</ul>"
        for figure in section.figures:
            if figure in report.sql:
                text = escape(report.sql[figure])
                yield f"<details><summary>SQL: {escape(figure)}</summary><pre>{text}</pre></details>"
        yield "</section>"
    yield f"<p>{escape(took(report))}</p>\n</body>\n</html>"
