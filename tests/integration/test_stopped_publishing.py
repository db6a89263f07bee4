"""`hoverboard publish` says what it does, and stops when it is asked to, whatever it is doing."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.integration.running import HOVERBOARD, environment
from tests.integration.test_proofs import HANGS, looping
from tests.terminal import on_a_terminal

STOPPED = "Stopped. What was unfinished is removed.\n"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A SavedModel that never answers to one number."""
    import tensorflow as tf

    model = looping()
    tf.saved_model.save(model, str(tmp_path / "saved"), signatures={"serving_default": model.serve})
    return tmp_path / "saved"


def publishing(saved: Path, number: float) -> subprocess.Popen[str]:
    (saved.parent / "rows.jsonl").write_text(f"[{number}]\n")
    words = ["publish", "saved", "--name", "loops", "--task", "raw", "--samples", "rows.jsonl", "--models", "models"]
    return subprocess.Popen(
        [*HOVERBOARD, *words],
        cwd=saved.parent,
        env=environment() | {"TMPDIR": str(saved.parent)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition: Callable[[], object]) -> None:
    late = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < late
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_during_the_trial_it_ends_the_trial_and_leaves_nothing(saved: Path, number: signal.Signals) -> None:
    with publishing(saved, 1.0) as process:
        until(lambda: list(saved.parent.glob("hoverboard-trial-*")))
        trials = psutil.Process(process.pid).children(recursive=True)
        asked = time.monotonic()
        process.send_signal(number)
        out, said = process.communicate(timeout=30)
        took = time.monotonic() - asked
    assert (process.returncode, out) == (128 + number, "")
    assert said.endswith(STOPPED)  # perhaps after how long the trial took so far
    assert "Traceback" not in said
    assert took < 20  # where a trial may take minutes
    assert trials
    until(lambda: not any(trial.is_running() for trial in trials))
    assert not (saved.parent / "models" / "loops").exists()
    assert not list(saved.parent.glob("hoverboard-trial-*"))


def test_stopped_within_a_graph_that_never_ends_it_leaves_nothing(saved: Path) -> None:
    with publishing(saved, HANGS) as process:
        until(lambda: list((saved.parent / "models").glob("loops/.publishing-*/saved_model")))
        until(lambda: psutil.Process(process.pid).cpu_times().user > 1)
        time.sleep(6)  # loaded and traced by then, and in its loop
        process.send_signal(signal.SIGTERM)
        out, said = process.communicate(timeout=30)
    assert (process.returncode, out) == (128 + signal.SIGTERM, "")
    assert said.endswith(STOPPED)
    assert not (saved.parent / "models" / "loops").exists()


def test_on_a_terminal_the_step_that_runs_is_shown(saved: Path) -> None:
    (saved.parent / "rows.jsonl").write_text("[1.0]\n")
    words = ["publish", "saved", "--name", "loops", "--task", "raw", "--samples", "rows.jsonl", "--models", "models"]
    variables = environment() | {"TERM": "xterm"}
    run = on_a_terminal([*HOVERBOARD, *words], saved.parent, variables, stdin=None, stdout=subprocess.PIPE)
    assert run.piped.startswith(b"{")
    assert b"Trial in a clean process (up to 4 minutes)" in run.shown
