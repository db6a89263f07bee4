"""A report as one HTML page that needs nothing else: no script, no other file, no host. Whatever was recorded is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec

from hoverboard.database.text import plain_line
from hoverboard.postmortem.page_charts import bar, histogram, safe, swatch, timeline
from hoverboard.postmortem.report import Report, ReportedCause, ReportedExample
from hoverboard.postmortem.sections import (
    ALARM_COUNTS,
    Section,
    answer,
    asked,
    cause_name,
    described,
    happened,
    sections,
    sql_of,
    title,
    told_causes,
    took,
    undo_of,
    weight,
)
from hoverboard.postmortem.wording import share

__all__ = ["render_html"]

_STYLE: Final = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_LONGEST: Final = 160
_LONGEST_NAME: Final = 40
_LEAST_BELIEF: Final = 0.01
_MOST_MEMBERS: Final = 12


def render_html(report: Report) -> str:
    """The page, UTF-8; each section folds out the SQL behind it."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{safe(title(report))}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<main>"
    yield f'<p class="of">Postmortem of {safe(title(report))}</p>\n<h1>{safe(answer(report))}</h1>'
    yield from _tiles(report)
    parts = {
        "Since when": _since,
        "How much, and who": _who,
        "What differs": _differs,
        "Which cause": _causes,
        "What it looks like": _examples,
    }
    for section in sections(report):
        yield f"<section>\n<h2>{safe(section.title)}</h2>"
        yield from parts[section.title](report, section) if section.title in parts else _told(section)
        for figure, sql in sql_of(report, section).items():
            yield f"<details><summary>SQL: {safe(figure)}</summary><pre>{_code(sql)}</pre></details>"
        yield "</section>"
    yield f'<p class="note">{safe(asked(report))} {safe(took(report))} Times are UTC.</p>\n</main>\n</body>\n</html>'


def _tiles(report: Report) -> Iterator[str]:
    bad = report.bad
    tiles = [(report.about, f"{bad.rows:,.0f} of {bad.of:,.0f}"), ("share", share(bad.share))]
    if bad.usual_share is not None:
        tiles.append(("usually", share(bad.usual_share)))
    if report.onset is not None:
        began, ended = report.onset.at, report.onset.end or report.onset.last
        clock = "%H:%M:%S" if began.second or (ended is not None and ended.second) else "%H:%M"
        tiles.append(("since", f"{began:{clock}}"))
        tiles.append(("until", "goes on" if ended is None else f"{ended:{clock}}"))
    yield '<dl class="tiles">'
    yield from (f"<div><dt>{safe(name)}</dt><dd>{safe(value)}</dd></div>" for name, value in tiles)
    yield "</dl>"


def _since(report: Report, section: Section) -> Iterator[str]:
    drawn = timeline(report)
    if drawn:
        yield f"<figure>\n{drawn}"
        keys = [("bad", f"share of {report.about}, {_length(report.timeline.bin_s)} a bar")]
        if report.bad.usual_share is not None:
            keys.append(("usual", "dashed: the usual share; below: rows"))
        if report.onset is not None:
            keys.append(("since", "when it began, with 90% belief"))
        yield '<ul class="key">'
        yield from (f"<li>{swatch(kind)}{safe(words)}</li>" for kind, words in keys)
        yield "</ul>"
        if report.timeline.events:
            yield "<ol>"
            for event in report.timeline.events:
                told = event.belief is not None and event.belief >= _LEAST_BELIEF
                belief = f" ({event.belief:.0%} belief that it began with this)" if told else ""
                yield f"<li>{safe(happened(event))}{belief}</li>"
            yield "</ol>"
            if any(event.kind == "alarm" for event in report.timeline.events):
                yield f'<p class="note">{safe(ALARM_COUNTS)}</p>'
        yield "</figure>"
    # The events are listed below the chart already.
    yield from _told(Section(section.title, section.lines[:2]))


def _who(report: Report, section: Section) -> Iterator[str]:
    yield f"<p>{safe(section.lines[0])}</p>"
    if report.who:
        yield from _bars(
            (f"{each.field} {each.value}", words, each.explained, each.explained_low)
            for each, words in zip(report.who, section.lines[1:], strict=False)
        )
    yield from (f"<p>{safe(line)}</p>" for line in section.lines[1 + len(report.who) :])


