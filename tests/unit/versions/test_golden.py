from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import VersionRefused
from hoverboard.versions import GoldenSample, GoldenSet

SIGNATURE = Signature(
    "raw",
    (TensorSpec("x", "float32", (3,)), TensorSpec("t", "string", ()), TensorSpec("n", "int64", (None,))),
    (TensorSpec("y", "float32", (2,)),),
)


def _texts(*values: bytes) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _sample(text: bytes, x: Any) -> GoldenSample:
    columns = (np.asarray(x, np.float32)[None], _texts(text), np.array([[2**53 + 1, -1]], np.int64))
    return GoldenSample(columns, (np.array([[0.1, 1e-30]], np.float32),))


@given(
    st.binary(max_size=20),
    hnp.arrays(np.float32, 3, elements=st.floats(allow_nan=False, allow_infinity=False, width=32)),
)
def test_samples_survive_the_disk_exactly(text: bytes, x: Any) -> None:
    before = GoldenSet((_sample(text, x),))
    after = GoldenSet.from_json(before.to_json(SIGNATURE), SIGNATURE)
    for old, new in zip(before.samples[0].inputs, after.samples[0].inputs, strict=True):
        assert old.dtype == new.dtype
        assert old.tolist() == new.tolist()
    assert after.samples[0].outputs[0].tobytes() == before.samples[0].outputs[0].tobytes()


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ([[0.1, 1e-30]], None),
        ([[0.10001, 1e-6]], None),
        ([[0.2, 0]], r"0\.2.* at element 0, expected 0\.1"),
        ([[0.1, np.nan]], "nan at element 1"),
        ([[0.1]], "shape"),
    ],
)
def test_outputs_beyond_the_tolerance_are_named(got: list[list[float]], words: str | None) -> None:
    problem = GoldenSet((_sample(b"a", [1, 2, 3]),)).mismatch(SIGNATURE, 0, [np.array(got, np.float32)])
    if words is None:
        assert problem is None
    else:
        assert problem is not None
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(problem)


def test_a_gpu_gets_a_wider_tolerance() -> None:
    golden = GoldenSet((_sample(b"a", [1, 2, 3]),))
    off = [np.array([[0.101, 0]], np.float32)]
    assert golden.mismatch(SIGNATURE, 0, off) is not None
    assert golden.mismatch(SIGNATURE, 0, off, scale=100) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"tolerance": {"absolute": 1, "relative": 1}, "samples": []}',
        b'{"tolerance": {"absolute": 1, "relative": 1}, "samples": [{"inputs": {}, "outputs": {}}]}',
        b'{"tolerance": {"absolute": "x", "relative": 1}, "samples": [1]}',
        b'{"tolerance": {"absolute": 0, "relative": 0}, "samples": [{"inputs": {"x": [1], "t": "a", "n": [1]}, "outputs": {"y": [1, 2]}}]}',
    ],
)
def test_a_malformed_file_is_refused(text: bytes) -> None:
    with pytest.raises(VersionRefused, match=r"golden\.json") as caught:
        GoldenSet.from_json(text, SIGNATURE)
    assert caught.value.check == "golden"


@pytest.mark.parametrize(
    ("absolute", "relative", "words"),
    [
        (1e308, 1e-4, "tolerance.absolute: expected 0 to 0.1"),
        (1e-5, 1e308, "tolerance.relative: expected 0 to 0.5"),
        (-1, 0, "tolerance.absolute"),
        (0, -1, "tolerance.relative"),
    ],
)
def test_a_tolerance_that_proves_nothing_is_refused(absolute: float, relative: float, words: str) -> None:
    text = GoldenSet((_sample(b"a", [1, 2, 3]),), absolute, relative).to_json(SIGNATURE)
    with pytest.raises(VersionRefused, match=words):
        GoldenSet.from_json(text, SIGNATURE)


def test_a_tolerance_may_be_as_wide_as_the_answers_are_large() -> None:
    sample = _sample(b"a", [1, 2, 3])
    large = GoldenSample(sample.inputs, (np.array([[15_000, 3]], np.float32),))
    text = GoldenSet((sample, large), 50.0, 0.01).to_json(SIGNATURE)
    assert GoldenSet.from_json(text, SIGNATURE).absolute == 50
    assert len(GoldenSet.from_json(text, SIGNATURE, 1).samples) == 1


def test_more_golden_samples_than_can_be_run_are_refused_before_they_are_read() -> None:
    text = GoldenSet((_sample(b"a", [1, 2, 3]),) * 65).to_json(SIGNATURE)
    for first in (None, 1):
        with pytest.raises(VersionRefused, match="holds 65 samples, at most 64 are run"):
            GoldenSet.from_json(text, SIGNATURE, first)
