"""Numbers of issues and versions: what no table can hold is refused in one sentence, and nobody is asked."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from hoverboard.cli import main

HUGE = "9" * 30
LARGEST = 2**63 - 1
COMMANDS = (
    ("issues", "show", "N"),
    ("issues", "resolve", "N"),
    ("issues", "resolve", "1", "--in", "N"),
    ("issues", "archive", "N"),
    ("issues", "ignore", "N"),
    ("issues", "reopen", "N"),
    ("issues", "note", "N", "text"),
    ("issues", "merge", "N", "1"),
    ("issues", "merge", "1", "N"),
    ("issues", "unmerge", "N"),
    ("issues", "carry", "digits", "--to", "N"),
    ("export", "digits", "--output", "out", "--issue", "N"),
    ("export", "digits", "--output", "out", "--without-issue", "N"),
    ("replay", "digits", "--candidate", "N"),
    ("replay", "digits", "--candidate", "2", "--incumbent", "N"),
    ("alarms", "reset", "digits", "N"),
    ("models", "show", "digits", "N"),
    ("publish", __file__, "--name", "digits", "--version", "N"),
    ("publish", __file__, "--name", "digits", "--parent", "N"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("number", [HUGE, str(LARGEST + 1), "0", "1.5", "7" * 5000])
def test_a_number_that_there_cannot_be_is_one_plain_sentence(words: tuple[str, ...], number: str) -> None:
    done = CliRunner().invoke(main, [number if word == "N" else word for word in words])
    assert done.exit_code == 2, done.output
    said = " ".join(done.stderr.split())
    assert f"expected a whole number from 1 to {LARGEST}" in said
    assert len(said) < 500 and "verflow" not in said and "Traceback" not in said
