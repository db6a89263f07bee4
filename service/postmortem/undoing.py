"""What undoes a cause, with the command that does it where there is one."""

from __future__ import annotations

from collections.abc import Sequence

from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.commands import condition_of
from hoverboard.postmortem.question import Question
from hoverboard.shell import shell_word

__all__ = ["undone_by"]

_SOURCE = "label source"


def undone_by(cause: LikelyCause, question: Question, versions: Sequence[int]) -> str:
    """What would undo a cause, the end of a sentence.

    Args:
        cause: as it was found.
        question: as it was asked: of which model, and where its database is.
        versions: numbers of those that were recorded, ascending.
    """
    words = _command(cause, question, versions)
    return cause.undo if words is None else f"{cause.undo}; `{words}`"


def _command(cause: LikelyCause, question: Question, versions: Sequence[int]) -> str | None:
    if cause.kind == "version" and cause.subject.isdecimal():
        before = max((each for each in versions if each < int(cause.subject)), default=None)
        # Routes are the service's, wherever its database is.
        return None if before is None else f"hoverboard models route {shell_word(question.model)} {before}"
    others = _without(cause)
    if others is None:
        return None
    export = ["hoverboard", "export", question.model, *others, "--output", f"{question.model}-usual"]
    return " ".join(filter(None, (*map(shell_word, export), question.target)))


def _without(cause: LikelyCause) -> list[str] | None:
    """Options that leave out what it is about; None where no option can."""
    if cause.kind == "labels":
        sources = [value for name, value in cause.where if name == _SOURCE]
        return ["--labelled", "--without-label-source", sources[0]] if sources else None
    if cause.kind != "caller":
        return None
    typed = [each for part in cause.where if (each := condition_of(*part)) is not None]
    if not typed:
        return None
    name, _, value = typed[0].partition("=")
    return ["--where", f"{name}!={value}"]
