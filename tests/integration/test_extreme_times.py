"""Times at both ends of the calendar: every command that takes a time answers, or says in a sentence what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hoverboard.cli import main
from hoverboard.contract.signature import TensorSpec
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.errors import HoverboardError
from tests.postgres import Server
from tests.recorded_tables import Tables
from tests.records import KEY, NOW, record, signature

FIRST = "0001-01-01"
LAST = "9999-12-31T23:59:59.999999"
TIMES: Sequence[tuple[str, ...]] = (
    ("--from", FIRST),
    ("--from", FIRST, "--to", LAST),
    ("--from", "2026-01-01", "--to", LAST),
    ("--from", FIRST, "--to", "0001-01-02"),
    ("--from", LAST, "--to", "9999-12-31T23:59:59.9999999"),
    ("--from", "9999-12-31T23:59:58", "--to", LAST),
    ("--from", "0001-01-01T00:00+14:00"),
    ("--from", "2026-01-01", "--to", "9999-12-31T23:00-12:00"),
    ("--from", "1970-01-01", "--to", "1970-01-01T00:00:00.000001"),
    ("--from", "999999w"),
    ("--from", "2026-09-21", "--to", "2026-09-22"),
)
AGAINST = (
    (),
    ("--against", f"{FIRST}..0001-02-01"),
    ("--against", f"{FIRST}..2026-09-21"),
    ("--against", f"{FIRST}..{LAST}"),
)


@pytest.fixture(scope="module")
def database(postgres: Server, migrated_template: str) -> Iterator[str]:
    with postgres.database(migrated_template) as url:
        tables = Tables(url)
        batches = [record(np.ones((4, 3), np.float32), sample_ids=sample_ids(4, NOW + each)) for each in range(3)]
        tables.filled(signature(TensorSpec("v", "float32", (3,))), *batches)
        tables.close()
        yield url


def told(arguments: Sequence[str]) -> tuple[int, str, str]:
    """Status, stdout and stderr; an error that is none of ours ends the test."""
    done = CliRunner().invoke(main, arguments)
    assert done.exception is None or isinstance(done.exception, (SystemExit, HoverboardError)), (
        arguments,
        done.exception,
    )
    assert "Traceback" not in done.stderr
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("about", [(), ("--about", "slow")])
@pytest.mark.parametrize("against", AGAINST)
@pytest.mark.parametrize("times", TIMES)
def test_postmortem(database: str, times: Sequence[str], against: Sequence[str], about: Sequence[str]) -> None:
    status, out, error = told(["postmortem", KEY[0], *about, *times, *against, "--json", "--database-url", database])
    if status == 0:
        found: Any = json.loads(out)
        assert datetime.fromisoformat(found["from"]) >= datetime(1970, 1, 1, tzinfo=UTC)
    else:
        assert status in (1, 2) and error.startswith("Error: "), error


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("command", [("quality",), ("export",), ("export", "--labelled")])
def test_quality_and_export(database: str, times: Sequence[str], command: Sequence[str], tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "out")] if command[0] == "export" else []
    name, *options = command
    status, out, error = told([name, KEY[0], *options, *times, *output, "--json", "--database-url", database])
    if status == 0:
        found: Any = json.loads(out)
        assert datetime.fromisoformat(found.get("start") or found["from"]) >= datetime(1970, 1, 1, tzinfo=UTC)
    else:
        assert status in (1, 2) and "Error: " in error, error
