from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hoverboard.codec.rows import RowsCodec
from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import ConfigError, InvalidParams
from hoverboard.offline.rows import RowChunk, RowFault, RowPosition, RowSource
from hoverboard.offline.sources import open_source

Write = Callable[[str, str | bytes], Path]


def instances(source: RowSource, start: RowPosition | None = None, rows: int = 2) -> list[Any]:
    return [one for chunk in source.chunks(start or RowPosition(), rows) for one in chunk.instances]


def kept(source: RowSource, name: str) -> list[Any]:
    chunks = list(source.chunks(RowPosition(), 2))
    return [value for chunk in chunks for value in pa.array(chunk.kept[name]).to_pylist()]


JSONL = '[1, 2]\n{"pair": [3, 4], "id": "b"}\n\n{"pair": [5, 6], "id": "c"}\nnonsense\n[7, 8]'


def test_a_jsonl_line_is_an_instance_or_an_object_that_holds_one(write: Write, pair: Signature) -> None:
    found = instances(open_source(write("rows.jsonl", JSONL), pair))
    assert found[:3] == [[1, 2], [3, 4], [5, 6]]
    assert isinstance(found[3], RowFault)
    assert "no JSON" in found[3].message
    assert found[4] == [7, 8]


def test_jsonl_columns_are_kept_by_name_and_null_where_a_record_lacks_them(write: Write, pair: Signature) -> None:
    path = write("rows.jsonl", JSONL)
    assert kept(open_source(path, pair, keep=["id"]), "id") == [None, "b", "c", None, None]
    chunks = list(open_source(path, pair, keep_all=True).chunks(RowPosition(), 100))
    assert set(chunks[0].kept) == {"pair", "id"}


def test_a_one_input_record_may_name_its_only_column_differently(write: Write, pair: Signature) -> None:
    path = write("rows.jsonl", '{"numbers": [1, 2]}\n{"id": 7, "numbers": [3, 4]}\n')
    assert instances(open_source(path, pair, keep=["id"])) == [[1, 2], [3, 4]]


def test_bytes_as_b64_are_an_instance_and_no_record(write: Write) -> None:
    text = Signature("raw", (TensorSpec("text", "string", ()),), (TensorSpec("out", "float32", (1,)),))
    assert instances(open_source(write("rows.jsonl", '{"b64": "aGk="}'), text)) == [{"b64": "aGk="}]


def test_several_inputs_take_their_own_columns_and_leave_the_rest(write: Write, gem: Signature) -> None:
    path = write("rows.jsonl", '{"carat": 0.3, "cut": "Ideal", "price": 500}\n{"carat": 1}\n')
    assert instances(open_source(path, gem)) == [{"carat": 0.3, "cut": "Ideal"}, {"carat": 1}]


CSV = '\ufeffid,carat,cut\r\na,0.3,Ideal\r\nb,,"Very\nGood"\r\n\r\nc,1e2,7\r\nd,1\r\n'


def test_csv_cells_are_json_except_where_the_input_is_a_string(write: Write, gem: Signature) -> None:
    found = instances(open_source(write("rows.csv", CSV), gem))
    assert found[:3] == [
        {"carat": 0.3, "cut": "Ideal"},
        {"carat": "", "cut": "Very\nGood"},
        {"carat": 100.0, "cut": "7"},
    ]
    assert isinstance(found[3], RowFault)
    assert found[3] == RowFault("", "Line 7 is no row: it has 2 cells, the header 3", lost=True)


def test_csv_vectors_are_json_arrays(write: Write, pair: Signature) -> None:
    assert instances(open_source(write("rows.csv", 'anything\n"[1, 2]"\n'), pair)) == [[1, 2]]


def test_a_csv_row_that_is_not_utf8_is_a_fault_of_that_row_alone(write: Write, gem: Signature) -> None:
    found = instances(open_source(write("rows.csv", b"carat,cut\n1,caf\xe9\n2,Ideal\n"), gem))
    assert found == [RowFault("", "Line 2 is no row: it is not UTF-8", lost=True), {"carat": 2, "cut": "Ideal"}]


