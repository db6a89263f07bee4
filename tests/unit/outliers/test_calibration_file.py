from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import PublishError
from hoverboard.publishing.calibration_file import read_calibration
from hoverboard.publishing.signature import apply_contract

Y = (TensorSpec("y", "float32", ()),)
PIXELS = Signature("raw", (TensorSpec("pixels", "float32", (2,), min=0, max=16),), Y)
TEXT = Signature("raw", (TensorSpec("text", "string", ()),), Y)
STONES = Signature(
    "raw",
    (
        TensorSpec("carat", "float32", ()),
        TensorSpec("cut", "string", (), allowed=("Fair", "Good")),
        TensorSpec("size", "int64", (2,)),
    ),
    Y,
)
STONE: dict[str, list[Any]] = {
    "carat": [0.25, 1.5],
    "cut": ["Fair", "Good"],
    "size": [[1, 2], [3, 4]],
    "label": ["a", "b"],
}


def jsonl(path: Path, columns: dict[str, list[Any]]) -> Path:
    path = path.with_suffix(".jsonl")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


def as_csv(path: Path, columns: dict[str, list[Any]]) -> Path:
    path = path.with_suffix(".csv")
    texts = [[v if isinstance(v, str) else json.dumps(v) for v in values] for values in columns.values()]
    quoted = [",".join('"' + text.replace('"', '""') + '"' for text in row) for row in zip(*texts, strict=True)]
    path.write_text("\n".join([",".join(columns), *quoted]), encoding="utf-8-sig")
    return path


def parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    path = path.with_suffix(".parquet")
    pq.write_table(pa.table(columns), path)
    return path


def npz(path: Path, columns: dict[str, list[Any]]) -> Path:
    path = path.with_suffix(".npz")
    arrays: dict[str, Any] = {name: np.array(values) for name, values in columns.items()}
    np.savez(path, **arrays)
    return path


WRITERS = (jsonl, as_csv, parquet, npz)
Writer = Callable[[Path, dict[str, list[Any]]], Path]


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_same_columns_and_labels(tmp_path: Path, write: Writer) -> None:
    found = read_calibration(write(tmp_path / "rows", STONE | {"extra": [1, 2]}), STONES, ignore=["extra"])
    carat, cut, size = found.columns
    np.testing.assert_array_equal(carat, np.array([0.25, 1.5], np.float32))
    assert carat.dtype == np.float32
    assert cut.tolist() == [b"Fair", b"Good"]
    np.testing.assert_array_equal(size, np.array([[1, 2], [3, 4]]))
    assert found.labels == ["a", "b"]
    assert len(found) == 2


@pytest.mark.parametrize("write", WRITERS)
def test_a_model_with_one_input_takes_the_only_other_column(tmp_path: Path, write: Writer) -> None:
    found = read_calibration(write(tmp_path / "rows", {"image": [[1, 2], [3, 4]], "label": [0, 1]}), PIXELS)
    np.testing.assert_array_equal(found.columns[0], np.array([[1, 2], [3, 4]], np.float32))
    assert [int(label) for label in found.labels or ()] == [0, 1]
    texts = read_calibration(write(tmp_path / "texts", {"product": ["1.5", "nöt"], "label": ["x", "y"]}), TEXT)
    assert texts.columns[0].tolist() == [b"1.5", "nöt".encode()]


