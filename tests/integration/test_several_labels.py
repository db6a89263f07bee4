"""Multi-label answers and truths in Postgres: which labels held, each with its confidence, and what was true."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from hoverboard.publishing import publish
from hoverboard.recorder.erasure.erase import ErasureRequest
from hoverboard.recorder.erasure.everywhere import ErasureReport, erase_everywhere
from tests.integration.recorded import Recorded, until
from tests.integration.running import HOVERBOARD, environment
from tests.integration.test_sql_questions import blocks
from tests.postgres import Server

LABELS = ["toys", 'a "quoted", {braced}\\ \N{SKATEBOARD}', "books"]
TOYS, ODD, BOOKS = LABELS
SEVERAL, NONE, ONE, STRANGE = [3.0, 2.0, -4.0], [-1.0, -2.0, -3.0], [-1.0, 2.0, -3.0], [5.0, 5.0, 5.0]


def sigmoids() -> Any:
    """Three numbers in, the sigmoid of each out."""
    import keras

    x = keras.Input((3,), name="x")
    dense = keras.layers.Dense(3, kernel_initializer="identity", activation="sigmoid", name="scores")
    return keras.Model(x, dense(x))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the same sigmoids under three policies, and a second version with other thresholds."""
    folder = tmp_path_factory.mktemp("several")
    for name, policy in (
        ("topics", ""),
        ("hashed", '[recording]\npolicy = "hashed"\n'),
        ("sampled", '[recording]\npolicy = "sampled"\nshare = 0.000001\nlow_margin = 0.1\n'),
    ):
        publish(sigmoids(), name=name, models_dir=folder / "models", labels=LABELS, thresholds={TOYS: 0.9})
        if policy:
            (folder / "models" / name / "serving.toml").write_text(policy)
    return folder


@pytest.fixture(scope="module")
def recorded(folder: Path, published: Path, postgres: Server, migrated_template: str) -> Iterator[Recorded]:
    with Recorded.running(folder, published, ("dense",), postgres, migrated_template) as recorded:
        yield recorded


def predicted(recorded: Recorded, model: str, *instances: list[float]) -> list[dict[str, Any]]:
    answer = recorded.call("predict", {"model": model, "instances": list(instances)})
    found: list[dict[str, Any]] = answer["result"]["predictions"]
    return found


def rows(recorded: Recorded, answers: list[dict[str, Any]], count: int | None = None) -> list[dict[str, Any]]:
    """The predictions that were recorded of some answers, in their order."""
    query = "select sample_id::text, label, confidence, labels, confidences from predictions where sample_id = any($1)"
    ids = [UUID(one["sample_id"]) for one in answers]
    found = until(lambda: recorded.rows(query, ids), lambda rows: len(rows) >= (count or len(ids)))
    return sorted(found, key=lambda row: [one["sample_id"] for one in answers].index(row["sample_id"]))


@pytest.mark.parametrize("model", ["topics", "hashed"])
def test_what_callers_got_is_what_is_recorded(recorded: Recorded, model: str) -> None:
    answers = predicted(recorded, model, SEVERAL, NONE, ONE, STRANGE)
    assert [[one["label"] for one in answer["labels"]] for answer in answers] == [[TOYS, ODD], [], [ODD], LABELS]
    for row, answer in zip(rows(recorded, answers), answers, strict=True):
        assert (row["label"], row["confidence"]) == (None, None)
        assert row["labels"] == [one["label"] for one in answer["labels"]]
        told = np.array([one["confidence"] for one in answer["labels"]], np.float32)
        assert np.array(row["confidences"], np.float32).tolist() == told.tolist()


def test_a_classification_is_recorded_as_ever(recorded: Recorded) -> None:
    answers = predicted(recorded, "dense", [1, 2, 3, 4, 5, 6, 7, 8])
    (row,) = rows(recorded, answers)
    assert (row["label"], row["labels"], row["confidences"]) == (answers[0]["label"], None, None)
    assert row["confidence"] == pytest.approx(answers[0]["confidence"])