ROWS = '1,"a"\n2,"b\n3,"c"\n4,"d"\n'
OPEN = [1, "Line 3 is no row: a quote within a quoted cell is not doubled, or one is never closed", 3, 4]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (ROWS, OPEN),
        ('1,a\n2,"b\n3,c\n', [1, "Line 3 is no row: the quote that opens here is never closed", 3]),
        ('1,"a\n2,b"\n3,c\n', [1, 3]),
        ('1,"a\n2,b",x\n3,c\n', [*(f"Line {n} is no row: it has 3 cells, the header 2" for n in (2, 3)), 3]),
        ('1,"a"b\n2,b\n', ["Line 2 is no row: a quote within a quoted cell is not doubled, or one is never closed", 2]),
        ("1,a\rb\n2,b\n", ["Line 2 is no row: a carriage return stands in a cell that is not quoted", 2]),
        ('1,"a""b"\n2,"c,d"\n', [1, 2]),
    ],
    ids=[
        "closed by the next quote",
        "open to the end",
        "over two lines",
        "one cell too many",
        "after",
        "return",
        "right",
    ],
)
@pytest.mark.parametrize("rows_a_chunk", [1, 100])
def test_a_stray_quote_costs_its_own_line_and_says_which(
    write: Write, gem: Signature, rows: str, expected: list[Any], rows_a_chunk: int
) -> None:
    source = open_source(write("rows.csv", f"carat,cut\n{rows}"), gem)
    found = instances(source, rows=rows_a_chunk)
    assert [one.message if isinstance(one, RowFault) else one["carat"] for one in found] == expected
    assert all(one.lost for one in found if isinstance(one, RowFault))
    for chunk in source.chunks(RowPosition(), 1):
        assert instances(source, chunk.after) == found[chunk.after.rows :], "and from any position on"


@pytest.mark.parametrize(
    ("text", "value"),
    [(".5", 0.5), ("1.", 1.0), ("+1", 1), ("-.5e3", -500.0), ("007", 7), ("1e2", 100.0), (" 2 ", 2), ("0x10", "0x10")],
)
def test_numbers_as_spreadsheets_write_them_are_numbers(write: Write, gem: Signature, text: str, value: Any) -> None:
    assert instances(open_source(write("rows.csv", f"carat,cut\n{text},7\n"), gem)) == [{"carat": value, "cut": "7"}]


def test_an_empty_cell_is_a_missing_value_where_the_input_takes_those(write: Write) -> None:
    some = Signature("raw", (TensorSpec("x", "float32", (1,), finite=False),), (TensorSpec("out", "float32", (1,)),))
    path = write("rows.csv", "id,x\na,\nb,NaN\nc,NA\nd,1\n")
    assert instances(open_source(path, some)) == [None, None, None, 1]
    strict = Signature("raw", (TensorSpec("x", "float32", (1,)),), (TensorSpec("out", "float32", (1,)),))
    assert instances(open_source(path, strict)) == ["", "NaN", "NA", 1]


def test_truth_is_read_however_it_is_written(write: Write) -> None:
    flag = Signature("raw", (TensorSpec("x", "bool", (1,)),), (TensorSpec("out", "float32", (1,)),))
    path = write("rows.csv", "x\nTrue\nFALSE\ntrue\n1\nyes\n")
    assert instances(open_source(path, flag)) == [True, False, True, 1, "yes"]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_semicolons_and_tabs_are_known_by_the_header(write: Write, gem: Signature, delimiter: str) -> None:
    lines = [("carat", "cut", "note"), ("0.5", "Ideal, or so", "x"), ("1", "Fair", "y")]
    path = write("rows.csv", "".join(delimiter.join(cells) + "\n" for cells in lines))
    source = open_source(path, gem, keep=["note"])
    assert instances(source) == [{"carat": 0.5, "cut": "Ideal, or so"}, {"carat": 1, "cut": "Fair"}]
    assert kept(source, "note") == ["x", "y"]


def test_a_byte_order_mark_costs_no_row(write: Write, pair: Signature) -> None:
    assert instances(open_source(write("rows.jsonl", "\ufeff[1, 2]\n[3, 4]\n"), pair)) == [[1, 2], [3, 4]]


def test_a_line_that_is_no_json_is_named_by_its_number_from_wherever_reading_began(
    write: Write, pair: Signature
) -> None:
    source = open_source(write("rows.jsonl", "[1, 2]\n\n[NaN, 1]\n{\n"), pair)
    first = next(iter(source.chunks(RowPosition(), 1)))
    lost = instances(source, first.after)
    assert [(fault.message, fault.lost) for fault in lost] == [
        ("Line 3 is no JSON: NaN is no JSON; write null, where the model takes missing values", True),
        ("Line 4 is no JSON: Input data was truncated", True),
    ]


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


VECTOR_TYPES = [
    pa.list_(pa.float32()),
    pa.large_list(pa.float64()),
    pa.list_(pa.int64()),
    pa.list_(pa.float32(), 2),
]


@pytest.mark.parametrize("kind", VECTOR_TYPES, ids=str)
def test_parquet_lists_of_one_length_are_vectors(tmp_path: Path, pair: Signature, kind: pa.DataType) -> None:
    rows = [[float(n), n + 1.0] for n in range(8)]
    path = parquet(tmp_path / "rows.parquet", pair=pa.array(rows, kind))
    assert instances(open_source(path, pair)) == rows


