"""The command line against a real service, and without one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.running import HOVERBOARD, Service, environment, running
from tests.terminal import on_a_terminal

ROWS = 60_000


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs `hoverboard` in one folder."""

    folder: Path
    variables: dict[str, str]

    def run(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*HOVERBOARD, *words],
            cwd=self.folder,
            env=self.variables,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def json(self, *words: str, stdin: str | None = None) -> Any:
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def on_a_terminal(self, *words: str) -> str:
        """What a person sees, without colours."""
        run = on_a_terminal([*HOVERBOARD, *words], self.folder, self.variables | {"TERM": "dumb", "NO_COLOR": "1"})
        assert run.status == 0, run.shown
        return run.shown.decode().replace("\r\n", "\n")


@pytest.fixture(scope="module")
def folder(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with `models/`."""
    folder = tmp_path_factory.mktemp("cli")
    for name in ("dense", "constant", "mixed", "lengths"):
        shutil.copytree(published / name, folder / "models" / name)
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    with running(folder) as service:
        yield service


@pytest.fixture(scope="module")
def online(folder: Path, service: Service) -> Shell:
    """Commands that find the service by its settings."""
    return Shell(folder, service.environment)


@pytest.fixture
def offline(folder: Path, tmp_path: Path) -> Shell:
    """Commands in a folder of the test's own, with the models but without a service."""
    (tmp_path / "models").symlink_to(folder / "models")
    return Shell(tmp_path, environment())


SAMPLE = "[1, 2, 3, 4, 5, 6, 7, 8]"

# -- against a service ------------------------------------------------------------------------------------------------


def test_models_are_listed_and_described_alike_by_a_server_and_from_disk(online: Shell) -> None:
    served, on_disk = online.json("models"), online.json("models", "--models", "models")
    assert served == on_disk
    assert [model["name"] for model in served["models"]] == ["constant", "dense", "lengths", "mixed"]
    served, on_disk = (
        online.json("models", "show", "dense"),
        online.json("models", "show", "dense", "--models", "models"),
    )
    assert served.keys() == on_disk.keys()
    for one, other in zip(served["versions"], on_disk["versions"], strict=True):
        assert one.keys() == other.keys()
        assert all(one[key] == other[key] for key in ("version", "task", "inputs", "outputs", "labels"))
    assert [model["name"] for model in online.json("models", "show", "dense", "1")["versions"][0]["inputs"]] == [
        "features"
    ]


def test_two_versions_are_compared_alike_by_a_server_and_from_disk(online: Shell) -> None:
    expected = {"model": "dense", "before": 1, "after": 2, "differences": []}
    assert online.json("models", "diff", "dense", "1", "2") == expected
    assert online.json("models", "diff", "dense", "1", "2", "--models", "models") == expected
    assert online.on_a_terminal("models", "diff", "dense", "1", "2") == "They take and answer the same.\n"


@pytest.mark.parametrize(
    "words, stdin",
    [
        ([SAMPLE], None),
        (["-"], SAMPLE + "\n" + SAMPLE + "\n"),
        ([], f'{{"instances": [{SAMPLE}], "top_k": 2}}'),
    ],
    ids=["argument", "lines", "params"],
)
def test_predict_takes_an_argument_lines_or_params(online: Shell, words: list[str], stdin: str | None) -> None:
    result = online.json("predict", "dense", *words, stdin=stdin)
    assert (result["model"], result["version"]) == ("dense", 2)
    assert len(result["predictions"]) == (stdin or "x").count("\n") or 1
    assert all(one["label"] in ("red", "green", "blue") for one in result["predictions"])


def test_predict_takes_a_file(online: Shell) -> None:
    (online.folder / "request.json").write_text(json.dumps({"params": {"model": "x", "instances": [[1.0, 2.0]]}}))
    (online.folder / "rows.jsonl").write_text("[1, 2]\n")
    assert online.json("predict", "constant", "@request.json")["predictions"][0]["value"] == 2
    assert online.json("predict", "constant", "@rows.jsonl", "--version", "1")["predictions"][0]["value"] == 1


def test_predict_passes_its_options_on(online: Shell) -> None:
    result = online.json(
        "predict", "dense", SAMPLE, "--version", "1", "--top-k", "2", "--outputs", "--deadline-ms", "9000"
    )
    assert result["version"] == 1
    (one,) = result["predictions"]
    assert len(one["top"]) == 2
    assert len(one["outputs"]["probabilities"]) == 3


def test_text_and_objects_are_instances_too(online: Shell) -> None:
    label = online.json("predict", "mixed", '{"word": "small", "size": 1}')["predictions"][0]["label"]
    assert label in ("no", "yes")


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["dense", "[1, 2]"], "/instances/0: expected 8 numbers, got 2 (-32602 invalid_params)"),
        (["nobody", "1"], "'nobody'; models: constant, dense, lengths, mixed (-32001 model_not_found)"),
        (["dense", SAMPLE, "--version", "77"], "(-32001 version_not_found)"),
    ],
)
def test_what_the_server_refuses_is_said_in_its_words(online: Shell, words: list[str], sentence: str) -> None:
    done = online.run("predict", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr


def test_a_terminal_gets_tables_and_a_pipe_json(online: Shell) -> None:
    assert online.on_a_terminal("models").split()[:5] == ["model", "task", "roles", "versions", "problem"]
    shown = online.on_a_terminal("predict", "dense", SAMPLE)
    assert "label" in shown
    assert "dense version 2: waited" in shown
    assert "batch bucket" in online.on_a_terminal("models", "show", "dense", "2")
    assert json.loads(online.on_a_terminal("models", "--json"))["models"]


def test_routing_back_and_forth_changes_who_answers(online: Shell) -> None:
    def answer() -> float:
        value: float = online.json("predict", "constant", "[0, 0]")["predictions"][0]["value"]
        return value

    assert online.json("models", "route", "constant", "1")["roles"] == {"stable": 1}
    assert answer() == 1
    assert online.json("models", "route", "constant", "highest")["roles"] == {"stable": 2}
    assert answer() == 2


def test_pinned_versions_stay_and_others_can_be_unloaded(online: Shell) -> None:
    assert online.json("models", "pin", "dense", "1")["live"] == [1, 2]
    refused = online.run("models", "unload", "dense", "1")
    assert "neither stable nor pinned" in refused.stderr
    online.json("models", "unpin", "dense", "1")
    online.json("models", "load", "dense", "1")
    assert online.json("models", "unload", "dense", "1")["live"] == [2]
    assert online.json("models", "scan")["models"] == ["constant", "dense", "lengths", "mixed"]
    assert online.on_a_terminal("models", "load", "dense", "1") == "dense: stable 2; in memory: 1, 2.\n"


def test_a_wrong_token_is_refused(online: Shell, tmp_path: Path) -> None:
    (tmp_path / "admin.token").write_text("guess")
    done = online.run("models", "scan", "--data-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "-32013" in done.stderr


# -- without a service ------------------------------------------------------------------------------------------------


def test_publish_writes_the_next_version_and_tells_what_it_takes(offline: Shell) -> None:
    shutil.copy(offline.folder / "models/dense/1/model.keras", offline.folder)
    (offline.folder / "labels.txt").write_text("red\ngreen\nblue\n")
    (offline.folder / "rows.jsonl").write_text(f"{SAMPLE}\n" * 3)
    (offline.folder / "contract.toml").write_text("[features]\nmin = 0\nmax = 9\n")
    words = ["publish", "model.keras", "--name", "fresh", "--models", "own", "--labels", "labels.txt"]
    made = offline.json(*words, "--samples", "rows.jsonl", "--contract", "contract.toml", "--notes", "a test")
    assert (made["path"], made["version"], made["notes"]) == ("own/fresh/1", 1, "a test")
    assert made["inputs"][0]["max"] == 9
    forgotten = offline.run(*words, "--parent", "1")
    assert "input features: max: 9 before, none now" in forgotten.stderr
    assert "--breaking" in forgotten.stderr
    shown = offline.on_a_terminal(*words, "--parent", "1", "--breaking")
    assert "Published fresh version 2 to own/fresh/2" in shown
    assert "3 labels: red, green, blue" in shown
    golden = json.loads((offline.folder / "own/fresh/1/golden.json").read_text())
    assert golden["samples"][0]["inputs"]["features"] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_publish_takes_the_output_that_is_named(offline: Shell) -> None:
    import keras

    x = keras.Input((2,), name="x")
    outputs = {"amount": keras.layers.Dense(1)(x), "verdict": keras.layers.Dense(1, activation="sigmoid")(x)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.Model(x, outputs).save(offline.folder / "several.keras")
    (offline.folder / "both.txt").write_text("no\nyes\n")
    words = ["publish", "several.keras", "--name", "several", "--models", "own", "--labels", "both.txt"]
    done = offline.json(*words, "--output", "verdict", "--json")
    assert [spec["name"] for spec in done["outputs"]] == ["verdict", "amount"]
    (offline.folder / "x.jsonl").write_text("[1, 2]\n")
    answered = offline.run("predict", "several", "--input", "x.jsonl", "--output", "y.jsonl", "--models", "own")
    assert answered.returncode == 0, answered.stderr
    assert json.loads((offline.folder / "y.jsonl").read_text())["label"] in {"no", "yes"}
    assert offline.run(*words, "--output", "verdit").stderr.count("outputs: amount, verdict") == 1


def test_publish_says_in_a_sentence_what_it_cannot_do(offline: Shell) -> None:
    (offline.folder / "model.keras").write_text("no model")
    done = offline.run("publish", "model.keras", "--name", "broken", "--models", "own")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert not (offline.folder / "own" / "broken" / "1").exists()


def vectors(rows: int) -> Any:
    return np.random.default_rng(7).integers(0, 9, (rows, 8)).astype(np.float32)


def test_a_file_is_scored_to_what_keras_says(offline: Shell, keras_models: dict[str, Any]) -> None:
    inputs = vectors(1000)
    pq.write_table(pa.table({"id": range(1000), "features": list(inputs)}), offline.folder / "in.parquet")
    words = ["predict", "dense", "--input", "in.parquet", "--keep", "id", "--version", "1", "--outputs"]
    report = offline.json(*words, "--output", "out.parquet")
    assert (report["rows"], report["errors"], report["version"]) == (1000, 0, 1)
    scored = pq.read_table(offline.folder / "out.parquet")
    assert scored["id"].to_pylist() == list(range(1000))
    expected = keras_models["dense1"](inputs).numpy()
    outputs = np.array([row["probabilities"] for row in scored["outputs"].to_pylist()])
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    labels = [("red", "green", "blue")[index] for index in expected.argmax(axis=1)]
    assert scored["label"].to_pylist() == labels
    assert "1,000 rows in out.jsonl, 0 of them with an error." in offline.on_a_terminal(*words, "--output", "out.jsonl")
    lines = [json.loads(line) for line in (offline.folder / "out.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == labels


def test_bad_rows_are_errors_in_their_place_and_strict_refuses_them(offline: Shell) -> None:
    rows = ["[1, 2, 3, 4, 5, 6, 7, 8]", "[1]", "nonsense", "[1, 2, 3, 4, 5, 6, 7, 99]", "[8, 7, 6, 5, 4, 3, 2, 1]"]
    (offline.folder / "in.jsonl").write_text("\n".join(rows))
    words = ["predict", "dense", "--input", "in.jsonl", "--output", "out.jsonl"]
    strict = offline.run(*words, "--strict")
    assert strict.returncode == 1
    assert "row 1 (counted from 0): expected 8 numbers, got 1" in strict.stderr
    scored = offline.run(*words, "--json")
    assert scored.returncode == 3
    assert (json.loads(scored.stdout)["errors"], json.loads(scored.stdout)["unreadable"]) == (3, 1)
    assert "1 row of in.jsonl could not be read. The first: Line 3 is no JSON" in scored.stderr
    lines = [json.loads(line) for line in (offline.folder / "out.jsonl").read_text().splitlines()]
    assert ["label" in line for line in lines] == [True, False, False, False, True]
    assert lines[3]["error"] == {"pointer": "/7", "message": "expected a number from 0 to 9, got 99"}


def test_rows_of_several_lengths_and_several_outputs_are_scored(offline: Shell) -> None:
    rows = [[[1.0, 2.0]] * (1 + n % 5) for n in range(40)]
    (offline.folder / "in.jsonl").write_text(
        "\n".join(json.dumps({"id": n, "steps": row}) for n, row in enumerate(rows))
    )
    words = ["predict", "lengths", "--input", "in.jsonl", "--output", "out.parquet", "--keep", "id"]
    assert offline.json(*words)["errors"] == 0
    scored = pq.read_table(offline.folder / "out.parquet").to_pylist()
    assert [row["id"] for row in scored] == list(range(40))
    assert all(row["outputs"]["mean"] == [1.0, 2.0] for row in scored)
    assert scored[0]["outputs"]["state"] == scored[5]["outputs"]["state"] != scored[1]["outputs"]["state"]


def test_csv_with_several_inputs_is_scored(offline: Shell) -> None:
    (offline.folder / "in.csv").write_text("size,word,note\n1,small,a\n2,large,b\nx,large,c\n")
    words = ["predict", "mixed", "--input", "in.csv", "--output", "out.jsonl", "--keep-all"]
    assert offline.json(*words)["errors"] == 1
    lines = [json.loads(line) for line in (offline.folder / "out.jsonl").read_text().splitlines()]
    assert [line["note"] for line in lines] == ["a", "b", "c"]
    assert lines[2]["error"]["pointer"] == "/size"


def test_a_stray_quote_in_a_csv_loses_no_row_in_silence(offline: Shell) -> None:
    (offline.folder / "in.csv").write_text('size,word\n1,small\n2,"large\n3,small\n4,large\n5,small\n')
    words = ["predict", "mixed", "--input", "in.csv", "--output", "out.jsonl", "--keep", "size"]
    scored = offline.run(*words, "--json")
    assert scored.returncode == 3
    assert "1 row of in.csv could not be read. The first: Line 3 is no row: the quote that opens here" in scored.stderr
    lines = [json.loads(line) for line in (offline.folder / "out.jsonl").read_text().splitlines()]
    assert [line["size"] for line in lines] == ["1", None, "3", "4", "5"]
    assert ["error" in line for line in lines] == [False, True, False, False, False]


def test_a_run_killed_again_and_again_ends_with_every_row_once(offline: Shell) -> None:
    pq.write_table(pa.table({"id": range(ROWS), "features": list(vectors(ROWS))}), offline.folder / "in.parquet")
    words = [
        "predict",
        "dense",
        "--input",
        "in.parquet",
        "--output",
        "out.parquet",
        "--keep",
        "id",
        "--batch-rows",
        "64",
    ]
    workspace, reached = offline.folder / ".out.parquet.scoring", 0
    for _ in range(2):
        reached = _killed_after_progress(offline, words, workspace / "checkpoint.json", reached)
        assert not (offline.folder / "out.parquet").exists()
    report = offline.json(*words)
    assert report["rows"] == ROWS
    assert report["resumed_at"] >= reached > 0
    assert pq.read_table(offline.folder / "out.parquet")["id"].to_pylist() == list(range(ROWS))
    assert not workspace.exists()
    again = offline.run(*words)
    assert again.returncode == 1
    assert "is there already; --overwrite replaces it" in again.stderr


def _killed_after_progress(shell: Shell, words: list[str], checkpoint: Path, reached: int) -> int:
    """Start a run, kill it with SIGKILL once it is further than `reached`; returns how far it was."""
    process = subprocess.Popen(
        [*HOVERBOARD, *words],
        cwd=shell.folder,
        env=shell.variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    try:
        while time.monotonic() < until:
            rows = json.loads(checkpoint.read_text())["position"]["rows"] if checkpoint.exists() else 0
            if rows > reached:
                return int(rows)
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.005)
        raise AssertionError("no progress within a minute")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
