"""What is worth typing next: commands that work as they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from hoverboard.contract.times import nearest_time
from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.onset import Onset
from hoverboard.postmortem.question import About, Question
from hoverboard.postmortem.report import ReportedWho
from hoverboard.postmortem.slices import ExplainedSlice
from hoverboard.postmortem.table import ABSENT
from hoverboard.postmortem.window import CONDITIONS, RecordedWindow
from hoverboard.shell import shell_word

__all__ = ["condition_of", "next_commands"]

_MOST: Final = 3
_LONGER: Final = 7
"""How many times as long a time is proposed after a quiet one."""
_TAG: Final = "tag "
_WITH_MODELS: Final = ("postmortem", "replay")
"""Commands that look into the models directory."""


def next_commands(
    question: Question,
    about: About,
    window: RecordedWindow,
    onset: Onset | None,
    *,
    changed: bool,
    answers: Sequence[LikelyCause],
    found: Sequence[ExplainedSlice],
    who: Sequence[ReportedWho],
    versions: Sequence[int],
    first: datetime | None,
    against: RecordedWindow | None = None,
) -> list[str]:
    """Three, what narrows it down most first.

    Args:
        question: as it was asked.
        about: kind of bad row that was looked at.
        window: that was looked at.
        onset: None for a quiet time, and where it is not known when it began.
        changed: whether it is no quiet time.
        answers: causes, the likeliest first.
        found: slices.
        who: has more than their share.
        versions: that were recorded, ascending.
        first: time of the first recorded sample.
        against: a usual time that is worth naming, since the one before is none.
    """
    conditions = window.written
    asked = ("postmortem", question.model, "--about", str(about))
    commands: list[tuple[str, ...]] = []
    if not changed:
        # A longer time, as far as there is one on record.
        if first is not None and first < window.start:
            start = max(window.end - (window.end - window.start) * _LONGER, first)
            times = ("--from", _time(start), "--to", _time(window.end, up=True))
            commands.append((*asked, *_where(conditions), *times))
        commands += [("alarms",), ("gaps", "--days", "1")]
        return [_complete(each, question) for each in commands]
    start = window.start if onset is None else nearest_time(onset.at_us)
    end = window.end if onset is None or onset.end_us is None else nearest_time(onset.end_us)
    times = ("--from", _time(start), "--to", _time(end, up=True))
    if against is not None and _time(against.start) < _time(against.end):
        usual = f"{_time(against.start)}..{_time(against.end)}"
        commands.append((*asked, *_where(conditions), *times, "--against", usual))
    # The likeliest cause says where to look closer; slices do where it is about no rows in particular.
    shares = [((each.field, each.value),) for each in who[:1]]
    for where in [*(each.where for each in answers[:1]), *(each.where for each in found), *shares]:
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


def condition_of(name: str, value: str) -> str | None:
    """The condition of `--where` for a field's value; None where there is none, or none that can be typed."""
    named = f"tag.{name.removeprefix(_TAG)}" if name.startswith(_TAG) else name
    typed = (named.startswith("tag.") and named != "tag.") or named in CONDITIONS
    # A name with `=` in it, or with `!` at its end or spaces around it, would be read as another one.
    if not typed or value == ABSENT or "=" in named or named != named.removesuffix("!").strip():
        return None
    return f"{named}={value}"


def _condition(name: str, value: str, about: About) -> str | None:
    """The same where it is known of what is asked about."""
    found = condition_of(name, value)
    return None if found is None or about.unknown_of([found.partition("=")[0]]) else found


def _complete(words: Sequence[str], question: Question) -> str:
    if question.models is not None and words[0] in _WITH_MODELS:
        words = [*words, "--models", question.models]
    return " ".join(filter(None, ("hoverboard", *map(shell_word, words), question.target)))


def _time(at: datetime, *, up: bool = False) -> str:
    """To the second; with `up` the next one, so that nothing is cut off."""
    whole = at.replace(microsecond=0)
    whole = whole + timedelta(seconds=1) if up and whole < at else whole
    return f"{whole.replace(tzinfo=None).isoformat()}Z"
