"""What a report looks like as text and as Markdown."""

from __future__ import annotations

import os
import re
import shlex
import subprocess

import pytest

from hoverboard.postmortem.rendering import command_lines, render_markdown, render_text
from hoverboard.postmortem.wording import share
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


def test_a_value_that_would_steer_a_terminal_is_typed_as_it_is() -> None:
    for value in ("\x1b[31mred\x1b[0m", "it's\n\\new", "caf\u00e9 \u202e", 'a "b" \x07', "caf\udce9", "-", "a b"):
        word = shell_word(value)
        assert word.isprintable()
        (line,) = command_lines(f"hoverboard {word}")
        shell = ["bash", "-c", line.replace("hoverboard", "printf %s", 1)]
        assert subprocess.run(shell, capture_output=True, check=True).stdout == os.fsencode(value)


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
