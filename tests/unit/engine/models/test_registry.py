"""Which version answers while the disk changes, people give orders, and loads take their time."""

from __future__ import annotations

import asyncio
import errno
import math
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.contract.catalog import Catalog, ModelStatus
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.deaths import LoadAttempts
from hoverboard.engine.models.registry import Registry
from hoverboard.errors import InvalidParams, ModelNotFound, NotReady, Overloaded, VersionNotFound, VersionRefused
from hoverboard.versions import GoldenSample, GoldenSet, Manifest, VersionOnDisk, VersionWriter, read_version, scan
from tests.unit.engine.fakes import OUTPUT, version

SOON_S = 2.0


def write(root: Path, name: str, number: int, *, output: str = "y", breaking: bool | None = False) -> Path:
    """A version on disk; one with another `output` breaks the callers of those before it."""
    spec = replace(OUTPUT, name=output)
    with VersionWriter(root / name) as writer:
        (writer.path / "model.keras").write_bytes(b"weights")
        sample = GoldenSample((np.zeros((1, 2), np.float32),), (np.zeros((1, 2), np.float32),))
        manifest = replace(version(number=number, name=name).manifest, outputs=(spec,), breaking=breaking)
        (writer.path / "golden.json").write_bytes(GoldenSet((sample,)).to_json(manifest.signature))
        return writer.commit(replace(manifest, sha256=writer.checksums()))


class Bench:
    """A registry whose loads are done by the test.

    Attributes:
        slow: versions whose load waits until the event is set.
        bad: versions whose load refuses them.
        ill: what the machine answers to a load.
        begun: every load that has begun, in order.
    """

    def __init__(self, root: Path, data: Path) -> None:
        self.root = root
        self.data = data
        self.slow: dict[tuple[str, int], threading.Event] = {}
        self.bad: set[tuple[str, int]] = set()
        self.ill: dict[tuple[str, int], OSError] = {}
        self.begun: list[tuple[str, int]] = []
        self.catalogs: list[Catalog] = []
        self._pool = ThreadPoolExecutor(2)
        self.start()

    def start(self) -> None:
        """As a service does that starts: nothing is known but the disk."""
        self.registry = Registry(
            self.root,
            self._load,
            self._pool,
            LoadAttempts(self.data / "loading"),
            memory_limit_bytes=0,
            changed=self.catalogs.append,
            served=self.data / "served",
        )

    def _load(self, place: VersionOnDisk, _max_batch: int | None) -> LiveVersion:
        key = place.path.parent.name, place.number
        self.begun.append(key)
        if key in self.slow:
            assert self.slow[key].wait(20)
        if key in self.ill:
            raise self.ill[key]
        if key in self.bad:
            raise VersionRefused("it is bad", check="golden")
        return version(number=place.number, name=key[0])

    def call(self, name: str, number: int) -> LiveVersion:
        """As the scheduler does it."""
        try:
            return self.registry.lookup(name, number)
        except NotReady:
            self.registry.demand(name, number)
            raise

    def delay(self, name: str, number: int) -> threading.Event:
        return self.slow.setdefault((name, number), threading.Event())

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            await self.registry.refresh()

    async def settle(self, times: int = 1) -> None:
        """Look at the disk, and wait for what that begins."""
        await self.look(times)
        await self.registry.settled()

    async def admin(self, action: str, name: str, **params: Any) -> Any:
        return await asyncio.wait_for(self.registry.admin(action, {"model": name, **params}), SOON_S)

    def status(self, name: str) -> ModelStatus:
        return self.registry.catalog.models[name]

    def stable(self, name: str) -> int | None:
        return self.status(name).roles.get("stable")

    def on_disk(self, name: str) -> list[int]:
        return [status.version for status in self.status(name).versions]

    async def close(self) -> None:
        for event in self.slow.values():
            event.set()
        await self.registry.aclose()
        self._pool.shutdown()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    (tmp_path / "models").mkdir()
    bench = Bench(tmp_path / "models", tmp_path / "data")
    yield bench
    await bench.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.005)


