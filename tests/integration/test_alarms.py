"""Alarms and drift through real journals into a real Postgres: each batch counts once, whatever breaks on the way."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from hoverboard.cli import main
from hoverboard.config import Settings
from hoverboard.contract.signature import Array, Signature, TensorSpec
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.journal.columns import pack_column
from hoverboard.journal.records import (
    KINDS,
    AlarmResetRecord,
    BatchRecord,
    CallPart,
    GapEntry,
    GapRecord,
    VersionRecord,
    encode,
)
from hoverboard.journal.writer import JournalWriter
from hoverboard.outliers import rate_bound
from hoverboard.publishing import publish
from hoverboard.publishing.baseline import make_baseline
from hoverboard.publishing.calibration_file import CalibrationRows
from hoverboard.recorder.drain import Drain
from hoverboard.recorder.process import open_database
from hoverboard.telemetry import metrics
from hoverboard.versions import Manifest
from hoverboard.versions.baseline import BASELINE_FILE, write_baseline
from hoverboard.watch.alarm import BLOCK_ROWS
from tests.integration.recorded import Recorded, until
from tests.integration.running import HOVERBOARD
from tests.journaled import open_journal
from tests.postgres import Server

MODEL, WEIGHTS = "shapes", "cd" * 32
SIGNATURE = Signature(
    "classification",
    inputs=(TensorSpec("pixels", "float32", (4,)), TensorSpec("kind", "string", ())),
    outputs=(TensorSpec("probabilities", "float32", (3,)),),
    labels=("red", "green", "blue"),
)
BOUND = 0.0157
PAGE = Path(__file__).parents[2] / "docs" / "outliers.md"
STATEMENTS = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
START_US = int((datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1e6)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(alarm_run_length=2000, drift_window_rows=256)


@asynccontextmanager
async def recorder(settings: Settings, database: str) -> AsyncIterator[Drain]:
    """A recorder of its own in this process."""
    drain = Drain(settings, lambda: open_database(settings, database))
    try:
        yield drain
    finally:
        drain.close()
        await asyncio.sleep(0)


async def drained(settings: Settings, database: str) -> None:
    """Drain with a recorder that has just started."""
    async with recorder(settings, database) as drain:
        await drain.empty(10)


def manifest(number: int, outliers: Any) -> bytes:
    return msgspec.json.encode(
        {"name": MODEL, "version": number, "parent": None, **asdict(SIGNATURE), "outliers": outliers}
    )


CALIBRATED = {"alpha": 0.01, "bound": BOUND, "calibration_points": 1000, "detector": "knn"}


def write(journal: JournalWriter, *records: Any, outliers: Any = CALIBRATED) -> None:
    """Append records as an engine does."""
    for record in records:
        needs = {}
        if isinstance(record, BatchRecord):
            version = VersionRecord(MODEL, record.version, WEIGHTS, manifest(record.version, outliers))
            needs = {f"v{record.version}": encode(version)}
        journal.append(KINDS[type(record)], encode(record), count=record.count, needs=needs)


def batch(
    executed: int,
    flagged: int = 0,
    *,
    at_us: int = START_US,
    number: int = 1,
    repeats: int = 0,
    detector: bool = True,
    pixels: Array | None = None,
    kinds: Sequence[bytes] = (),
    classes: Array | None = None,
    incl_prob: Array | None = None,
    why: Array | None = None,
    failed: Sequence[int] = (),
    policy: Any = "all",
    redacted: Sequence[str] = (),
) -> BatchRecord:
    """A batch of an engine; its rows are kept where pixels are given, otherwise it has only counts."""
    rows = 0 if pixels is None else len(pixels)
    ids = sample_ids(max(rows, 1), at_us / 1e6)
    texts = np.empty(rows, dtype=object)
    texts[:] = list(kinds) or [b"disc"] * rows
    label = np.zeros(rows, np.int32) if classes is None else classes
    outputs = [pack_column(np.eye(3, dtype=np.float32)[label])]
    columns = [pack_column(column) for column in ((pixels, texts) if pixels is not None else ())]
    names = [spec.name for spec in SIGNATURE.inputs]
    kept = [column for name, column in zip(names, columns, strict=False) if name not in redacted]
    return BatchRecord(
        model=MODEL,
        version=number,
        weights_sha256=WEIGHTS,
        policy=policy,
        batch_id=ids[:16],
        started_us=at_us,
        executed=executed,
        flagged=flagged,
        failed=len(failed),
        bucket=64,
        infer_us=500,
        rows=rows,
        sample_ids=ids[: 16 * rows],
        failed_rows=list(failed),
        columns=kept,
        outputs=outputs if rows else [],
        label_index=label.tobytes(),
        confidence=np.full(rows, 0.9, np.float32).tobytes(),
        value=None,
        p_value=np.full(rows, 0.5, np.float32).tobytes() if detector else None,
        outlier=np.zeros(rows, np.bool_).tobytes() if detector else None,
        queue_us=np.zeros(rows, np.uint32).tobytes(),
        incl_prob=None if incl_prob is None else incl_prob.astype(np.float32).tobytes(),
        why=None if why is None else why.astype(np.uint8).tobytes(),
        redacted=list(redacted),
        calls=[CallPart(rows, "stable", "r-1", None, None)] if rows else [],
        repeats=repeats,
    )


def traffic(batches: int, share: float, *, rows: int = 64, first: int = 0, seed: int = 1) -> list[BatchRecord]:
    """Batches, one a second, of which about a share is flagged."""
    generator = np.random.default_rng(seed)
    return [
        batch(rows, int(generator.binomial(rows, share)), at_us=START_US + (first + i) * 1_000_000)
        for i in range(batches)
    ]


async def the_alarm(sql: Connection) -> asyncpg.Record:
    (row,) = await sql.fetch("select * from alarms")
    return row


def exposed(name: str) -> float:
    """The value of a metric of version 1."""
    lines = metrics.exposition().decode().splitlines()
    (line,) = [each for each in lines if each.startswith(f'{name}{{model="{MODEL}",version="1"}}')]
    return float(line.split()[-1])


# -- the alarm ------------------------------------------------------------------------------------------------------------


async def test_an_excess_raises_one_alarm_which_knows_when_it_began(
    database: str, settings: Settings, sql: Connection
) -> None:
    metrics.init("test", None)
    engine = open_journal(settings.data_dir)
    normal = traffic(50, 0.01)
    write(engine, *normal)
    await drained(settings, database)
    quiet = await the_alarm(sql)
    assert (quiet["state"], quiet["raised_at"], quiet["rows"]) == ("quiet", None, 50 * 64)
    assert quiet["flagged"] == sum(each.flagged for each in normal)
    assert exposed("hoverboard_alarm_raised") == 0
    assert exposed("hoverboard_flag_rate_bound") == BOUND
    write(engine, *traffic(40, 0.06, first=50, seed=2))
    await drained(settings, database)
    write(engine, *traffic(40, 0.06, first=90, seed=3))
    await drained(settings, database)
    raised = await the_alarm(sql)
    assert raised["state"] == "raised"
    change = datetime.fromtimestamp(START_US / 1e6, UTC) + timedelta(seconds=50)
    assert abs(raised["onset_at"] - change) < timedelta(seconds=15)
    assert change < raised["raised_at"] < change + timedelta(seconds=20)
    assert raised["rows"] == 130 * 64
    assert raised["raised_rows"] < raised["rows"]
    began = round((raised["onset_at"] - datetime.fromtimestamp(START_US / 1e6, UTC)).total_seconds())
    assert raised["onset_rows"] == (130 - began) * 64
    assert 0.04 < raised["onset_flagged"] / raised["onset_rows"] < 0.09
    assert (raised["repeats"], raised["onset_repeats"]) == (0, 0)
    assert len(raised["counts_since"]) == 3 * len(raised["since"])
    events = await sql.fetch("select * from alarm_events")
    assert [(event["kind"], event["at"], event["run_length"]) for event in events] == [
        ("raised", raised["raised_at"], 2000)
    ]
    assert 0 < events[0]["onset_rows"] < raised["onset_rows"]
    assert 0 < events[0]["onset_flagged"] < raised["onset_flagged"]
    assert exposed("hoverboard_alarm_raised") == 1
    assert exposed("hoverboard_alarm_log10_e_value") > 3.3
    assert 0.03 < exposed("hoverboard_flag_rate") < 0.06


async def test_a_recorder_that_has_just_started_tells_what_was_raised_before(
    database: str, settings: Settings, sql: Connection
) -> None:
    engine = open_journal(settings.data_dir)
    write(engine, batch(64, 64))
    await drained(settings, database)
    metrics.init("test", None)
    await drained(settings, database)
    assert exposed("hoverboard_alarm_raised") == 1


async def test_in_whatever_portions_batches_are_drained_the_alarm_is_the_same(
    database: str, settings: Settings, sql: Connection
) -> None:
    # Batches that are blocks of their own: smaller ones are joined where they come together.
    records = traffic(30, 0.02, rows=BLOCK_ROWS)
    engine = open_journal(settings.data_dir)
    for record in records:
        write(engine, record)
        await drained(settings, database)
    await drained(settings, database)
    piecemeal = dict(await the_alarm(sql))
    await sql.execute("truncate alarms, recorder_cursor")
    await drained(settings, database)
    at_once = dict(await the_alarm(sql))
    for row in (piecemeal, at_once):
        del row["updated_at"]
    assert at_once == piecemeal
    assert at_once["rows"] == 30 * BLOCK_ROWS


async def test_what_a_lost_connection_takes_back_is_counted_again_and_once(
    database: str, settings: Settings, sql: Connection
) -> None:
    records = traffic(300, 0.01)
    engine = open_journal(settings.data_dir)
    write(engine, *records)
    async with recorder(settings, database) as drain:
        work = asyncio.create_task(drain.empty(30))
        while not work.done():
            await asyncio.sleep(0.01)
            await sql.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and application_name = 'hoverboard recorder' and random() < 0.3"
            )
            write(engine, extra := batch(64))
            records.append(extra)
            if len(records) > 340:
                break
        await work
        await drain.empty(30)
    row = await the_alarm(sql)
    assert (row["rows"], row["flagged"]) == (len(records) * 64, sum(each.flagged for each in records))


async def test_two_recorders_feed_one_alarm_from_several_journals(
    database: str, make_settings: Callable[..., Settings], tmp_path: Path, sql: Connection
) -> None:
    every = []
    for index in range(2):
        data = tmp_path / f"data-{index}"
        data.mkdir()
        each = make_settings(data_dir=data, alarm_run_length=10**9)
        for journal in (open_journal(data), open_journal(data, process="engine-1")):
            for record in traffic(30, 0.02, seed=index):
                write(journal, record, batch(64, 1, number=2))
        every.append(each)
    await asyncio.gather(*(drained(each, database) for each in every))
    rows = await sql.fetch("select * from alarms order by version_id")
    assert [row["rows"] for row in rows] == [120 * 64, 120 * 64]
    assert rows[1]["flagged"] + rows[0]["flagged"] == 120 + 2 * sum(
        each.flagged for seed in range(2) for each in traffic(30, 0.02, seed=seed)
    )


async def test_repeats_are_left_out_and_lost_batches_are_not(
    database: str, settings: Settings, sql: Connection
) -> None:
    engine = open_journal(settings.data_dir)
    write(engine, batch(64, 2, repeats=40), batch(64, 64, detector=False))
    await drained(settings, database)
    row = await the_alarm(sql)
    assert (row["rows"], row["flagged"]) == (24, 2)
    lost = [
        GapEntry(MODEL, 1, "journal budget", 64, 100, 3, START_US, START_US),
        GapEntry(MODEL, 7, "journal budget", 64, 100, 3, START_US, START_US),
        GapEntry(None, None, "journal budget", 64, 100, 3, START_US, START_US),
    ]
    write(engine, GapRecord(1, lost))
    await drained(settings, database)
    row = await the_alarm(sql)
    assert (row["rows"], row["flagged"]) == (124, 5)


async def test_a_reset_is_recorded_and_older_batches_do_not_count_any_more(
    database: str, settings: Settings, sql: Connection
) -> None:
    engine, api = open_journal(settings.data_dir), open_journal(settings.data_dir, process="api-0")
    write(engine, batch(64, 64))
    await drained(settings, database)
    assert (await the_alarm(sql))["state"] == "raised"
    reset_us = START_US + 10_000_000
    write(api, AlarmResetRecord(reset_us, MODEL, 1, "a new camera", "admin", "r-9"))
    write(api, AlarmResetRecord(reset_us, MODEL, 5, None, "admin", "r-9"))
    write(engine, batch(64, 64, at_us=reset_us - 1))
    await drained(settings, database)
    row = await the_alarm(sql)
    assert (row["state"], row["rows"], row["raised_at"], row["log10_e"]) == ("quiet", 0, None, 0)
    write(engine, batch(64, 1, at_us=reset_us))
    await drained(settings, database)
    assert (await the_alarm(sql))["rows"] == 64
    events = await sql.fetch("select kind, reason, actor, at from alarm_events order by id")
    assert [(event["kind"], event["reason"], event["actor"]) for event in events] == [
        ("raised", None, None),
        ("reset", "a new camera", "admin"),
    ]
    assert events[1]["at"] == datetime.fromtimestamp(reset_us / 1e6, UTC)


@pytest.mark.parametrize(
    "outliers, bound",
    [
        ({"alpha": 0.01, "calibration_points": 1000}, rate_bound(1000, 0.01)),
        ({"alpha": 0.01, "bound": 0.02}, 0.02),
        ({"alpha": 0.01, "bound": 0.0}, None),
        ({"alpha": 0.01}, None),
        ({"alpha": "much"}, None),
        (None, None),
    ],
)
async def test_only_a_version_whose_calibration_gives_a_bound_has_an_alarm(
    database: str, settings: Settings, sql: Connection, outliers: Any, bound: float | None
) -> None:
    write(open_journal(settings.data_dir), batch(64, 64), outliers=outliers)
    await drained(settings, database)
    assert [row["bound"] for row in await sql.fetch("select bound from alarms")] == ([] if bound is None else [bound])
    assert await sql.fetchval("select count(*) from model_versions") == 1


async def test_the_command_lists_alarms(
    database: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = open_journal(settings.data_dir)
    arguments = ["alarms", "--database-url", database]
    empty = await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "--pretty"])
    assert "No version" in empty.output
    write(engine, batch(65, 64, repeats=1))
    await drained(settings, database)
    listed = await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "--json"])
    (alarm,) = json.loads(listed.output)["alarms"]
    assert (alarm["model"], alarm["version"], alarm["state"], alarm["rate"]) == (MODEL, 1, "raised", 1.0)
    assert alarm["onset_at"] == alarm["raised_at"]
    assert (alarm["repeats"], alarm["since_onset"]) == (1, {"rows": 64, "flagged": 64, "repeats": 1})
    pretty = await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "--pretty"])
    assert f"{MODEL} version 1: raised at " in pretty.output
    assert "100.00%" in pretty.output
    assert "Since then: 64 outliers in 64 samples (100.0%), 1 repeats left out." in " ".join(pretty.output.split())


# -- drift ----------------------------------------------------------------------------------------------------------------


def usual(rows: int, generator: np.random.Generator, shift: float = 0.0) -> dict[str, Any]:
    """What rows of the reference are like."""
    return {
        "pixels": (generator.normal(size=(rows, 4)) + np.array([0, 0, 0, shift])).astype(np.float32),
        "kinds": generator.choice([b"disc", b"square"], rows).tolist(),
        "classes": generator.integers(0, 3, rows).astype(np.int32),
    }


@pytest.fixture
def baseline(settings: Settings) -> Path:
    """A version on disk with a baseline of a thousand rows; returns its directory."""
    reference = usual(1000, np.random.default_rng(7))
    texts = np.array(reference["kinds"], dtype=object)
    outputs = [np.eye(3, dtype=np.float32)[reference["classes"]]]
    found = make_baseline(SIGNATURE, [reference["pixels"], texts], outputs)
    directory = settings.models / MODEL / "1"
    directory.mkdir(parents=True)
    described = Manifest(
        name=MODEL,
        version=1,
        created="2026-01-01T00:00:00+00:00",
        artifact="model.keras",
        task=SIGNATURE.task,
        inputs=SIGNATURE.inputs,
        outputs=SIGNATURE.outputs,
        labels=SIGNATURE.labels,
        sha256={"model.keras": WEIGHTS},
    )
    (directory / "manifest.json").write_bytes(described.to_json())
    write_baseline(directory / BASELINE_FILE, found)
    return directory


async def findings(sql: Connection) -> dict[tuple[int, str], asyncpg.Record]:
    rows = await sql.fetch("select * from drift_windows order by number, feature")
    return {(row["number"], row["feature"]): row for row in rows}


@pytest.mark.usefixtures("baseline")
async def test_a_full_window_says_of_each_feature_whether_it_has_drifted(
    database: str, settings: Settings, sql: Connection
) -> None:
    metrics.init("test", None)
    generator = np.random.default_rng(1)
    engine = open_journal(settings.data_dir)
    write(engine, *(batch(64, **usual(64, generator)) for _ in range(5)))
    await drained(settings, database)
    found = await findings(sql)
    assert {number for number, _ in found} == {1}
    assert {feature for _, feature in found} == {
        "pixels[0]",
        "pixels[1]",
        "pixels[2]",
        "pixels[3]",
        "kind",
        "label",
        "confidence",
    }
    steady = {feature for (_, feature), row in found.items() if not row["drifted"]}
    assert steady == {"pixels[0]", "pixels[1]", "pixels[2]", "pixels[3]", "kind", "label"}
    assert found[1, "kind"]["rows"] == found[1, "kind"]["n"] == 256
    counts = json.loads(found[1, "kind"]["counts"])
    assert sum(counts) == 256
    bins = await sql.fetchval("select bins from baselines where feature = 'kind'")
    assert bins == ["disc", "square", "other"]
    write(engine, *(batch(64, **usual(64, generator, shift=1.0)) for _ in range(4)))
    await drained(settings, database)
    told = [await sql.fetch(statement) for statement in STATEMENTS]
    assert sum(line["now"] for line in told[-1]) == 256
    row = (await findings(sql))[2, "pixels[3]"]
    assert row["drifted"]
    assert row["q_value"] < 1e-6
    assert row["js"] > 0.05
    assert not (await findings(sql))[2, "pixels[0]"]["drifted"]
    lines = metrics.exposition().decode().splitlines()
    (divergence,) = [each for each in lines if 'feature="pixels[3]"' in each]
    assert float(divergence.split()[-1]) == pytest.approx(row["js"])
    assert exposed("hoverboard_drifted_features") == 2


async def test_windows_are_the_same_in_whatever_portions_they_come_and_outlive_the_version_on_disk(
    database: str, settings: Settings, sql: Connection, baseline: Path
) -> None:
    generator = np.random.default_rng(2)
    records = [batch(48, **usual(48, generator), at_us=START_US + i) for i in range(20)]
    engine = open_journal(settings.data_dir)
    for record in records:
        write(engine, record)
        await drained(settings, database)
        (baseline / BASELINE_FILE).unlink(missing_ok=True)
    piecemeal = await findings(sql)
    assert {number for number, _ in piecemeal} == {1, 2, 3}
    state = await sql.fetchrow("select number, rows from drift_state")
    assert state is not None
    assert tuple(state) == (4, 20 * 48 - 3 * 288)
    await sql.execute("truncate drift_windows, drift_state, recorder_cursor")
    await drained(settings, database)
    at_once = await findings(sql)
    assert piecemeal.keys() == at_once.keys()
    for key, row in piecemeal.items():
        for column in ("first_at", "last_at", "rows", "n", "drifted", "counts"):
            assert row[column] == at_once[key][column]
        for column in ("p_value", "q_value", "js"):
            assert row[column] == pytest.approx(at_once[key][column], rel=1e-9)


@pytest.mark.usefixtures("baseline")
async def test_sampled_rows_stand_for_others_and_shed_batches_for_nothing(
    database: str, settings: Settings, sql: Connection
) -> None:
    generator = np.random.default_rng(3)
    engine = open_journal(settings.data_dir)
    for _ in range(8):
        rows = usual(32, generator)
        special = np.arange(32) < 8
        rows["kinds"] = [b"square" if each else b"disc" for each in special]
        shares = np.where(special, 1.0, 0.25)
        write(engine, batch(104, **rows, policy="sampled", incl_prob=shares, why=np.where(special, 2, 1)))
        write(engine, batch(64, **usual(8, generator, shift=9), why=np.full(8, 2)))
    await drained(settings, database)
    found = await findings(sql)
    assert json.loads(found[1, "kind"]["counts"]) == [24 * 8 * 4, 8 * 8, 0]
    assert found[1, "kind"]["n"] == pytest.approx((24 * 8 * 4 + 64) ** 2 / (24 * 8 * 16 + 64))
    assert sum(json.loads(found[1, "pixels[3]"]["counts"])[-1:]) < 20


@pytest.mark.usefixtures("baseline")
async def test_what_is_hidden_or_failed_is_not_counted(database: str, settings: Settings, sql: Connection) -> None:
    generator = np.random.default_rng(4)
    engine = open_journal(settings.data_dir)
    for _ in range(4):
        write(engine, batch(64, **usual(64, generator), redacted=["kind"], failed=[0, 1]))
    await drained(settings, database)
    found = await findings(sql)
    assert (found[1, "kind"]["n"], found[1, "kind"]["p_value"], found[1, "kind"]["drifted"]) == (0, 1, False)
    assert found[1, "label"]["n"] == 62 * 4
    assert found[1, "pixels[0]"]["n"] == 256


async def test_a_baseline_that_cannot_be_read_stops_nobody(
    database: str, settings: Settings, sql: Connection, baseline: Path
) -> None:
    (baseline / BASELINE_FILE).write_bytes(b"ARROW1 but not really")
    engine = open_journal(settings.data_dir)
    write(engine, *(batch(64, 1, **usual(64, np.random.default_rng(5))) for _ in range(5)))
    await drained(settings, database)
    assert await sql.fetchval("select count(*) from samples") == 320
    assert (await the_alarm(sql))["rows"] == 320
    assert await findings(sql) == {}


@pytest.mark.usefixtures("baseline")
async def test_a_baseline_that_this_machine_could_not_read_is_read_with_the_next_rows(
    database: str, settings: Settings, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def no_more(path: Any, *more: Any, **named: Any) -> int:
        if str(path).endswith(BASELINE_FILE):
            raise OSError(errno.EMFILE, "Too many open files", str(path))
        return opened(path, *more, **named)

    generator = np.random.default_rng(5)
    engine = open_journal(settings.data_dir)
    async with recorder(settings, database) as drain:
        write(engine, *(batch(64, 1, **usual(64, generator)) for _ in range(5)))
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", no_more)
            await drain.empty(10)
        assert await findings(sql) == {}
        write(engine, *(batch(64, 1, **usual(64, generator)) for _ in range(5)))
        await drain.empty(10)
    assert await findings(sql)


@pytest.mark.usefixtures("baseline")
async def test_a_defect_in_monitoring_does_not_keep_records_from_postgres(
    database: str, settings: Settings, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hoverboard.watch import alarm_watcher as alarms

    def broken(_: object) -> list[object]:
        raise RuntimeError("a defect")

    engine = open_journal(settings.data_dir)
    write(engine, batch(64, 1, **usual(64, np.random.default_rng(6))))
    with monkeypatch.context() as patched:
        patched.setattr(alarms, "blocks_of", broken)
        await drained(settings, database)
    assert await sql.fetchval("select count(*) from samples") == 64
    assert await sql.fetchval("select count(*) from alarms") == 0
    write(engine, batch(64, 1))
    await drained(settings, database)
    assert (await the_alarm(sql))["rows"] == 64


# -- all together ---------------------------------------------------------------------------------------------------------


def rows_of(count: int, seed: int) -> Array:
    """Samples of `dense` as it is used to them, and has been calibrated on."""
    return np.random.default_rng(seed).normal(4, 0.7, (count, 8)).clip(0, 9).astype(np.float32)


def test_a_service_raises_an_alarm_says_what_drifted_and_takes_its_reset(
    keras_models: dict[str, Any], tmp_path: Path, postgres: Server, migrated_template: str
) -> None:
    colours = ("red", "green", "blue")
    calibration = CalibrationRows((rows_of(1500, 1),))
    models = tmp_path / "models"
    publish(keras_models["dense1"], name="dense", models_dir=models, labels=colours, calibration=calibration)
    settings = {"alarm_run_length": "2000", "drift_window_rows": "500"}
    with Recorded.running(tmp_path, models, (), postgres, migrated_template, **settings) as recorded:

        def send(rows: Array) -> None:
            for start in range(0, len(rows), 100):
                answer = recorded.call("predict", {"model": "dense", "instances": rows[start : start + 100].tolist()})
                assert len(answer["result"]["predictions"]) == 100

        def alarm() -> dict[str, Any]:
            listed = command(recorded, "alarms", "--json", "--database-url", recorded.database)
            found = json.loads(listed)["alarms"]
            return found[0] if found else {"rows": 0}

        send(rows_of(1000, 2))
        quiet = until(alarm, lambda found: found["rows"] >= 1000)
        assert quiet["state"] == "quiet"
        assert quiet["rate"] < 0.03
        drifted = "select feature from drift_windows where number = $1 and drifted"
        until(lambda: recorded.rows("select number from drift_windows"), lambda found: found[-1]["number"] == 2)
        assert recorded.rows(drifted, 1) == recorded.rows(drifted, 2) == []
        send(rows_of(500, 3) * np.array([1, 1, 1, 0, 1, 1, 1, 1], np.float32))
        raised = until(alarm, lambda found: found["state"] == "raised")
        assert raised["rows"] <= 1500
        until(lambda: recorded.rows(drifted, 3), lambda found: {"feature": "features[3]"} in found)
        assert {"feature": "features[4]"} not in recorded.rows(drifted, 3)
        assert 'hoverboard_alarm_raised{model="dense",version="1"} 1.0' in exposition(recorded)
        command(recorded, "alarms", "reset", "dense", "1", "--reason", "a broken sensor")
        until(alarm, lambda found: found["state"] == "quiet")
        (event,) = recorded.rows("select reason, actor from alarm_events where kind = 'reset'")
        assert event == {"reason": "a broken sensor", "actor": "admin"}


def command(recorded: Recorded, *words: str) -> str:
    """What a command prints that finds the service."""
    done = subprocess.run(
        [*HOVERBOARD, *words],
        cwd=recorded.service.folder,
        env=recorded.service.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def exposition(recorded: Recorded) -> str:
    """The service's metrics."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{recorded.service.url}/metrics", timeout=10) as response:
        text: str = response.read().decode()
        return text
