from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.errors import ConfigError
from service.scoring.rows import Chunk, Position, RowFault, RowSource
from service.scoring.sources import open_source
from service.types import Signature, TensorSpec

Write = Callable[[str, str | bytes], Path]


def instances(source: RowSource, start: Position | None = None, rows: int = 2) -> list[Any]:
    return [one for chunk in source.chunks(start or Position(), rows) for one in chunk.instances]


def kept(source: RowSource, name: str) -> list[Any]:
    chunks = list(source.chunks(Position(), 2))
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
    chunks = list(open_source(path, pair, keep_all=True).chunks(Position(), 100))
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
    assert found[3].message == "The row has 2 cells, the header 3"


def test_csv_vectors_are_json_arrays(write: Write, pair: Signature) -> None:
    assert instances(open_source(write("rows.csv", 'anything\n"[1, 2]"\n'), pair)) == [[1, 2]]


def test_a_csv_row_that_is_not_utf8_is_a_fault_of_that_row_alone(write: Write, gem: Signature) -> None:
    found = instances(open_source(write("rows.csv", b"carat,cut\n1,caf\xe9\n2,Ideal\n"), gem))
    assert found == [RowFault("", "The row is not UTF-8"), {"carat": 2, "cut": "Ideal"}]


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
    ],
)
def test_a_file_that_is_no_source_is_refused_in_words(
    write: Write, pair: Signature, name: str, content: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        open_source(write(name, content), pair)


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
    chunks: list[Chunk] = list(source.chunks(Position(), rows))
    everything = [[float(n), 1.0] for n in range(11)]
    assert [one for chunk in chunks for one in chunk.instances] == everything
    for chunk in chunks:
        assert instances(source, chunk.after, 3) == everything[chunk.after.rows :]
    assert source.reached(chunks[-1].after) == source.total
    assert all(source.reached(a.after) < source.reached(b.after) for a, b in pairwise(chunks))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_chunks_hold_no_more_rows_than_asked_for(tmp_path: Path, pair: Signature, name: str) -> None:
    source = open_source(many_rows(tmp_path / name), pair)
    assert all(1 <= len(chunk.instances) <= 2 for chunk in source.chunks(Position(), 2))
