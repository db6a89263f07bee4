"""What is to fill a role, from what lies on disk alone."""

from __future__ import annotations

from dataclasses import replace

from hoverboard.contract.signature import TensorSpec
from hoverboard.versions import Manifest, Serving
from hoverboard.versions.roles import Assignment, intended, lineage

FIRST = Manifest(
    name="m",
    version=1,
    created="2026-01-01T00:00:00+00:00",
    artifact="model.keras",
    task="raw",
    inputs=(TensorSpec("x", "float32", (2,)),),
    outputs=(TensorSpec("y", "float32", (2,)),),
    sha256={},
    breaking=False,
)


def _versions(*outputs: str) -> dict[int, Manifest]:
    """Versions from 1 on; one whose output has another name breaks the callers of those before it."""
    return {
        number: replace(FIRST, version=number, outputs=(replace(FIRST.outputs[0], name=name),))
        for number, name in enumerate(outputs, 1)
    }


def test_the_highest_version_is_stable_and_answers_every_call_of_the_role() -> None:
    assert intended(Serving(), lineage(_versions("y", "y", "y"))) == {"stable": Assignment(3, 1.0)}


def test_a_version_that_is_named_is_stable_whether_it_can_go_live_or_not() -> None:
    line = lineage(_versions("y", "y"))
    assert intended(Serving(stable=1), line) == {"stable": Assignment(1)}
    assert intended(Serving(stable=7), line, refused={7}) == {"stable": Assignment(7)}


def test_a_version_that_was_refused_gives_way_to_the_one_before_it() -> None:
    assert intended(Serving(), lineage(_versions("y", "y")), refused={2}) == {"stable": Assignment(1)}


def test_a_version_that_breaks_callers_waits_until_somebody_names_it() -> None:
    line = lineage(_versions("y", "z", "z"))
    assert intended(Serving(), line) == {"stable": Assignment(1)}
    assert sorted(line.waiting) == [2, 3]
    assert "version 3 waits, since callers of version 1 may break on it" in line.waiting[3].sentence("m", 3)
    assert intended(Serving(stable=3), line) == {"stable": Assignment(3)}


def test_where_all_before_it_are_refused_a_version_breaks_nobody() -> None:
    assert intended(Serving(), lineage(_versions("y", "z"), refused={1}), refused={1}) == {"stable": Assignment(2)}


def test_nothing_fills_a_role_where_nothing_can() -> None:
    assert intended(Serving(), lineage({})) == {}
    assert intended(Serving(), lineage(_versions("y")), refused={1}) == {}
