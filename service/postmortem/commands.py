"""What is worth typing next: commands that work as they are printed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from hoverboard.contract.times import nearest_time
from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.onset import Onset
from hoverboard.postmortem.question import About, Question
from hoverboard.postmortem.slices import ExplainedSlice
from hoverboard.postmortem.table import ABSENT
from hoverboard.postmortem.window import CONDITIONS, RecordedWindow

__all__ = ["next_commands"]

_MOST: Final = 3
_TAG: Final = "tag "
_WITH_MODELS: Final = ("postmortem", "replay")
"""Commands that look into the models directory."""


def next_commands(
    question: Question,
    about: About,
    window: RecordedWindow,
    onset: Onset | None,
    *,
    answers: Sequence[LikelyCause],
    found: Sequence[ExplainedSlice],
    versions: Sequence[int],
) -> list[str]:
    """Three, what narrows it down most first.

    Args:
        question: as it was asked.
        about: kind of bad row that was looked at.
        window: that was looked at.
        onset: None for a quiet time.
        answers: causes, the likeliest first.
        found: slices.
        versions: that were recorded, ascending.
    """
    conditions = [f"{name}={value}" for name, value in question.where.items()]
    asked = ("postmortem", question.model, "--about", str(about))
    if onset is None:
        week = window.end - (window.end - window.start) * 7
        commands = [
            (*asked, *_where(conditions), "--from", _time(week), "--to", _time(window.end, up=True)),
            ("alarms",),
            ("gaps", "--days", "1"),
        ]
        return [_complete(each, question) for each in commands]
    end = window.end if onset.end_us is None else nearest_time(onset.end_us)
    times = ("--from", _time(nearest_time(onset.at_us)), "--to", _time(end, up=True))
    commands = []
    # The likeliest cause says where to look closer; slices do where it is about no rows in particular.
    for where in [each.where for each in answers[:1]] + [each.where for each in found]:
        closer = [each for part in where if (each := _condition(*part, about)) is not None]
        if closer and not any(each.partition("=")[0] in question.where for each in closer):
            commands.append((*asked, *_where([*conditions, *closer]), *times))
            break
    before = _before(answers, versions)
    if before is not None and about.kind not in ("errors", "refusals"):
        commands.append(("replay", question.model, "--candidate", str(before), *_where(conditions), *times))
    elif about.kind == "outliers":
        commands.append(("issues", "list", question.model))
    elif about.kind == "wrong":
        commands.append(("quality", question.model))
    commands.append((*asked, *_where(conditions), *times, "--html", f"{question.model}.html"))
    commands.append(("gaps", "--days", "1"))
    commands.append((*asked, *_where(conditions), *times, "--sql"))
    return [_complete(each, question) for each in commands[:_MOST]]


def _before(answers: Sequence[LikelyCause], versions: Sequence[int]) -> int | None:
    """The version before the one that is the likeliest cause: a replay on it tells whether that is so."""
    if not answers or answers[0].kind != "version" or not answers[0].subject.isdecimal():
        return None
    return max((each for each in versions if each < int(answers[0].subject)), default=None)


def _where(conditions: Sequence[str]) -> list[str]:
    return [word for each in conditions for word in ("--where", each)]


def _condition(name: str, value: str, about: About) -> str | None:
    """The condition of `--where` for a field's value; None where there is none, or none that can be typed."""
    named = f"tag.{name.removeprefix(_TAG)}" if name.startswith(_TAG) else name
    typed = named.startswith("tag.") or named in CONDITIONS
    if not typed or value == ABSENT or about.unknown_of({named: value}) or not f"{named}{value}".isprintable():
        return None
    return f"{named}={value}"


def _complete(words: Sequence[str], question: Question) -> str:
    if question.models is not None and words[0] in _WITH_MODELS:
        words = [*words, "--models", question.models]
    return " ".join(filter(None, ("hoverboard", shlex.join(words), question.target)))


def _time(at: datetime, *, up: bool = False) -> str:
    """To the second; with `up` the next one, so that nothing is cut off."""
    whole = at.replace(microsecond=0)
    return f"{whole + timedelta(seconds=1) if up and whole < at else whole:%Y-%m-%dT%H:%M:%S}Z"
