from __future__ import annotations

import time

import pytest

from hoverboard.cli.steps import steps

WORDS = {"reading": "Reading the model", "trial": "Trial"}


def test_a_slow_step_is_told_while_it_runs_and_quick_ones_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    with steps(WORDS, slow_s=0.2) as report:
        report("reading", 0.0)
        report("trial", 0.0)
        time.sleep(0.6)
        meanwhile = capsys.readouterr()
        report("trial", 0.5)
        report("reading", 0.0)
    assert (meanwhile.out, meanwhile.err) == ("", "Trial ...\n")
    after = capsys.readouterr()
    assert (after.out, after.err) == ("", "Trial: 1 s\n")


def test_nothing_is_told_of_steps_after_the_command_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with steps(WORDS, slow_s=0.2) as report:
        report("reading", 0.0)
    time.sleep(0.4)
    assert capsys.readouterr().err == ""
