"""What is typed as an instance: JSON, a text, or a mistake that is named before a server is asked."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from hoverboard.cli.predict import command
from hoverboard.errors import ConfigError


def refusal(*instances: str) -> str:
    done = CliRunner().invoke(command, ["--url", "http://127.0.0.1:1", "--json", "m", "--", *instances])
    assert isinstance(done.exception, ConfigError), done.output
    return str(done.exception)


@pytest.mark.parametrize(
    "text, words",
    [
        ('{"age": NaN}', "NaN is no JSON: send null where the model's input takes missing values"),
        ("[1, -Infinity]", "Infinity is no JSON"),
        ("NaN", "NaN is no JSON"),
        ("-Infinity", "Infinity is no JSON"),
        ("{'age': 1}", "strings are in double quotes"),
        ("[1, None]", "None is Python's: JSON has null"),
        ("{age: 1}", "no JSON"),
    ],
)
def test_what_was_meant_as_json_and_is_none_is_refused_with_the_reason(text: str, words: str) -> None:
    assert words in refusal("[1]", text)


def test_it_says_how_such_a_text_is_written_as_a_text() -> None:
    assert """quote it for JSON, too: '"[draft]"'""" in refusal("[draft]")


def test_an_argument_that_is_no_utf8_is_refused() -> None:
    done = CliRunner().invoke(command, ["--url", "http://127.0.0.1:1", "m", "--", "caf\udce9"])
    assert done.exit_code == 2
    assert "b'caf\\xe9' is no UTF-8" in done.output


@pytest.mark.parametrize("text", ["a chair", "None", "[sic] a chair", "{", "nan"])
def test_words_are_texts(text: str) -> None:
    from hoverboard.cli.predict import _instance

    assert _instance(text) == text
