from __future__ import annotations

from datetime import timedelta
from typing import Any

import click
import pytest
from click.testing import CliRunner

from hoverboard.cli import main
from hoverboard.cli.erase import command
from hoverboard.cli.target import whoever_asks

SAMPLE = "0198f2f0-7c1b-7a52-9d0e-3f6f3c1f9a11"


@pytest.mark.parametrize(
    "words, complaint",
    [
        ((), "just one of"),
        (("--sample", SAMPLE, "--tag", "a=b"), "just one of"),
        (("--tag", "a=b", "--older-than", "1d"), "just one of"),
        (("--sample", SAMPLE, "--model", "digits"), "--model goes with"),
        (("--sample", "17"), "not a valid UUID"),
        (("--tag", "customer"), "expected NAME=VALUE"),
        (("--tag", "=17"), "expected NAME=VALUE"),
        (("--older-than", "30"), "expected a number and a unit"),
        (("--older-than", "-1d"), "expected a number and a unit"),
        (("--older-than", "30y"), "expected a number and a unit"),
        (("--older-than", "999999w"), "expected at most 36500d"),
        (("--tag", "customer=\udcff"), "expected UTF-8 without NUL"),
        (("--tag", "customer=\0"), "expected UTF-8 without NUL"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(words: tuple[str, ...], complaint: str) -> None:
    done = CliRunner().invoke(main, ["erase", "--reason", "asked", *words])
    assert done.exit_code == 2
    assert complaint in " ".join(done.stderr.split())


def test_a_reason_must_be_given() -> None:
    done = CliRunner().invoke(main, ["erase", "--sample", SAMPLE])
    assert done.exit_code == 2
    assert "--reason" in done.stderr


@pytest.mark.parametrize("reason", ["", " "])
def test_an_empty_reason_is_none(reason: str) -> None:
    done = CliRunner().invoke(main, ["erase", "--sample", SAMPLE, "--reason", reason])
    assert done.exit_code == 2
    assert "--reason is empty: say why" in " ".join(done.stderr.split())


def given(*words: str) -> Any:
    context: click.Context = command.make_context("erase", ["--reason", "asked", *words])
    return context.params


def test_ages_and_tags_are_read_as_they_are_meant() -> None:
    assert given("--older-than", "90m")["older_than"] == timedelta(minutes=90)
    assert given("--older-than", "8w")["older_than"] == timedelta(weeks=8)
    assert given("--tag", "customer=a=b")["tag"] == ("customer", "a=b")
    assert given("--tag", "customer=")["tag"] == ("customer", "")


def test_a_user_without_a_name_is_called_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nameless)
    monkeypatch.setattr("os.getuid", lambda: 4711)
    assert whoever_asks() == "user id 4711"
