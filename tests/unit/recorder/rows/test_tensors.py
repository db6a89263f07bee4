"""The layout of tensors, byte by byte."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hoverboard.contract.signature import NUMERIC_DTYPES, Array
from hoverboard.recorder.rows.tensors import pack, pack_rows, unpack

ARRAYS = st.sampled_from(NUMERIC_DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


def test_the_bytes_are_the_documented_ones() -> None:
    data = pack({"b": np.array([[1, -1]], np.int16), "a": np.array(0.5)})
    header = (
        b'{"b":{"dtype":"I16","shape":[1,2],"data_offsets":[0,4]},"a":{"dtype":"F64","shape":[],"data_offsets":[4,12]}}'
    )
    padded = header + b" " * (-len(header) % 8)
    assert data == struct.pack("<Q", len(padded)) + padded + struct.pack("<hhd", 1, -1, 0.5)


@settings(max_examples=200)
@given(st.dictionaries(st.text(max_size=5).filter(lambda name: not name.endswith(".ends")), ARRAYS, max_size=4))
def test_tensors_come_back_as_they_were(tensors: dict[str, Array]) -> None:
    data = pack(tensors)
    found = unpack(data)
    assert list(found) == list(tensors)
    for name, array in tensors.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(NUMERIC_DTYPES), min_size=1, max_size=3),
    st.integers(0, 5),
    st.integers(0, 2**32),
)
def test_rows_together_are_what_each_row_is_alone(dtypes: list[str], rows: int, seed: int) -> None:
    numbers = np.random.default_rng(seed)
    columns = {f"t{i}": numbers.integers(0, 2, (rows, i, 2)).astype(dtype) for i, dtype in enumerate(dtypes)}
    matrix = pack_rows(columns)
    assert matrix.flags.c_contiguous and len(matrix) == rows
    for row in range(rows):
        assert matrix[row].tobytes() == pack({name: column[row] for name, column in columns.items()})


@pytest.mark.parametrize("values", [[], [b""], [b"a", b"", b"\0\xff"], [[b"a"], [b"bc"]]])
def test_strings_are_two_tensors_and_come_back_as_one(values: list[Any]) -> None:
    array = np.array(values, dtype=object)
    data = pack({"words": array, "n": np.array([1], np.int8)})
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert {name: entry["dtype"] for name, entry in header.items()} == {"words": "U8", "words.ends": "I64", "n": "I8"}
    assert header["words.ends"]["shape"] == list(array.shape)
    found = unpack(data)
    assert sorted(found) == ["n", "words"]
    assert found["words"].tolist() == array.tolist()


@pytest.mark.parametrize("cut", [0, 4, 20, -1])
def test_what_is_cut_off_is_refused(cut: int) -> None:
    data = pack({"v": np.arange(3.0)})
    with pytest.raises(ValueError):  # noqa: PT011 (json and NumPy word it)
        unpack(data[:cut])