@pytest.mark.parametrize("write", WRITERS)
def test_labels_may_be_absent_or_in_a_column_of_another_name(tmp_path: Path, write: Writer) -> None:
    plain = {"pixels": [[1, 2], [3, 4]]}
    assert read_calibration(write(tmp_path / "plain", plain), PIXELS).labels is None
    named = read_calibration(write(tmp_path / "named", plain | {"kind": ["a", "true"]}), PIXELS, label="kind")
    assert named.labels == ["a", "true"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_row_that_the_service_would_refuse_is_named(tmp_path: Path, write: Writer) -> None:
    values = [[1.5, 2.5]] * 1200
    values[1100] = [1.5, 99.0]
    path = write(tmp_path / "rows", {"pixels": values, "label": [0] * 1200})
    where = (
        r"rows 1000 on .counted from 0., pixels: expected .* at index \[100, 1\], got 99"
        if write is npz
        else r"row 1100 .counted from 0., 1: expected"
    )
    with pytest.raises(PublishError, match=where):
        read_calibration(path, PIXELS)


@pytest.mark.parametrize("write", WRITERS)
def test_a_missing_column_is_named(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "rows", {"carat": [1.0], "cut": ["Fair"], "label": ["a"]})
    with pytest.raises(PublishError, match=r"has no column 'size' for the model's input; it has carat, cut"):
        read_calibration(path, STONES)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        ("Carat", "carat", r"has no column 'carat' for the model's input \(is 'Carat' meant\?\)"),
        ("cut_", "cut", r"has no column 'cut' for the model's input \(is 'cut_' meant\?\)"),
        (
            "lable",
            "label",
            r"column 'lable' is no input of the model \(is 'label' meant\?\): rename it, or name it to be ignored",
        ),
        (
            "target",
            "label",
            r"column 'target' is no input of the model: rename it, .*--ignore-column target.*inputs: carat, cut",
        ),
    ],
)
def test_a_misspelt_column_is_noticed_and_the_closest_name_suggested(
    tmp_path: Path, write: Writer, wrong: str, right: str, words: str
) -> None:
    columns = {wrong if name == right else name: values for name, values in STONE.items()}
    with pytest.raises(PublishError, match=words):
        read_calibration(write(tmp_path / "rows", columns), STONES)


@pytest.mark.parametrize("write", WRITERS)
def test_a_column_to_ignore_that_is_not_there_is_named(tmp_path: Path, write: Writer) -> None:
    with pytest.raises(PublishError, match="has no column 'idd' to ignore; it has carat, cut, size, label, id"):
        read_calibration(write(tmp_path / "rows", STONE | {"id": [1, 2]}), STONES, ignore=["idd"])


@pytest.mark.parametrize("write", WRITERS)
def test_a_missing_value_is_nan_where_the_input_may_be_and_else_refused_with_what_to_do(
    tmp_path: Path, write: Writer
) -> None:
    gap = float("nan") if write is npz else None
    path = write(tmp_path / "rows", {"x": [1.5, gap], "y": [1.0, 2.0]})
    pair = tuple(TensorSpec(name, "float32", (), finite=name != "x") for name in ("x", "y"))
    found = read_calibration(path, Signature("raw", pair, Y))
    np.testing.assert_array_equal(found.columns[0], np.array([1.5, np.nan], np.float32))
    np.testing.assert_array_equal(found.columns[1], np.array([1.0, 2.0], np.float32))
    strict = Signature("raw", tuple(TensorSpec(name, "float32", ()) for name in ("x", "y")), Y)
    words = (
        "x: expected"
        if write is npz
        else "row 1 .counted from 0., x: expected a number, got null; declare finite = false"
    )
    with pytest.raises(PublishError, match=words):
        read_calibration(path, strict)


@pytest.mark.parametrize("finite", [True, False])
def test_a_missing_text_is_refused_with_what_to_send_instead_and_finite_is_no_cure_for_it(
    tmp_path: Path, finite: bool
) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"job": ["clerk", None], "age": [30, 40]}), path)
    inputs = (TensorSpec("job", "string", (), finite=finite), TensorSpec("age", "int64", ()))
    with pytest.raises(PublishError) as refused:
        read_calibration(path, Signature("raw", inputs, Y))
    assert str(refused.value).endswith(
        'row 1 (counted from 0), job: expected a string, got null; send the empty text ("") where a word is missing'
    )
    with pytest.raises(PublishError, match=r'contract of input job: finite is for numbers, .*the empty text \(""\)'):
        apply_contract(inputs, {"job": {"finite": False}})


