"""An erasure reaches what replays keep: the files of unfinished ones, and whom kept ones were about."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hoverboard.cli import main
from hoverboard.config import Settings
from hoverboard.contract.signature import TensorSpec
from hoverboard.database.connect import connected
from hoverboard.database.on_record import FORGOTTEN, forget_conditions
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.journal.records import CallPart
from hoverboard.postmortem.replay_result import (
    KINDS,
    Flags,
    Labelled,
    NoiseFloor,
    OutcomeCount,
    ReplayResult,
    ReplaySide,
    SignTest,
    Speed,
)
from hoverboard.postmortem.replay_store import keep
from hoverboard.recorder.erasure.work_files import WorkFiles, replay_workspace
from tests.integration.running import environment
from tests.recorded_tables import WINDOW, Tables
from tests.records import KEY, NOW, record, signature

KNOWN = signature(TensorSpec("v", "float32", (3,)))
TAGS = ({"customer": "17", "region": "eu"}, {"customer": "18", "region": "eu"})


@pytest.fixture
def tables(database: str) -> Iterator[Tables]:
    found = Tables(database)
    calls = [[CallPart(4, "stable", "r-1", None, json.dumps(tags).encode(), tags["customer"] + "er")] for tags in TAGS]
    records = [
        record(np.ones((4, 3), np.float32), sample_ids=sample_ids(4, NOW + place), calls=each)
        for place, each in enumerate(calls)
    ]
    found.filled(KNOWN, *records)
    yield found
    found.close()


def erase(database: str, data_dir: Path, *what: str) -> Any:
    place = ["--database-url", database, "--data-dir", str(data_dir), "--json"]
    done = CliRunner().invoke(main, ["erase", *what, "--reason", "asked", *place])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


_STOPPED = """
import os, signal, sys
import hoverboard.postmortem.export as export
from hoverboard.cli import main
close = export.Exporter._deliver
export.Exporter._deliver = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


def unfinished(database: str, data_dir: Path, name: str, customer: str) -> Path:
    """What a replay leaves that is killed before its rows are in their place: it reads them as an export does."""
    folder = data_dir / "replays" / name
    options = [
        "--where",
        f"tag.customer={customer}",
        "--from",
        WINDOW.start.isoformat(),
        "--to",
        WINDOW.end.isoformat(),
    ]
    arguments = ["export", KEY[0], "--output", str(folder / "recorded"), "--database-url", database, *options]
    done = subprocess.run([sys.executable, "-c", _STOPPED, *arguments], env=environment(), check=False)
    assert done.returncode == -signal.SIGKILL
    return folder


def test_unfinished_replays_of_what_is_erased_are_removed_and_others_stay(
    tables: Tables, database: str, tmp_path: Path
) -> None:
    mine, theirs = (unfinished(database, tmp_path, name, name) for name in ("17", "18"))
    broken = tmp_path / "replays" / "broken"
    broken.mkdir()
    (broken / "part-000000-inputs.parquet").write_bytes(b"PAR1")  # killed before the answers
    would = erase(database, tmp_path, "--tag", "customer=17", "--dry-run")
    assert would["unfinished_replays_removed"] == [str(mine), str(broken)] and mine.is_dir() and broken.is_dir()
    found = erase(database, tmp_path, "--tag", "customer=17")
    assert found["unfinished_replays_removed"] == [str(mine), str(broken)]
    assert found["rows"]["samples"] == 4 and list((tmp_path / "replays").iterdir()) == [theirs]
    assert any(theirs.rglob("*answers.parquet"))


