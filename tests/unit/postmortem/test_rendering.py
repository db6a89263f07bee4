"""What a report looks like as text and as Markdown."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from html import escape

import click
import msgspec
import pytest

from hoverboard.cli import main
from hoverboard.postmortem.causes import LikelyCause
from hoverboard.postmortem.page import render_html
from hoverboard.postmortem.question import Question
from hoverboard.postmortem.rendering import command_lines, render_markdown, render_text
from hoverboard.postmortem.report import ReportedCause
from hoverboard.postmortem.undoing import undone
from hoverboard.postmortem.wording import in_short, share
from hoverboard.shell import shell_word
from tests.unit.postmortem.reports import HOSTILE, incident, quiet


def test_text_begins_with_the_answer_and_stays_within_80_columns() -> None:
    told = render_text(incident())
    assert " ".join(told.split("\n\n")[0].split()) == incident().summary
    assert max(map(len, told.splitlines())) <= 80
    assert "hardly any evidence" not in told  # a cause of no weight is not worth a line
    assert told.count("strangest: ") == 1


def test_a_quiet_day_is_three_lines() -> None:
    lines = render_text(quiet()).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("A quiet time")
    assert lines[2] == "Next: hoverboard alarms"
    assert len(render_text(quiet(), sql=True).splitlines()) > 20  # its figures can be checked all the same


def test_commands_broken_into_lines_are_the_same_to_a_shell() -> None:
    for command in incident().next:
        lines = command_lines(command, "  ")
        assert max(map(len, lines)) <= 80
        typed = "\n".join(lines).strip().replace("hoverboard ", "printf '%s\\n' ", 1)
        done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == shlex.split(command)[1:]


def test_every_command_in_a_text_is_one_that_a_shell_and_this_program_take_and_writes_where_no_other_does() -> None:
    callers = [(("tag customer", "a b 17"),), (("tag camera", "a b 17"),), (("caller", "it's `x` " * 9),)]
    causes = [
        *(LikelyCause("caller", str(where[0]), 0.3, "", None, "ask its owner " * 7, where) for where in callers),
        LikelyCause("labels", "label source x", 0.05, "", None, "do not", (("label source", "a/../b"),)),
        LikelyCause("version", "4", 0.05, "", None, "go back", (("version", "4"),)),
    ]
    told = undone(causes, Question("cups", target="--data-dir '/srv/the data'"), [3, 4])
    reported = [ReportedCause("caller", str(at), 0.2, "it is", None, words) for at, words in enumerate(told)]
    report = msgspec.structs.replace(incident(), causes=reported)
    typed = re.findall(r"^ +(hoverboard .*)$", render_text(report).replace("\\\n", " "), re.MULTILINE)
    assert len(typed) == len(told) + len(report.next)
    assert sum("export" in each for each in typed) == 4
    folders = []
    for each in typed:
        _, *words = shlex.split(each)
        command: click.Command = main
        while isinstance(command, click.Group):
            inner = command.get_command(click.Context(command), words.pop(0))
            assert inner is not None
            command = inner
        given = command.make_context("command", words).params
        folders += [given["output"]] if command.name == "export" else []
    assert len(set(folders)) == 4
    assert all(each.name == str(each) for each in folders)
    markdown = render_markdown(report)
    for whole in (each.partition("; `")[2][:-1] for each in told):
        assert f"    {whole}" in markdown.splitlines()
        assert escape(whole) in render_html(report)


def test_a_value_that_would_steer_a_terminal_is_typed_as_it_is() -> None:
    for value in ("\x1b[31mred\x1b[0m", "it's\n\\new", "caf\u00e9 \u202e", 'a "b" \x07', "caf\udce9", "-", "a b"):
        word = shell_word(value)
        assert word.isprintable()
        (line,) = command_lines(f"hoverboard {word}")
        shell = ["bash", "-c", line.replace("hoverboard", "printf %s", 1)]
        assert subprocess.run(shell, capture_output=True, check=True).stdout == os.fsencode(value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (63.01532745361328, "63.0153"),
        (1 / 3, "0.333333"),
        (1234567890, "1234567890"),
        (True, "true"),
        (None, "null"),
        ("a b", "a b"),
        (b"\x00", "b'\\x00'"),
        ([1.23456789, 2.0, 3], "[1.235 2 3]"),
        ([[0.1, 0.2], []], "[[0.1 0.2] []]"),
        (list(range(9)), "[0 1 2 3 4 5 6 7 ...]"),
    ],
)
def test_inputs_are_told_in_few_characters(value: object, told: str) -> None:
    assert in_short(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(0.0, "0%"), (0.00086, "0.086%"), (2e-9, "0.00000020%"), (0.0123, "1.23%"), (0.5, "50.0%")]
)
def test_shares_are_percentages_however_small_they_are(value: float, told: str) -> None:
    assert share(value) == told


def test_what_callers_wrote_steers_no_terminal_and_is_no_markup() -> None:
    report = incident(HOSTILE)
    text, markdown = render_text(report), render_markdown(report)
    for told in (text, markdown):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", told)
    outside = re.sub(r"```sh\n.*?```", "", markdown, flags=re.DOTALL)
    assert "<" not in outside
    assert not re.search(r"(?<!\\)[\[`|](?!``)", outside)
    assert markdown.count("\n## ") == 7


def test_no_text_ends_a_block_of_markdown() -> None:
    markdown = render_markdown(incident("````\n# not a title"), sql=True)
    assert (
        len(re.findall(r"^`````sql$", markdown, re.MULTILINE))
        == len(re.findall(r"^`````$", markdown, re.MULTILINE))
        > 5
    )
