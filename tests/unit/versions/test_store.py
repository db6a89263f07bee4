from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import ConfigError, PublishError, VersionRefused
from service.types import TensorSpec
from service.versions import Manifest, VersionWriter, read_version, remove_leftovers, scan, verify_checksums


def _manifest(writer: VersionWriter, version: int = 1, name: str = "m") -> Manifest:
    spec = TensorSpec("x", "float32", ())
    return Manifest(
        name=name,
        version=version,
        created="2026-01-01T00:00:00+00:00",
        artifact="model.keras",
        task="raw",
        inputs=(spec,),
        outputs=(spec,),
        sha256=writer.checksums(),
    )


def _write(root: Path, version: int = 1) -> Path:
    with VersionWriter(root / "m") as writer:
        (writer.path / "model.keras").write_bytes(b"weights")
        (writer.path / "golden.json").write_bytes(b"{}")
        return writer.commit(_manifest(writer, version))


def test_a_version_appears_whole_with_checksums_that_hold(tmp_path: Path) -> None:
    place = _write(tmp_path)
    assert place == tmp_path / "m" / "1"
    verify_checksums(place, read_version(place))
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["1"]


def test_a_version_is_immutable(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(PublishError, match="immutable"):
        _write(tmp_path)
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["1"]


def test_a_failed_publish_leaves_nothing_behind(tmp_path: Path) -> None:
    with VersionWriter(tmp_path / "m") as writer:
        (writer.path / "model.keras").write_bytes(b"half")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_publisher_left_is_invisible_and_removed_once_it_is_old(tmp_path: Path) -> None:
    _write(tmp_path)
    left = tmp_path / "m" / ".publishing-abc"
    left.mkdir()
    assert list(scan(tmp_path)["m"].versions) == [1]
    assert remove_leftovers(tmp_path / "m", 3600, left.stat().st_mtime + 10) == []
    assert remove_leftovers(tmp_path / "m", 3600, left.stat().st_mtime + 4000) == [left]
    assert not left.exists()


@pytest.mark.parametrize("damage", ["flip", "remove", "add", "link"])
def test_any_damage_is_found_and_named(tmp_path: Path, damage: str) -> None:
    place = _write(tmp_path)
    weights = place / "model.keras"
    if damage == "flip":
        weights.write_bytes(b"Weights")
    elif damage == "remove":
        weights.unlink()
    elif damage == "add":
        (place / "evil.py").write_text("")
    else:
        (tmp_path / "elsewhere").write_bytes(b"weights")
        weights.unlink()
        weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VersionRefused, match=r"evil\.py" if damage == "add" else r"model\.keras") as caught:
        verify_checksums(place, read_version(place))
    assert caught.value.check == "checksum"


def test_a_manifest_that_belongs_elsewhere_is_refused(tmp_path: Path) -> None:
    place = _write(tmp_path)
    place.rename(tmp_path / "m" / "2")
    with pytest.raises(VersionRefused, match="says m/1 but lies in m/2"):
        read_version(tmp_path / "m" / "2")


def test_a_scan_sees_numbers_only_and_tells_when_anything_changed(tmp_path: Path) -> None:
    place = _write(tmp_path)
    for name in ("01", "0", "x", "-1", "1.5", ".2"):
        (tmp_path / "m" / name).mkdir()
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".hidden" / "1").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    before = scan(tmp_path)
    assert list(before) == ["m"]
    assert list(before["m"].versions) == [1]
    assert scan(tmp_path) == before
    (place / "golden.json").write_bytes(b"{} ")
    assert scan(tmp_path) != before


def test_a_malformed_serving_toml_is_a_problem_of_its_model_alone(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "m" / "serving.toml").write_text("nonsense")
    found = scan(tmp_path)["m"]
    assert found.serving is None
    assert found.problem is not None
    assert "serving.toml" in found.problem
    assert list(found.versions) == [1]


def test_a_missing_models_directory_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        scan(tmp_path / "nowhere")
