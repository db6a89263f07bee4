"""Exports: what was recorded goes back into the commands that take files, as it is, and says the same there."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hoverboard.cli import main
from hoverboard.contract.signature import TensorSpec
from hoverboard.publishing.exported import tell_doubts
from tests.integration.recorded import Recorded, until
from tests.integration.running import HOVERBOARD, environment
from tests.postgres import Server
from tests.recorded_tables import WINDOW, Tables
from tests.records import KEY, NOW, record, signature, texts

ROWS = 220
MODELS = ["dense", "mixed", "lengths", "constant"]
BETWEEN = ["--from", WINDOW.start.isoformat(), "--to", WINDOW.end.isoformat()]


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, published: Path, postgres: Server, migrated_template: str
) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("export")
    with Recorded.running(folder, published, MODELS, postgres, migrated_template, recorder_yield_s="0") as here:
        draw = np.random.default_rng(1)
        samples: dict[str, list[Any]] = {
            "dense": draw.uniform(0, 9, (ROWS, 8)).astype(np.float32).tolist(),
            "mixed": [
                {"word": word, "size": float(np.float32(size))}
                for word, size in zip(["small", "Ω\0", ""] * 10, draw.random(30), strict=True)
            ],
            "lengths": [draw.random((length, 2)).astype(np.float32).tolist() for length in (1, 2, 5) * 5],
            "constant": draw.random((5, 2)).astype(np.float32).tolist(),
        }
        samples["mixed"].append({"word": {"b64": "/w=="}, "size": 0.5})
        for model, rows in samples.items():
            for start in range(0, len(rows), 20):
                tags = {"customer": str(start)}
                part = rows[start : start + 20]
                if model == "lengths":  # samples of one call have one shape
                    for row in part:
                        assert "result" in here.call("predict", {"model": model, "instances": [row], "tags": tags})
                else:
                    assert "result" in here.call("predict", {"model": model, "instances": part, "tags": tags})
        count = sum(map(len, samples.values()))
        until(lambda: here.rows("select count(*) from predictions")[0]["count"], lambda rows: rows == count)
        yield here


def export(database: str, model: str, output: Path, *options: str, status: int = 0) -> Any:
    arguments = ["export", model, "--output", str(output), "--database-url", database, "--json", *options]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == status, done.output
    return json.loads(done.stdout) if status == 0 else done.stderr


def predicted(folder: Path, models: Path, model: str) -> Any:
    scored = folder / "scored.parquet"
    arguments = [
        "predict",
        model,
        "--input",
        str(folder / "inputs.parquet"),
        "--output",
        str(scored),
        "--models",
        str(models),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "hoverboard", *arguments], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return pq.read_table(scored)


@pytest.mark.parametrize("model", MODELS)
def test_what_is_exported_is_answered_again_as_it_was(service: Recorded, model: str, tmp_path: Path) -> None:
    found = export(service.database, model, tmp_path / "out")
    again = predicted(tmp_path / "out", service.service.folder / "models", model)
    answers = pq.read_table(tmp_path / "out" / "answers.parquet")
    assert again.num_rows == answers.num_rows == found["rows"] > 0
    assert found["left_out"] == {} and again.column("error").null_count == found["rows"]
    for name in {"label", "value"} & set(answers.column_names):
        assert again.column(name).to_pylist() == answers.column(name).to_pylist()
    for name in {"confidence", "value"} & set(answers.column_names):
        np.testing.assert_allclose(again.column(name).to_numpy(), answers.column(name).to_numpy(), rtol=1e-4, atol=1e-5)
    if model == "lengths":
        for one, other in zip(again.column("outputs").to_pylist(), answers.column("outputs").to_pylist(), strict=True):
            assert {name: np.shape(value) for name, value in one.items()} == {"mean": (2,), "state": (4,)}
            for name, value in one.items():
                np.testing.assert_allclose(value, other[name], rtol=1e-4, atol=1e-5)


def test_answers_stand_beside_their_inputs_in_the_same_order(service: Recorded, tmp_path: Path) -> None:
    export(service.database, "mixed", tmp_path / "out", "--where", "tag.customer=20")
    inputs, answers = (pq.read_table(tmp_path / "out" / f"{name}.parquet") for name in ("inputs", "answers"))
    assert inputs.column_names == ["size", "word"] and len(inputs) == len(answers) == 11
    assert set(answers["tags"].to_pylist()) == {'{"customer":"20"}'} and set(answers["incl_prob"].to_pylist()) == {1.0}
    recorded = service.rows("select id::text, inputs ->> 'size' as size from samples where model = 'mixed'")
    sizes = {row["id"]: float(row["size"]) for row in recorded}
    assert [sizes[id_] for id_ in answers["sample_id"].to_pylist()] == pytest.approx(inputs["size"].to_pylist())
    # One of the texts is no UTF-8: bytes for all of them, of which nothing is lost.
    assert {b"\xff", b"small", b""} <= set(inputs["word"].to_pylist())


def test_labelled_samples_are_a_calibration_file_as_they_are(
    service: Recorded, published: Path, tmp_path: Path
) -> None:
    # What the model says, but for every tenth: a truth that it mostly agrees with.
    service.rows(
        "insert into labels (sample_id, labelled_at, label, source) "
        "select sample_id, now(), case when substr(sample_id::text, 36) = '0' then 'blue' else label end, 'test' from predictions p "
        "join model_versions v on v.id = p.version_id where v.name = 'dense' and v.version = 2"
    )
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    found = export(service.database, "dense", tmp_path / "out", "--labelled")
    assert found["rows"] == ROWS and pq.read_schema(tmp_path / "out" / "inputs.parquet").names == ["features", "label"]
    # As if an incident had been in it.
    table = pq.read_table(tmp_path / "out" / "inputs.parquet")
    incidents = {"outliers": 40, "open_issues": {"7": 3, "9": 1, "10": 2, "11": 1, "12": 33, "13": 5, "14": 1}}
    about = json.loads(table.schema.metadata[b"hoverboard.export"]) | incidents | {"resolved_issues": {"4": 25}}
    pq.write_table(
        table.replace_schema_metadata({"hoverboard.export": json.dumps(about)}), tmp_path / "out" / "inputs.parquet"
    )
    arguments = [
        "publish",
        str(published / "dense" / "2" / "model.keras"),
        "--name",
        "again",
        "--models",
        str(tmp_path / "models"),
    ]
    arguments += [
        "--labels",
        str(tmp_path / "labels.txt"),
        "--calibration",
        str(tmp_path / "out" / "inputs.parquet"),
        "--alpha",
        "0.05",
        "--pretty",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "hoverboard", *arguments], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "models" / "again" / "1" / "manifest.json").read_text())
    assert manifest["outliers"]["alpha"] == 0.05
    assert any("the model agrees with" in note for note in manifest["outliers"]["notes"])
    right = sum(
        row["label"] == row["true_label"] for row in pq.read_table(tmp_path / "out" / "answers.parquet").to_pylist()
    )
    said = f"The model agrees with {right / ROWS:.1%} of the labels; version 2, which had answered these rows, agreed with {right / ROWS:.1%} of their labels."
    assert 0 < right < ROWS and said in " ".join(done.stdout.split())  # the same graph once more
    told = " ".join(done.stderr.split())
    for words in (
        "open issues, 12 (33 rows), 13 (5 rows), 7 (3 rows), 10 (2 rows), 9 (1 row), and 2 smaller ones with 2 rows: ",
        "leave the largest out with `hoverboard export dense --from 20",
        "Z --without-issue 12 --without-issue 13 --without-issue 7 --without-issue 10 --without-issue 9 --labelled --output ",
        " --output dense-without-issues-12-13-7-10-9`",
        "resolved issues, 4 (25 rows): ",
        "unless the model was trained on them, leave them out with ",
        "Z --without-issue 4 --labelled --output dense-without-issue-4`",
        "40 of 220 rows",
        "18.2%, where 5.0% are usual",
        "Z --labelled --without-outliers --output dense-without-outliers`",
    ):
        assert words in told and any(words in note for note in manifest["outliers"]["notes"]), (words, told)


@pytest.fixture
def tables(database: str) -> Iterator[Tables]:
    found = Tables(database)
    yield found
    found.close()


def many(rows: int, batches: int) -> list[Any]:
    """Batches a tenth of a second apart, every third of which is tagged."""
    from hoverboard.engine.sample_ids import sample_ids
    from hoverboard.journal.records import CallPart

    tags = [b'{"customer": "17"}', None, None]

    ids = [b"".join(sample_ids(1, NOW + batch / 10 + row / 1000) for row in range(rows)) for batch in range(batches)]
    draw = np.random.default_rng(2)
    return [
        record(
            draw.random((rows, 3), np.float32),
            texts(*[draw.bytes(2) for _ in range(rows)]),
            sample_ids=each,
            calls=[CallPart(rows, "stable", "r-1", None, tags[place % 3])],
        )
        for place, each in enumerate(ids)
    ]


KNOWN = signature(TensorSpec("v", "float32", (3,)), TensorSpec("word", "string", ()))
_KILLED = """
import os, signal, sys
import hoverboard.postmortem.export as export
import hoverboard.postmortem.export_part as export_part
import hoverboard.postmortem.blocks as blocks
from hoverboard.cli import main
export_part._PART_ROWS, export._PARTS_A_SNAPSHOT, blocks._MOST_ROWS = 40, 3, 17
kill, close = int(sys.argv.pop(1)), export.Exporter._close
def closing(self, part, last, state):
    close(self, part, last, state)
    if state.parts == kill:
        os.kill(os.getpid(), signal.SIGKILL)
