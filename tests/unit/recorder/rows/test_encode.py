"""Records into Arrow and bytes, without a database: halving, pieces, and the numbers in JSON."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import msgspec
import numpy as np
import pgpq
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoverboard.contract.signature import TensorSpec
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.journal.records import BatchRecord, CallPart
from hoverboard.recorder.rows.arrays import real_arrays
from hoverboard.recorder.rows.encode import encode_batches
from hoverboard.recorder.rows.split import split
from hoverboard.recorder.rows.tables import rows_of
from hoverboard.recorder.rows.text import json_values, text_column
from tests.records import NOW, record, signature, texts, versions

KNOWN = signature(
    TensorSpec("v", "float32", (None,)),
    TensorSpec("text", "string", ()),
    TensorSpec("t", "int64", (2, 1)),
    outputs=[TensorSpec("p", "float32", (3,)), TensorSpec("word", "string", ())],
    task="classification",
    labels=("a", "b", "c"),
)


@st.composite
def batches(draw: st.DrawFn) -> BatchRecord:
    """Any record of `KNOWN`, with one to nine rows of one to four calls."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    rows = sum(sizes)
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    calibrated, sampled = draw(st.booleans()), draw(st.booleans())
    failed = draw(st.lists(st.integers(0, rows - 1), unique=True).map(sorted))
    return record(
        numbers.random((rows, draw(st.integers(0, 3))), np.float32),
        texts(*[numbers.bytes(3) for _ in range(rows)]),
        numbers.integers(-5, 5, (rows, 2, 1)),
        outputs=[numbers.random((rows, 3), np.float32), texts(*[numbers.bytes(2) for _ in range(rows)])],
        sample_ids=sample_ids(rows, NOW),
        executed=rows + 2,
        failed=len(failed),
        failed_rows=failed,
        label_index=numbers.integers(0, 3, rows, np.int32).tobytes(),
        confidence=numbers.random(rows, np.float32).tobytes(),
        p_value=numbers.random(rows, np.float32).tobytes() if calibrated else None,
        outlier=(numbers.random(rows) < 0.5).tobytes() if calibrated else None,
        incl_prob=numbers.random(rows, np.float32).tobytes() if sampled else None,
        why=numbers.integers(0, 5, rows, np.uint8).tobytes() if sampled else None,
        calls=[CallPart(n, "stable", f"call {i}", None, b'{"i":"%d"}' % i) for i, n in enumerate(sizes)],
    )


def rows_by_table(records: list[BatchRecord]) -> dict[str, list[Any]]:
    """What would go to each table, row by row, in the order of the sample ids."""
    tables: dict[str, list[Any]] = {"samples": [], "predictions": [], "outliers": []}
    for group in rows_of(records, versions(KNOWN), "engine-0"):
        for table in tables:
            rows = getattr(group, table)
            tables[table] += [] if rows is None else rows.to_pylist()
    return {table: sorted(found, key=lambda row: row.get("id") or row["sample_id"]) for table, found in tables.items()}


def single_rows(given_: BatchRecord) -> list[BatchRecord]:
    return [given_] if given_.rows == 1 else [single for half in split(given_) for single in single_rows(half)]


@settings(max_examples=100)
@given(batches())
def test_a_record_in_halves_down_to_single_rows_has_the_same_rows(given_: BatchRecord) -> None:
    singles = single_rows(given_)
    assert [single.rows for single in singles] == [1] * given_.rows
    assert b"".join(single.sample_ids for single in singles) == given_.sample_ids
    assert rows_by_table(singles) == rows_by_table([given_])


@settings(max_examples=50)
@given(st.lists(batches(), min_size=1, max_size=6))
def test_records_together_have_the_rows_that_they_have_alone(given_: list[BatchRecord]) -> None:
    together = rows_by_table(given_)
    alone = [rows_by_table([each]) for each in given_]
    for table, rows in together.items():
        assert len(rows) == sum(len(each[table]) for each in alone)
        assert sorted(map(repr, rows)) == sorted(repr(row) for each in alone for row in each[table])


def test_one_row_cannot_be_halved() -> None:
    with pytest.raises(ValueError, match="1 rows"):
        split(record(np.ones(1, np.float32)))


def test_the_stream_is_whole_in_pieces_of_bounded_size() -> None:
    known = signature(TensorSpec("v", "float32", (64,)))
    many = [record(np.full((50, 64), i, np.float32)) for i in range(200)]

    async def streamed(copy: Any) -> list[bytes]:
        return [piece async for piece in copy.stream()]

    found, predictions = encode_batches(many, versions(known), "engine-0")
    assert (found.table, found.rows, predictions.rows) == ("samples", 10_000, 10_000)
    pieces = asyncio.run(streamed(found))
    assert len(pieces) > 4 and max(map(len, pieces)) < 1.5 * 2**20
    assert all(pieces)
    assert pieces == list(found.pieces())
    assert sum(map(len, pieces)) > 10_000 * 64 * 8
    assert pieces[0].startswith(b"PGCOPY\n\xff\r\n\0") and pieces[-1].endswith(b"\xff\xff")


def test_columns_that_hold_nothing_are_not_sent() -> None:
    known = signature(TensorSpec("v", "float32", (2,)))
    plain, tagged = record(np.ones((2, 2), np.float32)), record(np.ones((3, 2), np.float32))
    tagged = msgspec.structs.replace(tagged, policy="sampled", calls=[CallPart(3, None, "r", None, b'{"a": "b"}')])
    (found, predictions) = encode_batches([plain], versions(known), "engine-0")
    assert not {"inputs", "tensors", "tags", "traceparent"} & set(found.columns)
    assert not {"labels", "confidences", "output_tensors", "p_value"} & set(predictions.columns)
    assert {"at", "id", "model", "vector", "request_id", "incl_prob", "why"} <= set(found.columns)
    (found, _) = encode_batches([plain, tagged], versions(known), "engine-0")
    assert "tags" in found.columns
    assert [batch.column("tags").null_count for batch in found.batches] == [2, 0]


