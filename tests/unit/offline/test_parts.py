from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import ConfigError
from hoverboard.offline.parts import PartFormat, open_format
from hoverboard.offline.rows import RowFault, RowPosition, ScoredChunk

IMAGE = Signature("raw", (TensorSpec("x", "float32", (1,)),), (TensorSpec("map", "float32", (2, 2)),))


def scored(*labels: str | None, **kept: Any) -> ScoredChunk:
    predictions: list[dict[str, Any] | None] = [
        None
        if label is None
        else {"sample_id": "s", "label": label, "confidence": np.float32(0.1), "top": [], "p_value": None}
        for label in labels
    ]
    faults = [None if label else RowFault("/1", "expected a number, got a string") for label in labels]
    return ScoredChunk(predictions, faults, kept, RowPosition(len(labels)))


def finished(form: PartFormat[Any], folder: Path, suffix: str, *parts: list[ScoredChunk]) -> Path:
    paths = []
    for number, chunks in enumerate(parts):
        paths.append(folder / f"part-{number}{suffix}")
        form.write(paths[-1], [form.encode(chunk) for chunk in chunks])
    form.merge(paths, folder / f"whole{suffix}")
    return folder / f"whole{suffix}"


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    return [json.loads(line) for line in path.read_text().splitlines()]


def form(path: str, signature: Signature, prefix: str = "", *, outputs: bool = False) -> PartFormat[Any]:
    return open_format(Path(path), signature, outputs=outputs, prefix=prefix, about={"version": "3"})


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_keep_their_order_over_chunks_and_parts(tmp_path: Path, pair: Signature, suffix: str) -> None:
    parts = [scored("a", "b", id=[1, 2]), scored("c", id=[3])], [scored("d", id=[4])]
    rows = read(finished(form(f"o{suffix}", pair), tmp_path, suffix, *parts))
    assert [(row["id"], row["label"]) for row in rows] == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_fault_has_an_error_and_no_prediction(tmp_path: Path, pair: Signature, suffix: str) -> None:
    good, bad = read(finished(form(f"o{suffix}", pair), tmp_path, suffix, [scored("a", None)]))
    assert good.get("error") is None
    assert bad["error"] == {"pointer": "/1", "message": "expected a number, got a string"}
    assert bad.get("label") is None


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_float32_is_written_as_float32(tmp_path: Path, pair: Signature, suffix: str) -> None:
    path = finished(form(f"o{suffix}", pair), tmp_path, suffix, [scored("a")])
    assert np.float32(read(path)[0]["confidence"]) == np.float32(0.1)
    if suffix == ".jsonl":
        assert '"confidence":0.1,' in path.read_text()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_no_rows_make_an_empty_file_of_the_right_kind(tmp_path: Path, pair: Signature, suffix: str) -> None:
    assert read(finished(form(f"o{suffix}", pair), tmp_path, suffix)) == []


def test_empty_parquet_has_the_columns_all_the_same(tmp_path: Path, pair: Signature) -> None:
    path = finished(form("o.parquet", pair), tmp_path, ".parquet")
    names = ["sample_id", "label", "confidence", "top", "p_value", "outlier", "error"]
    assert pq.read_schema(path).names == names


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_outputs_of_two_dimensions_are_nested_lists(tmp_path: Path, suffix: str) -> None:
    square = np.arange(4, dtype=np.float32).reshape(2, 2)
    chunk = ScoredChunk(
        [{"sample_id": "s", "outputs": {"map": square}}, None], [None, RowFault("", "no")], {}, RowPosition(2)
    )
    rows = read(finished(form(f"o{suffix}", IMAGE), tmp_path, suffix, [chunk]))
    assert rows[0]["outputs"]["map"] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    "first, second, expected",
    [
        ([1, 2], [0.5, None], [1.0, 2.0, 0.5, None]),
        ([None, None], ["x", "y"], [None, None, "x", "y"]),
        ([1, 2], ["x", None], ["1", "2", "x", None]),
        ([{"a": 1}, None], [[1], [2]], ['{"a":1}', None, "[1]", "[2]"]),
        ([1, "x"], [2, 3], ["1", "x", "2", "3"]),
        ([2**80, 1], [2, 3], [str(2**80), "1", "2", "3"]),
        ([2**60 + 1, None], [0.5, 1.5], [str(2**60 + 1), None, "0.5", "1.5"]),
        ([2**60 + 1, 0.5], [1, 2], [str(2**60 + 1), "0.5", "1", "2"]),
    ],
    ids=[
        "int-float",
        "null-text",
        "int-text",
        "object-list",
        "mixed",
        "huge",
        "int too long for a float",
        "in one chunk",
    ],
)
def test_kept_values_of_changing_type_end_in_one_parquet_column(
    tmp_path: Path, pair: Signature, first: list[Any], second: list[Any], expected: list[Any]
) -> None:
    parts = [scored("a", "b", extra=first)], [scored("c", "d", extra=second)]
    rows = read(finished(form("o.parquet", pair), tmp_path, ".parquet", *parts))
    assert [row["extra"] for row in rows] == expected


def test_kept_integers_of_any_length_stay_numbers_in_jsonl(tmp_path: Path, pair: Signature) -> None:
    values = [2**80, [1, -(2**70)], {"a": 2**64}]
    rows = read(finished(form("o.jsonl", pair), tmp_path, ".jsonl", [scored("a", "b", "c", extra=values)]))
    assert [row["extra"] for row in rows] == values


def test_a_kept_column_that_only_some_records_have_is_null_elsewhere(tmp_path: Path, pair: Signature) -> None:
    parts = [scored("a", one=[1])], [scored("b", two=["x"])]
    rows = read(finished(form("o.parquet", pair), tmp_path, ".parquet", *parts))
    assert [(row["one"], row["two"]) for row in rows] == [(1, None), (None, "x")]


def test_kept_parquet_values_without_a_json_type_become_text(tmp_path: Path, pair: Signature) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    chunk = scored("a", at=pa.array([at]), price=pa.array([Decimal("1.50")]), raw=pa.array([b"hi"]))
    (row,) = read(finished(form("o.jsonl", pair), tmp_path, ".jsonl", [chunk]))
    assert (row["at"], row["price"], row["raw"]) == ("2026-01-02T03:04:05+00:00", "1.50", "aGk=")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_kept_column_never_takes_a_predictions_name(tmp_path: Path, pair: Signature, suffix: str) -> None:
    for name in ("label", "error"):
        with pytest.raises(ConfigError, match=f"'{name}'.*--prefix"):
            form(f"o{suffix}", pair).encode(scored("a", **{name: ["truth"]}))
    (row,) = read(finished(form(f"o{suffix}", pair, "predicted_"), tmp_path, suffix, [scored("a", label=["truth"])]))
    assert (row["label"], row["predicted_label"]) == ("truth", "a")


def test_parquet_metadata_names_the_version(tmp_path: Path, pair: Signature) -> None:
    path = finished(form("o.parquet", pair), tmp_path, ".parquet", [scored("a")])
    assert pq.read_schema(path).metadata[b"hoverboard.version"] == b"3"


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path, pair: Signature) -> None:
    folder = tmp_path / "day=2026-01-01"
    folder.mkdir()
    path = finished(form("o.parquet", pair), folder, ".parquet", [scored("a")])
    assert "day" not in pq.read_schema(path).names


def test_an_unknown_extension_is_refused_in_words(pair: Signature) -> None:
    with pytest.raises(ConfigError, match="extension must be"):
        form("o.csv", pair)