def test_a_missing_integer_is_not_told_to_be_nan(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": 1, "age": 30}\n{"x": 1, "age": null}\n')
    inputs = (TensorSpec("x", "float32", ()), TensorSpec("age", "int64", ()))
    with pytest.raises(PublishError, match=r"row 1 .counted from 0., age: expected an integer, got null$"):
        read_calibration(path, Signature("raw", inputs, Y))


def test_a_csv_of_other_programs_is_read_as_they_mean_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('x,yes\n.5,True\n+1.,False\n1e3,true\n"",true\nNaN,false\n')
    both = (TensorSpec("x", "float32", (), finite=False), TensorSpec("yes", "bool", ()))
    found = read_calibration(path, Signature("raw", both, Y))
    np.testing.assert_array_equal(found.columns[0], np.array([0.5, 1, 1000, np.nan, np.nan], np.float32))
    assert found.columns[1].tolist() == [True, False, True, True, False]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_csv_may_have_semicolons_or_tabs(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"x{delimiter}y\n1{delimiter}2\n")
    found = read_calibration(path, Signature("raw", tuple(TensorSpec(name, "float32", ()) for name in ("x", "y")), Y))
    assert [column.tolist() for column in found.columns] == [[1], [2]]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"x,x,y\n1,2,3\n", "'x' is there 2 times"),
        ("a.csv", b'x,"y\n1,2\n', "the header cannot be read: the quote that opens here is never closed"),
        ("a.csv", b'x,y\n1,"2\n3,4\n', "unexpected end of data"),
        ("a.csv", b"x,y\none,2\n", "row 0 .counted from 0., x: expected a number, got a string"),
        ("a.jsonl", b'{"x": 1, "y": 2}\n{"x": 1, "y": 2, "x": 3}\n', "row 1 .counted from 0.: 'x' is there 2 times"),
    ],
)
def test_what_a_lax_reader_would_take_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    pair = tuple(TensorSpec(name, "float32", ()) for name in ("x", "y"))
    with pytest.raises(PublishError, match=words):
        read_calibration(tmp_path / name, Signature("raw", pair, Y))


def test_a_table_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["x", "x"]), tmp_path / "a.parquet")
    with pytest.raises(PublishError, match="'x' is there 2 times"):
        read_calibration(tmp_path / "a.parquet", Signature("raw", (TensorSpec("x", "float32", ()),), Y))


def test_a_byte_order_mark_and_decimals_are_read(tmp_path: Path) -> None:
    from decimal import Decimal

    one = Signature("raw", (TensorSpec("x", "float32", ()),), Y)
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"x": 1.5}\n')
    assert read_calibration(tmp_path / "a.jsonl", one).columns[0].tolist() == [1.5]
    assert read_calibration(parquet(tmp_path / "b", {"x": [Decimal("2.50")]}), one).columns[0].tolist() == [2.5]
    whole = Signature("raw", (TensorSpec("x", "int64", ()),), Y)
    beyond = [Decimal(2**53 + 1), Decimal(2**62 + 1)]
    assert read_calibration(parquet(tmp_path / "c", {"x": beyond}), whole).columns[0].tolist() == [2**53 + 1, 2**62 + 1]


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", b""), ("a.csv", b""), ("a.csv", b"pixels,label\n"), ("a.jsonl", b"\n\n")]
)
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PublishError, match="holds no rows"):
        read_calibration(tmp_path / name, PIXELS)