export.Exporter._close = closing
main()
"""


def run_killed(database: str, output: Path, kill: int) -> int:
    arguments = ["export", KEY[0], "--output", str(output), "--database-url", database, *BETWEEN]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(kill), *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_killed_export_goes_on_to_the_same_bytes(tables: Tables, database: str, tmp_path: Path) -> None:
    tables.filled(KNOWN, *many(10, 50))
    assert run_killed(database, tmp_path / "whole", -1) == 0
    for kill in (1, 4, 9):
        assert run_killed(database, tmp_path / "killed", kill) == -signal.SIGKILL
        assert not (tmp_path / "killed" / "export.json").exists()
    assert run_killed(database, tmp_path / "killed", -1) == 0
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    assert sorted(bytes_of(tmp_path / "whole")) == ["answers.parquet", "export.json", "inputs.parquet"]
    assert json.loads((tmp_path / "whole" / "export.json").read_text())["rows"] == 500


def erase(database: str, folder: Path, *what: str) -> Any:
    place = ["--database-url", database, "--data-dir", str(folder), "--json"]
    done = CliRunner().invoke(main, ["erase", *what, "--reason", "asked", *place])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("what", "rows", "kill"),
    [("tag", 170, 2), ("tag", 170, 10), ("age", 250, 4), ("retention", 250, 4), ("all", 500, 4)],
)
def test_what_is_erased_or_expires_before_an_export_goes_on_is_not_in_it(
    tables: Tables, database: str, tmp_path: Path, *, what: str, rows: int, kill: int
) -> None:
    why = "expired since it was read" if what == "retention" else "erased since it was read"
    tables.filled(KNOWN, *many(10, 50))
    assert run_killed(database, tmp_path / "killed", kill) == -signal.SIGKILL
    middle = datetime.fromtimestamp(NOW + 2.4999, UTC)
    if what == "tag":
        assert erase(database, tmp_path, "--tag", "customer=17")["rows"]["samples"] == rows
    elif what == "all":
        assert erase(database, tmp_path, "--older-than", "1m")["rows"]["samples"] == rows
    elif what == "age":
        age = "update erasures set before = $1"  # the command takes whole minutes
        assert erase(database, tmp_path, "--older-than", "1000w")["rows"]["samples"] == 0
        tables.execute(age, middle)
        tables.execute("delete from samples where at < $1", middle)
        tables.execute("delete from predictions where at < $1", middle)
    else:
        tables.execute("select count(*) from hoverboard.drop_partitions($1)", middle)
    left = tables.execute("select count(*) from samples")
    assert left == 500 - rows
    assert run_killed(database, tmp_path / "killed", -1) == 0
    found = json.loads((tmp_path / "killed" / "export.json").read_text())
    answers = pq.read_table(tmp_path / "killed" / "answers.parquet")
    inputs = pq.read_table(tmp_path / "killed" / "inputs.parquet")
    ids = set(answers.column("sample_id").to_pylist())
    assert found["rows"] == len(ids) == len(answers) == len(inputs) == left
    # What had not been read yet is not there to be left out.
    assert list(found["left_out"]) == [why] and 0 < found["left_out"][why] <= rows
    if rows < 500:
        assert tables.execute("select count(*) from samples where id = any($1::text[]::uuid[])", list(ids)) == left
        assert run_killed(database, tmp_path / "whole", -1) == 0
        for name in ("inputs", "answers"):
            assert pq.read_table(tmp_path / "whole" / f"{name}.parquet").equals(
                pq.read_table(tmp_path / "killed" / f"{name}.parquet")
            )


def test_what_is_erased_while_an_export_writes_its_files_is_not_in_them(
    tables: Tables, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hoverboard.postmortem.export_files import merge

    tables.filled(KNOWN, *many(10, 50))
    told = []

    def merging(*arguments: Any) -> None:
        merge(*arguments)
        told.append(len(arguments[1]))
        if len(told) == 1:
            done = subprocess.run(
                [*HOVERBOARD, "erase", "--tag", "customer=17", "--reason", "asked", "--database-url", database],
                cwd=tmp_path,
                env=environment(),
                check=False,
            )
            assert done.returncode == 0

    monkeypatch.setattr("hoverboard.postmortem.export.merge", merging)
    found = export(database, KEY[0], tmp_path / "out", *BETWEEN)
    assert told == [0, 170]
    assert (found["rows"], found["left_out"]) == (330, {"erased since it was read": 170})
    assert len(pq.read_table(tmp_path / "out" / "inputs.parquet")) == 330


def test_where_there_is_no_room_a_sentence_says_so_and_the_same_command_goes_on(
    tables: Tables, database: str, tmp_path: Path
) -> None:
    tables.filled(KNOWN, *many(10, 50))
    arguments = ["export", KEY[0], "--output", str(tmp_path / "out"), "--database-url", database, *BETWEEN]

    def limited(most: int) -> Any:
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, resource.RLIM_INFINITY))"
        script = f"{limit}\n{_KILLED}"
        command = [sys.executable, "-c", script, "-1", *arguments]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)

    for most in (1000, 8000):  # not even a part; parts, and not all of them together
        done = limited(most)
        told = f"Error: {tmp_path / 'out'} could not be written: File too large. Make room there; the same command goes on from there"
        assert (done.returncode, done.stdout) == (1, "") and told in done.stderr
        assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")] == []
    assert run_killed(database, tmp_path / "out", -1) == 0
    assert len(pq.read_table(tmp_path / "out" / "inputs.parquet")) == 500


def test_another_job_is_not_gone_on_with_and_what_is_there_is_not_replaced_unasked(
    tables: Tables, database: str, tmp_path: Path
) -> None:
    tables.filled(KNOWN, *many(10, 50))
    run_killed(database, tmp_path / "out", 2)
    told = export(database, KEY[0], tmp_path / "out", *BETWEEN, "--where", "tag.a=1", status=1)
    assert "unfinished run with another where" in told and "--restart" in told
    assert export(database, KEY[0], tmp_path / "out", *BETWEEN, "--restart")["rows"] == 500
    assert "is there already" in export(database, KEY[0], tmp_path / "out", *BETWEEN, status=1)
    assert export(database, KEY[0], tmp_path / "out", *BETWEEN, "--overwrite")["rows"] == 500


def test_redacted_stays_redacted_and_is_counted(tables: Tables, database: str, tmp_path: Path) -> None:
    hidden = record(np.ones((4, 3), np.float32), redacted=["word"])
    tables.filled(KNOWN, *many(3, 1), hidden)
    found = export(database, KEY[0], tmp_path / "out", *BETWEEN)
    assert (found["rows"], found["left_out"]) == (3, {"redacted": 4})
    found = export(database, KEY[0], tmp_path / "all", *BETWEEN, "--incomplete")
    assert (found["rows"], found["left_out"]) == (7, {})
    inputs, answers = (pq.read_table(tmp_path / "all" / f"{name}.parquet") for name in ("inputs", "answers"))
    why = answers.column("why_not").to_pylist()
    assert [value is None for value in inputs.column("word").to_pylist()] == [each == "redacted" for each in why]
    assert why.count("redacted") == 4 and inputs.column("v").null_count == 0


def strange(tables: Tables, issue: int, rows: int) -> None:
    """Make the first rows outliers of an open issue."""
    tables.execute("insert into issue_scopes (model, backbone_sha256) values ($1, 'ab') on conflict do nothing", KEY[0])
    tables.execute(
        "insert into issues (id, scope_id, state, substate, state_at, why, members, first_seen, last_seen, first_version, last_version) "
        "select $1, id, 'unresolved', 'new', now(), 'test', 9, now(), now(), 2, 2 from issue_scopes where model = $2",
        *(issue, KEY[0]),
    )
    tables.execute(
        "insert into outliers (at, sample_id, version_id, p_value, issue_id) "
        "select at, sample_id, version_id, 0.001, $1 from predictions order by sample_id limit $2",
        *(issue, rows),
    )


def test_rows_of_an_issue_and_outliers_are_left_out_and_what_is_kept_of_them_is_told(
    tables: Tables, database: str, tmp_path: Path
) -> None:
    tables.filled(KNOWN, *many(10, 5))
    strange(tables, 3, 8)
    found = export(database, KEY[0], tmp_path / "all", *BETWEEN)
    assert (found["rows"], found["outliers"], found["open_issues"]) == (50, 8, {"3": 8})
    about = json.loads(pq.read_schema(tmp_path / "all" / "inputs.parquet").metadata[b"hoverboard.export"])
    assert about == json.loads((tmp_path / "all" / "export.json").read_text())
    found = export(database, KEY[0], tmp_path / "usual", *BETWEEN, "--without-issue", "3")
    assert (found["rows"], found["outliers"], found["open_issues"]) == (42, 0, {})
    assert found["left_out"] == {"of an issue that is left out": 8} and found["without_issues"] == [3]
    found = export(database, KEY[0], tmp_path / "none", *BETWEEN, "--without-outliers", "--without-issue", "4")
    assert (found["rows"], found["left_out"]) == (42, {"outliers": 8})
    told = export(database, KEY[0], tmp_path / "no", *BETWEEN, "--issue", "3", "--without-outliers", status=1)
    assert "no sample is left" in told
    tables.execute("update issues set state = 'archived', substate = 'until_escalating'")
    found = export(database, KEY[0], tmp_path / "archived", *BETWEEN)
    assert (found["open_issues"], found["resolved_issues"]) == ({}, {})
    tables.execute("update issues set state = 'resolved', substate = '', resolved_in = 3, resolved_at = now()")
    found = export(database, KEY[0], tmp_path / "resolved", *BETWEEN)
    assert (found["open_issues"], found["resolved_issues"]) == ({}, {"3": 8})
    told = CliRunner().invoke(
        main, ["export", KEY[0], "--output", str(tmp_path / "told"), *BETWEEN, "--pretty", "--database-url", database]
    )
    assert "outliers of resolved issues, 3 (8 rows); --without-issue 3 leaves them out." in told.stdout


CHOOSING = {
    "from_": ["--from", WINDOW.start.isoformat()],
    "to": ["--to", WINDOW.end.isoformat()],
    "where": ["--where", "tag.a b!=it's", "--where", "tag.a b!=x", "--where", "process!=9", "--where", "version=2"],
    "labelled": ["--labelled"],
    "issue": ["--issue", "3"],
    "without_issue": ["--without-issue", "4", "--without-issue", "5"],
    "without_outliers": ["--without-outliers"],
    "label_source": ["--labelled", "--label-source", "re view"],
    "without_label_source": ["--labelled", "--without-label-source", "robot"],
    "incomplete": ["--incomplete"],
}
PLACES = {"model", "output", "models", "overwrite", "restart", "database_url", "data_dir", "json_"}
"""Options that say where something is, and not which rows are meant."""


def test_what_calibrates_on_an_export_is_told_the_same_export_without_what_is_strange_in_it(
    tables: Tables, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = main.get_command(click.Context(main), "export")
    assert command is not None
    assert {each.name for each in command.params} - PLACES == {*CHOOSING}
    tables.filled(KNOWN, *many(10, 5))
    monkeypatch.chdir(tmp_path)
    for name, options in CHOOSING.items():
        about = export(database, KEY[0], Path(name), *BETWEEN, *options)
        path = Path(name) / "inputs.parquet"
        strange = about | {"rows": 50, "outliers": 0, "open_issues": {"7": 8}}
        table = pq.read_table(path).replace_schema_metadata({"hoverboard.export": json.dumps(strange)})
        pq.write_table(table, path)
        (told,) = tell_doubts(path, 0.01)
        typed = shlex.split(told.split("`")[1])
        assert typed[:2] == ["hoverboard", "export"]
        asked, given = (
            command.make_context("export", words).params
            for words in ([KEY[0], "--output", name, *BETWEEN, *options], typed[2:])
        )
        for each in {*CHOOSING} - {"from_", "to", "where", "without_issue"}:
            assert given[each] == asked[each], (name, each)
        assert given["without_issue"] == (*asked["without_issue"], 7)
        assert sorted(given["where"]) == sorted(asked["where"])
        assert [datetime.fromisoformat(given[end]) for end in ("from_", "to")] == [
            datetime.fromisoformat(about[end]) for end in ("start", "end")
        ]
        assert not given["output"].exists()
        assert export(database, KEY[0], given["output"], *typed[3:])["without_issues"] == sorted(given["without_issue"])
    # Of outliers of one issue alone nothing is left without it.
    pq.write_table(table.replace_schema_metadata({"hoverboard.export": json.dumps(strange | {"issue": 7})}), path)
    (told,) = tell_doubts(path, 0.01)
    assert "is of outliers of the open issue 7, by --issue 7" in told and "`" not in told


def test_what_is_not_there_is_said(tables: Tables, database: str, tmp_path: Path) -> None:
    tables.filled(KNOWN, *many(3, 1))
    told = export(database, KEY[0], tmp_path / "out", "--from", "2020-01-01", "--to", "2020-01-02", status=1)
    assert "nothing is recorded of shapes, 2020-01-01 00:00 UTC to 2020-01-02 00:00 UTC" in told
    assert "nothing is recorded of nobody" in export(database, "nobody", tmp_path / "out", *BETWEEN, status=1)
    empty = export(database, KEY[0], tmp_path / "none", *BETWEEN, "--where", "tag.a=1")
    assert empty["rows"] == 0 and pq.read_table(tmp_path / "none" / "inputs.parquet").num_rows == 0


def test_without_a_time_it_is_the_last_day(service: Recorded, tmp_path: Path) -> None:
    found = export(service.database, "dense", tmp_path / "out")
    start, end = (datetime.fromisoformat(found[name]) for name in ("start", "end"))
    assert (end - start).total_seconds() == 86_400 and abs((datetime.now(UTC) - end).total_seconds()) < 120
