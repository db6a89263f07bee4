from __future__ import annotations

from pathlib import Path

import pytest

from hoverboard.errors import ConfigError
from hoverboard.versions import Serving
from hoverboard.versions.serving import rewrite


def test_an_empty_file_means_every_default() -> None:
    assert Serving.parse(b"") == Serving()


def test_all_keys_are_read() -> None:
    text = b"stable = 2\npins = [1]\n[batching]\nmax_batch = 8\nmax_batch_delay_ms = 2\nmax_queue_ms = 50\n[limits]\nmax_instances = 10\n"
    serving = Serving.parse(text)
    assert (serving.stable, serving.pins, serving.limits.max_instances) == (2, (1,), 10)
    assert (serving.batching.max_batch, serving.batching.max_batch_delay_ms, serving.batching.max_queue_ms) == (
        8,
        2,
        50,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"stable = ", "serving.toml"),
        (b"stabel = 1", "stabel"),
        (b'stable = "1"', "stable"),
        (b"stable = 0", "stable: expected a number above 0"),
        (b"pins = [1, -1]", r"pins\[1\]"),
        (b"[batching]\nmax_batch = 0", "batching.max_batch"),
        (b"[batching]\nmax_batch_delay_ms = -1", "max_batch_delay_ms"),
        (b"[limits]\nmax_instances = 0", "limits.max_instances"),
        (b"\xff", "serving.toml"),
    ],
)
def test_a_mistake_is_named(text: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Serving.parse(text)


def test_a_rewrite_keeps_comments_order_and_tables(tmp_path: Path) -> None:
    file = tmp_path / "serving.toml"
    file.write_text("# who may change this: ops\npins = [3] # the old faithful\n\n[batching]\nmax_batch = 8\n")
    rewrite(tmp_path, stable=2)
    assert Serving.parse(file.read_bytes()).batching.max_batch == 8
    assert "# who may change this: ops" in file.read_text()
    assert "# the old faithful" in file.read_text()
    rewrite(tmp_path, stable=None, pins=[])
    assert Serving.parse(file.read_bytes()) == Serving.parse(b"[batching]\nmax_batch = 8\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["serving.toml"]


def test_nothing_is_written_over_a_malformed_file_or_with_an_impossible_value(tmp_path: Path) -> None:
    file = tmp_path / "serving.toml"
    file.write_text("stable = \n")
    with pytest.raises(ConfigError):
        rewrite(tmp_path, stable=1)
    assert file.read_text() == "stable = \n"
    file.write_text("stable = 1\n")
    with pytest.raises(ConfigError):
        rewrite(tmp_path, stable=-1)
    assert file.read_text() == "stable = 1\n"


def test_a_rewrite_makes_the_file(tmp_path: Path) -> None:
    assert rewrite(tmp_path, stable=4).stable == 4
    assert Serving.parse((tmp_path / "serving.toml").read_bytes()).stable == 4