# -- while something loads ---------------------------------------------------------------------------------------------


async def test_orders_and_edits_take_effect_while_another_model_loads(bench: Bench) -> None:
    for number in (1, 2):
        write(bench.root, "a", number)
    await bench.settle()
    await bench.admin("pin", "a", version=1)
    hung = bench.delay("b", 1)
    write(bench.root, "b", 1)
    await bench.look()
    await until(lambda: ("b", 1) in bench.begun)

    assert (await bench.admin("route", "a", stable=1))["roles"] == {"stable": 1}
    assert (await bench.admin("route", "a", stable=2))["roles"] == {"stable": 2}, "which had left memory"
    (bench.root / "a" / "serving.toml").write_text('stable = 1\n[recording]\npolicy = "none"\n')
    await bench.look()
    await until(lambda: bench.stable("a") == 1)
    assert bench.registry.serving("a").recording.policy == "none"
    assert bench.status("a").routed_by == "disk"
    (bench.root / "a" / "serving.toml").write_text("stable = 2\npins = [1]\n")
    await bench.look()
    await until(lambda: bench.stable("a") == 2)
    assert bench.status("a").routed_by == "disk"
    await bench.admin("unpin", "a", version=1)
    assert bench.status("a").version(1).state == "available"  # type: ignore[union-attr]
    assert bench.stable("b") is None
    hung.set()
    await bench.settle()
    assert bench.stable("b") == 1


async def test_a_version_or_a_model_that_is_removed_while_it_loads_never_comes_up(bench: Bench) -> None:
    write(bench.root, "a", 1)
    await bench.settle()
    hung = bench.delay("a", 2)
    write(bench.root, "a", 2)
    await bench.look()
    await until(lambda: ("a", 2) in bench.begun)
    write(bench.root, "b", 1)
    await bench.look()
    shutil.rmtree(bench.root / "a" / "2")
    shutil.rmtree(bench.root / "b")
    await bench.look(2)
    hung.set()
    await bench.settle()
    assert (bench.stable("a"), bench.on_disk("a")) == (1, [1])
    assert "b" not in bench.registry.catalog.models
    assert ("b", 1) not in bench.begun


async def test_a_model_that_does_not_answer_yet_is_loaded_before_those_that_do(bench: Bench) -> None:
    write(bench.root, "a", 1)
    await bench.settle()
    hung = bench.delay("a", 2)
    for name, number in (("a", 2), ("a", 3), ("b", 1)):
        write(bench.root, name, number)
        (bench.root / "a" / "serving.toml").write_text("pins = [2]\n")
        await bench.look()
    await bench.look()
    hung.set()
    await bench.settle()
    assert bench.begun.index(("b", 1)) <= 2


async def test_two_orders_at_once_on_one_model_both_hold(bench: Bench) -> None:
    for number in (1, 2, 3):
        write(bench.root, "a", number)
    await bench.settle()
    await asyncio.gather(
        bench.admin("pin", "a", version=1), bench.admin("pin", "a", version=2), bench.admin("route", "a", stable=2)
    )
    serving = bench.registry.serving("a")
    assert (serving.stable, serving.pins) == (2, (1, 2))
    text = (bench.root / "a" / "serving.toml").read_text()
    assert "stable = 2" in text
    assert "pins = [1, 2]" in text


async def test_an_order_is_not_undone_by_a_look_that_began_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        write(bench.root, "a", number)
    await bench.settle()
    looked, go_on = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> Any:
        found = scan(*arguments)
        looked.set()
        go_on.wait(10)
        return found

    monkeypatch.setattr("hoverboard.engine.models.disk_changes.scan", slowly)
    look = asyncio.ensure_future(bench.look())
    await until(looked.is_set)
    await bench.admin("route", "a", stable=1)
    swaps = len(bench.catalogs)
    go_on.set()
    await look
    assert bench.stable("a") == 1
    assert all(catalog.models["a"].roles == {"stable": 1} for catalog in bench.catalogs[swaps:])


