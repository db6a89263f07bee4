from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from hoverboard.client.described import TensorInfo
from hoverboard.client.samples import TENSOR_FROM, SampleBatch, Samples, to_json

IMAGE = TensorInfo("image", "float32", (TENSOR_FROM,))


def written(samples: Samples, *inputs: TensorInfo) -> Any:
    return {name: json.loads(bytes(text)) for name, text in SampleBatch.of(samples).params(inputs).items()}


def read(tensor: dict[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(tensor["dtype"]).newbyteorder("<")
    return np.frombuffer(base64.b64decode(tensor["b64"]), dtype).reshape(tensor["shape"])


@pytest.mark.parametrize(
    ("samples", "instances"),
    [
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([0.1, np.nan], np.float32), [0.1, None]),
        (np.array([True]), [True]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([b"\xff", "b"], dtype=object), [{"b64": "/w=="}, "b"]),
        (np.arange(6).reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]]),
        ([np.array([1.5]), np.array([2.5])], [[1.5], [2.5]]),
        ([np.float64(1.5), np.int8(2)], [1.5, 2]),
        (["a chair"], ["a chair"]),
        ([b"\xff\xfe"], [{"b64": "//4="}]),
        (["\udcff!"], [{"b64": "/yE="}]),
        ([{"carat": 0.2, "cut": "Ideal"}], [{"carat": 0.2, "cut": "Ideal"}]),
        ([{"name": "\udcff"}], [{"name": {"b64": "/w=="}}]),
    ],
)
def test_samples_that_are_few_go_as_json(samples: Samples, instances: Any) -> None:
    assert not SampleBatch.of(samples).wants_inputs
    assert written(samples) == {"instances": instances}


def test_columns_stay_columns() -> None:
    assert written({"a": np.array([1.0, 2.0]), "b": ["x", "y"]}) == {"inputs": {"a": [1.0, 2.0], "b": ["x", "y"]}}


def test_mappings_with_arrays_become_columns() -> None:
    samples = [{"a": np.zeros(2), "b": "x"}, {"a": np.ones(2), "b": "y"}]
    assert written(samples) == {"inputs": {"a": [[0, 0], [1, 1]], "b": ["x", "y"]}}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int64", ">f4"])
def test_many_numbers_go_as_one_tensor_in_a_dtype_that_the_input_takes(dtype: str) -> None:
    samples = np.arange(2 * TENSOR_FROM).reshape(2, TENSOR_FROM).astype(dtype)
    assert SampleBatch.of(samples).wants_inputs
    tensor = written(samples, IMAGE)["inputs"]["image"]
    assert np.can_cast(tensor["dtype"], "float32", casting="safe")
    np.testing.assert_array_equal(read(tensor), samples.astype("float32"))


def test_a_list_of_equal_arrays_is_one_tensor() -> None:
    samples = [np.full(TENSOR_FROM, number, np.float32) for number in range(3)]
    np.testing.assert_array_equal(read(written(samples, IMAGE)["inputs"]["image"]), np.stack(samples))


def test_columns_that_are_large_go_as_tensors_beside_others() -> None:
    columns = {"image": np.zeros((1, TENSOR_FROM), np.float32), "text": ["x"]}
    sent = written(columns, IMAGE, TensorInfo("text", "string"))["inputs"]
    assert sent["text"] == ["x"]
    assert sent["image"]["shape"] == [1, TENSOR_FROM]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.full((1, TENSOR_FROM), 1e300), "float32"),
        (np.full((1, TENSOR_FROM), 1.5), "int32"),
        (np.full((1, TENSOR_FROM), 2**40), "int32"),
        (np.full((1, TENSOR_FROM), -1), "uint8"),
        (np.full((1, TENSOR_FROM), 1), "bool"),
        (np.full((1, TENSOR_FROM), 1), "string"),
    ],
)
def test_what_an_input_cannot_hold_goes_as_json_so_that_the_server_says_where(values: Any, dtype: str) -> None:
    assert written(values, TensorInfo("image", dtype)) == {"instances": values.tolist()}


def test_without_exactly_one_input_an_array_goes_as_json() -> None:
    samples = np.zeros((1, TENSOR_FROM))
    assert "instances" in written(samples, IMAGE, TensorInfo("more", "float32"))


def test_an_infinity_goes_as_a_tensor_or_is_refused_but_never_as_a_missing_number() -> None:
    assert np.isinf(read(written(np.array([np.inf]), TensorInfo("x", "float32"))["inputs"]["x"])).all()
    for samples in ([float("inf")], [{"a": -np.inf}], np.array([np.inf], dtype=object)):
        with pytest.raises(ValueError, match="infinity"):
            written(samples)
    assert to_json([None, float("nan")]) == b"[null,null]"


@pytest.mark.parametrize("samples", ["text", b"bytes", 3, None, {1, 2}, {"a": "text"}, {"a": 3}, [object()]])
def test_what_cannot_be_sent_is_a_type_error(samples: Any) -> None:
    with pytest.raises(TypeError, match="samples: "):
        written(samples)


