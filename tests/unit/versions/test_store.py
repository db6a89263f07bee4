from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hoverboard.contract.signature import TensorSpec
from hoverboard.errors import ConfigError, PublishError, VersionRefused
from hoverboard.outliers import load_package
from hoverboard.versions import Manifest, VersionWriter, read_version, remove_leftovers, scan, verify_checksums
from hoverboard.versions.baseline import read_baseline
from hoverboard.versions.store import read_golden


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


def _replace(kind: str, path: Path, elsewhere: Path) -> None:
    """Put something in a file's place that is no plain file, or too large to be read."""
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        elsewhere.write_bytes(b"{}")
        path.symlink_to(elsewhere)
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "huge"])
@pytest.mark.parametrize("name", ["manifest.json", "golden.json", "baseline.arrow", "outliers.npz", "serving.toml"])
def test_what_is_no_plain_file_of_a_sensible_size_is_refused_without_being_read(
    tmp_path: Path, name: str, kind: str
) -> None:
    place = _write(tmp_path)
    manifest = read_version(place)
    _replace(kind, (place.parent if name == "serving.toml" else place) / name, tmp_path / "elsewhere")
    words = {"fifo": "plain", "folder": "plain|directory", "link": "links are not followed", "huge": "larger than"}[
        kind
    ]
    if name == "serving.toml":
        if kind == "link":
            (tmp_path / "elsewhere").unlink()
            os.mkfifo(tmp_path / "elsewhere")  # a link is followed, to a plain file
            words = "plain"
        found = scan(tmp_path)["m"]
        assert found.serving is None
        assert re.search(words, str(found.problem))
        assert list(found.versions) == [1]
        return
    read: dict[str, Callable[[], object]] = {
        "manifest.json": lambda: read_version(place),
        "golden.json": lambda: read_golden(place, manifest),
        "baseline.arrow": lambda: read_baseline(place),
        "outliers.npz": lambda: load_package(place / name),
    }
    with pytest.raises(VersionRefused, match=words):
        read[name]()
    if name == "golden.json" and kind != "huge":
        with pytest.raises(VersionRefused, match=r"golden\.json"):
            verify_checksums(place, manifest)


def test_a_linked_serving_toml_is_followed_as_mounted_configurations_are(tmp_path: Path) -> None:
    place = _write(tmp_path)
    (tmp_path / "mounted.toml").write_text("stable = 1\n")
    (place.parent / "serving.toml").symlink_to(tmp_path / "mounted.toml")
    found = scan(tmp_path)["m"]
    assert found.serving is not None
    assert (found.serving.stable, found.problem) == (1, None)


def test_a_serving_toml_that_links_to_itself_says_so(tmp_path: Path) -> None:
    place = _write(tmp_path)
    (place.parent / "serving.toml").symlink_to("serving.toml")
    assert scan(tmp_path)["m"].problem == "serving.toml: a link that leads back to itself"


@pytest.mark.timeout(10)
def test_a_serving_toml_that_takes_long_to_parse_is_refused_by_its_size(tmp_path: Path) -> None:
    place = _write(tmp_path)
    (place.parent / "serving.toml").write_text("a." * 30_000 + "b = 1")
    assert scan(tmp_path)["m"].problem == "serving.toml: larger than 16 KiB"


def test_files_that_come_and_go_while_a_scan_looks_hide_no_version(tmp_path: Path) -> None:
    place = _write(tmp_path)
    done = threading.Event()

    def rewrite() -> None:
        while not done.is_set():
            for number in range(50):
                (place / f".golden.json.{number}").write_bytes(b"{}")
                (place / f".golden.json.{number}").rename(place / "golden.json")

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        seen = [list(scan(tmp_path)["m"].versions) for _ in range(2000)]
    finally:
        done.set()
        writer.join()
    assert seen == [[1]] * len(seen)


def test_a_folder_of_very_many_or_very_deep_files_is_a_problem_of_that_version_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, deep = _write(tmp_path), _write(tmp_path, 2)
    _write(tmp_path, 3)
    monkeypatch.setattr("hoverboard.versions.reading.MOST_FILES", 20)
    for number in range(21):
        (many / f"{number}").touch()
    deep.joinpath(*"abcdefghijklmnopqrstuvwxyz"[:18]).mkdir(parents=True)
    found = scan(tmp_path)["m"].versions
    assert [found[number].problem is None for number in (1, 2, 3)] == [False, False, True]
    assert "more than 20 files" in str(found[1].problem)
    assert "deep" in str(found[2].problem)


def test_what_looks_like_a_version_or_a_model_and_is_none_is_told(tmp_path: Path) -> None:
    place = _write(tmp_path)
    for name in ("20260101000000000000", "007", "\u0663", "stable"):
        (tmp_path / "m" / name).mkdir()
    (place / "manifest.json").rename(tmp_path / "m" / "stable" / "manifest.json")
    (tmp_path / "m" / "notes").mkdir()
    (tmp_path / "my model" / "1").mkdir(parents=True)
    (tmp_path / "some notes").mkdir()
    told: list[str] = []
    found = scan(tmp_path, told.append)
    assert list(found) == ["m"]
    assert len(found["m"].passed_over) == 4
    assert any("20260101000000000000" in sentence for sentence in found["m"].passed_over)
    assert len(told) == 1
    assert "my model" in told[0]


def test_a_model_that_cannot_be_listed_says_so_instead_of_being_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path)
    monkeypatch.setattr("hoverboard.versions.reading._MOST_ENTRIES", 1)
    (tmp_path / "m" / "more").touch()
    found = scan(tmp_path)["m"]
    assert not found.listed
    assert "more than 1 entries" in str(found.problem)


def test_a_missing_models_directory_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        scan(tmp_path / "nowhere")