def test_parquet_lists_of_several_lengths_and_nulls_come_as_they_are(tmp_path: Path, pair: Signature) -> None:
    rows = [[1.0, 2.0], None, [3.0], [None, 4.0], []]
    path = parquet(tmp_path / "rows.parquet", pair=pa.array(rows, pa.list_(pa.float32())))
    assert instances(open_source(path, pair)) == rows


def test_parquet_columns_are_matched_by_input_name(tmp_path: Path, gem: Signature) -> None:
    path = parquet(tmp_path / "rows.parquet", cut=["Ideal", "Fair"], price=[1, 2], carat=[0.5, 0.25])
    source = open_source(path, gem, keep=["price"])
    assert instances(source) == [{"carat": 0.5, "cut": "Ideal"}, {"carat": 0.25, "cut": "Fair"}]
    assert kept(source, "price") == [1, 2]


def test_parquet_binary_columns_become_b64(tmp_path: Path) -> None:
    text = Signature("raw", (TensorSpec("text", "string", ()),), (TensorSpec("out", "float32", (1,)),))
    path = parquet(tmp_path / "rows.parquet", anything=pa.array([b"hi", None]))
    assert instances(open_source(path, text)) == [{"b64": "aGk="}, None]


DECIMALS = pa.array([Decimal("0.20"), Decimal("12345678901234567890.00"), None], pa.decimal128(24, 2))


def test_parquet_decimals_are_numbers(tmp_path: Path, gem: Signature, pair: Signature) -> None:
    path = parquet(tmp_path / "rows.parquet", carat=DECIMALS, cut=["a", "b", "c"])
    assert [row["carat"] for row in instances(open_source(path, gem))] == [0.2, 12345678901234567890, None]
    lists = pa.array([[Decimal("1.5"), Decimal(2)]], pa.list_(pa.decimal128(10, 2)))
    assert instances(open_source(parquet(tmp_path / "lists.parquet", pair=lists), pair)) == [[1.5, 2]]


