"""An export that was killed, and whose files were damaged since: the command names the file and what to do, and that helps."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.test_export import BETWEEN, KNOWN, bytes_of, export, many, run_killed
from tests.integration.test_export import tables as tables  # noqa: PLC0414 - a fixture
from tests.recorded_tables import Tables
from tests.records import KEY


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def of_fewer(path: Path) -> None:
    path.write_bytes(re.sub(rb'"rows":\d+', b'"rows":7', path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("part-000001-answers.parquet", truncated, "is damaged"),
        ("part-000001-inputs.parquet", Path.unlink, "is missing"),
        ("state.json", truncated, "is damaged"),
        ("state.json", of_fewer, "counts "),
    ],
)
def test_a_damaged_file_of_an_unfinished_export_is_named_and_restart_helps(
    tables: Tables, database: str, tmp_path: Path, *, name: str, damage: Callable[[Path], None], told: str
) -> None:
    tables.filled(KNOWN, *many(10, 50))
    assert run_killed(database, tmp_path / "whole", -1) == 0
    assert run_killed(database, tmp_path / "out", 5) == -signal.SIGKILL
    work = tmp_path / "out" / ".inputs.parquet.exporting"
    damage(work / name)
    words = export(database, KEY[0], tmp_path / "out", *BETWEEN, status=1)
    assert words.startswith(f"Error: {work / name} {told}"), words
    assert words.endswith(f"what is unfinished in {work} cannot be gone on with; --restart throws it away\n"), words
    export(database, KEY[0], tmp_path / "out", *BETWEEN, "--restart")
    assert bytes_of(tmp_path / "out").keys() == bytes_of(tmp_path / "whole").keys()
