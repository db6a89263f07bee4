from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoverboard.contract.signature import STRING, Array, Signature, TensorSpec
from hoverboard.errors import PublishError, VersionRefused
from hoverboard.publishing.baseline import make_baseline
from hoverboard.versions.baseline import BASELINE_FILE, Baseline, Feature, read_baseline, write_baseline
from hoverboard.versions.binning import LOOKED_AT, Bins, measure
from tests.records import texts

RAW = (TensorSpec("scores", "float32", (2,)),)


def made(spec: TensorSpec, column: Array, **fields: Any) -> dict[str, Feature]:
    """The features of a model with this one input."""
    signature = Signature("raw", (spec,), RAW, **fields)
    found = make_baseline(signature, [column], [np.zeros((len(column), 2), np.float32)])
    return {feature.name: feature for feature in found.features if feature.side == "input"}


def example() -> tuple[Signature, Baseline]:
    generator = np.random.default_rng(1)
    signature = Signature(
        "classification",
        (TensorSpec("size", "float64", (1,), finite=False), TensorSpec("kind", STRING, ())),
        (TensorSpec("probabilities", "float32", (3,)),),
        ("red", "green", "blue"),
    )
    sizes = generator.lognormal(size=(500, 1))
    sizes[:20] = np.nan
    kinds = texts(*generator.choice([b"disc", b"square"], 500).tolist())
    outputs = generator.dirichlet([1, 1, 1], 500).astype(np.float32)
    return signature, make_baseline(signature, [sizes, kinds], [outputs], generator.uniform(size=300))


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    _, baseline = example()
    write_baseline(tmp_path / BASELINE_FILE, baseline)
    assert read_baseline(tmp_path) == baseline
    assert [feature.name for feature in baseline.features] == ["size", "kind", "label", "confidence", "p_value"]
    assert baseline.rows == 500
    assert [sum(feature.counts) for feature in baseline.features] == [500, 500, 500, 500, 300]


def test_a_version_without_baseline_has_none(tmp_path: Path) -> None:
    assert read_baseline(tmp_path) is None