def test_a_replay_that_runs_is_named_and_not_disturbed(tables: Tables, database: str, tmp_path: Path) -> None:
    mine = unfinished(database, tmp_path, "17", "17")
    with replay_workspace(mine).locked():
        found = erase(database, tmp_path, "--tag", "customer=17")
        assert found["unfinished_replays_running"] == [str(mine)] and found["unfinished_replays_removed"] == []
        assert any(str(mine) in line and "when they end" in line for line in found["remains"])
        assert any(mine.rglob("*answers.parquet"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not remove files")
def test_what_this_user_may_not_remove_is_named(tables: Tables, database: str, tmp_path: Path) -> None:
    mine = unfinished(database, tmp_path, "17", "17")
    for path in (tmp_path, *tmp_path.parents[:-2]):
        path.chmod(path.stat().st_mode | 0o055)
    left = asyncio.run(_find_as_somebody_else(database, tmp_path))
    assert left.left == [mine] and mine.is_dir()


async def _find_as_somebody_else(database: str, data_dir: Path) -> WorkFiles:
    async with connected(database, application="test") as connection:
        os.seteuid(65534)
        try:
            return await WorkFiles.find(connection, data_dir, remove=True)
        finally:
            os.seteuid(0)


async def _find(database: str, data_dir: Path) -> WorkFiles:
    async with connected(database, application="test") as connection:
        return await WorkFiles.find(connection, data_dir, remove=True)


def test_the_files_of_what_has_expired_are_removed_as_well(tables: Tables, database: str, tmp_path: Path) -> None:
    mine, theirs = (unfinished(database, tmp_path, name, name) for name in ("17", "18"))
    tables.execute("select count(*) from hoverboard.drop_partitions($1)", datetime.fromtimestamp(NOW + 0.5, UTC))
    assert asyncio.run(_find(database, tmp_path)).removable == [mine]
    assert list((tmp_path / "replays").iterdir()) == [theirs]


def result(where: dict[str, str]) -> ReplayResult:
    side, test = ReplaySide(2, "ab" * 32), SignTest(0, 0, 1.0)
    return ReplayResult(
        model=KEY[0],
        incumbent=side,
        incumbents=[],
        candidate=side,
        start=WINDOW.start,
        end=WINDOW.end,
        where=where,
        unless={"tag.customer": tuple(map("{customer}".format_map, TAGS))},
        labelled_only=False,
        issue=None,
        without_issues=(),
        without_outliers=False,
        rows=4,
        left_out={},
        noise_floor=NoiseFloor("confidence", 0.0, 0.0, 0.0, 1, 0),
        kinds={kind: OutcomeCount(0, 0.0) for kind in KINDS},
        sign_test=test,
        numbers_differing=0,
        labelled=Labelled(0, None, None, test),
        flags=Flags(None, None, 0, 0, None, None),
        moves=[],
        examples=[],
        speed=Speed(None, None),
        seconds=1.0,
    )


def kept(tables: Tables, database: str, **where: str) -> int:
    settings = Settings.load(database_url=database)
    conditions = {name.replace("_", "."): value for name, value in where.items()}
    id_ = tables.run(keep(settings, result(conditions)))
    assert isinstance(id_, int)
    return id_


def conditions_of(tables: Tables, id_: int) -> Any:
    text = tables.execute(
        "select jsonb_build_array(conditions -> 'where', result -> 'where')::text from replays where id = $1", id_
    )
    one, other = json.loads(text)
    assert one == other
    return one


def test_kept_replays_forget_whom_they_were_about_once_no_such_sample_is_left(
    tables: Tables, database: str, tmp_path: Path
) -> None:
    both = kept(tables, database, tag_customer="17", tag_region="eu", version="2")
    other = kept(tables, database, tag_customer="18", caller="18er")
    caller = kept(tables, database, caller="17er")
    assert erase(database, tmp_path, "--tag", "customer=17", "--dry-run")["kept_replays_changed"] == 3
    assert conditions_of(tables, both)["tag.customer"] == "17"
    assert erase(database, tmp_path, "--tag", "customer=17")["kept_replays_changed"] == 3
    assert conditions_of(tables, both) == {"tag.customer": FORGOTTEN, "tag.region": "eu", "version": "2"}
    assert conditions_of(tables, other) == {"tag.customer": "18", "caller": "18er"}
    assert conditions_of(tables, caller) == {"caller": FORGOTTEN}
    unless = tables.execute("select string_agg(result #>> '{unless,tag.customer}', ' ') from replays")
    assert unless == " ".join([f'["{FORGOTTEN}", "18"]'] * 3)
    # Kept only after its samples were erased: it had read them before.
    late = kept(tables, database, tag_customer="17", tag_region="eu")
    assert conditions_of(tables, late) == {"tag.customer": FORGOTTEN, "tag.region": "eu"}
    # By age or one by one it is the same, and so where partitions are dropped.
    tables.execute("select count(*) from hoverboard.drop_partitions($1)", WINDOW.end + timedelta(days=2))
    assert tables.run(_forget(database)) == 4
    assert conditions_of(tables, other) == {"tag.customer": FORGOTTEN, "caller": FORGOTTEN}
    assert erase(database, tmp_path, "--older-than", "1m")["kept_replays_changed"] == 0


async def _forget(database: str) -> int:
    async with connected(database, application="test") as connection, connection.transaction():
        return await forget_conditions(connection)


def test_what_people_wrote_of_a_subject_is_named(tables: Tables, database: str, tmp_path: Path) -> None:
    tables.execute("insert into issue_scopes (model, backbone_sha256) values ('m', 'x')")
    tables.execute(
        "insert into issues (id, scope_id, state, substate, state_at, why, members, first_seen, last_seen, first_version, last_version) "
        "values (1, 1, 'unresolved', 'new', now(), '', 0, now(), now(), 1, 1)"
    )
    for text in ("customer 17 has a new camera", "since 2017", "ask (17)"):
        tables.execute(
            "insert into issue_events (at, issue_id, kind, actor, reason) values (now(), 1, 'note', 'ann', $1)", text
        )
    found = erase(database, tmp_path, "--tag", "customer=17", "--reason", "customer 17 asked")
    assert [each for each in found["mentions"] if each["table"] == "issue_events"] == [
        {"table": "issue_events", "id": "1"},
        {"table": "issue_events", "id": "3"},
    ]
    assert any("issue_events where id in (1, 3)" in line and "update" in line for line in found["remains"])
    assert any(line.startswith("Files: exports") for line in found["remains"])
