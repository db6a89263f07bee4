"""Replays of what a real service recorded, through real models: the right samples are told, whatever kills the process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from hoverboard.publishing import publish
from tests.integration.recorded import Recorded, until
from tests.integration.running import HOVERBOARD, environment
from tests.postgres import Server

ROWS = 1000
LABELS = ["a", "b", "c"]
PLANTED = [row for row in range(ROWS) if row % 100 == 7]
"""What version 2 answers otherwise: 1%."""


def lookup(classes: Any) -> Any:
    """A model that says what it was told for each of `ROWS` numbers."""
    import keras

    number = keras.Input((1,), name="number", dtype="int32")
    table = keras.layers.Embedding(ROWS, len(LABELS), name="table")
    probabilities = keras.layers.Softmax(name="p")(keras.layers.Flatten()(table(number)))
    model = keras.Model(number, probabilities)
    table.set_weights([4 * np.eye(len(LABELS), dtype=np.float32)[classes]])
    return model


@pytest.fixture(scope="module")
def lookups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lookups")
    right = np.arange(ROWS) % 3
    broken = right.copy()
    broken[PLANTED] = (broken[PLANTED] + 1) % 3
    for classes in (right, broken, right):
        publish(lookup(classes), name="lookup", models_dir=root, labels=LABELS, samples=[[1], [2]])
    (root / "lookup" / "serving.toml").write_text("stable = 1\n")
    return root


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, lookups: Path, postgres: Server, migrated_template: str
) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("replay")
    with Recorded.running(folder, lookups, ["lookup"], postgres, migrated_template, recorder_yield_s="0") as here:
        for start in range(0, ROWS, 100):
            params = {
                "model": "lookup",
                "instances": [[row] for row in range(start, start + 100)],
                "tags": {"start": str(start)},
            }
            answer = here.call("predict", params)
            assert answer["result"]["version"] == 1
        until(lambda: here.rows("select count(*) from predictions")[0]["count"], lambda rows: rows == ROWS)
        # What is true of the first half: what version 1 says.
        here.rows(
            "insert into labels (sample_id, labelled_at, label, source) select p.sample_id, now(), p.label, 'test' "
            "from predictions p join samples s on s.id = p.sample_id where (s.inputs ->> 'number')::int < 500"
        )
        yield here


def command(service: Recorded, *options: str, database: str | None = None, script: str | None = None) -> list[str]:
    start = [sys.executable, "-c", script] if script else list(HOVERBOARD)
    return [*start, "replay", "lookup", "--database-url", database or service.database, "--json", *options]


def replay(service: Recorded, *options: str, status: int = 0, **more: Any) -> Any:
    done = subprocess.run(
        command(service, *options, **more),
        cwd=service.service.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def numbers_of(service: Recorded, ids: list[str]) -> list[int]:
    rows = service.rows("select id::text, inputs ->> 'number' as number from samples")
    numbers = {row["id"]: int(row["number"]) for row in rows}
    return sorted(numbers[id_] for id_ in ids)


def stable(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what depends on the machine and on the time."""
    return {name: value for name, value in result.items() if name not in ("seconds", "speed", "replay", "end", "start")}


def test_one_percent_of_planted_breaks_is_told_with_the_right_rows(service: Recorded, tmp_path: Path) -> None:
    options = ("--candidate", "2", "--html", str(tmp_path / "page.html"), "--output", str(tmp_path / "rows.parquet"))
    found = replay(service, *options, "--fail-if", "broken>0.5%", "--fail-if", "changed>99", status=3)
    kinds = {kind: count["rows"] for kind, count in found["kinds"].items()}
    assert kinds == {"same": 990, "changed": 5, "fixed": 0, "broken": 5, "noise": 0, "failed": 0}
    assert (found["incumbent"]["version"], found["candidate"]["version"], found["rows"]) == (1, 2, ROWS)
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    for kind, planted in (("broken", PLANTED[:5]), ("changed", PLANTED[5:])):
        assert numbers_of(service, [row["sample_id"] for row in rows if row["kind"] == kind]) == planted
    assert all((row["recorded_label"] != row["candidate_label"]) == (row["kind"] != "same") for row in rows)
    assert found["labelled"]["rows"] == 500 and found["labelled"]["candidate"] == pytest.approx(0.99)
    assert found["labelled"]["mcnemar"] == {"more": 5, "less": 0, "mid_p": pytest.approx(2 * 0.5**5 / 2)}
    assert sum(move["rows"] for move in found["moves"]) == 10
    assert (
        numbers_of(service, [each["sample_id"] for each in found["examples"] if each["kind"] == "broken"])
        == PLANTED[:5]
    )
    assert found["examples"][0]["inputs"] == {"number": "7"} or found["examples"][0]["kind"] == "broken"
    assert found["speed"]["incumbent"] > 0 and found["speed"]["candidate"] > 0
    page = (tmp_path / "page.html").read_text()
    assert "breaks 5" in page and "lookup: version 2 beside 1" in page
    (kept,) = service.rows("select *, result::text as whole from replays where id = $1", found["replay"])
    assert (kept["model"], kept["incumbent"], kept["candidate"], kept["rows"], kept["broken"], kept["changed"]) == (
        "lookup",
        1,
        2,
        ROWS,
        5,
        5,
    )
    assert kept["candidate_sha256"] == found["candidate"]["weights_sha256"] and "examples" not in json.loads(
        kept["whole"]
    )
    assert not (service.service.folder / "data" / "replays").exists() or not list(
        (service.service.folder / "data" / "replays").iterdir()
    )