async def test_what_was_ordered_while_it_loads_and_unloaded_again_does_not_stay(bench: Bench) -> None:
    for number in (1, 2):
        write(bench.root, "a", number)
    await bench.settle()
    hung = bench.delay("a", 1)
    loading = asyncio.ensure_future(bench.admin("load", "a", version=1))
    await until(lambda: ("a", 1) in bench.begun)
    await bench.admin("unload", "a", version=1)
    hung.set()
    with pytest.raises(InvalidParams, match="unloaded"):
        await loading
    assert bench.status("a").version(1).state == "available"  # type: ignore[union-attr]


# -- what is gone ------------------------------------------------------------------------------------------------------


async def test_when_the_stable_version_is_removed_the_next_highest_takes_over_as_after_a_restart(bench: Bench) -> None:
    for number in (1, 2, 3):
        write(bench.root, "a", number)
    await bench.settle()
    assert bench.stable("a") == 3
    shutil.rmtree(bench.root / "a" / "3")
    hung = bench.delay("a", 2)
    await bench.look(2)
    assert bench.registry.lookup("a", "stable").key == ("a", 3), "it answers until the other one can"
    hung.set()
    await bench.settle()
    assert (bench.stable("a"), bench.on_disk("a")) == (2, [1, 2])
    assert bench.status("a").problem is None
    bench.start()
    await bench.settle()
    assert (bench.stable("a"), bench.on_disk("a")) == (2, [1, 2])


async def test_a_stable_version_that_is_named_and_removed_is_told(bench: Bench) -> None:
    for number in (1, 2):
        write(bench.root, "a", number)
    (bench.root / "a" / "serving.toml").write_text("stable = 2\n")
    await bench.settle()
    shutil.rmtree(bench.root / "a" / "2")
    await bench.settle(2)
    assert bench.registry.lookup("a", "stable").key == ("a", 2)
    assert "its directory is gone" in str(bench.status("a").problem)
    assert "hoverboard models route a" in str(bench.status("a").problem)
    await bench.admin("route", "a", stable=1)
    assert (bench.stable("a"), bench.on_disk("a"), bench.status("a").problem) == (1, [1], None)


async def test_nothing_is_gone_that_only_one_look_has_missed(bench: Bench) -> None:
    for name in ("a", "b"):
        for number in (1, 2):
            write(bench.root, name, number)
    await bench.settle()
    model = (bench.root / "a").rename(bench.root.parent / "aside")
    stable = (bench.root / "b" / "2").rename(bench.root.parent / "2")
    await bench.look()
    assert (bench.stable("a"), bench.stable("b")) == (2, 2)
    model.rename(bench.root / "a")
    stable.rename(bench.root / "b" / "2")
    await bench.look()
    model = (bench.root / "a").rename(model)
    await bench.look()
    assert bench.stable("a") == 2, "looks that miss it must follow each other"
    await bench.look()
    with pytest.raises(ModelNotFound):
        bench.registry.lookup("a", "stable")
    assert bench.begun == [("a", 2), ("b", 2)]


async def test_a_directory_that_cannot_be_listed_drops_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write(bench.root, "a", 1)
    await bench.settle()
    monkeypatch.setattr("hoverboard.versions.reading._MOST_ENTRIES", 0)
    await bench.look(3)
    assert bench.stable("a") == 1


async def test_a_version_that_cannot_be_read_is_refused_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(place: Path) -> Manifest:
        if place.name == "2":
            raise RuntimeError("nobody thought of this")
        return read_version(place)

    monkeypatch.setattr("hoverboard.engine.models.disk_changes.read_version", read)
    for name in ("a", "b"):
        write(bench.root, name, 1)
    write(bench.root, "a", 2)
    await bench.settle()
    assert (bench.stable("a"), bench.stable("b")) == (1, 1)
    assert bench.status("a").version(2).state == "refused"  # type: ignore[union-attr]


