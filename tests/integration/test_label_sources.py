"""Labels of some sources alone, in what is exported and in what is replayed: the others are as if nobody had said them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.integration.test_export import BETWEEN, KNOWN, export, many
from tests.integration.test_export import tables as tables  # noqa: PLC0414 - a fixture
from tests.recorded_tables import Tables
from tests.records import KEY


@pytest.fixture
def labelled(tables: Tables) -> Tables:
    """Ten samples: all labelled by `clinic`, and three of them later by `review`, which is wrong; one by `review` alone."""
    tables.filled(KNOWN, *many(2, 5))
    tables.execute(
        "insert into labels (sample_id, labelled_at, label, source) "
        "select id, now() - interval '1 day', 'right', 'clinic' from (select id from samples order by id limit 9) s"
    )
    tables.execute(
        "insert into labels (sample_id, labelled_at, label, source) "
        "select id, now(), 'wrong', 'review' from (select id from samples order by id desc limit 4) s"
    )
    return tables


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ((), {("right", "clinic"): 6, ("wrong", "review"): 4}),
        (("--without-label-source", "review"), {("right", "clinic"): 9}),
        (("--label-source", "review"), {("wrong", "review"): 4}),
        (("--label-source", "review", "--label-source", "clinic"), {("right", "clinic"): 6, ("wrong", "review"): 4}),
        (("--without-label-source", "review", "--without-label-source", "clinic"), {}),
        (("--label-source", "x' or true --"), {}),
    ],
)
def test_labels_of_other_sources_are_as_if_nobody_had_said_them(
    labelled: Tables, database: str, tmp_path: Path, options: tuple[str, ...], counts: dict[Any, int]
) -> None:
    found = export(database, KEY[0], tmp_path / "labelled", *BETWEEN, "--labelled", *options)
    rows = pq.read_table(tmp_path / "labelled" / "answers.parquet").to_pylist()
    assert Counter((row["true_label"], row["label_source"]) for row in rows) == counts
    assert found["rows"] == len(rows) == sum(counts.values())
    assert {"label_sources", "without_label_sources"} <= set(found)
    # Not asked for labels, all samples are there, and those labels are not.
    found = export(database, KEY[0], tmp_path / "all", *BETWEEN, *options)
    rows = pq.read_table(tmp_path / "all" / "answers.parquet").to_pylist()
    assert found["rows"] == 10
    assert Counter((row["true_label"], row["label_source"]) for row in rows if row["label_source"]) == counts


def test_a_source_that_is_meant_and_left_out_is_told(labelled: Tables, database: str, tmp_path: Path) -> None:
    options = ("--label-source", "review", "--without-label-source", "review")
    told = export(database, KEY[0], tmp_path / "out", *options, status=1)
    assert "--label-source review and --without-label-source review" in told