def test_a_version_beside_itself_gives_no_difference_and_is_no_comparison_unasked(service: Recorded) -> None:
    found = replay(
        service,
        *("--candidate", "1", "--incumbent", "1"),
        "--fail-if",
        "changed>0",
        "--fail-if",
        "broken>0",
        "--fail-if",
        "noise>0",
    )
    assert found["kinds"]["same"] == {"rows": ROWS, "estimate": ROWS}
    assert found["noise_floor"]["differing"] == 0 and found["numbers_differing"] == 0 and found["examples"] == []
    assert (found["sign_test"]["more"], found["sign_test"]["less"], found["sign_test"]["mid_p"]) == (0, 0, 1.0)
    told = replay(service, "--candidate", "1", "--fail-if", "changed>0", status=1)
    assert "version 1 itself answered all of lookup" in told and "--incumbent 1" in told
    assert not list((service.service.folder / "data" / "replays").iterdir())


def test_each_sample_is_compared_with_the_version_that_answered_it(service: Recorded) -> None:
    """Version 3, which is version 1 once more, is made to have answered a tenth."""
    manifest = (service.service.folder / "models" / "lookup" / "3" / "manifest.json").read_text()
    weights = json.loads(manifest)["sha256"]["model.keras"]
    (three,) = service.rows(
        "insert into model_versions (name, version, weights_sha256, manifest, first_served_at) values ('lookup', 3, $1, $2, now()) "
        "returning id",
        *(weights, manifest),
    )
    service.rows(
        "update predictions p set version_id = $1 from samples s where s.id = p.sample_id and (s.inputs ->> 'number')::int < 100",
        three["id"],
    )
    try:
        found = replay(service, "--candidate", "2")
        assert [(each["version"], each["rows"]) for each in found["incumbents"]] == [(1, 900), (3, 100)]
        assert {kind: count["rows"] for kind, count in found["kinds"].items() if count["rows"]} == {
            "same": 990,
            "changed": 5,
            "broken": 5,
        }
        assert found["noise_floor"]["runs"] == 1 and found["left_out"] == {}
        found = replay(service, "--candidate", "3", "--noise-runs", "0")
        assert (found["rows"], found["kinds"]["same"]["rows"]) == (900, 900)
        ((reason, rows),) = found["left_out"].items()
        assert rows == 100 and "version 3 itself" in reason and "--incumbent 3" in reason
    finally:
        service.rows(
            "update predictions set version_id = v.id from model_versions v where v.name = 'lookup' and v.version = 1 and version_id = $1",
            three["id"],
        )
        service.rows("delete from model_versions where id = $1", three["id"])


_KILLED = """
import os, signal
import hoverboard.offline.job as job
import hoverboard.offline.run as run
import hoverboard.postmortem.export as export
import hoverboard.postmortem.export_part as export_part
import hoverboard.postmortem.blocks as blocks
from hoverboard.cli import main
export_part._PART_ROWS, blocks._MOST_ROWS, run._BUCKETS_A_CALL = 150, 64, 1
job.Pace.__init__.__defaults__ = (16, 2, 100, 64 << 20, 10.0)
place, _, at = os.environ["KILL"].partition(" ")
count = 0
def counted(close, workspace):
    def closing(self, *arguments):
        global count
        done = close(self, *arguments)
        count += workspace(self).output.name == place
        if count == int(at or -1):
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return closing
export.Exporter._close = counted(export.Exporter._close, lambda exporter: exporter._workspace)
job.Job._close = counted(job.Job._close, lambda job: job.workspace)
main()
"""


def between(service: Recorded) -> list[str]:
    """Options for all that there is, the same each time."""
    times = service.rows("select min(at) as first, max(at) + interval '1 second' as last from samples")[0]
    return ["--candidate", "2", "--from", times["first"].isoformat(), "--to", times["last"].isoformat()]


