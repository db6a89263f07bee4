"""What becomes of a load: attempts, memory, refusals, tries again, and calls for what is on disk only."""

from __future__ import annotations

import errno
import math
from pathlib import Path

import pytest

from hoverboard.errors import Overloaded, VersionRefused
from tests.unit.engine.models.parts import Parts, until


async def test_a_version_lives_once_its_load_has_ended_and_the_catalog_says_so(parts: Parts) -> None:
    model = parts.model("m", 1)
    gate = parts.delay("m", 1)
    loaded = parts.loads.want(model, model.versions[1])
    assert parts.loads.want(model, model.versions[1]) is loaded, "to ask again changes nothing"
    await until(lambda: parts.catalogs)
    assert [status.state for status in parts.models.catalog.models["m"].versions] == ["loading"]
    gate.set()
    await loaded
    assert [status.state for status in parts.models.catalog.models["m"].versions] == ["live"]
    assert parts.begun == [("m", 1)]
    assert parts.loads.of(model.versions[1]) is None


async def test_a_version_that_fails_a_check_is_refused_for_good_with_its_reason_cut_short(parts: Parts) -> None:
    parts.failing["m", 1] = VersionRefused("x" * 5000, check="golden")
    model = parts.model("m", 1)
    await parts.settle(model)
    refused = model.versions[1].refused
    assert refused is not None and refused.check == "golden"
    assert len(refused.reason) == 2000
    assert parts.loads.again_in_s() == math.inf
    await parts.settle(model)
    assert parts.begun == [("m", 1)]


async def test_what_nobody_foresaw_refuses_the_version_alone_and_hides_what_it_says(parts: Parts) -> None:
    parts.failing["m", 1] = ZeroDivisionError("a path, say")
    model, other = parts.model("m", 1), parts.model("other", 1)
    await parts.settle(model, other)
    refused = model.versions[1].refused
    assert refused is not None and refused.reason == "loading failed: ZeroDivisionError"
    assert other.stable == 1


async def test_what_the_machine_kept_from_loading_is_due_again_later_and_later(parts: Parts) -> None:
    parts.failing["m", 1] = OSError(errno.ENOSPC, "No space left on device")
    model = parts.model("m", 1)
    await parts.settle(model)
    version = model.versions[1]
    assert version.waits
    assert "tried again in 2 s" in str(version.refused)
    assert parts.loads.again_in_s() <= 2
    version.refused = None  # as a look at the disk does once it is due
    await parts.settle(model)
    assert version.tries == 2
    assert "tried again in 4 s" in str(version.refused)


async def test_a_version_on_which_the_engine_died_twice_is_not_loaded_until_that_is_forgotten(parts: Parts) -> None:
    for _ in range(2):
        parts.attempts.count("m", 1, "batch", "killed by SIGSEGV")
    model = parts.model("m", 1)
    parts.roles.settle(model)
    await until(lambda: model.versions[1].refused)
    assert parts.begun == []
    parts.loads.forget_deaths(model, 1)
    model.versions[1].refused = None
    model.changed()
    await parts.settle(model)
    assert model.stable == 1


async def test_a_load_that_is_not_wanted_any_more_when_its_turn_comes_is_not_begun(parts: Parts) -> None:
    model, other = parts.model("m", 1), parts.model("other", 1)
    gate = parts.delay("m", 1)
    parts.roles.settle(model)
    await until(lambda: parts.begun)
    parts.roles.settle(other)
    parts.roles.remove("other")
    gate.set()
    await parts.loads.quiet()
    assert parts.begun == [("m", 1)]


async def test_a_call_by_number_has_a_version_loaded_once_and_only_so_many_at_a_time(parts: Parts) -> None:
    model = parts.model("m", *range(1, 12))
    await parts.settle(model)
    parts.begun.clear()
    gate = parts.delay("m", 1)
    parts.loads.demand(model, 11)
    parts.loads.demand(model, 99)
    assert parts.loads.of(model.versions[11]) is None, "it lives already"
    for number in range(1, 9):
        parts.loads.demand(model, number)
        parts.loads.demand(model, number)
    with pytest.raises(Overloaded):
        parts.loads.demand(model, 9)
    gate.set()
    await parts.loads.quiet()
    assert len(parts.begun) == 8
    parts.loads.demand(model, 9)
    await parts.loads.quiet()
    assert model.alive() == [2, 3, 4, 5, 6, 7, 8, 9, 11], "the one that was used longest ago has left"


async def test_where_memory_is_short_the_least_recently_used_leaves_but_nothing_that_fills_a_role_or_is_pinned(
    tmp_path: Path,
) -> None:
    parts = Parts(tmp_path, memory_limit=32)  # four versions of 8 bytes
    try:
        model = parts.model("m", 1, 2, 3, 4, 5, pins=(1,))
        await parts.settle(model)
        for number in (2, 3, 4):
            parts.loads.demand(model, number)
            await parts.loads.quiet()
        assert model.alive() == [1, 3, 4, 5]
        parts.model("n", 1)
        await parts.settle(parts.models.by_name["n"])
        assert model.alive() == [1, 4, 5]
    finally:
        await parts.close()