def test_a_sampled_model_keeps_what_is_near_a_threshold(recorded: Recorded) -> None:
    near = [2.3, -5.0, -5.0]  # a probability of 0.91, where toys holds from 0.9 on
    (row,) = rows(recorded, predicted(recorded, "sampled", near, NONE), 1)
    assert row["labels"] == [TOYS]


def test_labels_are_asked_for_plainly(recorded: Recorded) -> None:
    answers = predicted(recorded, "topics", SEVERAL, NONE, ONE)
    rows(recorded, answers)
    ids = [UUID(one["sample_id"]) for one in answers]
    held = "select count(*) from predictions where sample_id = any($1) and $2 = any(labels)"
    assert [recorded.rows(held, ids, label)[0]["count"] for label in LABELS] == [1, 2, 0]
    none = "select sample_id from predictions where sample_id = any($1) and labels = '{}'"
    assert [row["sample_id"] for row in recorded.rows(none, ids)] == [ids[1]]
    each = (
        "select u.label, round(u.confidence::numeric, 2)::text as confidence from predictions p,"
        " unnest(p.labels, p.confidences) with ordinality as u (label, confidence, place)"
        " where sample_id = $1 order by place"
    )
    assert [tuple(row.values()) for row in recorded.rows(each, ids[0])] == [(TOYS, "0.95"), (ODD, "0.88")]


def hoverboard(recorded: Recorded, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HOVERBOARD, *words],
        cwd=recorded.service.folder,
        env=recorded.service.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def truths(recorded: Recorded, sample: str, count: int) -> list[tuple[Any, ...]]:
    query = "select label, labels, value from labels where sample_id = $1 order by labelled_at"
    found = until(lambda: recorded.rows(query, UUID(sample)), lambda rows: len(rows) >= count)
    return [tuple(row.values()) for row in found]


def test_the_truth_of_a_sample_is_a_list_of_all_labels_that_hold(recorded: Recorded) -> None:
    (answer,) = predicted(recorded, "topics", SEVERAL)
    sample = answer["sample_id"]
    done = hoverboard(recorded, "label", sample, "--label", TOYS, "--label", ODD)
    assert done.returncode == 0, done.stderr
    for given in ([ODD, TOYS], [TOYS, ODD], [], [], [BOOKS]):  # an order says nothing, and twice is once
        recorded.call("label", {"sample_id": sample, "model": "topics", "label": given})
    assert hoverboard(recorded, "label", sample, "--none").returncode == 0
    again = [{"sample_id": sample, "label": given} for given in ([], [TOYS, ODD], [ODD, TOYS], TOYS)]
    recorded.call("label", {"labels": again})
    both = sorted([TOYS, ODD])
    assert truths(recorded, sample, 6) == [
        (None, both, None),
        (None, [], None),
        (None, [BOOKS], None),
        (None, [], None),
        (None, both, None),
        (TOYS, None, None),
    ]


def test_a_list_that_cannot_be_true_is_refused_where_the_model_is_named_and_listed_where_not(
    recorded: Recorded,
) -> None:
    topic, dense = predicted(recorded, "topics", ONE)[0], predicted(recorded, "dense", [1, 2, 3, 4, 5, 6, 7, 8])[0]
    rows(recorded, [topic, dense])
    refused = recorded.call("label", {"sample_id": topic["sample_id"], "model": "topics", "label": [TOYS, "cars"]})
    assert refused["error"]["data"]["details"]["pointer"] == "/label/1"
    refused = recorded.call("label", {"sample_id": dense["sample_id"], "model": "dense", "label": ["red"]})
    assert refused["error"]["data"]["details"]["expected"] == "one label: dense answers one class"
    given = [
        {"sample_id": topic["sample_id"], "source": source, **truth}
        for source, truth in (
            ("a", {"label": [TOYS, "cars"]}),
            ("b", {"label": "cars"}),
            ("c", {"value": 1}),
            ("fine", {"label": [TOYS, ODD]}),
            ("fine too", {"label": []}),
            ("fine as well", {"label": TOYS}),
        )
    ]
    given.append({"sample_id": dense["sample_id"], "label": ["red"], "source": "d"})
    assert recorded.call("label", {"labels": given})["result"] == {"accepted": 7}
    query = "select source, problem, labels from label_problems where sample_id = any($1) order by source"
    ids = [UUID(topic["sample_id"]), UUID(dense["sample_id"])]
    found = until(lambda: recorded.rows(query, ids), lambda rows: len(rows) >= 4)
    assert [(row["source"], row["problem"], row["labels"]) for row in found] == [
        ("a", "a label that is none of the version's", sorted([TOYS, "cars"])),
        ("b", "none of the version's classes", None),
        ("c", "a value, and the version answers classes", None),
        ("d", "a list of labels, and the version answers one class", ["red"]),
    ]