@pytest.mark.parametrize("write", [parquet, npz])
def test_an_empty_table_is_refused(tmp_path: Path, write: Writer) -> None:
    with pytest.raises(PublishError, match="holds no rows"):
        read_calibration(write(tmp_path / "rows", {"pixels": [], "label": []}), PIXELS)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"x", "the extension must be one of .npz, .parquet"),
        ("a.npz", b"", "No data left in file"),
        ("a.npz", b"junk", "a.npz: "),
        ("a.parquet", b"junk", "a.parquet: "),
        ("a.jsonl", b'{"pixels": [1, 2]}\nnonsense', "row 1 .counted from 0.: JSON is malformed"),
        ("a.jsonl", b"[1, 2]", "row 0 .counted from 0.: expected an object with the inputs and the label"),
        ("a.jsonl", b'{"pixels": [1, 2], "label": 1}\n{"pixels": [1, 2]}', "row 1 .counted from 0.: label is missing"),
        ("a.csv", b"pixels,label\n1,2,3", "row 0 .counted from 0.: its cells are not as many as the header's"),
        ("a.csv", b"pixels,label\n1", "row 0 .counted from 0.: its cells are not as many as the header's"),
        ("a.csv", b"pixels,label\n\xff,1", "utf-8"),
    ],
)
def test_an_unreadable_file_is_refused_with_the_place(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PublishError, match=words):
        read_calibration(tmp_path / name, PIXELS)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="No such file"):
        read_calibration(tmp_path / "a.npz", PIXELS)


def test_archives_may_hold_wider_numbers_of_the_same_value_but_no_others(tmp_path: Path) -> None:
    counts = Signature("raw", (TensorSpec("n", "uint8", ()),), Y)
    np.savez(tmp_path / "good.npz", n=np.array([0, 255]))
    assert read_calibration(tmp_path / "good.npz", counts).columns[0].dtype == np.uint8
    np.savez(tmp_path / "bad.npz", n=np.array([0, 256]))
    with pytest.raises(PublishError, match="expected uint8"):
        read_calibration(tmp_path / "bad.npz", counts)
    np.savez(tmp_path / "doubles.npz", pixels=np.array([[0.1, 0.2]]))
    assert read_calibration(tmp_path / "doubles.npz", PIXELS).columns[0].dtype == np.float32


def test_archives_with_columns_of_different_lengths_or_no_names_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", pixels=np.zeros((3, 2)), label=np.zeros(2))
    with pytest.raises(PublishError, match="columns differ in length: 2, 3"):
        read_calibration(tmp_path / "a.npz", PIXELS)
    with (tmp_path / "b.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(PublishError, match="expected an archive of named arrays"):
        read_calibration(tmp_path / "b.npz", PIXELS)
    np.savez(tmp_path / "c.npz", pixels=np.zeros(()), label=np.zeros(2))
    with pytest.raises(PublishError, match="pixels: expected an array with a row for each sample"):
        read_calibration(tmp_path / "c.npz", PIXELS)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", pixels=np.array([[object()]], dtype=object))
    with pytest.raises(PublishError, match="allow_pickle"):
        read_calibration(tmp_path / "a.npz", PIXELS)


def test_samples_of_a_variable_dimension_must_share_one_shape(tmp_path: Path) -> None:
    series = Signature("raw", (TensorSpec("x", "float32", (None,)),), Y)
    assert read_calibration(jsonl(tmp_path / "a", {"x": [[1, 2], [3, 4]]}), series).columns[0].shape == (2, 2)
    with pytest.raises(PublishError, match="expected 2 numbers"):
        read_calibration(jsonl(tmp_path / "b", {"x": [[1, 2], [3]]}), series)
    with pytest.raises(PublishError, match="x differ in shape"):
        read_calibration(jsonl(tmp_path / "c", {"x": [[1, 2]] * 1000 + [[3]]}), series)


def test_bytes_and_one_number_in_a_list_are_taken(tmp_path: Path) -> None:
    raw = parquet(tmp_path / "a", {"text": [b"\xff\x00", b"b"]})
    assert read_calibration(raw, TEXT).columns[0].tolist() == [b"\xff\x00", b"b"]
    single = Signature("raw", (TensorSpec("x", "float32", (1,)),), Y)
    assert read_calibration(npz(tmp_path / "b", {"x": [1.0, 2.0]}), single).columns[0].shape == (2, 1)