# -- contracts ---------------------------------------------------------------------------------------------------------


async def test_a_version_that_breaks_the_contract_waits_for_a_word_also_after_a_restart(bench: Bench) -> None:
    write(bench.root, "a", 1)
    await bench.settle()
    write(bench.root, "a", 2, output="z")
    write(bench.root, "a", 3, output="z")
    for _ in range(2):
        await bench.settle()
        assert bench.stable("a") == 1
        assert "callers of version 1 may break" in str(bench.status("a").problem)
        assert "hoverboard models route a 3" in str(bench.status("a").problem)
        waiting = bench.status("a").version(2)
        assert waiting is not None
        assert (waiting.state, "waits" in str(waiting.reason)) == ("available", True)
        bench.start()
    await bench.settle()
    await bench.admin("route", "a", stable=3)
    assert (bench.stable("a"), bench.status("a").problem) == (3, None)
    assert (await bench.admin("route", "a", stable=None))["roles"] == {"stable": 1}


@pytest.mark.parametrize("meant", [True, None])
async def test_a_break_that_is_meant_or_older_than_the_comparison_goes_live(bench: Bench, meant: bool | None) -> None:
    write(bench.root, "a", 1)
    write(bench.root, "a", 2, output="z", breaking=meant)
    write(bench.root, "a", 3, output="z")
    await bench.settle()
    assert (bench.stable("a"), bench.status("a").problem) == (3, None)


async def test_where_no_version_before_it_can_go_live_a_break_hurts_nobody(bench: Bench) -> None:
    bench.bad.add(("a", 1))
    write(bench.root, "a", 1)
    write(bench.root, "a", 2, output="z")
    await bench.settle()
    assert bench.stable("a") == 2


# -- what cannot serve -------------------------------------------------------------------------------------------------


async def test_a_model_none_of_whose_versions_can_go_live_says_why_and_not_to_try_again(bench: Bench) -> None:
    bench.bad |= {("a", 1), ("a", 2)}
    hung = bench.delay("a", 1)
    for number in (1, 2):
        write(bench.root, "a", number)
    await bench.look()
    await until(lambda: ("a", 1) in bench.begun)
    with pytest.raises(NotReady):
        bench.registry.lookup("a", "stable")
    hung.set()
    await bench.settle()
    with pytest.raises(VersionNotFound, match="it is bad") as caught:
        bench.registry.lookup("a", "stable")
    assert not caught.value.retryable
    assert "it is bad" in str((caught.value.details or {})["reason"])
    assert not bench.status("a").served


async def test_a_model_that_has_served_is_remembered_as_such_after_a_restart_until_it_is_removed(bench: Bench) -> None:
    write(bench.root, "a", 1)
    await bench.settle()
    assert bench.status("a").served
    bench.bad.add(("a", 1))
    bench.start()
    await bench.settle()
    assert (bench.stable("a"), bench.status("a").served) == (None, True)
    shutil.rmtree(bench.root / "a")
    await bench.settle(2)
    bench.start()
    write(bench.root, "a", 1)
    await bench.settle()
    assert not bench.status("a").served


async def test_strangers_cannot_have_every_version_loaded_at_once_or_kept(bench: Bench) -> None:
    for number in range(1, 21):
        write(bench.root, "a", number)
    await bench.settle()
    hung = bench.delay("a", 1)
    refused = []
    for number in range(1, 20):
        with pytest.raises((NotReady, Overloaded)) as caught:
            bench.call("a", number)
        refused.append(isinstance(caught.value, Overloaded))
    assert refused == [False] * 8 + [True] * 11
    hung.set()
    await bench.settle()
    for number in range(9, 20):
        with pytest.raises(NotReady):
            bench.call("a", number)
        await bench.settle()
    assert len(bench.registry.live()) == 9
    assert bench.stable("a") == 20


