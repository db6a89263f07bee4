"""How good recorded answers were, and how good those of a new version are, on rows whose labels are known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.postmortem.judging import JudgedAnswers, judged
from hoverboard.postmortem.replay_answers import AnswerReader
from hoverboard.publishing.agreement import agreement
from hoverboard.publishing.exported import EXPORT_KEY, said_before
from tests.records import signature

X = TensorSpec("x", "float32", ())
CLASSES = signature(X, outputs=[TensorSpec("p", "float32", (2,))], task="classification", labels=("a", "b"))
SEVERAL = replace(
    signature(X, outputs=[TensorSpec("p", "float32", (3,))], task="multi-label", labels=("a", "b", "c")), head="sigmoid"
)
NUMBER = signature(X, outputs=[TensorSpec("y", "float32", ())], task="regression")
VECTOR = signature(X, outputs=[TensorSpec("z", "float32", (2,))], task="embedding")


def file(path: Path, said: dict[str, Any], **truths: Any) -> Path:
    rows = len(next(iter(said.values())))
    columns = {
        "sample_id": [str(row) for row in range(rows)],
        "true_label": pa.array([None] * rows, pa.string()),
        "true_labels": pa.array([None] * rows, pa.list_(pa.string())),
        "true_value": pa.array([None] * rows, pa.float64()),
        **said,
    }
    pq.write_table(pa.table(columns | truths), path)
    return path


def several(*labels: str) -> list[dict[str, Any]]:
    return [{"label": label, "confidence": 0.9} for label in labels]


def test_recorded_answers_are_held_against_their_labels(tmp_path: Path) -> None:
    path = file(tmp_path / "a", {"label": ["a", "b", "a", "a"]}, true_label=["a", "a", None, "a"])
    assert judged(AnswerReader(CLASSES), [path, path], {"3"}) == JudgedAnswers(4, right=0.5)
    path = file(
        tmp_path / "b",
        {"labels": [several("a", "c"), several(), several("b"), several("b")]},
        true_labels=[["c", "a"], [], ["a", "b"], None],
        true_label=[None, None, None, "b"],
    )
    assert judged(AnswerReader(SEVERAL), [path], ()) == JudgedAnswers(4, right=0.75)
    path = file(tmp_path / "c", {"value": [1.0, 2.0, None, 4.0]}, true_value=[2.0, None, 1.0, 1.0])
    assert judged(AnswerReader(NUMBER), [path], ()) == JudgedAnswers(2, error=2.0)
    assert judged(AnswerReader(NUMBER), [path], {"0", "3"}) == JudgedAnswers()
    assert judged(AnswerReader(VECTOR), [path], ()) == JudgedAnswers()


@pytest.mark.parametrize(
    ("known", "first", "labels", "told"),
    [
        (NUMBER, [1.0, 2.0, 3.0], [2.0, math.nan, 3.5], "is off from the labels by 0.75 on average"),
        (NUMBER, [1.0], [None], None),
        (SEVERAL, [[0.9, 0.1, 0.8], [0.1, 0.2, 0.3]], [["c", "a"], ["a"]], "agrees with 50.0% of the labels"),
        (SEVERAL, [[0.1, 0.2, 0.3]], [[]], "agrees with 100.0% of the labels"),
        (CLASSES, [[0.1, 0.9]], ["b"], None),
        (VECTOR, [[0.1, 0.9]], ["b"], None),
        (NUMBER, [1.0], None, None),
    ],
)
def test_a_new_version_is_held_against_the_labels_of_its_calibration(
    known: Signature, first: Any, labels: Any, told: str | None
) -> None:
    found = agreement(known, np.array(first, np.float32), labels)
    assert found == (() if told is None else (f"calibration: the model {told}",))


@pytest.mark.parametrize(
    ("about", "told"),
    [
        (
            {"judged": {"rows": 9, "right": 0.9}, "versions": [3]},
            "version 3, which had answered these rows, agreed with 90.0% of",
        ),
        (
            {"judged": {"rows": 9, "error": 0.25}, "versions": [1, 2]},
            "versions 1, 2, which had answered these rows, were off from",
        ),
        ({"judged": {"rows": 0}, "versions": [1]}, None),
        ({"versions": [1]}, None),
    ],
)
def test_what_was_said_before_is_read_from_an_export(tmp_path: Path, about: dict[str, Any], told: str | None) -> None:
    path = tmp_path / "inputs.parquet"
    whole = {"model": "m", "rows": 10, **about}
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata({EXPORT_KEY: msgspec.json.encode(whole)}), path)
    found = said_before(path)
    assert found == () if told is None else told in found[0]
    assert said_before(tmp_path / "rows.csv") == ()