def test_the_page_counts_several_labels_right(recorded: Recorded) -> None:
    """Question 5: an answer is right where it has all that hold and no other. Question 9: each label by itself."""
    answers = predicted(recorded, "hashed", SEVERAL, SEVERAL, NONE, ONE, ONE, NONE, ONE, ONE)
    truth: list[dict[str, Any]] = [
        {"label": [ODD, TOYS]},  # right
        {"label": [TOYS]},  # one too many was said
        {"label": []},  # right
        {"label": ODD},  # right: one label is a list of it
        {"label": [ODD, BOOKS]},  # one was missed
        {"label": [BOOKS]},
        {"value": 1},  # cannot be compared
    ]
    given = [{"sample_id": one["sample_id"], **said} for one, said in zip(answers, truth, strict=False)]
    recorded.call("label", {"labels": given})
    rows(recorded, answers)
    until(
        lambda: recorded.rows(
            "select from labels where sample_id = any($1)", [UUID(one["sample_id"]) for one in answers]
        ),
        lambda found: len(found) == len(truth),
    )
    day = recorded.rows("select min(at)::date::text as first, (max(at)::date + 1)::text as last from samples")[0]

    def asked(question: str) -> list[tuple[Any, ...]]:
        text = blocks()[question].replace("products", "hashed")
        for written, real in (("2026-03-03", "first"), ("2026-03-04", "last"), ("2026-03-08", "last")):
            text = text.replace(written, day[real])
        return [tuple(row.values()) for row in recorded.rows(text)]

    ((version, labelled, accuracy, missed),) = asked("5")
    assert (version, labelled, float(accuracy)) == (1, 6, 0.5)
    assert missed == ", ".join(sorted(["{toys}", "{books}", _literal(sorted([BOOKS, ODD]))]))
    ids = [UUID(one["sample_id"]) for one in answers]
    elsewhere = recorded.rows(
        "select u.label, count(*) from predictions p join model_versions v on v.id = p.version_id and v.name = 'hashed'"
        " left join unnest(p.labels) as u (label) on true where not p.sample_id = any($1) group by 1",
        ids,
    )
    before = {row["label"]: row["count"] for row in elsewhere}
    counts = {label: kept - before.get(label, 0) for label, kept, *_ in asked("9")}
    assert counts | {BOOKS: 0} == {TOYS: 2, ODD: 6, BOOKS: 0, None: 2}


def _literal(words: list[str]) -> str:
    quoted = [w if w.isalpha() else '"' + w.replace("\\", "\\\\").replace('"', '\\"') + '"' for w in words]
    return "{" + ",".join(quoted) + "}"


def erased(recorded: Recorded, sample: str) -> ErasureReport:
    request = ErasureRequest(actor="ann", reason="ticket 4711", sample_id=UUID(sample))
    erasing = erase_everywhere(recorded.database, recorded.service.folder / "data", request)
    with ThreadPoolExecutor(1) as thread:  # pytest-asyncio keeps a loop of its own in this one
        return thread.submit(asyncio.run, erasing).result()


