"""What is worth typing next: commands that work as they are printed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime

from hoverboard.contract.times import nearest_time
from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.onset import Onset
from hoverboard.postmortem.question import About, Question
from hoverboard.postmortem.slices import ExplainedSlice
from hoverboard.postmortem.window import RecordedWindow

__all__ = ["next_commands"]

_MOST = 3


def next_commands(
    question: Question,
    about: About,
    window: RecordedWindow,
    onset: Onset | None,
    *,
    answers: Sequence[LikelyCause],
    found: Sequence[ExplainedSlice],
) -> list[str]:
    """At most three, what narrows it down most first.

    Args:
        question: as it was asked.
        about: kind of bad row that was looked at.
        window: that was looked at.
        onset: None for a quiet time.
        answers: causes, the likeliest first.
        found: slices.
    """
    asked = ["hoverboard", "postmortem", question.model, "--about", str(about)]
    asked += [word for name, value in question.where.items() for word in ("--where", f"{name}={value}")]
    if onset is None:
        week = window.end - (window.end - window.start) * 7
        return [
            shlex.join([*asked, "--from", _time(week), "--to", _time(window.end)]),
            "hoverboard alarms",
            "hoverboard gaps --days 1",
        ]
    end = window.end if onset.end_us is None else nearest_time(onset.end_us)
    times = ["--from", _time(nearest_time(onset.at_us)), "--to", _time(end)]
    commands = []
    # The likeliest cause says where to look closer; slices do where it is about no rows in particular.
    for where in [each.where for each in answers[:1]] + [each.where for each in found]:
        conditions = [f"{name}={value}" for part in where for name, value in [_condition(*part)] if name]
        if conditions and not any(condition.partition("=")[0] in question.where for condition in conditions):
            commands.append(shlex.join([*asked, *times, *(w for c in conditions for w in ("--where", c))]))
            break
    if about.kind == "outliers":
        commands.append("hoverboard alarms")
    commands.append(shlex.join([*asked, *times, "--html", f"{question.model}.html"]))
    commands.append("hoverboard gaps --days 1")
    commands.append(shlex.join([*asked, *times, "--sql"]))
    return commands[:_MOST]


def _condition(name: str, value: str) -> tuple[str, str]:
    """A condition of `--where` for a field's value; an empty name where there is none."""
    if name.startswith("tag "):
        return f"tag.{name.removeprefix('tag ')}", value
    return (name, value) if name in ("version", "process", "caller", "label") else ("", value)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"
