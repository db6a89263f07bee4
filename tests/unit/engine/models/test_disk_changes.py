"""What a look at the disk makes of models and versions that come, change and go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hoverboard.engine.models.disk_changes import Follower
from tests.unit.engine.models.parts import Parts
from tests.unit.engine.models.test_registry import write


class Disk:
    """A models directory, and what follows it."""

    def __init__(self, root: Path, parts: Parts) -> None:
        self.root, self.parts = root, parts
        self.follower = Follower(root, parts.models, parts.loads, parts.roles)

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            await self.follower.look()
        await self.parts.loads.quiet()


@pytest.fixture
def disk(tmp_path: Path, parts: Parts) -> Disk:
    (tmp_path / "models").mkdir()
    return Disk(tmp_path / "models", parts)


async def test_a_version_that_comes_goes_live_and_shows_an_example_of_what_to_send(disk: Disk) -> None:
    await disk.look()
    assert disk.parts.models.by_name == {}
    write(disk.root, "m", 1)
    await disk.look()
    (status,) = disk.parts.models.catalog.models["m"].versions
    assert status.state == "live"
    assert (status.manifest or {})["example_instance"] == [0.0, 0.0]


async def test_a_malformed_serving_toml_is_told_and_the_last_good_one_holds(disk: Disk) -> None:
    for number in (1, 2):
        write(disk.root, "m", number)
    file = disk.root / "m" / "serving.toml"
    file.write_text("stable = 1\n")
    await disk.look()
    file.write_text("stable = none\n")
    await disk.look()
    model = disk.parts.models.by_name["m"]
    assert (model.stable, model.serving.stable) == (1, 1)
    assert "serving.toml" in str(disk.parts.models.catalog.models["m"].problem)
    file.unlink()
    await disk.look()
    assert (model.stable, model.disk_problem) == (2, None)


async def test_a_refused_version_is_read_again_once_its_files_change_and_a_live_one_never(disk: Disk) -> None:
    good, bad = write(disk.root, "m", 1), write(disk.root, "m", 2)
    manifest = (bad / "manifest.json").read_bytes()
    (bad / "manifest.json").write_text("{")
    await disk.look()
    model = disk.parts.models.by_name["m"]
    assert (model.stable, model.versions[2].refused is not None) == (1, True)
    os.utime(good / "model.keras", (0, 0))
    (bad / "manifest.json").write_bytes(manifest)
    await disk.look()
    assert model.stable == 2
    assert disk.parts.begun == [("m", 1), ("m", 2)]


async def test_a_models_directory_that_cannot_be_listed_is_told_and_costs_nothing_that_answers(disk: Disk) -> None:
    write(disk.root, "m", 1)
    await disk.look()
    aside = disk.root.rename(disk.root.with_name("aside"))
    await disk.look(3)
    assert disk.parts.models.by_name["m"].stable == 1
    assert "models directory" in str(disk.parts.models.catalog.problem)
    aside.rename(disk.root)
    await disk.look()
    assert disk.parts.models.catalog.problem is None


async def test_what_looks_like_a_version_and_is_none_is_shown_as_a_problem(disk: Disk) -> None:
    write(disk.root, "m", 1)
    (disk.root / "m" / "01").mkdir()
    await disk.look()
    assert "folder '01' is no version" in str(disk.parts.models.catalog.models["m"].problem)