def _differs(report: Report, section: Section) -> Iterator[str]:
    if not report.slices:
        yield from _told(section)
    else:
        yield from _bars(
            (
                " and ".join(f"{name} = {value}" for name, value in each.where.items()),
                words,
                each.explained,
                each.explained_low,
            )
            for each, words in zip(report.slices, section.lines, strict=True)
        )
    if report.histograms:
        yield f'<ul class="key"><li>{swatch("bad")}bad rows</li><li>{swatch("usual")}usual rows</li></ul>\n<div class="two">'
        for each in report.histograms:
            yield f"<figure><h3>{safe(each.field)}</h3>\n{histogram(each)}</figure>"
        yield "</div>"


def _bars(rows: Any) -> Iterator[str]:
    """Each with its name, its share of the excess and what the text says of it."""
    yield '<ul class="bars">'
    for name, words, explained, low in rows:
        said = words.removeprefix(f"{plain_line(name)}: ")
        yield f'<li><h3>{safe(name)}</h3>{bar(explained, low)}<span class="note">{safe(said)}</span></li>'
    yield '</ul>\n<p class="note">Bars: share of the excess of bad rows that is explained; the line begins at its lower 95% bound.</p>'


def _causes(report: Report, section: Section) -> Iterator[str]:  # noqa: ARG001 - each part is given both
    confirmed = {None: "", True: " Confirmed: without it the excess is gone.", False: " Not confirmed."}
    for place, each in enumerate(told_causes(report)):
        yield f'<div class="cause{"" if place else " first"}"><h3>{weight(each)} {safe(cause_name(each))}</h3>'
        yield f"{bar(each.weight)}<p>{safe(each.evidence)}.{confirmed[each.confirmed]}</p>"
        yield f"{_undo(each)}</div>"
    yield '<p class="note">Weights are relative evidence among these causes, not probabilities that somebody checked.</p>'


def _undo(cause: ReportedCause) -> str:
    if not cause.undo or cause.kind == "none":
        return ""
    words, command = undo_of(cause)
    told = f'<p class="note">To undo it: {safe(words)}{"." if command is None else ":"}</p>'
    return told if command is None else f"{told}<pre>{_code(command)}</pre>"


def _examples(report: Report, section: Section) -> Iterator[str]:  # noqa: ARG001 - each part is given both
    for name, rows in report.examples.items():
        yield f'<h3>{safe(name.capitalize())}</h3>\n<div class="cards">'
        yield from chain.from_iterable(map(_card, rows))
        yield "</div>"


def _card(row: ReportedExample) -> Iterator[str]:
    yield '<article class="card">'
    yield from _row(row)
    near = list(row.neighbours)
    if near:
        yield '<div class="near"><p class="note">Most like it, and not bad:</p>'
        yield from _row(near[0])
        if near[1:]:
            yield f"<details><summary>{len(near) - 1} more</summary>"
            yield from chain.from_iterable(map(_row, near[1:]))
            yield "</details>"
        yield "</div>"
    yield "</article>"


def _row(row: ReportedExample) -> Iterator[str]:
    if row.picture is not None:
        yield f'<img src="{safe(row.picture)}" alt="the image that was sent, sample {safe(row.sample_id)}">'
    facts = [*described(row), *_inputs(row)]
    yield "<dl>"
    yield from (f"<dt>{safe(_cut(name, _LONGEST_NAME))}</dt><dd>{safe(_cut(value))}</dd>" for name, value in facts)
    yield f'</dl>\n<p class="id">{safe(row.sample_id)}</p>'


def _inputs(row: ReportedExample) -> Iterator[tuple[str, str]]:
    """By name where they are a whole JSON object; as text where that was cut off."""
    if row.inputs is None or row.picture is not None:
        return
    try:
        found = msgspec.json.decode(row.inputs)
    except msgspec.DecodeError:
        found = None
    if isinstance(found, Mapping):
        yield from ((str(name), _value(value)) for name, value in list(found.items())[:_MOST_MEMBERS])
    else:
        yield "inputs", row.inputs


def _value(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _cut(text: str, most: int = _LONGEST) -> str:
    return text if len(text) <= most else f"{text[:most]}\N{HORIZONTAL ELLIPSIS}"


def _told(section: Section) -> Iterator[str]:
    if section.code:
        yield from (f"<pre>{_code(line)}</pre>" for line in section.lines)
    else:
        yield "<ul>"
        yield from (f"<li>{safe(line.strip())}</li>" for line in section.lines)
        yield "</ul>"


def _code(text: str) -> str:
    """Lines as they are, each made safe."""
    return "\n".join(map(safe, text.splitlines()))


def _length(seconds: float) -> str:
    for unit, name in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= unit and not seconds % unit:
            many = int(seconds // unit)
            return f"{many} {name}{'s' if many > 1 else ''}"
    return f"{seconds:g} seconds"
