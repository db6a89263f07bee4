"""What fills a role now: a swap once the intended version lives, and what leaves memory then."""

from __future__ import annotations

import pytest

from hoverboard.engine.models.state import ADMIN
from hoverboard.errors import VersionRefused
from hoverboard.versions import Serving
from hoverboard.versions.roles import Assignment
from tests.unit.engine.models.parts import Parts, until


async def test_a_role_is_filled_by_the_intended_version_for_all_its_calls_once_that_lives(parts: Parts) -> None:
    model = parts.model("m", 1, 2)
    gate = parts.delay("m", 2)
    parts.roles.settle(model)
    assert model.roles == {}
    gate.set()
    await parts.loads.quiet()
    assert model.roles == {"stable": Assignment(2, 1.0)}
    live = model.answering("stable")
    assert live is not None and live.key == ("m", 2)
    assert parts.models.catalog.models["m"].roles == {"stable": 2}


async def test_the_version_before_answers_until_the_next_one_can_and_leaves_memory_then(parts: Parts) -> None:
    model = parts.model("m", 1)
    await parts.settle(model)
    gate = parts.delay("m", 2)
    parts.model("m", 2)
    parts.roles.settle(model)
    await until(lambda: ("m", 2) in parts.begun)
    assert (model.stable, model.alive()) == (1, [1])
    gate.set()
    await parts.loads.quiet()
    assert (model.stable, model.alive()) == (2, [2])


async def test_what_is_pinned_stays_in_memory_beside_what_fills_a_role(parts: Parts) -> None:
    model = parts.model("m", 1, 2, 3, pins=(1,))
    await parts.settle(model)
    assert (model.stable, model.alive()) == (3, [1, 3])
    assert (model.answering(1), model.answering(2)) == (model.versions[1].live, None)


async def test_what_was_loaded_for_a_call_and_then_filled_a_role_leaves_with_the_role(parts: Parts) -> None:
    model = parts.model("m", 1, 2)
    await parts.settle(model)
    parts.loads.demand(model, 1)
    await parts.loads.quiet()
    assert model.alive() == [1, 2]
    model.serving = Serving(stable=1)
    await parts.settle(model)
    assert (model.stable, model.alive()) == (1, [1])
    model.serving = Serving()
    await parts.settle(model)
    assert (model.stable, model.alive()) == (2, [2])


async def test_a_swap_says_who_wanted_it_and_that_the_model_has_served(parts: Parts) -> None:
    model = parts.model("m", 1, 2)
    await parts.settle(model)
    assert (model.routed_by, model.served) == ("disk", True)
    model.serving, model.actor = Serving(stable=1), ADMIN
    await parts.settle(model)
    assert (model.stable, model.routed_by) == (1, "admin")
    assert parts.roles.add("m", model.path) is model
    parts.roles.remove("m")
    assert parts.models.by_name == {}
    assert not parts.roles.add("m", model.path).served


@pytest.mark.parametrize(
    ("stable", "problem"),
    [(7, "stable = 7: no such version"), (1, "stable = 1: it is bad"), (None, None)],
    ids=["missing", "refused", "not named"],
)
async def test_a_named_version_that_cannot_serve_is_told_and_what_serves_goes_on(
    parts: Parts, stable: int | None, problem: str | None
) -> None:
    parts.failing["m", 1] = VersionRefused("it is bad", check="golden")
    model = parts.model("m", 1, 2)
    await parts.settle(model)
    model.serving = Serving(stable=stable)
    await parts.settle(model)
    assert (model.stable, model.route_problem) == (2, problem)


async def test_of_a_model_none_of_whose_versions_can_serve_the_reason_is_told(parts: Parts) -> None:
    model = parts.model("m")
    await parts.settle(model)
    assert model.route_problem == "no version can go live (there is none)"
    parts.failing["m", 1] = VersionRefused("it is bad", check="golden")
    parts.model("m", 1)
    await parts.settle(model)
    assert model.route_problem == "no version can go live (version 1: it is bad)"


async def test_a_version_that_left_the_disk_answers_until_another_does_or_none_can(parts: Parts) -> None:
    model = parts.model("m", 1, 2)
    await parts.settle(model)
    model.versions[2].gone = True
    model.changed()
    gate = parts.delay("m", 1)
    parts.roles.settle(model)
    assert (model.stable, model.alive()) == (2, [2])
    gate.set()
    await parts.loads.quiet()
    assert (model.stable, list(model.versions)) == (1, [1])
    model.versions[1].gone = True
    model.changed()
    parts.roles.settle(model)
    assert (model.roles, model.versions) == ({}, {})


async def test_to_wait_for_a_model_is_to_wait_for_what_its_roles_lack(parts: Parts) -> None:
    model = parts.model("m", 1)
    gate = parts.delay("m", 1)
    parts.roles.settle(model)
    await until(lambda: parts.begun)
    gate.set()
    await parts.roles.settled(model)
    assert model.stable == 1
    model.serving = Serving(stable=9)
    await parts.roles.settled(model)  # nobody can fill it: there is nothing to wait for
