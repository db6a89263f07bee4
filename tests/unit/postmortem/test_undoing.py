"""What undoes a cause is said with a command that can be typed, where there is one."""

from __future__ import annotations

import shlex
from typing import Any

import click
import pytest

from hoverboard.cli import main
from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.question import Question
from hoverboard.postmortem.undoing import undone

ASKED = Question("my model", target="--data-dir '/a b'")


@pytest.mark.parametrize(
    ("kind", "subject", "where", "command"),
    [
        ("caller", "tag a'b 17", (("tag a'b", "1 7"),), "export 'my model' --where 'tag.a'\"'\"'b!=1 7'"),
        ("caller", "k-1", (("caller", "k-1"),), "export 'my model' --where 'caller!=k-1'"),
        (
            "labels",
            "label source re view",
            (("label source", "re view"),),
            "--labelled --without-label-source 're view'",
        ),
        ("version", "4", (("version", "4"),), "hoverboard models route 'my model' 2"),
        ("version", "1", (("version", "1"),), None),
        ("labels", "label 3", (("label", "3"),), None),
        ("caller", "tag a=b c", (("tag a=b", "c"),), None),
        ("schema", "input x", (("input x", "above 3"),), None),
        ("none", "", (), None),
    ],
)
def test_a_cause_is_undone_by_a_command_of_this_program(
    kind: Any, subject: str, where: tuple[tuple[str, str], ...], command: str | None
) -> None:
    (told,) = undone([LikelyCause(kind, subject, 1.0, "", None, "do it", where)], ASKED, [1, 2, 4])
    if command is None:
        assert told == "do it"
        return
    assert told.startswith("do it; `hoverboard ") and command in told
    program, *words = shlex.split(told.partition("`")[2].rstrip("`"))
    assert program == "hoverboard"
    found: click.Command = main
    while isinstance(found, click.Group):
        inner = found.get_command(click.Context(found), words.pop(0))
        assert inner is not None
        found = inner
    # An option that there is not would be refused here.
    given = found.make_context("command", list(words)).params
    assert "my model" in (given.get("model"), given.get("name"))
    assert ("--data-dir" in words) == ("--output" in words)
