from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hoverboard.cli.app import main
from hoverboard.journal.format import FRAME_HEAD_BYTES, HEADER_BYTES, checksum
from tests.unit.journal.written import BATCH, entry, open_writer


def run(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(main, ["journal", *map(str, arguments)], env=environment)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with the journals of a living engine and of an api that has ended."""
    writer = open_writer(tmp_path / "journal")
    for _ in range(3):
        writer.append(BATCH, bytes(100), count=7, needs={"v": b"version"})
    writer.shed([entry(3)])
    closed = open_writer(tmp_path / "journal", process="api-0")
    closed.append(BATCH, b"x", count=1)
    closed.close()
    return tmp_path


def damage(data: Path) -> Path:
    """Flip a bit of the living journal's first batch."""
    directory = min((data / "journal").iterdir())
    segment = directory / "00000000.seg"
    content = bytearray(segment.read_bytes())
    content[HEADER_BYTES + 2 * FRAME_HEAD_BYTES + len(b"version") + 50] ^= 1
    segment.write_bytes(content)
    return directory


def test_inspect_counts_what_each_journal_holds(data: Path) -> None:
    result = run("inspect", data)
    assert result.exit_code == 0
    engine, api = json.loads(result.stdout)["journals"]
    assert {key: engine[key] for key in ("process", "writer", "segments", "frames", "records", "damages")} == {
        "process": "engine-0",
        "writer": "alive",
        "segments": 1,
        "frames": 4,
        "records": 21,
        "damages": 0,
    }
    assert engine["frames_by_kind"] == {"version": 1, "batch": 3}
    assert engine["pending_gap"][0]["records"] == 3
    assert (api["process"], api["writer"], api["pending_gap"]) == ("api-0", "closed", [])


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_the_data_directory_may_be_an_option_as_it_is_of_other_commands(command: str, data: Path) -> None:
    assert run(command, "--data-dir", data).stdout == run(command, data).stdout
    twice = run(command, data, "--data-dir", data)
    assert twice.exit_code == 2
    assert "give the data directory once" in twice.stderr
    assert run(command, "--data-dir", data / "missing").exit_code == 2


def test_inspect_draws_a_table_for_a_person(data: Path) -> None:
    lines = run("inspect", data, "--pretty", COLUMNS="160").stdout.splitlines()
    assert lines[0].split() == [
        *["journal", "process", "writer", "segments", "MiB", "frames", "records", "damages", "pending", "gap"]
    ]
    assert lines[2].split()[1:] == ["engine-0", "alive", "1", "0.1", "4", "batch", "21", "0", "3"]


def test_verify_says_that_all_is_well(data: Path) -> None:
    result = run("verify", data, "--pretty")
    assert result.exit_code == 0
    assert result.stdout.endswith("2 journals, 5 frames with 22 records are whole; 0 damages.\n")


def test_verify_names_each_damage_and_fails(data: Path) -> None:
    directory = damage(data)
    result = run("verify", data, "--pretty")
    assert result.exit_code == 1
    first = result.stdout.splitlines()[0]
    assert first.startswith(f"{directory.name} (engine-0): segment 0, byte 136: damaged, 137 bytes; ")
    assert first.endswith("frames lost: 1, records lost: 7")
    found: dict[str, Any] = json.loads(run("verify", data).stdout)["damages"][0]
    assert (found["journal"], found["seq"], found["records"], found["offset"]) == (directory.name, 1, 7, 136)
    assert run("inspect", data).exit_code == 0


def test_the_data_directory_of_the_settings_is_the_default(data: Path) -> None:
    result = run("verify", "--pretty", HOVERBOARD_DATA_DIR=str(data))
    assert result.stdout.startswith(f"{data / 'journal'}: 2 journals")


def test_a_directory_without_journals_has_none(tmp_path: Path) -> None:
    assert run("inspect", tmp_path, "--pretty").stdout == f"No journals in {tmp_path / 'journal'}.\n"
    assert json.loads(run("inspect", tmp_path).stdout) == {"journals": []}
    assert run("inspect", tmp_path / "nothing").exit_code == 2


def test_a_newer_format_is_refused_with_a_sentence(data: Path) -> None:
    segment = min((data / "journal").iterdir()) / "00000000.seg"
    begin = segment.read_bytes()[:7] + b"\x09"
    segment.write_bytes(begin + checksum(begin).to_bytes(4, "little") + bytes(100))
    result = run("verify", data)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {segment} has journal format 9, and this Hoverboard reads formats up to 1")