def test_rows_larger_than_a_piece_go_one_by_one() -> None:
    known = signature(TensorSpec("image", "uint8", (2**21, 1)))
    (found, _) = encode_batches([record(np.zeros((3, 2**21, 1), np.uint8))], versions(known), "engine-0")
    assert [len(piece) >> 21 for piece in found.pieces()] == [0, 1, 1, 1, 0]


@settings(max_examples=100)
@given(st.lists(st.lists(st.floats(width=32), max_size=4), max_size=5))
def test_arrays_are_in_the_form_that_pgpq_gives_lists(values: list[list[float]]) -> None:
    flat = np.array([x for row in values for x in row], np.float32)
    ours = real_arrays(flat, np.array([len(row) for row in values], np.int64))
    theirs = pa.array(values, pa.list_(pa.float32()))
    assert copied(ours) == copied(theirs)


def copied(column: Any) -> bytes:
    """One column as binary COPY."""
    batch = pa.record_batch({"c": column})
    encoder = pgpq.ArrowToPostgresBinaryEncoder(batch.schema)
    whole: bytes = encoder.write_header() + encoder.write_batch(batch) + encoder.finish()
    return whole


def test_every_half_is_written_so_that_it_reads_back() -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    found = [json.loads(text) for text in json_values(values).to_pylist()]
    back = np.array([float(value) for value in found]).astype(np.float16)
    np.testing.assert_array_equal(back, values)
    zeros = values == 0
    np.testing.assert_array_equal(np.signbit(back[zeros]), np.signbit(values[zeros]))


def test_numbers_are_written_with_the_fewest_digits() -> None:
    assert json_values(np.array([0.1, 16777216, 1e20], np.float32)).to_pylist() == ["0.1", "16777216", "1e+20"]
    assert json_values(np.array([0.1, math.pi])).to_pylist() == ["0.1", "3.141592653589793"]


@pytest.mark.parametrize("text", ["", "plain", "\0", "a\0b\0", "Ω\0🛹"])
def test_text_columns_hold_no_nul(text: str) -> None:
    assert text_column([text, None]).to_pylist() == [text.replace("\0", "\ufffd"), None]
    assert text_column([None]).type == pa.large_string()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_regression_is_recorded_with_every_digit_that_the_model_gave(dtype: Any) -> None:
    known = signature(TensorSpec("x", "float32", ()), outputs=[TensorSpec("y", str(np.dtype(dtype)), ())])
    told = np.array([123456789.123, 1e-300, 1e300 if dtype is np.float64 else 1e30], dtype)
    given_ = record(np.zeros(3, np.float32), outputs=[told], value=told.tobytes())
    (group,) = rows_of([given_], versions(known), "engine-0")
    assert group.predictions["value"].to_pylist() == told.astype(np.float64).tolist()


def test_numbers_of_an_older_journal_and_of_a_newer_one_are_read_each_as_they_are() -> None:
    known = signature(TensorSpec("x", "float32", ()), outputs=[TensorSpec("y", "float64", ())])
    old, new = (
        record(np.zeros(2, np.float32), outputs=[np.ones(2)], value=np.array([0.1, 0.2], dtype).tobytes())
        for dtype in (np.float32, np.float64)
    )
    found = [
        row
        for group in rows_of([old, new], versions(known), "engine-0")
        for row in group.predictions["value"].to_pylist()
    ]
    assert sorted(found) == sorted([float(np.float32(0.1)), float(np.float32(0.2)), 0.1, 0.2])


def test_a_multi_label_answer_is_the_labels_that_hold_most_probable_first() -> None:
    odd = 'a "b", {c}\\ \N{SKATEBOARD}\0'
    known = signature(
        TensorSpec("v", "float32", (1,)),
        outputs=[TensorSpec("p", "float64", (3,))],
        task="multi-label",
        labels=("toys", odd, "books"),
        head="sigmoid",
        thresholds=(0.5, 0.9, 0.25),
    )
    first = np.array([[0.5, 0.95, 0.1], [0.49, 0.89, 0.24], [0.6, 0.1, 0.7], [np.nan, 0.95, 0.1]])
    given_ = record(
        np.zeros((4, 1), np.float32),
        outputs=[first],
        label_index=np.zeros(4, np.int32).tobytes(),
        confidence=np.zeros(4, np.float32).tobytes(),
        failed_rows=[3],
    )
    (group,) = rows_of([given_], versions(known), "engine-0")
    rows = group.predictions.to_pylist()
    texts_ = [['a "b", {c}\\ \N{SKATEBOARD}\ufffd', "toys"], [], ["books", "toys"]]
    numbers = [np.array(row, np.float32) for row in ([0.95, 0.5], [], [0.7, 0.6])]
    assert [row["labels"] for row in rows] == [text_array(row) for row in texts_]
    assert [row["confidences"] for row in rows] == [
        real_arrays(row, np.array([len(row)]))[0].as_py() for row in numbers
    ]
    assert {(row["label"], row["confidence"]) for row in rows} == {(None, None)}


def text_array(words: list[str]) -> bytes:
    """A `text[]` as Postgres' `array_recv` takes it."""
    head = [1, 0, 25, len(words), 1]
    parts = [number.to_bytes(4, "big") for number in head]
    for word in words:
        parts += [len(word.encode()).to_bytes(4, "big"), word.encode()]
    return b"".join(parts)