def kept(recorded: Recorded, sample: str) -> list[int]:
    """Rows of a sample in `samples`, `predictions` and `labels`."""
    columns = {"samples": "id", "predictions": "sample_id", "labels": "sample_id"}
    query = ", ".join(f"(select count(*) from {table} where {name} = $1) as {table}" for table, name in columns.items())
    return [int(count) for count in recorded.rows(f"select {query}", UUID(sample))[0].values()]


def test_an_erasure_takes_lists_of_labels_along_also_those_that_come_later(recorded: Recorded) -> None:
    victim, other = (answer["sample_id"] for answer in predicted(recorded, "topics", SEVERAL, ONE))
    given = [
        {"sample_id": sample, "source": source, "label": label}
        for sample in (victim, other)
        for source, label in (("a", [TOYS, ODD]), ("b", []))
    ]
    recorded.call("label", {"labels": given})
    until(lambda: [kept(recorded, sample) for sample in (victim, other)], lambda found: found == [[1, 1, 2]] * 2)
    rows = erased(recorded, victim).erased.rows
    assert (rows["samples"], rows["predictions"], rows["labels"]) == (1, 1, 2)
    assert [kept(recorded, sample) for sample in (victim, other)] == [[0, 0, 0], [1, 1, 2]]
    later = [{"sample_id": sample, "source": "later", "label": [BOOKS]} for sample in (victim, other)]
    recorded.call("label", {"labels": later})
    until(lambda: kept(recorded, other), lambda found: found == [1, 1, 3])
    assert kept(recorded, victim) == [0, 0, 0]


def test_lists_that_postgres_refuses_are_put_aside_and_can_be_erased_there(recorded: Recorded) -> None:
    recorded.rows("alter table predictions add constraint no_three check (cardinality(labels) < 3) not valid")
    recorded.rows("alter table labels add constraint no_books check (not labels @> array['books']) not valid")
    before = len(recorded.rows("select from quarantine"))
    try:
        first, three, last = (answer["sample_id"] for answer in predicted(recorded, "topics", SEVERAL, STRANGE, ONE))
        given = [{"sample_id": first, "source": label, "label": [label]} for label in (BOOKS, TOYS)]
        recorded.call("label", {"labels": given})
        expected = [[1, 1, 1], [0, 0, 0], [1, 1, 0]]
        until(lambda: [kept(recorded, sample) for sample in (first, three, last)], lambda found: found == expected)
        put_aside = until(lambda: recorded.rows("select file from quarantine"), lambda rows: len(rows) == before + 2)
        assert truths(recorded, first, 1) == [(None, [TOYS], None)]
    finally:
        recorded.rows("alter table predictions drop constraint no_three")
        recorded.rows("alter table labels drop constraint no_books")
    assert [erased(recorded, sample).quarantined for sample in (three, first, last)] == [1, 1, 0]
    assert not any((recorded.service.folder / "data" / row["file"]).exists() for row in put_aside)


def test_other_thresholds_are_a_difference_between_versions(tmp_path: Path) -> None:
    for thresholds in ({TOYS: 0.9}, {TOYS: 0.9, BOOKS: 0.2}):
        publish(
            sigmoids(),
            name="topics",
            models_dir=tmp_path / "models",
            labels=LABELS,
            thresholds=thresholds,
        )
    done = subprocess.run(
        [*HOVERBOARD, "models", "diff", "topics", "1", "2", "--models", "models", "--json"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {one["what"]: (one["before"], one["after"]) for one in json.loads(done.stdout)["differences"]}
    assert found == {"threshold of books": ("0.5", "0.2")}
    (tmp_path / "rows.jsonl").write_text(json.dumps(NONE) + "\n" + json.dumps(SEVERAL) + "\n")
    scored = subprocess.run(
        [*HOVERBOARD, "predict", "topics", "--input", "rows.jsonl", "--output", "out.jsonl", "--models", "models"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert scored.returncode == 0, scored.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [[one["label"] for one in line["labels"]] for line in lines] == [[], [TOYS, ODD]]