def _rewritten(path: Path, **changes: Any) -> None:
    """The file again with other columns or metadata."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        table = reader.read_all()
    metadata = {**table.schema.metadata, **changes.pop("metadata", {})}
    for name, values in changes.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"metadata": {b"hoverboard.baseline": b"2"}}, "format 2 is newer than this server's 1"),
        ({"name": ["a", "a", "b", "c", "d"]}, "two features share a name"),
        ({"side": ["elsewhere"] * 5}, "size: an unknown side or reading"),
        ({"reading": ["category"] * 5}, "size: cuts and categories do not suit"),
        ({"counts": [[1]] * 5}, "size: 1 counts for"),
        ({"cuts": [[2.0, 1.0]] * 5}, "size: cuts that do not ascend"),
        ({"cuts": [[float("nan")]] * 5}, "size: cuts that do not ascend"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    write_baseline(tmp_path / BASELINE_FILE, example()[1])
    _rewritten(tmp_path / BASELINE_FILE, **changes)
    with pytest.raises(VersionRefused, match=words):
        read_baseline(tmp_path)


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"PK", b"ARROW1\0\0" + b"\xff" * 300 + b"ARROW1"])
def test_a_file_that_is_no_baseline_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / BASELINE_FILE).write_bytes(content)
    with pytest.raises(VersionRefused, match=BASELINE_FILE):
        read_baseline(tmp_path)


def test_another_table_is_refused(tmp_path: Path) -> None:
    table = pa.table({"a": [1]}).replace_schema_metadata({"hoverboard.baseline": "1", "rows": "1"})
    with pa.OSFile(str(tmp_path / BASELINE_FILE), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(VersionRefused, match="not the columns of a baseline"):
        read_baseline(tmp_path)


# -- bins -----------------------------------------------------------------------------------------------------------------


def test_bins_have_equal_mass_and_hold_the_whole_reference_between_their_ends() -> None:
    column = np.random.default_rng(2).lognormal(size=(1600, 1)).astype(np.float32)
    (feature,) = made(TensorSpec("size", "float32", (1,)), column).values()
    assert feature.counts == (0, *[100] * 16, 0)
    assert feature.labels()[0] == f"below {column.min():.6g}"
    bins = Bins([feature])
    outside = np.array([[column.min()], [column.max()], [0], [1e9], [np.inf], [-np.inf]], np.float32)
    assert bins.count({("input", "size"): outside}).tolist() == [2, 1, *[0] * 14, 1, 2]


def test_few_distinct_values_have_a_bin_each_and_neighbours_of_them_too() -> None:
    column = np.array([0, 0, 0, 1, 5, 5], np.int32).reshape(-1, 1)
    (feature,) = made(TensorSpec("rooms", "int32", (1,)), column).values()
    assert feature.cuts == (0, 1, 5, np.nextafter(5, 6))
    assert feature.labels() == ["below 0", "0 to 1", "1 to 5", "5", "above 5"]
    assert feature.counts == (0, 3, 1, 2, 0)
    (constant,) = made(TensorSpec("flag", "bool", ()), np.ones(9, bool)).values()
    assert (constant.labels(), constant.counts) == (["below 1", "1", "above 1"], (0, 9, 0))
    assert Bins([constant]).count({("input", "flag"): np.zeros(4, bool)}).tolist() == [4, 0, 0]


def test_a_value_that_is_most_of_the_reference_keeps_the_other_bins() -> None:
    generator = np.random.default_rng(3)
    column = np.where(generator.uniform(size=(1000, 1)) < 0.6, 0, generator.normal(5, 1, (1000, 1)))
    (feature,) = made(TensorSpec("income", "float64", (1,)), column).values()
    assert max(feature.counts) > 590
    assert sum(count > 30 for count in feature.counts) >= 6


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "uint64", "bool"])
def test_every_value_falls_into_the_bin_that_its_cuts_say_whatever_the_dtype(dtype: str) -> None:
    generator = np.random.default_rng(4)
    extremes = np.array([0, 1] if dtype == "bool" else _limits(dtype), dtype)
    column = np.concatenate([generator.integers(0, 100, 300).astype(dtype), extremes]).reshape(-1, 1)
    (feature,) = made(TensorSpec("x", dtype, (1,)), column).values()
    values = column.ravel().astype(np.float64)
    expected = np.bincount(np.searchsorted(feature.cuts, values, side="right"), minlength=len(feature.cuts) + 1)
    assert list(feature.counts) == expected.tolist()
    assert sum(feature.counts) == len(column)


def _limits(dtype: str) -> list[Any]:
    limits: Any = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
    return [limits.min, limits.max]


@given(
    rows=st.integers(1, 600),
    width=st.integers(1, 20),
    seed=st.integers(0, 1000),
    finite=st.booleans(),
)
def test_counting_many_columns_at_once_is_counting_each(rows: int, width: int, seed: int, finite: bool) -> None:
    generator = np.random.default_rng(seed)
    column = generator.normal(size=(rows, width)).astype(np.float32).round(1)
    spec = TensorSpec("x", "float32", (width,), finite=finite)
    features = list(made(spec, column).values())
    other = generator.normal(size=(rows, width)).astype(np.float32).round(1)
    other[generator.uniform(size=other.shape) < 0.1] = np.nan
    counts = Bins(features).count({("input", "x"): other}).tolist()
    expected = []
    for place, feature in enumerate(features):
        known = other[:, place][~np.isnan(other[:, place])]
        found = np.bincount(np.searchsorted(feature.cuts, known, side="right"), minlength=len(feature.cuts) + 1)
        expected += [*found.tolist(), *([] if finite else [rows - len(known)])]
    assert counts == expected


def test_missing_numbers_have_a_bin_where_they_are_allowed() -> None:
    signature, baseline = example()
    size = baseline.features[0]
    assert size.labels()[-1] == "missing"
    assert size.counts[-1] == 20
    (nothing,) = made(TensorSpec("x", "float32", (), finite=False), np.full(5, np.nan, np.float32)).values()
    assert (nothing.cuts, nothing.counts, nothing.labels()) == ((), (0, 5), ["any number", "missing"])
    assert Bins([nothing]).count({("input", "x"): np.array([1, np.nan, 2], np.float32)}).tolist() == [2, 1]
    assert Bins(baseline.features, signature.labels).size == baseline.size


def test_texts_are_categories_where_few_of_them_are_nearly_all() -> None:
    words = texts(*([b"red"] * 60 + [b"blue"] * 38 + [b"\xff", b"a\0b"]))
    (feature,) = made(TensorSpec("colour", STRING, ()), words).values()
    assert (feature.categories, feature.counts) == (("blue", "red"), (38, 60, 2))
    counts = Bins([feature]).count({("input", "colour"): texts(b"red", b"green", None, b"\xff", b"blue")})
    assert counts.tolist() == [1, 1, 2]


def test_other_texts_are_told_by_length_and_words() -> None:
    titles = texts(*[b"chair " * (i % 7 + 1) + str(i).encode() for i in range(400)])
    found = made(TensorSpec("title", STRING, ()), titles)
    assert list(found) == ["title.length", "title.words"]
    words = found["title.words"]
    assert words.labels() == ["below 2", *(f"{i} to {i + 1}" for i in range(2, 8)), "8", "above 8"]
    counts = Bins([words]).count({("input", "title"): texts(b"a hoverboard", b"", None)}).tolist()
    assert counts == [1, 1, 0, 0, 0, 0, 0, 0, 0]
    several = texts(*[[f"tag {i} {i * j}".encode() for j in range(3)] for i in range(80)])
    assert list(made(TensorSpec("tags", STRING, (3,)), several)) == ["tags.length", "tags.words"]


def test_large_tensors_and_those_of_any_shape_are_looked_at_as_a_whole() -> None:
    generator = np.random.default_rng(5)
    image = generator.normal(size=(50, 20, 20, 3)).astype(np.float32)
    found = made(TensorSpec("image", "float32", (20, 20, 3)), image)
    assert list(found) == ["image.mean", "image.deviation", "image.smallest", "image.largest"]
    assert found["image.mean"].cuts[0] == pytest.approx(image.mean(axis=(1, 2, 3)).min())
    assert next(iter(made(TensorSpec("steps", "float32", (None, 3)), image[:, 0]))) == "steps.length"
    assert list(made(TensorSpec("grid", "uint8", (2, 3)), np.zeros((4, 2, 3), np.uint8)))[-1] == "grid[1,2]"
    empty = measure(np.zeros((3, 0), np.float32), "mean")
    assert np.isnan(empty).all()
    wide = np.arange(2 * 3 * LOOKED_AT, dtype=np.float64).reshape(2, -1)
    assert measure(wide, "smallest").tolist() == [0, 3 * LOOKED_AT]


def test_features_are_bounded_in_number() -> None:
    inputs = tuple(TensorSpec(f"x{i}", "float32", (200,)) for i in range(4))
    columns = [np.zeros((3, 200), np.float32)] * 4
    found = make_baseline(Signature("raw", inputs, RAW), columns, [np.zeros((3, 2), np.float32)])
    assert len(found.features) == 400 + 2 * 4 + 2


def test_many_classes_keep_the_frequent_ones() -> None:
    labels = tuple(f"class {i}" for i in range(1000))
    signature = Signature(
        "classification", (TensorSpec("x", "float32", ()),), (TensorSpec("p", "float32", (1000,)),), labels
    )
    classes = np.concatenate([np.arange(1000), np.repeat(np.arange(700, 900), 3)])
    outputs = np.eye(1000, dtype=np.float32)[classes]
    found = make_baseline(signature, [np.zeros(1600, np.float32)], [outputs])
    label = next(feature for feature in found.features if feature.name == "label")
    assert len(label.categories) == 255
    assert set(labels[700:900]) <= set(label.categories)
    assert sum(label.counts) == 1600
    counts = Bins([label], labels).count({("prediction", "label"): np.array([700, 0, 999], np.int32)})
    assert (counts[label.categories.index("class 700")], counts[-1]) == (1, 1)


def test_regressions_have_their_value_and_embeddings_their_output() -> None:
    inputs = (TensorSpec("x", "float32", ()),)
    column = np.linspace(0, 1, 40, dtype=np.float32)
    value = make_baseline(
        Signature("regression", inputs, (TensorSpec("y", "float32", (1,)),)), [column], [column[:, None]]
    )
    assert [feature.name for feature in value.features] == ["x", "value"]
    output = np.stack([column, column], axis=1)
    embedding = make_baseline(Signature("embedding", inputs, (TensorSpec("z", "float32", (2,)),)), [column], [output])
    assert [feature.name for feature in embedding.features] == ["x", "z[0]", "z[1]"]


def test_a_reference_that_does_not_suit_the_model_is_refused() -> None:
    signature = Signature("raw", (TensorSpec("x", "float32", (3,)),), RAW)
    outputs = np.zeros((4, 2), np.float32)
    with pytest.raises(PublishError, match="at least one sample"):
        make_baseline(signature, [np.zeros((0, 3), np.float32)], [outputs[:0]])
    with pytest.raises(PublishError, match="x: 5 samples, expected 4"):
        make_baseline(signature, [np.zeros((5, 3), np.float32)], [outputs])


def test_a_feature_with_other_bins_is_another_feature() -> None:
    _, baseline = example()
    changed = replace(baseline.features[0], counts=baseline.features[0].counts[:-1])
    assert Baseline((changed,), 1).problem() == f"size: {len(changed.counts)} counts for {changed.bins} bins"