def killed(service: Recorded, kill: str, *options: str) -> str:
    """What a replay prints that is killed at a step; an empty one lets it end."""
    folder = service.service.folder
    # Files: a pipe would also wait for what the killed process leaves behind.
    with (folder / "told").open("w") as told, (folder / "errors").open("w") as errors:
        done = subprocess.run(
            command(service, *options, script=_KILLED),
            cwd=folder,
            env=environment() | {"KILL": kill},
            stdout=told,
            stderr=errors,
            check=False,
            timeout=120,
        )
    assert done.returncode == (-signal.SIGKILL if kill else 0), (kill, (folder / "errors").read_text())
    return (folder / "told").read_text()


@pytest.mark.timeout(600)
def test_a_replay_that_is_killed_again_and_again_comes_to_the_same_answer(service: Recorded) -> None:
    options = between(service)
    whole = replay(service, *options)
    folder = service.service.folder
    steps = ("inputs.parquet 3", "again-1-of-1.parquet 2", "candidate.parquet 3", "")
    for kill in steps:
        told = killed(service, kill, *options)
        if kill:
            (left,) = (folder / "data" / "replays").iterdir()
            assert left.stat().st_mode & 0o077 == 0  # it holds what was sent
    assert stable(json.loads(told)) == stable(whole)
    assert not list((folder / "data" / "replays").iterdir())


def test_who_may_only_read_gets_the_answer_and_is_told_that_it_is_not_kept(service: Recorded, postgres: Server) -> None:
    postgres.sql("create role replay_reads login password 'secret' in role reader")
    try:
        _, _, rest = service.database.partition("@")
        done = subprocess.run(
            command(
                service,
                "--candidate",
                "2",
                "--labelled",
                "--noise-runs",
                "0",
                database=f"postgresql://replay_reads:secret@{rest}",
            ),
            cwd=service.service.folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["replay"] is None and "Not kept in the table replays" in done.stderr and "recorder" in done.stderr
        assert found["rows"] == 500 and found["kinds"]["broken"]["rows"] == 5 and found["noise_floor"]["runs"] == 0
    finally:
        postgres.sql("drop role replay_reads")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--candidate", "9"), "has no version 9"),
        (("--candidate", "2", "--incumbent", "2"), "version 2 answered nothing"),
        (("--candidate", "2", "--where", "tag.start=nowhere", "--fail-if", "changed>0"), "that meets all conditions"),
        (("--candidate", "2", "--from", "2020-01-01", "--to", "2020-01-02"), "nothing is recorded of lookup"),
        (("--candidate", "2", "--fail-if", "bad>1"), "expected one such as broken>0.5%"),
        (("--candidate", "2", "--output", "rows.csv"), "must be .parquet"),
    ],
)
def test_what_cannot_be_compared_is_said(service: Recorded, options: tuple[str, ...], told: str) -> None:
    done = subprocess.run(
        command(service, *options),
        cwd=service.service.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and told in done.stderr


@pytest.mark.timeout(600)
def test_what_is_erased_before_a_replay_goes_on_is_in_no_result(service: Recorded, tmp_path: Path) -> None:
    def erase(start: int) -> None:
        where = ["--tag", f"start={start}", "--database-url", service.database, "--data-dir", str(tmp_path)]
        subprocess.run([*HOVERBOARD, "erase", *where, "--reason", "asked"], env=environment(), check=True)

    # Where the service looks after its own folder, nothing is left to go on with.
    options, replays = between(service), service.service.folder / "data" / "replays"
    killed(service, "inputs.parquet 3", *options)
    erase(300)
    until(lambda: list(replays.iterdir()), lambda left: not left)
    options += ["--output", str(tmp_path / "rows.parquet"), "--workspace", str(tmp_path / "work")]
    for start, kill in ((100, "inputs.parquet 3"), (200, "candidate.parquet 3")):
        killed(service, kill, *options)
        erase(start)
    found = json.loads(killed(service, "", *options))
    assert (found["rows"], found["left_out"]) == (700, {"erased since it was read": 200})
    assert {kind: count["rows"] for kind, count in found["kinds"].items() if count["rows"]} == {
        "same": 693,
        "changed": 5,
        "broken": 2,
    }
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    on_record = {row["id"] for row in service.rows("select id::text from samples")}
    assert len(rows) == len(on_record) == 700 and {row["sample_id"] for row in rows} == on_record
    assert {row["sample_id"] for row in found["examples"]} <= on_record
    changed = [row["sample_id"] for row in rows if row["kind"] in ("changed", "broken")]
    assert numbers_of(service, changed) == [row for row in PLANTED if not 100 <= row < 400]