def test_a_column_that_is_needed_and_missing_is_named_with_those_there_are(tmp_path: Path, gem: Signature) -> None:
    path = parquet(tmp_path / "rows.parquet", carat=[1.0], colour=["E"])
    with pytest.raises(ConfigError, match=r"no column 'cut'.*'carat', 'colour'"):
        open_source(path, gem)
    with pytest.raises(ConfigError, match=r"--keep id: the input has no such column"):
        open_source(path, gem, keep=["id"])


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("rows.txt", "[1, 2]", "extension must be"),
        ("rows.parquet", "no parquet", "not a readable parquet file"),
        ("rows.csv", "a,a\n1,2\n", "names 'a' more than once"),
        ("rows.csv", 'pair,"x\n1,2\n', "header cannot be read: the quote that opens here is never closed"),
        ("rows.csv", "pair\n[1, 2]\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        ("rows.csv", b"pa\xefr\n1\n", "header cannot be read: it is not UTF-8"),
        ("rows.jsonl", "[1, 2]\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_source_is_refused_in_words(
    write: Write, pair: Signature, name: str, content: str | bytes, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        open_source(write(name, content), pair)


def test_two_parquet_columns_of_one_name_are_refused(tmp_path: Path, gem: Signature) -> None:
    table = pa.Table.from_arrays([pa.array([1.0]), pa.array(["a"]), pa.array([2.0])], names=["carat", "cut", "carat"])
    pq.write_table(table, tmp_path / "rows.parquet", store_schema=False)
    with pytest.raises(ConfigError, match="names 'carat' more than once"):
        open_source(tmp_path / "rows.parquet", gem)


def many_rows(path: Path) -> Path:
    """The same eleven rows in the format that the path names."""
    rows = [[float(n), 1.0] for n in range(11)]
    if path.suffix == ".parquet":
        return parquet(path, pair=pa.array(rows, pa.list_(pa.float32())))
    lines = [f'"{row}"' if path.suffix == ".csv" else f'{{"pair": {row}}}' for row in rows]
    header = ["pair"] if path.suffix == ".csv" else []
    path.write_text("\n".join([*header, *lines]) + "\n")
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
@pytest.mark.parametrize("rows", [1, 2, 4, 100])
def test_reading_goes_on_from_any_position_without_a_row_lost_or_twice(
    tmp_path: Path, pair: Signature, name: str, rows: int
) -> None:
    source = open_source(many_rows(tmp_path / name), pair)
    chunks: list[RowChunk] = list(source.chunks(RowPosition(), rows))
    everything = [[float(n), 1.0] for n in range(11)]
    assert [one for chunk in chunks for one in chunk.instances] == everything
    for chunk in chunks:
        assert instances(source, chunk.after, 3) == everything[chunk.after.rows :]
    assert source.reached(chunks[-1].after) == source.total
    assert all(source.reached(a.after) < source.reached(b.after) for a, b in pairwise(chunks))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_chunks_hold_no_more_rows_than_asked_for(tmp_path: Path, pair: Signature, name: str) -> None:
    source = open_source(many_rows(tmp_path / name), pair)
    assert all(1 <= len(chunk.instances) <= 2 for chunk in source.chunks(RowPosition(), 2))


def test_the_memory_that_a_parquet_file_takes_does_not_grow_with_it(tmp_path: Path) -> None:
    rows, width = 1024, 16_384
    numbers = np.random.default_rng(0).random((rows, width), dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), width)
    pq.write_table(pa.table({"numbers": column}), tmp_path / "rows.parquet", row_group_size=64)
    wide = Signature("raw", (TensorSpec("numbers", "float32", (width,)),), (TensorSpec("out", "float32", (1,)),))
    source = open_source(tmp_path / "rows.parquet", wide)
    del numbers, column
    before, most = pa.total_allocated_bytes(), 0
    for _ in source.chunks(RowPosition(), 8):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 16 << 20  # of 64 MiB


def test_a_parquet_row_that_is_not_utf8_is_a_fault_of_that_row_alone(tmp_path: Path, gem: Signature) -> None:
    texts = pa.array([b"Ideal", b"\xff", b"Good", b"Fair"]).view(pa.string())
    words = pa.array([b"a", b"b", b"\xfe"]).view(pa.string())
    notes = pa.ListArray.from_arrays(pa.array([0, 1, 2, 2, 3], pa.int32()), words)
    table = pa.table({"carat": [1.0, 2.0, 3.0, 4.0], "cut": texts, "id": [7, 8, 9, 10], "notes": notes})
    pq.write_table(table, tmp_path / "rows.parquet")
    source = open_source(tmp_path / "rows.parquet", gem, keep=["id", "cut", "notes"])
    assert instances(source) == [
        {"carat": 1.0, "cut": "Ideal"},
        RowFault("", "Row 1 cannot be read: its 'cut' is not UTF-8", lost=True),
        {"carat": 3.0, "cut": "Good"},
        RowFault("", "Row 3 cannot be read: its 'notes' is not UTF-8", lost=True),
    ]
    assert kept(source, "id") == [7, 8, 9, 10]
    assert kept(source, "cut") == ["Ideal", None, "Good", "Fair"]
    assert kept(source, "notes") == [["a"], ["b"], [], None]


def test_a_damaged_parquet_file_is_named_with_the_row_group_that_cannot_be_read(tmp_path: Path, gem: Signature) -> None:
    table = pa.table({"carat": [float(row) for row in range(4000)], "cut": ["Ideal", "Good"] * 2000})
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path, row_group_size=2000, use_dictionary=False)
    second = pq.read_metadata(path).row_group(1).column(0)
    raw = bytearray(path.read_bytes())
    raw[second.data_page_offset : second.data_page_offset + second.total_compressed_size] = bytes(
        second.total_compressed_size
    )
    path.write_bytes(raw)
    with pytest.raises(
        ConfigError, match=r"rows\.parquet is damaged: row group 1 of 2, after row \d+ cannot be read: \w+"
    ):
        instances(open_source(path, gem))


def test_a_parquet_category_that_is_not_utf8_is_a_fault_of_its_rows_alone(tmp_path: Path, gem: Signature) -> None:
    words = pa.array([b"Ideal", b"\xff"]).view(pa.string())
    cuts = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int32()), words)
    pq.write_table(pa.table({"carat": [1.0, 2.0, 3.0], "cut": cuts}), tmp_path / "rows.parquet")
    read = instances(open_source(tmp_path / "rows.parquet", gem), rows=3)
    assert [isinstance(row, RowFault) for row in read] == [False, True, False]


def test_a_csv_number_too_large_for_any_float_is_not_taken_for_a_missing_one(write: Write) -> None:
    ages = Signature("raw", (TensorSpec("age", "float32", (), finite=False),), (TensorSpec("out", "float32", (1,)),))
    rows = instances(open_source(write("rows.csv", 'age\n1e999\n""\n'), ages))
    with pytest.raises(InvalidParams, match="expected a number that fits float32, got 1e999"):
        RowsCodec(ages, top_k=1, outputs=False).decode(rows[:1])
    assert rows[1:] == [None]
