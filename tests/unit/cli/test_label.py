from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hoverboard.cli import main
from tests.unit.client.canned import refusal, serving

SAMPLE = "0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718"


def accepted(count: int) -> tuple[int, Any]:
    return 200, {"jsonrpc": "2.0", "id": 1, "result": {"accepted": count}}


def invalid(pointer: str) -> tuple[int, Any]:
    details = {"pointer": pointer, "expected": "a UUIDv7", "got": "chair"}
    data = {"type": "invalid_params", "retryable": False, "details": details}
    return 200, {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "Invalid params", "data": data}}


def label(url: str, *words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["label", *words, "--url", url], input=stdin)


def lines(count: int) -> str:
    return "".join(f'{{"sample_id": "{SAMPLE}", "label": "class {number}"}}\n' for number in range(count))


def test_one_label_is_one_call_with_what_was_given() -> None:
    with serving(accepted(1), accepted(1)) as (url, seen):
        assert json.loads(label(url, SAMPLE, "--label", "chair").stdout) == {"accepted": 1}
        assert label(url, SAMPLE, "--value=-3.5", "--source", "s", "--author", "Ada", "--pretty").stdout == (
            "Accepted 1 label.\n"
        )
    assert [call["method"] for call in seen] == ["label", "label"]
    assert seen[0]["params"] == {"sample_id": SAMPLE, "label": "chair"}
    assert seen[1]["params"] == {"sample_id": SAMPLE, "value": -3.5, "source": "s", "author": "Ada"}


def test_several_labels_are_a_list_and_none_is_an_empty_one() -> None:
    with serving(accepted(1), accepted(1)) as (url, seen):
        for words in (["--label", "toys", "--label", "books"], ["--none"]):
            assert label(url, SAMPLE, *words).exit_code == 0
    assert [call["params"]["label"] for call in seen] == [["toys", "books"], []]


def test_lines_are_sent_by_the_thousand(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text("\n" + lines(2500))
    with serving(accepted(1000), accepted(1000), accepted(500)) as (url, seen):
        assert json.loads(label(url, f"@{file}", "--source", "s").stdout) == {"accepted": 2500}
    assert [len(call["params"]["labels"]) for call in seen] == [1000, 1000, 500]
    assert {call["params"]["source"] for call in seen} == {"s"}
    sent = [item["label"] for call in seen for item in call["params"]["labels"]]
    assert sent == [f"class {number}" for number in range(2500)]


def test_stdin_is_read_to_its_end() -> None:
    with serving(accepted(2)) as (url, seen):
        assert json.loads(label(url, "-", stdin=lines(2)).stdout) == {"accepted": 2}
    assert len(seen[0]["params"]["labels"]) == 2


def test_an_error_names_the_line_and_what_was_accepted_before_it(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(lines(500) + "\n\n" + lines(600))
    with serving(accepted(1000), invalid("/labels/7/sample_id")) as (url, _):
        done = label(url, f"@{file}")
    assert done.exit_code == 1
    assert f"{file}, line 1010: sample_id: expected a UUIDv7, got chair; the first 1000 labels were accepted" in (
        done.stderr
    )


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    with serving(accepted(1000)) as (url, _):
        done = label(url, "-", stdin=lines(1004) + "chair\n")
    assert done.exit_code == 1
    assert "stdin, line 1005: " in done.stderr
    assert done.stderr.endswith("; the first 1000 labels were accepted\n")


def test_a_whole_label_that_makes_no_sense_is_named_by_its_line() -> None:
    with serving(invalid("/labels/0")) as (url, _):
        assert "stdin, line 1: expected a UUIDv7, got chair\n" in label(url, "-", stdin=lines(1)).stderr


def test_a_server_that_records_nothing_says_so() -> None:
    answer = refusal(-32601, retryable=False)
    answer["error"]["data"]["type"] = "method_not_found"
    with serving((200, answer), (200, answer)) as (url, _):
        for done in (label(url, SAMPLE, "--label", "x"), label(url, "-", stdin=lines(1))):
            assert done.exit_code == 1
            assert f"{url} takes no labels: it serves with recording = off\n" in done.stderr


def test_an_overloaded_server_is_asked_again() -> None:
    with serving((503, refusal(-32005, retryable=True, after=1)), accepted(1)) as (url, seen):
        assert label(url, SAMPLE, "--label", "x").exit_code == 0
    assert len(seen) == 2


@pytest.mark.parametrize(
    "words",
    [
        [],
        [SAMPLE],
        [SAMPLE, "--label", "x", "--value", "1"],
        [SAMPLE, "--label", "x", "--none"],
        [SAMPLE, "--none", "--value", "1"],
        ["-", "--none"],
        [SAMPLE, "--value", "nan"],
        ["-", "--label", "x"],
        ["@labels.jsonl", "--value", "1"],
    ],
)
def test_words_that_make_no_sense_are_a_usage_error(words: list[str]) -> None:
    assert CliRunner().invoke(main, ["label", *words]).exit_code == 2


def test_nothing_to_label_is_an_error(tmp_path: Path) -> None:
    for words in (["-"], [f"@{tmp_path / 'no.jsonl'}"]):
        done = CliRunner().invoke(main, ["label", *words, "--url", "http://127.0.0.1:9"], input="\n")
        assert done.exit_code == 1
        assert done.stderr.startswith("Error: ")