@pytest.mark.parametrize("samples", [[], {}, np.zeros((0, 3)), {"a": []}, {"a": [1], "b": [1, 2]}, np.array(1.0)])
def test_no_samples_or_columns_of_unequal_length_are_a_value_error(samples: Samples) -> None:
    with pytest.raises(ValueError, match="samples: "):
        written(samples)


@pytest.mark.parametrize("samples", [np.arange(7), list(range(7)), {"a": np.arange(7), "b": list(range(7))}])
def test_a_part_is_the_samples_in_it(samples: Samples) -> None:
    part = SampleBatch.of(samples).part(5, 9)
    assert part.n == 2
    values: Sequence[Any] = list(part.params().values())
    assert b"[5,6]" in bytes(values[0])


class NAType:
    """As pandas.NA, which has no truth of its own either."""

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


class Series:
    """A column as pandas has it, with as much as is used of it."""

    def __init__(self, values: list[Any], dtype: str) -> None:
        self._values, self._dtype = values, dtype

    def to_numpy(self) -> NDArray[Any]:
        return np.array(self._values, dtype=self._dtype)

    def tolist(self) -> list[Any]:
        return self._values


class Frame:
    """A table as pandas has it."""

    def __init__(self, columns: list[tuple[Any, Any]]) -> None:
        self._columns = columns

    @property
    def columns(self) -> list[Any]:
        return [name for name, _ in self._columns]

    def __getitem__(self, name: Any, /) -> Any:
        return dict(self._columns)[name]


def test_a_data_frame_is_a_mapping_of_columns() -> None:
    columns = {"income": Series([1e4, None], "float64"), "job": Series(["student", NAType()], "object")}
    income, job = [10000.0, None], ["student", None]
    assert written(Frame([*columns.items()])) == {"inputs": {"income": income, "job": job}}
    assert written(columns) == {"inputs": {"income": income, "job": job}}
    assert written(columns["job"]) == {"instances": job}  # type: ignore[arg-type]
    assert SampleBatch.of(Frame([("image", Series([0.0] * TENSOR_FROM, "float32"))])).wants_inputs


def test_a_data_frame_whose_columns_are_not_named_as_inputs_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match="samples: expected columns that are named as the inputs are, got 0"):
        SampleBatch.of(Frame([(0, Series([1], "int64"))]))
    with pytest.raises(ValueError, match="samples: column 'a' is there 2 times"):
        SampleBatch.of(Frame([("a", Series([1], "int64"))] * 2))
    with pytest.raises(ValueError, match="samples: expected a column for each input, got none"):
        SampleBatch.of(Frame([]))


def test_a_table_of_arrow_is_a_mapping_of_columns() -> None:
    table = pa.table({"carat": [0.2, None], "cut": ["Ideal", None], "size": [1, 2]})
    assert written(table) == {"inputs": {"carat": [0.2, None], "cut": ["Ideal", None], "size": [1, 2]}}


@pytest.mark.parametrize("width", [3, TENSOR_FROM])
@pytest.mark.parametrize(
    "unusual",
    [
        lambda plain: plain.astype(">f4"),
        lambda plain: plain.astype(np.longdouble),
        lambda plain: plain.astype(ml_dtypes.bfloat16),
        lambda plain: plain[:, ::-1][:, ::-1],
        lambda plain: np.ma.masked_array(plain, mask=False),
        np.asfortranarray,
    ],
    ids=["big-endian", "longdouble", "bfloat16", "strided", "nothing masked", "Fortran's order"],
)
def test_an_array_of_another_kind_arrives_as_the_same_numbers_whatever_its_size(unusual: Any, width: int) -> None:
    plain = np.arange(2 * width, dtype=np.float32).reshape(2, width) % 7
    spec = TensorInfo("image", "float32", (width,))
    for samples in (unusual(plain), list(unusual(plain)), {"image": unusual(plain)}):
        (sent,) = written(samples, spec).values()
        column = sent["image"] if isinstance(sent, dict) and "image" in sent else sent
        assert np.array_equal(read(column) if isinstance(column, dict) else np.array(column), plain)


@pytest.mark.parametrize("width", [3, TENSOR_FROM])
def test_what_is_masked_is_missing_whatever_the_size_of_its_array(width: int) -> None:
    numbers = np.ma.masked_array(np.full((2, width), 7.0, np.float32), mask=False)
    numbers[1, 1] = np.ma.masked
    (sent,) = written(numbers, TensorInfo("image", "float32", (width,))).values()
    arrived = read(sent["image"]) if isinstance(sent, dict) else np.array(sent, float)
    assert np.isnan(arrived).nonzero() == (np.array([1]), np.array([1]))
    (whole,) = written(numbers.astype(np.int32), TensorInfo("image", "int32", (width,))).values()
    assert whole[1][:3] == [7, None, 7]


def test_times_are_no_samples() -> None:
    with pytest.raises(TypeError, match="array of datetime64"):
        SampleBatch.of(np.array(["2026-01-01"], "datetime64[D]"))


def test_a_column_that_is_one_number_is_refused_with_its_name() -> None:
    with pytest.raises(ValueError, match="column 'x': expected an array with an axis of samples"):
        SampleBatch.of({"x": np.array(3.0)})
