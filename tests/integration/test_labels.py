"""Labels from the command line and by JSON-RPC, through the journal and the recorder, into Postgres."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.integration.recorded import Recorded, until
from tests.integration.running import HOVERBOARD
from tests.postgres import Server

FEATURES = [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.fixture(scope="module")
def recorded(
    published: Path, postgres: Server, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("labels")
    with Recorded.running(folder, published, ("dense", "constant"), postgres, migrated_template) as recorded:
        yield recorded


def hoverboard(recorded: Recorded, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HOVERBOARD, *words],
        cwd=recorded.service.folder,
        env=recorded.service.environment,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def labels(recorded: Recorded, sample_id: str, count: int) -> list[dict[str, Any]]:
    """The labels of a sample in the order they were made, once there are so many."""
    query = "SELECT label, value, source, author FROM labels WHERE sample_id = $1 ORDER BY labelled_at"
    return until(lambda: recorded.rows(query, UUID(sample_id)), lambda rows: len(rows) >= count)


def invented(number: int) -> str:
    """The id of a sample of July 2025 that never was."""
    return str(UUID(int=(0x01980000_0000 << 80) | (7 << 76) | (2 << 62) | number))


def predicted(recorded: Recorded, model: str = "dense", instance: Any = FEATURES) -> str:
    answer = recorded.call("predict", {"model": model, "instances": [instance]})
    return str(answer["result"]["predictions"][0]["sample_id"])


def test_a_label_from_the_shell_meets_its_prediction_in_postgres(recorded: Recorded) -> None:
    sample = predicted(recorded)
    done = hoverboard(recorded, "label", sample, "--label", "green", "--source", "support", "--author", "Ada Lovelace")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"accepted": 1}
    query = (
        "SELECT l.label, l.source, l.author, p.label AS said, l.labelled_at >= p.predicted_at AS later "
        "FROM labels l JOIN predictions p USING (sample_id) WHERE sample_id = $1"
    )
    (row,) = until(lambda: recorded.rows(query, UUID(sample)), bool)
    assert row.pop("said") in ("red", "green", "blue")
    assert row == {"label": "green", "source": "support", "author": "Ada Lovelace", "later": True}


def test_labels_are_only_added_and_the_newest_of_a_source_holds(recorded: Recorded) -> None:
    sample = predicted(recorded)
    for params in (
        {"label": "red", "source": "support"},
        {"label": "blue", "source": "relabelling"},
        {"label": "green", "source": "support", "author": "Ada"},
    ):
        assert recorded.call("label", {"sample_id": sample, **params})["result"] == {"accepted": 1}
    rows = labels(recorded, sample, 3)
    assert [(row["label"], row["source"]) for row in rows] == [
        ("red", "support"),
        ("blue", "relabelling"),
        ("green", "support"),
    ]
    newest = (
        "SELECT DISTINCT ON (source) source, label FROM labels WHERE sample_id = $1 ORDER BY source, labelled_at DESC"
    )
    assert recorded.rows(newest, UUID(sample)) == [
        {"source": "relabelling", "label": "blue"},
        {"source": "support", "label": "green"},
    ]


def test_saying_the_same_twice_is_saying_it_once(recorded: Recorded) -> None:
    sample = predicted(recorded)
    for label, source in (("red", "a"), ("red", "a"), ("red", "b"), ("blue", "a"), ("blue", "a"), ("red", "a")):
        recorded.call("label", {"sample_id": sample, "label": label, "source": source})
    again = [{"sample_id": sample, "label": label, "source": "a"} for label in ("red", "green", "green", "last")]
    recorded.call("label", {"labels": again})
    found = [(row["label"], row["source"]) for row in labels(recorded, sample, 6)]
    assert found == [("red", "a"), ("red", "b"), ("blue", "a"), ("red", "a"), ("green", "a"), ("last", "a")]


def test_of_two_labels_in_one_call_the_later_holds(recorded: Recorded) -> None:
    sample = predicted(recorded)
    items = [{"sample_id": sample, "label": label} for label in ("red", "blue", "green")]
    assert recorded.call("label", {"labels": items})["result"] == {"accepted": 3}
    assert [row["label"] for row in labels(recorded, sample, 3)] == ["red", "blue", "green"]


@pytest.mark.parametrize("value", [0.1, -0.0, 1e300, 5e-324, 2**53 + 1, -17])
def test_values_survive_exactly(recorded: Recorded, value: float) -> None:
    sample = predicted(recorded, "constant", [1, 2])
    recorded.call("label", {"sample_id": sample, "value": value})
    (row,) = labels(recorded, sample, 1)
    assert (row["value"], str(row["value"])) == (float(value), str(float(value)))
    assert (row["label"], row["source"], row["author"]) == (None, "api", None)


@pytest.mark.parametrize("text", ["größe XL", "椅子", "🛹", 'a\nb\t"c" \\N \\.', "'; DROP TABLE labels; --", "x" * 256])
def test_texts_survive_exactly(recorded: Recorded, text: str) -> None:
    sample = predicted(recorded)
    recorded.call("label", {"sample_id": sample, "label": text, "source": text[:128], "author": text})
    (row,) = labels(recorded, sample, 1)
    assert row == {"label": text, "value": None, "source": text[:128], "author": text}


def test_a_label_of_a_sample_that_never_was_is_kept(recorded: Recorded) -> None:
    sample = invented(0)
    assert recorded.call("label", {"sample_id": sample, "label": "green"})["result"] == {"accepted": 1}
    assert [row["label"] for row in labels(recorded, sample, 1)] == ["green"]
    assert recorded.rows("SELECT id FROM samples WHERE id = $1", UUID(sample)) == []


def test_a_file_of_labels_arrives_whole(recorded: Recorded) -> None:
    count = 2500
    lines = [json.dumps({"sample_id": invented(1 + number), "label": f"class {number}"}) for number in range(count)]
    path = recorded.service.folder / "labels.jsonl"
    path.write_text("\n".join(lines) + "\n")
    done = hoverboard(recorded, "label", f"@{path}", "--source", "import")
    assert json.loads(done.stdout) == {"accepted": count}, done.stderr
    query = "SELECT sample_id, label FROM labels WHERE source = 'import'"
    rows = until(lambda: recorded.rows(query), lambda rows: len(rows) >= count)
    assert {(str(row["sample_id"]), row["label"]) for row in rows} == {
        (invented(1 + number), f"class {number}") for number in range(count)
    }
    assert len(rows) == count


def test_of_several_labels_with_a_wrong_one_none_is_written(recorded: Recorded) -> None:
    good = {"sample_id": predicted(recorded), "label": "green", "source": "half"}
    error = recorded.call("label", {"labels": [good, {**good, "label": "a\0b"}]})["error"]
    assert (error["code"], error["data"]["details"]["pointer"]) == (-32602, "/labels/1/label")
    done = hoverboard(recorded, "label", "-", stdin=f'{json.dumps(good)}\n{{"sample_id": "chair", "label": "x"}}\n')
    assert (done.returncode, done.stderr) == (
        1,
        "Error: stdin, line 2: sample_id: expected a UUIDv7, got chair\n",
    )
    last = {**good, "source": "whole"}
    assert recorded.call("label", last)["result"] == {"accepted": 1}
    assert [row["source"] for row in labels(recorded, good["sample_id"], 1)] == ["whole"]


def test_an_accepted_label_outlives_the_api_process(recorded: Recorded) -> None:
    sample = predicted(recorded)
    (api,) = recorded.service.children("_api")
    assert recorded.call("label", {"sample_id": sample, "label": "green"})["result"] == {"accepted": 1}
    api.kill()
    assert [row["label"] for row in labels(recorded, sample, 1)] == ["green"]
    until(lambda: recorded.service.children("_api"), lambda found: bool(found) and found[0].pid != api.pid)
    until(recorded.answers, bool)


def test_what_cannot_be_true_is_refused_where_the_model_is_named_and_listed_where_it_is_not(recorded: Recorded) -> None:
    sample, number = predicted(recorded), predicted(recorded, "constant", [1, 2])
    refused = recorded.call("label", {"sample_id": sample, "label": "purple", "model": "dense"})
    assert refused["error"]["code"] == -32602
    assert refused["error"]["data"]["details"]["expected"] == "a class of dense: blue, green, red"
    for given in (
        {"sample_id": sample, "label": "purple", "source": "a"},
        {"sample_id": sample, "value": 1, "source": "b"},
        {"sample_id": number, "label": "red", "source": "c"},
        {"sample_id": sample, "label": "red", "source": "d", "model": "dense"},
        {"sample_id": number, "value": 1, "source": "e", "model": "constant", "version": "stable"},
    ):
        assert recorded.call("label", given)["result"] == {"accepted": 1}
    query = "select source, problem from label_problems where sample_id in ($1, $2) order by source"
    rows = until(lambda: recorded.rows(query, UUID(sample), UUID(number)), lambda rows: len(rows) >= 3)
    assert [(row["source"], row["problem"]) for row in rows] == [
        ("a", "none of the version's classes"),
        ("b", "a value, and the version answers classes"),
        ("c", "a label, and the version answers numbers"),
    ]
    labels(recorded, number, 2)
    assert len(recorded.rows("select from label_problems where sample_id in ($1, $2)", UUID(sample), UUID(number))) == 3
