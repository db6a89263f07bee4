"""Whose answers a candidate is compared with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import ConfigError
from hoverboard.postmortem.export import ChosenVersions
from hoverboard.postmortem.recorded import RecordedVersion
from hoverboard.postmortem.replay_incumbents import ReplayCandidate, choose_incumbents
from hoverboard.postmortem.window import RecordedWindow, parse_where
from tests.records import signature

NOW = datetime(2026, 11, 30, tzinfo=UTC)
ONE = signature(TensorSpec("x", "float32", ()))
TWO = signature(TensorSpec("x", "float32", ()), TensorSpec("y", "float32", ()))
NUMBER = signature(TensorSpec("x", "float32", ()), outputs=[TensorSpec("y", "float32", ())], task="regression")


def version(id_: int, number: int, weights: str = "", known: Signature = ONE) -> RecordedVersion:
    return RecordedVersion(id_, number, weights or f"w{number}", known, None)


def chosen(folder: Path, *there: tuple[RecordedVersion, int], where: str = "", **options: Any) -> ChosenVersions:
    """For a candidate 4, with as many rows as each answered; nothing is on disk."""
    conditions = parse_where([where] if where else [])
    window = RecordedWindow("m", NOW - timedelta(days=1), NOW, *conditions)
    candidate = ReplayCandidate(folder, 4, "w4", options.pop("known", ONE))
    given: dict[str, Any] = {"named": None, "run_again": False}
    rows = {each.id: count for each, count in there}
    return choose_incumbents(candidate, window, [each for each, _ in there], rows, **given | options)


def test_each_version_that_answered_is_compared_but_the_candidate_itself(tmp_path: Path) -> None:
    found = chosen(tmp_path, (version(1, 2), 5), (version(2, 3), 9), (version(3, 4), 100))
    assert [each.version for each in found.versions] == [2, 3]
    assert list(found.skipped) == [3] and "answered by version 4 itself" in found.skipped[3]
    # One number with other weights is another version.
    found = chosen(tmp_path, (version(1, 4, "old"), 5), (version(2, 4), 100))
    assert [each.id for each in found.versions] == [1] and list(found.skipped) == [2]


def test_who_is_named_is_the_only_one_also_the_candidate(tmp_path: Path) -> None:
    found = chosen(tmp_path, (version(1, 2), 5), (version(3, 4), 9), named=4)
    assert [each.version for each in found.versions] == [4]
    assert "where --incumbent names 4" in found.skipped[1]
    with pytest.raises(ConfigError, match=r"version 7 answered nothing of m.*; 2, 4 did"):
        chosen(tmp_path, (version(1, 2), 5), (version(3, 4), 9), named=7)


def test_conditions_on_versions_hold(tmp_path: Path) -> None:
    there = (version(1, 2), 5), (version(2, 3), 9)
    assert [each.version for each in chosen(tmp_path, *there, where="version=2").versions] == [2]
    assert [each.version for each in chosen(tmp_path, *there, where="version!=2").versions] == [3]
    with pytest.raises(ConfigError, match="nothing is recorded of m"):
        chosen(tmp_path, *there, where="version=9")


def test_what_cannot_be_compared_is_left_out_with_the_next_step(tmp_path: Path) -> None:
    found = chosen(tmp_path, (version(1, 2, known=TWO), 5), (version(2, 3), 9), (version(3, 1, known=NUMBER), 2))
    assert [each.version for each in found.versions] == [3]
    assert "takes other inputs than version 3; --incumbent 2 compares these rows" in found.skipped[1]
    assert "is a regression, and version 4 a raw" in found.skipped[3]
    with pytest.raises(
        ConfigError, match=r"can be compared: it was answered by version 3, which was not given the input 'y'"
    ):
        chosen(tmp_path, (version(2, 3), 9), known=TWO)
    with pytest.raises(ConfigError, match=r"version 3, which cannot be run here .*--noise-runs 0"):
        chosen(tmp_path, (version(2, 3), 9), run_again=True)


def test_where_only_the_candidate_answered_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"version 4 itself answered all of m, .*--incumbent 4 for its own record"):
        chosen(tmp_path, (version(3, 4), 9))
