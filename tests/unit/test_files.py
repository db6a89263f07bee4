import os
import stat
from pathlib import Path

import pytest

from hoverboard.files import put_file


def test_a_file_is_put_whole_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "token"
    before = os.umask(0o077)
    try:
        put_file(path, b"first", mode=0o644)
        put_file(path, b"second", mode=0o644)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["token"]


def test_what_cannot_be_put_leaves_what_was_there_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        put_file(path, b"content")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(FileNotFoundError):
        put_file(tmp_path / "nowhere" / "file", b"content")


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    (tmp_path / "file").symlink_to(target)
    put_file(tmp_path / "file", b"ours", durable=False)
    assert target.read_bytes() == b"theirs"
    assert not (tmp_path / "file").is_symlink()
