"""Only real things are told: a day in a service's life feeds every metric, and leaves every kind of record."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import asyncpg
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hoverboard.contract.signature import Array
from hoverboard.journal.inspect import WORDS, surveys
from hoverboard.journal.records import Record
from hoverboard.publishing import publish
from hoverboard.publishing.calibration_file import CalibrationRows
from tests.integration.recorded import Recorded, until
from tests.integration.running import HOVERBOARD
from tests.integration.test_docs import table
from tests.postgres import Server

NEVER = {
    "hoverboard_retraces_total",
    "hoverboard_implausible_clock_rows_total",
    "hoverboard_ungrouped_outliers_total",
}
"""What only a defect of ours, a wrong clock or far more kinds of outliers than come here would feed."""
ABOVE_ZERO = (
    "hoverboard_calls_total",
    "hoverboard_contract_violations_total",
    "hoverboard_dropped_calls_total",
    "hoverboard_journal_shed_records_total",
    "hoverboard_child_restarts_total",
    "hoverboard_model_memory_bytes",
    "hoverboard_recorded_rows_total",
    "hoverboard_recorder_errors_total",
    "hoverboard_gap_records_total",
    "hoverboard_quarantined_records_total",
    "hoverboard_alarm_raised",
    "hoverboard_drifted_features",
    "hoverboard_judged_rows",
)


def rows_of(count: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(4, 0.7, (count, 8)).clip(0, 9).astype(np.float32)


@pytest.fixture(scope="module")
def lived(
    keras_models: dict[str, Any],
    published: Path,
    postgres: Server,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Recorded]:
    """A service that was called, refused, was attacked, restarted, and found strange things."""
    folder = tmp_path_factory.mktemp("lived")
    models, calibration = folder / "models", CalibrationRows((rows_of(1500, 1),))
    colours = ("red", "green", "blue")
    publish(keras_models["dense1"], name="dense", models_dir=models, labels=colours, calibration=calibration)
    publish(keras_models["one"], name="price", models_dir=models)
    (models / "constant").mkdir()
    (models / "constant" / "serving.toml").write_text('[recording]\nredact = ["/mistyped"]\n')
    for number in ("1", "2"):
        (models / "constant" / number).symlink_to(published / "constant" / number)
    (models / "empty" / "1").mkdir(parents=True)
    settings = {"alarm_run_length": "100", "drift_window_rows": "500"}
    with Recorded.running(folder, published, ("logarithm",), postgres, migrated_template, **settings) as recorded:
        live(recorded)
        yield recorded


def live(recorded: Recorded) -> None:
    sql(recorded, "alter table hoverboard.samples add constraint no_bad_ones check (request_id <> 'bad')")
    for start in range(0, 1000, 100):
        rows = rows_of(1000, 2)[start : start + 100] * np.array([1, 1, 1, 0, 1, 1, 1, 1], np.float32)
        recorded.call("predict", {"model": "dense", "instances": rows.tolist()})
    good = rows_of(1, 3).tolist()
    sample = recorded.call("predict", {"model": "dense", "instances": good})["result"]["predictions"][0]["sample_id"]
    recorded.call("predict", {"model": "dense", "instances": good}, {"X-Request-ID": "bad"})
    recorded.call("predict", {"model": "dense", "instances": [[1, 2]]})
    recorded.call("predict", {"model": "constant", "version": 1, "instances": [[1, 2]]})  # which is not in memory
    recorded.call("predict", {"model": "constant", "instances": [[1, 2]]})
    recorded.call("predict", {"model": "logarithm", "instances": [[1.0]] * 499 + [[-1.0]]})
    recorded.call("label", {"sample_id": sample, "label": "red"})
    priced = recorded.call("predict", {"model": "price", "instances": [[1, 2]]})["result"]["predictions"][0][
        "sample_id"
    ]
    recorded.call("label", {"sample_id": priced, "value": 3.0})
    until(lambda: recorded.rows("select from quarantine"), bool, 60)
    until(lambda: recorded.rows("select from alarms where state = 'raised'"), bool)
    until(lambda: recorded.rows("select from drift_windows where drifted"), bool)
    until(lambda: recorded.rows("select from outliers where scores is not null"), bool)
    until(lambda: recorded.rows("select from gaps where reason = 'redact'"), bool)
    told(recorded, "hoverboard_alarm_raised")
    hoverboard(recorded, "alarms", "reset", "dense", "1", "--reason", "seen")
    until(lambda: recorded.rows("select from alarm_events where kind = 'reset'"), bool)
    with ThreadPoolExecutor(1) as thread:  # pytest-asyncio keeps a loop of its own in this one
        thread.submit(asyncio.run, without_database(recorded)).result()
    # Labels are looked at once a minute, and at once by a recorder that starts.
    until(lambda: recorded.rows("select from labels"), lambda rows: len(rows) == 2)
    (recorder,) = recorded.service.children("_recorder")
    recorder.kill()
    told(recorded, "hoverboard_judged_rows")
    (api, *_) = recorded.service.children("_api")
    api.kill()
    until(recorded.answers, bool, 60)


_seen: dict[str, float] = {}


def told(recorded: Recorded, wanted: str) -> None:
    """Remember the largest value of each metric, once one of them is there."""

    def look() -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{recorded.service.url}/metrics", timeout=10) as response:
            text = response.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
                _seen[name] = max(_seen.get(name, 0.0), sample.value)
        return _seen.get(wanted, 0) > 0

    until(look, bool, 30)


async def without_database(recorded: Recorded) -> None:
    """The recorder loses its connection and gets no other, until that is told."""
    connection = await asyncpg.connect(recorded.database, database="postgres")
    name = urlsplit(recorded.database).path.removeprefix("/")
    await connection.execute(f"alter database {name} allow_connections false")
    await connection.fetch(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()", name
    )
    await asyncio.to_thread(told, recorded, "hoverboard_recorder_errors_total")
    await connection.execute(f"alter database {name} allow_connections true")
    await connection.close()


def sql(recorded: Recorded, text: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(recorded.database)
        await connection.execute(text)
        await connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result()


def hoverboard(recorded: Recorded, *words: str) -> str:
    service = recorded.service
    done = subprocess.run(
        [*HOVERBOARD, *words], cwd=service.folder, env=service.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_metric_that_is_documented_is_fed(lived: Recorded) -> None:
    told(lived, "hoverboard_child_restarts_total")
    documented = {row[0].strip("`") for row in table("docs/reference/metrics.md", "metric")}
    assert documented - _seen.keys() <= NEVER, sorted(documented - _seen.keys() - NEVER)
    assert [name for name in ABOVE_ZERO if not _seen[name]] == []


def test_a_model_without_a_live_version_is_told_as_none(lived: Recorded) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{lived.service.url}/metrics", timeout=10) as response:
        text = response.read().decode()
    assert 'hoverboard_live_version{model="dense",role="stable"} 1.0' in text
    assert 'hoverboard_live_version{model="empty",role="stable"} 0.0' in text


def test_every_kind_of_record_is_written_and_shown(lived: Recorded) -> None:
    listed = json.loads(hoverboard(lived, "journal", "inspect", "data", "--json"))["journals"]
    shown = {kind for journal in listed for kind in journal["frames_by_kind"]}
    assert len(WORDS) == len(get_args(Record))
    assert shown - {""} == set(WORDS.values()), "a kind is never written, or not shown by its name"
    assert not [survey for survey in surveys(lived.service.folder / "data" / "journal") if survey.damages]
