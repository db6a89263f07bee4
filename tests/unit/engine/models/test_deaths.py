"""Versions on which the engine died, and what it noted of them before."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hoverboard.engine.models.deaths import LoadAttempts
from hoverboard.engine.slots import EXECUTION, LOOP, Slots, clear_runs, read_runs
from hoverboard.errors import VersionRefused


def test_after_two_deaths_a_version_is_refused_until_somebody_insists(tmp_path: Path) -> None:
    attempts = LoadAttempts(tmp_path / "loading")
    attempts.check("m", 1)
    attempts.count("m", 1, "batch", "the last time a batch was killed by SIGSEGV")
    attempts.check("m", 1)
    attempts.count("m", 1, "batch", "the last time a batch was killed by SIGSEGV")
    with pytest.raises(VersionRefused, match=r"died 2 times.*SIGSEGV.*`hoverboard models load m 1`") as caught:
        LoadAttempts(tmp_path / "loading").check("m", 1)
    assert caught.value.check == "crash"
    attempts.check("m", 2)
    attempts.forget("m", 1)
    attempts.check("m", 1)
    assert list((tmp_path / "loading").iterdir()) == []


def test_a_load_that_ends_clears_deaths_in_loads_but_not_in_batches(tmp_path: Path) -> None:
    attempts = LoadAttempts(tmp_path)
    attempts.count("m", 1, "load", "")
    attempts.survived("m", 1)
    assert attempts.deaths("m", 1) == 0
    attempts.count("m", 1, "batch", "")
    attempts.survived("m", 1)
    assert attempts.deaths("m", 1) == 1


def test_deaths_of_another_day_and_those_that_0_1_0_counted_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = LoadAttempts(tmp_path)
    (tmp_path / "m.1").write_text("3")  # it took the supervisor's own deaths for the version's
    attempts.check("m", 1)
    attempts.count("m", 1, "batch", "")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    assert attempts.deaths("m", 1) == 0
    assert attempts.count("m", 1, "batch", "") == 1


def test_what_runs_is_told_to_another_process_and_forgotten_once_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "engine-0.runs"
    assert read_runs(path) == []
    slots = Slots(path)
    assert read_runs(path) == []
    now = time.monotonic()
    slots.begin(LOOP, ("digits", 10**17), 30)
    with slots.trying(("m" * 64, 2), 60), slots.trying(("m" * 64, 2), 5, EXECUTION):
        runs = read_runs(path)
        assert [(run.slot, run.kind, run.model, run.version) for run in runs[:2]] == [
            (LOOP, "batch", "digits", 10**17),
            (EXECUTION, "load", "m" * 64, 2),
        ]
        assert [round(run.until - now) for run in runs] == [30, 5, 60]
    slots.end(LOOP)
    assert read_runs(path) == []
    slots.begin(LOOP, ("digits", 1), 30)
    clear_runs(path)
    assert read_runs(path) == []
