"""Figures in words: the first sentences of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.question import About
from hoverboard.postmortem.report import ReportedBad, ReportedOnset

__all__ = ["in_short", "moment", "share", "summary", "usually"]

_LIKELY: Final = 0.5
_LONGEST: Final = 60
_ELEMENTS: Final = 8


def summary(
    model: str,
    about: About,
    onset: ReportedOnset | None,
    bad: ReportedBad,
    likeliest: LikelyCause | None,
    *,
    compared: bool,
    changed: bool,
    beyond: bool,
    where: Sequence[str],
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
        beyond: whether there are no more than usual, and still more than there may be.
        where: conditions of the rows, as `--where` has them.
    """
    if where:
        model += f" with {' and '.join(where)}"
    if onset is None:
        how = f"{bad.rows:,.0f} of {bad.of:,.0f} rows of {model} are {about.words} ({share(bad.share)}{usually(bad)})"
        unknown = "" if compared else "; nothing is recorded of the usual time to compare with"
        if beyond:
            return f"{how}, though {bad.allowed_by}{unknown}."
        if not compared and bad.allowed_by is None:
            return f"{how}{unknown}: name another with --against."
        if changed:
            return f"{how}, and that from the beginning of the time on{_why(likeliest)}."
        allowed = (
            f"; {bad.allowed_by}" if about.kind == "outliers" and bad.usual_share is None and bad.allowed_by else ""
        )
        return f"A quiet time: {how}{allowed}{unknown}."
    since = f"Since {moment(onset.at)}"
    are = "are"
    end = onset.end or onset.last
    if end is not None:
        since = f"From {moment(onset.at)} to {moment(end)}"
        are = "were"
    return f"{since} {share(bad.share)} of the rows of {model} {are} {about.words}{usually(bad)}{_why(likeliest)}."


def usually(bad: ReportedBad) -> str:
    """What is usual and of which rows, to go on with; empty where nothing is known of it."""
    if bad.usual_share is None:
        return ""
    of = bad.usual_of or ""
    return (
        f", {of} {share(bad.usual_share)}"
        if of.startswith("of ")
        else f", usually {share(bad.usual_share)} {of}".rstrip()
    )


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
        return f"{value:.{max(-math.floor(math.log10(value)) - 1, 2)}%}"
    return f"{value:.2%}" if value < 0.1 else f"{value:.1%}"


def in_short(value: Any, *, more: bool = False) -> str:
    """An input in a few characters: the first numbers of many, each with as many digits as anybody reads.

    Args:
        value: a number, a text, bytes, None, or lists of them.
        more: whether a list is the beginning of a longer one.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return repr(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        shown = (f"{each:.4g}" if isinstance(each, float) else in_short(each) for each in value[:_ELEMENTS])
        return f"[{' '.join(shown)}{' ...' if more or len(value) > _ELEMENTS else ''}]"
    return msgspec.json.encode(value).decode()


def moment(at: datetime) -> str:
    """In UTC, to the second where there are seconds."""
    # Not %Y, which has no zeros before the year 1000.
    return f"{at.date()} {at:%H:%M:%S} UTC" if at.second else f"{at.date()} {at:%H:%M} UTC"
