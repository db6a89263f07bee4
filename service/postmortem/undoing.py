"""What undoes a cause, with the command that does it where there is one."""

from __future__ import annotations

from collections.abc import Sequence

from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.commands import condition_of
from hoverboard.postmortem.question import Question
from hoverboard.shell import free_folder, shell_word

__all__ = ["undone"]

_SOURCE = "label source"


def undone(causes: Sequence[LikelyCause], question: Question, versions: Sequence[int]) -> list[str]:
    """What would undo each cause, the end of a sentence; a command, where there is one, stands between backticks at its end.

    Args:
        causes: as they were found.
        question: as it was asked: of which model, and where its database is.
        versions: numbers of those that were recorded, ascending.
    """
    folders: list[str] = []
    commands = [_command(cause, question, versions, folders) for cause in causes]
    return [
        cause.undo if words is None else f"{cause.undo}; `{words}`"
        for cause, words in zip(causes, commands, strict=True)
    ]


def _command(cause: LikelyCause, question: Question, versions: Sequence[int], folders: list[str]) -> str | None:
    if cause.kind == "version" and cause.subject.isdecimal():
        before = max((each for each in versions if each < int(cause.subject)), default=None)
        # Routes are the service's, wherever its database is.
        return None if before is None else f"hoverboard models route {shell_word(question.model)} {before}"
    others = _without(cause)
    if others is None:
        return None
    options, left_out = others
    # One that another command writes to would refuse this one.
    folders.append(free_folder(question.model, left_out, folders))
    export = ["hoverboard", "export", question.model, *options, "--output", folders[-1]]
    return " ".join(filter(None, (*map(shell_word, export), question.target)))


def _without(cause: LikelyCause) -> tuple[list[str], list[str]] | None:
    """Options that leave out what it is about, and its name in words; None where no option can."""
    if cause.kind == "labels":
        sources = [value for name, value in cause.where if name == _SOURCE]
        return (["--labelled", "--without-label-source", sources[0]], ["labels", sources[0]]) if sources else None
    if cause.kind != "caller":
        return None
    typed = [each for part in cause.where if (each := condition_of(*part)) is not None]
    if not typed:
        return None
    name, _, value = typed[0].partition("=")
    return ["--where", f"{name}!={value}"], [name.removeprefix("tag."), value]
