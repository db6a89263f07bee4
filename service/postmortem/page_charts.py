"""The charts of a page as SVG: widths in percent, so that bars follow the page and letters keep their size.

Each has a title and a description that say in words what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from typing import Any, Final

import numpy as np

from hoverboard.database.text import plain_line
from hoverboard.postmortem.report import Report, ReportedEvent, ReportedHistogram
from hoverboard.postmortem.wording import moment, share

__all__ = ["bar", "histogram", "safe", "swatch", "timeline"]

_PLOT: Final = (88, 228)
"""Pixels from the top: where the highest bar ends, and where all begin."""
_HIGH: Final = _PLOT[1] - _PLOT[0]
_VOLUME: Final = (236, 260)
_HEIGHT: Final = 280
_MARKS: Final = (10, 30, 50)
_APART: Final = 5.0
_ROW: Final = 24
_LABEL: Final = 36.0
_BARS: Final = 46.0
_LONGEST: Final = 24
_FINE: Final = 0.02
_SEPARATE: Final = 120
"""Bars beyond which there is no room between them."""


def safe(text: str) -> str:
    """Whatever was recorded, as text of a page and of its attributes."""
    return escape(plain_line(text))


def swatch(kind: str) -> str:
    """A sign for a key."""
    return f'<svg width="14" height="14" aria-hidden="true"><rect width="14" height="14" rx="2" class="{kind}"/></svg>'


def bar(value: float, low: float | None = None) -> str:
    """A share of 0 to 1 as a bar, with its lower bound as a line; the words beside it say the same."""
    bound = ""
    if low is not None:
        bound = f'<line x1="{low:.2%}" x2="{value:.2%}" y1="6" y2="6" class="bound"/><line x1="{low:.2%}" x2="{low:.2%}" y1="1" y2="11" class="bound"/>'
    return (
        '<svg width="100%" height="12" aria-hidden="true"><rect width="100%" height="12" rx="3" class="room"/>'
        f'<rect width="{min(max(value, 0.0), 1.0):.2%}" height="12" rx="3" class="bad"/>{bound}</svg>'
    )


def timeline(report: Report) -> str:
    """The share of bad rows by time, with the usual level, the onset and its 90% set, and numbered events."""
    return "\n".join(_timeline(report))


def histogram(found: ReportedHistogram) -> str:
    """Shares of usual and of bad rows, a pair of bars for each value."""
    top = max(*found.usual, *found.bad, 1e-9)
    widest = max(range(len(found.values)), key=lambda at: found.bad[at] - found.usual[at])
    told = f"{found.values[widest]}: {share(found.bad[widest])} of the bad rows, {share(found.usual[widest])} of the usual ones."
    lines = [
        f'<svg role="img" width="100%" height="{len(found.values) * _ROW}">',
        f"<title>{safe(found.field)}: bad rows beside the usual ones</title><desc>Most apart at {safe(told)}</desc>",
    ]
    for row, (value, usual, bad) in enumerate(zip(found.values, found.usual, found.bad, strict=True)):
        y = row * _ROW
        short = value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
        lines.append(
            f"<g><title>{safe(value)}: {share(bad)} of the bad rows, {share(usual)} of the usual ones</title>"
            f'<svg x="0" y="{y}" width="{_LABEL - 1}%" height="{_ROW}"><text x="0" y="15">{safe(short)}</text></svg>'
            f'<rect x="{_LABEL}%" y="{y + 2}" width="{bad / top * _BARS:.2f}%" height="9" class="bad"/>'
            f'<rect x="{_LABEL}%" y="{y + 12}" width="{usual / top * _BARS:.2f}%" height="6" class="usual"/>'
            f'<text x="100%" y="{y + 15}" text-anchor="end" class="soft">{_percent(bad)} / {_percent(usual)}</text></g>'
        )
    return "\n".join([*lines, "</svg>", f"<figcaption>Most apart at {safe(told)}</figcaption>"])


def _percent(value: float) -> str:
    """In as few letters as will do."""
    return "0" if not value else "<1%" if value < 0.01 else f"{value:.0%}"


def _timeline(report: Report) -> Iterator[str]:
    times = report.timeline
    if not times.at:
        return
    shares = np.array(times.bad) / np.maximum(np.array(times.rows), 1e-9)
    highest = float(shares.max())
    top = _ceiling(max(highest, report.bad.usual_share or 0.0, report.bad.share))
    axis = _Axis(times.at, times.bin_s)
    yield f'<svg role="img" width="100%" height="{_HEIGHT}">'
    yield f"<title>Share of {safe(report.about)} by time</title><desc>{safe(_described(report, highest))}</desc>"
    if report.onset is not None:
        left, right = axis.at(report.onset.earliest), axis.at(report.onset.latest)
        yield f'<rect x="{left:.2f}%" width="{max(right - left, 0.6):.2f}%" y="{_PLOT[0] - 10}" height="{_HIGH + 10}" class="since"/>'
    yield from (_across(_PLOT[1] - level * _HIGH, "grid") for level in (0.5, 1.0))
    yield from _columns(shares / top, _PLOT, "bad")
    yield from _columns(np.array(times.rows) / max(*times.rows, 1e-9), _VOLUME, "usual")
    yield _across(_PLOT[1], "grid")
    yield from (_down(at, _PLOT[0], _VOLUME[1], "jump") for at in axis.jumps())
    if report.bad.usual_share is not None:
        yield _across(_PLOT[1] - report.bad.usual_share / top * _HIGH, "level")
    yield from _events(times.events, axis)
    if report.onset is not None:
        x = axis.at(report.onset.at)
        anchor, away = ("end", -6) if x > 60 else ("start", 6)
        yield _down(x, _PLOT[0] - 10, _PLOT[1], "began")
        yield f'<text x="{x:.2f}%" dx="{away}" y="{_PLOT[0] + 14}" text-anchor="{anchor}" class="halo">began {_clock(report.onset.at)}</text>'
    for level in (0.5, 1.0):
        yield f'<text x="0" dx="4" y="{_PLOT[1] - level * _HIGH - 4:.0f}" class="halo soft">{100 * top * level:g}%</text>'
    yield from _times(times.at, report)
    yield "</svg>"


def _columns(heights: Any, room: tuple[int, int], kind: str) -> Iterator[str]:
    """A bar for each bin, `(bins,)` of 0 to 1, within pixels from the top."""
    width = 100 / len(heights)
    wide = width * (0.86 if len(heights) <= _SEPARATE else 1.0)
    for at, height in enumerate((heights * (room[1] - room[0])).tolist()):
        if height:
            yield f'<rect x="{at * width:.3f}%" y="{room[1] - height:.1f}" width="{wide:.3f}%" height="{height:.1f}" class="{kind}"/>'


def _across(y: float, kind: str) -> str:
    return f'<line x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}" class="{kind}"/>'


def _down(x: float, top: float, bottom: float, kind: str) -> str:
    return f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="{top}" y2="{bottom}" class="{kind}"/>'


class _Axis:
    """Times as percent from the left: bins are equally wide, also where one does not follow the one before it."""

    def __init__(self, at: Sequence[datetime], bin_s: float) -> None:
        begins = np.array([each.timestamp() for each in at])
        self._known = np.append(begins, begins[-1] + bin_s)
        self._places = np.linspace(0, 100, len(self._known))
        self._bin_s = bin_s

    def at(self, time: datetime) -> float:
        return float(np.interp(time.timestamp(), self._known, self._places))

    def jumps(self) -> list[float]:
        return self._places[1:-1][np.diff(self._known)[:-1] > 1.5 * self._bin_s].tolist()  # type: ignore[no-any-return]


def _events(events: Sequence[ReportedEvent], axis: _Axis) -> Iterator[str]:
    """Numbers at their times, in three rows where they would hide each other."""
    last = [-100.0] * len(_MARKS)
    for number, event in enumerate(events, 1):
        x = axis.at(event.at)
        row = next((each for each, before in enumerate(last) if x - before >= _APART), number % len(_MARKS))
        last[row] = x
        y = _MARKS[row]
        yield _down(x, y, _PLOT[1], "event")
        yield f'<circle cx="{x:.2f}%" cy="{y}" r="9" class="mark"/>'
        yield f'<text x="{x:.2f}%" y="{y + 4}" text-anchor="middle" class="number">{number}</text>'


def _times(at: Sequence[datetime], report: Report) -> Iterator[str]:
    middle = at[len(at) // 2]
    for x, anchor, time in ((0, "start", at[0]), (50, "middle", middle), (100, "end", report.end)):
        yield f'<text x="{x}%" y="{_HEIGHT - 4}" text-anchor="{anchor}" class="soft">{_clock(time, at[0], report.end)}</text>'


def _clock(time: datetime, first: datetime | None = None, last: datetime | None = None) -> str:
    """The time of the day; with the date where first and last are days apart."""
    far = first is not None and last is not None and first.date() != last.date()
    seconds = ":%S" if time.second and not far else ""
    return f"{time:{'%m-%d ' if far else ''}%H:%M{seconds}}"


def _ceiling(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten, at most 1."""
    if value <= 0:
        return _FINE
    power = 10.0 ** math.floor(math.log10(value))
    return min(next(each * power for each in (1, 2, 3, 4, 5, 6, 8, 10) if each * power >= value * 0.999), 1.0)


def _described(report: Report, highest: float) -> str:
    usual = "" if report.bad.usual_share is None else f", usually {share(report.bad.usual_share)}"
    told = f"By {report.timeline.bin_s:g} seconds; {share(report.bad.share)} of the rows looked at{usual}; at most {share(highest)}."
    if report.onset is not None:
        told += f" It began at {moment(report.onset.at)}, with 90% belief between {moment(report.onset.earliest)} and {moment(report.onset.latest)}."
    return told
