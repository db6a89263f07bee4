from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hoverboard.client.answers import Predictions
from hoverboard.client.described import TensorInfo
from hoverboard.client.messages import Received, result_of
from hoverboard.errors import Unreachable


def answered(*predictions: dict[str, Any], infer_ms: float = 2.0, batch: int = 4) -> Predictions:
    rows = [{"sample_id": f"id-{at}", "p_value": None, "outlier": None, **one} for at, one in enumerate(predictions)]
    timing = {"queue_ms": 1.0, "infer_ms": infer_ms, "batch": batch}
    result = {"model": "m", "version": 3, "predictions": rows, "timing": timing, "added_by_a_later_version": 1}
    return Predictions.read(json.dumps(result).encode())


def test_a_classification_in_arrays() -> None:
    answer = answered(
        {"label": "a", "confidence": 0.5, "top": [{"label": "a", "confidence": 0.5}], "p_value": 0.2, "outlier": False},
        {"label": "Uncategorized", "nearest": "b", "confidence": 0.9, "p_value": 0.001, "outlier": True},
    )
    assert answer.labels.tolist() == ["a", "Uncategorized"]
    assert answer[1].nearest == "b"
    assert (answer.confidence.dtype, answer.p_values.dtype) == (np.dtype("float32"), np.dtype("float32"))
    assert answer.outlier is not None
    assert answer.outlier.tolist() == [False, True]
    assert [row.sample_id for row in answer] == answer.sample_ids == ["id-0", "id-1"]
    assert np.isnan(answer.values).all()
    assert (len(answer[:1]), answer.outputs) == (1, {})
    assert repr(answer) == "<2 predictions of m version 3>"


def test_several_labels_are_tuples_and_none_an_empty_one() -> None:
    answer = answered(
        {"labels": [{"label": "a", "confidence": 0.9}, {"label": "b", "confidence": 0.6}]}, {"labels": []}
    )
    assert answer.labels.tolist() == [("a", "b"), ()]


def test_what_is_not_there_is_nan_or_none() -> None:
    answer = answered({"value": 1.5}, {"value": 2})
    assert answer.values.tolist() == [1.5, 2.0]
    assert np.isnan(answer.p_values).all()
    assert answer.outlier is None
    assert answer.labels.tolist() == [None, None]


def test_outputs_are_arrays_in_the_versions_dtype() -> None:
    specs = [TensorInfo("v", "float32"), TensorInfo("n", "int64"), TensorInfo("s", "string")]
    rows = [{"outputs": {"v": [0.5, 1], "n": 7, "s": ["x", {"b64": "/w=="}]}} for _ in range(2)]
    outputs = answered(*rows).described(specs).outputs
    assert (outputs["v"].shape, outputs["v"].dtype) == ((2, 2), np.dtype("float32"))
    assert outputs["n"].tolist() == [7, 7]
    assert outputs["n"].dtype == np.int64
    assert outputs["s"].tolist() == [["x", b"\xff"]] * 2


def test_outputs_of_unequal_length_are_an_array_of_arrays() -> None:
    answer = answered({"outputs": {"v": [1.0]}}, {"outputs": {"v": [1.0, 2.0]}})
    found = answer.described([TensorInfo("v", "float32")]).outputs["v"]
    assert [one.tolist() for one in found] == [[1.0], [1.0, 2.0]]
    assert found[1].dtype == np.float32


def test_the_answers_of_several_calls_are_one() -> None:
    joined = Predictions.joined([answered({"value": 1}, batch=2), answered({"value": 2}, {"value": 3}, infer_ms=3.0)])
    assert joined.values.tolist() == [1, 2, 3]
    assert (joined.timing.queue_ms, joined.timing.infer_ms, joined.timing.batch) == (1.0, 5.0, 4)


def test_what_answers_otherwise_is_no_service_that_is_known() -> None:
    with pytest.raises(Unreachable, match="no Hoverboard that this client knows"):
        result_of(Received(b'{"jsonrpc": "2.0", "id": 1, "result": {"model": 3}}'), 1, "http://x", Predictions.read)


def test_a_slice_is_predictions_too() -> None:
    specs = [TensorInfo("v", "float32")]
    answer = answered(*({"label": label, "outputs": {"v": [1.0]}, "outlier": False} for label in "abc")).described(
        specs
    )
    part = answer[1:]
    assert isinstance(part, Predictions)
    assert part.labels.tolist() == ["b", "c"]
    assert part.outputs["v"].dtype == np.float32
    assert (part.model, part.version, part.timing, len(answer[:0])) == ("m", 3, answer.timing, 0)
