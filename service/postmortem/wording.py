"""Figures in words: the first sentences of a report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from hoverboard.contract.times import nearest_time
from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.onset import Onset
from hoverboard.postmortem.question import About
from hoverboard.postmortem.report import ReportedBad

__all__ = ["moment", "share", "summary"]

_LIKELY: Final = 0.5
_LONGEST: Final = 60


def summary(
    model: str,
    about: About,
    onset: Onset | None,
    bad: ReportedBad,
    likeliest: LikelyCause | None,
    *,
    compared: bool,
    changed: bool,
    aside: bool,
    where: Mapping[str, str],
) -> str:
    """One sentence: whether something has changed, since when, by how much, and most likely why.

    Args:
        model: its name.
        about: kind of bad row.
        onset: None where it is not known, or nothing has changed.
        bad: the totals.
        likeliest: of the causes.
        compared: whether anything is known of what is usual.
        changed: whether there are more bad rows than usual.
        aside: whether usual is what the other rows of the same time are.
        where: conditions of the rows.
    """
    if where:
        model += f" with {' and '.join(f'{name}={value}' for name, value in where.items())}"
    if onset is None:
        usually = "of the others" if aside else "usually"
        usual = "" if bad.usual_share is None else f", {usually} {share(bad.usual_share)}"
        how = f"{bad.rows:,.0f} of {bad.of:,.0f} rows of {model} are {about.words} ({share(bad.share)}{usual})"
        if not compared:
            return f"{how}; nothing is recorded of the usual time to compare with: name another with --against."
        if changed:
            return f"{how}, and that from the beginning of the time on{_why(likeliest)}."
        return f"A quiet time: {how}."
    since = f"Since {moment(nearest_time(onset.at_us))}"
    are = "are"
    if onset.end_us is not None:
        since = f"From {moment(nearest_time(onset.at_us))} to {moment(nearest_time(onset.end_us))}"
        are = "were"
    usual = "" if bad.usual_share is None else f", usually {share(bad.usual_share)}"
    return f"{since} {share(bad.share)} of the rows of {model} {are} {about.words}{usual}{_why(likeliest)}."


def _why(cause: LikelyCause | None) -> str:
    """The likeliest cause as the end of a sentence."""
    if cause is None or cause.kind == "none":
        return "; no single cause stands out"
    subject = cause.subject if len(cause.subject) <= _LONGEST else f"{cause.subject[:_LONGEST]}..."
    words = {
        "version": f"version {subject}",
        "caller": subject.removeprefix("tag "),
        "schema": f"how {subject} is sent",
        "machine": f"the process {subject}",
        "novelty": f"a new kind of sample ({subject})",
        "load": f"load ({subject})",
        "labels": f"its labels ({subject})",
        "upstream": f"a drift of {subject}",
    }[cause.kind]
    return f"; the cause is {'most likely' if cause.weight >= _LIKELY else 'perhaps'} {words}"


def share(value: float) -> str:
    """A share as a percentage that says something: two digits that are not zero."""
    if not value:
        return "0%"
    if value < 0.001:
        return f"{value:.2g}"
    return f"{value:.2%}" if value < 0.1 else f"{value:.1%}"


def moment(at: datetime) -> str:
    """In UTC, to the second where there are seconds."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at.second else f"{at:%Y-%m-%d %H:%M} UTC"
