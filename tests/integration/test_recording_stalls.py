"""What holds records up without breaking, and what drops them, is told: hung processes, locks, a full disk, a used-up budget."""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from tests.disks import small_disk
from tests.integration.recorded import Recorded, until
from tests.postgres import Server


def get(here: Recorded, path: str) -> str:
    with urllib.request.urlopen(f"{here.service.url}{path}", timeout=10) as response:
        text: str = response.read().decode()
        return text


def recording(here: Recorded) -> Mapping[str, str]:
    """What `/readyz?verbose` says of it."""
    said: Mapping[str, str] = json.loads(get(here, "/readyz?verbose"))["recording"]
    return said


def recorder_metrics(here: Recorded) -> dict[str, float]:
    found = re.findall(r"^hoverboard_recorder_(connected|lag_\w+) (\S+)$", get(here, "/metrics"), re.MULTILINE)
    return {name: float(value) for name, value in found}


def lines(here: Recorded, event: str) -> list[dict[str, Any]]:
    parsed = [json.loads(line) for line in here.service.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in parsed if line["event"] == event]


def works(here: Recorded) -> None:
    until(lambda: recording(here), lambda said: said == {"state": "working"}, 30)
    until(lambda: recorder_metrics(here), lambda now: now["connected"] == 1 and now["lag_rows"] == 0, 30)


def predict(here: Recorded, samples: int = 1) -> None:
    assert "result" in here.call("predict", {"model": "constant", "instances": [[1, 2]] * samples})


def drops(here: Recorded) -> tuple[Mapping[str, str], dict[str, Any]]:
    """Call until records are dropped; what is said of it then, and what the log says, once all are counted."""

    def look() -> Mapping[str, str]:
        predict(here, 50)
        return recording(here)

    until(look, lambda said: "dropped" in said.get("then", ""), 40)

    def counted(said: Mapping[str, str]) -> bool:
        shed = re.findall(r"^hoverboard_journal_shed_records_total.* (\S+)$", get(here, "/metrics"), re.MULTILINE)
        return f"({sum(map(float, shed)):.0f} so far, counted in the table gaps)" in said["then"]

    said = until(lambda: recording(here), counted)
    (line,) = lines(here, "records_dropped")
    assert (said["state"], line["level"], line["process"]) == ("failing", "error", "engine-0")
    return said, line


async def test_a_locked_table_is_told_while_it_holds_records_up_and_is_over_once_it_is_free(
    published: Path, tmp_path: Path, postgres: Server, migrated_template: str
) -> None:
    with Recorded.running(tmp_path, published, ["constant"], postgres, migrated_template) as here:
        works(here)
        connection = await asyncpg.connect(here.database)
        try:
            async with connection.transaction():
                await connection.execute("lock table hoverboard.samples in access exclusive mode")
                predict(here)
                said = until(lambda: recording(here), lambda said: said["state"] == "failing", 40)
                assert re.match(r"nothing has reached Postgres for 1\d s while records wait: a lock ", said["why"])
                assert f"process {connection.get_server_pid()} of Postgres" in said["why"]
                assert "wait in the journals" in said["then"]
                now = recorder_metrics(here)
                assert now["connected"] == 0 and now["lag_rows"] > 0 and now["lag_seconds"] > 9
                until(lambda: recording(here), lambda later: later["why"] != said["why"])
        finally:
            await connection.close()
        works(here)
        assert len(lines(here, "cannot_drain")) == 1
        assert len(lines(here, "draining_again")) == 1
        assert here.rows("select count(*) from samples") == [{"count": 1}]


def test_a_stopped_recorder_is_told_and_what_it_said_of_its_lag_is_withdrawn(
    published: Path, tmp_path: Path, postgres: Server, migrated_template: str
) -> None:
    with Recorded.running(tmp_path, published, ["constant"], postgres, migrated_template) as here:
        works(here)
        (recorder,) = here.service.children("_recorder")
        recorder.send_signal(signal.SIGSTOP)
        try:
            predict(here)
            said = until(lambda: recording(here), lambda said: said["state"] == "failing", 40)
            assert re.match(
                r"nothing has reached Postgres for \d+ s: the recorder, process \d+, is stopped", said["why"]
            )
            assert recorder_metrics(here) == {"connected": 0.0}
            (line,) = until(lambda: lines(here, "recorder_silent"), lambda found: len(found) > 0)
            assert (line["level"], f"process {recorder.pid}" in line["why"]) == ("error", True)
        finally:
            with suppress(psutil.NoSuchProcess):  # it may have been ended meanwhile, and another one started
                recorder.send_signal(signal.SIGCONT)
        works(here)
        # It speaks before it drains, and lets records wait a little while the machine is busy.
        until(lambda: here.rows("select count(*) from samples"), lambda rows: rows == [{"count": 1}])
        until(lambda: lines(here, "recorder_speaks_again"), lambda found: len(found) == 1)
        assert len(lines(here, "recorder_silent")) == 1


def test_records_that_are_dropped_for_want_of_budget_are_not_said_to_wait(
    published: Path, tmp_path: Path, postgres: Server, migrated_template: str
) -> None:
    budget = {"journal_budget_mb": "1", "journal_segment_mb": "1"}
    with Recorded.running(tmp_path, published, ["constant"], postgres, migrated_template, **budget) as here:
        works(here)
        (recorder,) = here.service.children("_recorder")
        recorder.send_signal(signal.SIGSTOP)
        try:
            said, line = drops(here)
            assert "the journals take more than journal_budget_mb, 1 MiB" in said["then"]
            assert "wait" not in said["then"]
            assert "raise journal_budget_mb" in line["then"]
        finally:
            with suppress(psutil.NoSuchProcess):  # it may have been ended meanwhile, and another one started
                recorder.send_signal(signal.SIGCONT)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A working directory whose data directory is a file system of its own, of 32 MiB."""
    with small_disk(tmp_path / "data", "size=32m,mode=0700"):
        yield tmp_path


def test_records_that_are_dropped_on_a_full_disk_are_not_said_to_wait(
    small: Path, published: Path, postgres: Server, migrated_template: str
) -> None:
    with Recorded.running(small, published, ["constant"], postgres, migrated_template) as here:
        works(here)
        ballast = small / "data" / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        said, _ = drops(here)
        assert re.search(r"the journal cannot be written \(.*\); make room on the disk of ", said["then"])
        ballast.unlink()
