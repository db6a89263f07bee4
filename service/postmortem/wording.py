"""Figures in words: the first sentences of a report."""

from __future__ import annotations

from datetime import datetime

from hoverboard.contract.times import nearest_time
from hoverboard.postmortem.onset import Onset
from hoverboard.postmortem.question import About
from hoverboard.postmortem.report import ReportedBad

__all__ = ["moment", "rows_in_words", "share", "summary"]


def summary(about: About, onset: Onset | None, bad: ReportedBad, *, compared: bool) -> str:
    """Whether something has changed, since when, and by how much."""
    if onset is None:
        how = f"{bad.rows:,.0f} of {bad.of:,.0f} rows are {about.words} ({share(bad.share)})"
        if not compared:
            return f"{how[0].upper()}{how[1:]}. Nothing is recorded of the usual time to compare with: name another with --against."
        usual = "" if bad.usual_share is None else f"; usually {share(bad.usual_share)} are"
        return f"A quiet time: {how}{usual}. Their share has not risen beyond what chance explains."
    until = "and goes on" if onset.end_us is None else f"and was over at {moment(nearest_time(onset.end_us))}"
    usual_share = bad.usual_share or 0.0
    times = f", {bad.share / usual_share:,.1f} times as many" if usual_share > 0 else ""
    return (
        f"More {about.words} since {moment(nearest_time(onset.at_us))}, {until}: {rows_in_words(bad)} "
        f"({share(bad.share)}, usually {share(usual_share)}{times})."
    )


def rows_in_words(bad: ReportedBad) -> str:
    """Bad rows of all, with bounds where they are estimates."""
    bounds = f" (between {bad.low:,.0f} and {bad.high:,.0f})" if bad.high - bad.low >= 1 else ""
    return f"{bad.rows:,.0f}{bounds} of {bad.of:,.0f} rows"


def share(value: float) -> str:
    """A share as a percentage that says something: two digits that are not zero."""
    if value and value < 0.001:
        return f"{value:.2g}"
    return f"{value:.2%}" if value < 0.1 else f"{value:.1%}"


def moment(at: datetime) -> str:
    """In UTC, to the second where there are seconds."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at.second else f"{at:%Y-%m-%d %H:%M} UTC"