async def test_a_load_that_takes_very_long_holds_up_neither_other_models_nor_readiness(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoverboard.engine.models.jobs.LONG_S", 0.05)
    monkeypatch.setattr("hoverboard.engine.models.jobs.NEW_S", 0.2)
    hung = bench.delay("a", 1)
    for name in ("a", "b", "c"):
        write(bench.root, name, 1)
    await asyncio.wait_for(bench.settle(), SOON_S)
    assert bench.registry.catalog.ready
    assert (bench.stable("a"), bench.stable("b"), bench.stable("c")) == (None, 1, 1)
    with pytest.raises(NotReady):
        bench.registry.lookup("a", "stable")
    hung.set()
    await until(lambda: bench.stable("a") == 1)


async def test_after_a_restart_models_that_have_served_come_up_before_new_ones_and_suspects(bench: Bench) -> None:
    for name in ("b", "c"):
        write(bench.root, name, 1)
    await bench.settle()
    for name in ("a", "d"):
        write(bench.root, name, 1)
    LoadAttempts(bench.data / "loading").count("b", 1, "load", "hung")
    bench.begun.clear()
    bench.start()
    await bench.settle()
    await until(lambda: bench.stable("b") == 1)
    assert bench.begun == [("c", 1), ("a", 1), ("d", 1), ("b", 1)]


# -- what is wrong with the machine, not with a version ----------------------------------------------------------------


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for the machine is tried again after a moment."""
    monkeypatch.setattr("hoverboard.machine._FIRST_PAUSE_S", 0.05)


@pytest.mark.usefixtures("eager")
async def test_a_version_that_met_a_full_disk_is_tried_again_until_it_lives_and_no_death_is_counted(
    bench: Bench,
) -> None:
    write(bench.root, "a", 1)
    bench.ill["a", 1] = OSError(errno.ENOSPC, "No space left on device")
    await bench.settle()
    for tries in (1, 2, 3):
        (status,) = bench.status("a").versions
        assert (status.state, status.passing) == ("refused", True)
        assert "tried again in" in str(status.reason)
        with pytest.raises(NotReady):
            bench.registry.lookup("a", "stable")
        with pytest.raises(NotReady, match="cannot be loaded now"):
            bench.registry.lookup("a", 1)
        assert bench.begun == [("a", 1)] * tries
        assert bench.registry.again_in_s() <= 0.05 * 2**tries
        await asyncio.sleep(bench.registry.again_in_s() + 0.01)
        await bench.settle()
    bench.ill.clear()
    await asyncio.sleep(bench.registry.again_in_s() + 0.01)
    await bench.settle()
    assert bench.stable("a") == 1
    assert bench.registry.again_in_s() == math.inf
    assert LoadAttempts(bench.data / "loading").deaths("a", 1) == 0


@pytest.mark.usefixtures("eager")
async def test_while_the_newest_version_waits_for_the_machine_the_one_before_it_answers(bench: Bench) -> None:
    for number in (1, 2):
        write(bench.root, "a", number)
    bench.ill["a", 2] = OSError(errno.EMFILE, "Too many open files")
    await bench.settle()
    await until(lambda: bench.stable("a") == 1)
    bench.ill.clear()
    await asyncio.sleep(0.06)
    await bench.settle()
    assert bench.stable("a") == 2


async def test_a_version_that_is_refused_for_itself_is_not_tried_again_by_itself(bench: Bench) -> None:
    write(bench.root, "a", 1)
    bench.ill["a", 1] = FileNotFoundError(errno.ENOENT, "No such file or directory")
    await bench.settle(3)
    assert bench.begun == [("a", 1)]
    assert bench.registry.again_in_s() == math.inf


async def test_a_version_whose_rights_are_put_right_is_read_again_at_once(bench: Bench) -> None:
    place = write(bench.root, "a", 1)
    bench.bad.add(("a", 1))
    await bench.settle()
    bench.bad.clear()
    (place / "model.keras").chmod(0o600)
    await bench.settle()
    assert bench.stable("a") == 1
