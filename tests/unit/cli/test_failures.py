"""However a command fails: one sentence on stderr, an exit code, no traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hoverboard.cli import main


def run(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, words, input=stdin)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOVERBOARD_PORT", "1")  # nobody listens there


USAGE = [
    (["predict", "m", "1", "--input", "a.jsonl", "--output", "b.jsonl"], "not both"),
    (["predict", "m", "--input", "a.jsonl"], "go together"),
    (["predict", "m", "1", "--keep", "id"], "--keep needs --input and --output"),
    (["predict", "m", "1", "-"], "goes alone"),
    (["predict", "m", "--input", "a.jsonl", "--output", "b.jsonl", "--url", "http://x"], "--url is for a server"),
    (["predict", "m", "--input", "a.jsonl", "--output", "b.jsonl", "--version", "canary"], "expected a number"),
    (["models", "route", "m", "latest"], "expected a version's number, or highest"),
    (["models", "--url", "http://x", "show", "m"], "after `show`"),
    (["serve", "--port", "many"], "not a valid integer"),
    (["publish", "missing.keras", "--name", "m"], "does not exist"),
    (["publish", __file__, "--name", "m", "--alpha", "0.1"], "--alpha is about outliers: give --calibration, too"),
    (
        ["publish", __file__, "--name", "m", "--detector", "knn"],
        "--detector is about outliers: give --calibration, too",
    ),
    (["publish", __file__, "--name", "m", "--feature-layer", "x"], "--feature-layer is about outliers"),
]


@pytest.mark.parametrize("words, sentence", USAGE)
def test_a_command_line_without_sense_exits_2(words: list[str], sentence: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stdout == ""


def test_names_and_values_that_are_no_text_are_refused_with_their_bytes() -> None:
    for words in (
        ["postmortem", "m", "--where", "label=caf\udce9"],
        ["postmortem", "caf\udce9"],
        ["export", "m", "--output", "x", "--where", "label=caf\udce9"],
        ["quality", "m", "--source", "caf\udce9"],
    ):
        result = run(*words)
        assert result.exit_code == 2
        assert "is no UTF-8" in result.stderr
        assert "caf\\xe9" in result.stderr


FAILURES = [
    (
        ["predict", "m", "1"],
        "no server answers at http://127.0.0.1:1 (connection refused); start it with `hoverboard serve`, or name another with --url",
    ),
    (["predict", "m", "@no.json"], "no.json: no such file"),
    (["predict", "m", "-"], "stdin: holds no instance"),
    (["models"], "no server answers"),
    (["models", "--models", "nowhere"], "models directory nowhere: No such file or directory"),
    (["models", "show", "m", "--models", "."], "no model 'm' in .; there is none"),
    (["models", "pin", "m", "1"], "admin.token: no such file"),
    (["serve", "--port", "99999"], "flag --port"),
    (["serve"], "models directory models does not exist"),
    (["predict", "m", "--input", "a.jsonl", "--output", "b.jsonl"], "there is no file a.jsonl"),
]


@pytest.mark.parametrize("words, sentence", FAILURES)
def test_a_failure_is_one_sentence_and_exit_code_1(words: list[str], sentence: str) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_an_unforeseen_failure_is_a_sentence_too_and_a_traceback_only_on_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr("hoverboard.cli.target.public_url", broken)
    result = run("predict", "m", "1")
    assert result.exit_code == 1
    assert result.stderr == "Error: ZeroDivisionError: by design (HOVERBOARD_DEBUG=1 shows where)\n"
    monkeypatch.setenv("HOVERBOARD_DEBUG", "1")
    assert isinstance(run("predict", "m", "1").exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "m.keras", None, "/models/m/1"),
            "/models/m/1: No space left",
        ),
        (PermissionError(errno.EACCES, "Permission denied", b"/models"), "/models: Permission denied"),
        (OSError("odd"), "OSError: odd (HOVERBOARD_DEBUG=1 shows where)"),
    ],
)
def test_a_disk_that_is_full_or_closed_is_told_by_its_place(
    monkeypatch: pytest.MonkeyPatch, error: OSError, sentence: str
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("hoverboard.cli.target.public_url", broken)
    result = run("predict", "m", "1")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {sentence}")


def test_a_reader_that_leaves_early_causes_no_complaint() -> None:
    code = "from hoverboard.cli import main; main(['--help'])"
    command = f'(sleep 0.3; exec {sys.executable} -c "{code}") | true; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_no_command_shows_the_help() -> None:
    result = run()
    assert result.exit_code == 2
    assert "Examples:" in result.output
