import json
import math
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest

from hoverboard.codec.arrays import Codec
from hoverboard.contract.calls import PredictAnswer
from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import NonFiniteOutput
from tests.unit.rpc.linear import DIAMONDS, DIGITS, PRODUCTS, SERIES

SPEC = TensorSpec("x", "float32", (1,))


def answer(n: int = 1, **fields: Any) -> PredictAnswer:
    base = PredictAnswer(
        version=1,
        role="stable",
        sample_ids=bytes(range(16)) * n,
        label_index=None,
        confidence=None,
        value=None,
        outputs=None,
        p_value=None,
        queue_ms=0.0,
        infer_ms=0.0,
        batch=n,
    )
    return msgspec.structs.replace(base, **fields)


def encoded(signature: Signature, given: PredictAnswer, **options: Any) -> Any:
    predictions = Codec(signature).encode(given, **options)
    return json.loads(orjson.dumps(predictions, option=orjson.OPT_SERIALIZE_NUMPY))


def classified(index: int, confidence: float, **fields: Any) -> PredictAnswer:
    return answer(
        label_index=np.array([index], dtype=np.int32), confidence=np.array([confidence], dtype=np.float32), **fields
    )


def test_a_classification_has_label_confidence_and_a_top_of_one() -> None:
    (prediction,) = encoded(DIGITS, classified(3, 0.9871234))
    assert prediction == {
        "sample_id": "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "label": "3",
        "confidence": 0.9871234,
        "top": [{"label": "3", "confidence": 0.9871234}],
        "p_value": None,
        "outlier": None,
    }


def test_a_regression_has_a_value() -> None:
    (prediction,) = encoded(DIAMONDS, answer(value=np.array([1234.5], dtype=np.float32)))
    assert set(prediction) == {"sample_id", "value", "p_value", "outlier"}
    assert prediction["value"] == 1234.5


def test_raw_and_embedding_tasks_always_have_their_outputs() -> None:
    outputs = (np.array([[1.5, 2.5]], dtype=np.float32), np.array([b"name"], dtype=object))
    (prediction,) = encoded(SERIES, answer(outputs=outputs))
    assert set(prediction) == {"sample_id", "p_value", "outlier", "outputs"}
    assert prediction["outputs"] == {"sum": [1.5, 2.5], "name": "name"}
    assert Codec(SERIES).wants_outputs(top_k=1, outputs=False)


def test_bytes_that_are_no_text_leave_as_b64() -> None:
    outputs = (np.zeros((1, 2), dtype=np.float32), np.array([b"\xff"], dtype=object))
    (prediction,) = encoded(SERIES, answer(outputs=outputs))
    assert prediction["outputs"]["name"] == {"b64": "/w=="}


def test_outputs_come_by_name_when_asked_for() -> None:
    probabilities = np.full((1, 10), 0.1, dtype=np.float32)
    (prediction,) = encoded(DIGITS, classified(0, 0.1, outputs=(probabilities,)), outputs=True)
    assert prediction["outputs"] == {"probabilities": [0.1] * 10}


def test_top_k_lists_the_most_probable_classes_of_a_softmax_first() -> None:
    probabilities = np.array([[0.1, 0.2, 0.4, 0.3] + [0.0] * 6], dtype=np.float32)
    (prediction,) = encoded(DIGITS, classified(2, 0.4, outputs=(probabilities,)), top_k=3)
    assert prediction["top"] == [
        {"label": "2", "confidence": 0.4},
        {"label": "3", "confidence": 0.3},
        {"label": "1", "confidence": 0.2},
    ]
    assert "outputs" not in prediction


def test_top_k_takes_logits_through_a_softmax() -> None:
    logits = np.array([[1000.0, 1000.0 + math.log(3), 0.0]], dtype=np.float32)
    (prediction,) = encoded(PRODUCTS, classified(1, 0.75, outputs=(logits,)), top_k=2)
    assert [top["label"] for top in prediction["top"]] == ["Toys", "Vehicles"]
    assert [top["confidence"] for top in prediction["top"]] == pytest.approx([0.75, 0.25], abs=1e-4)


def test_top_k_makes_two_classes_of_a_sigmoid() -> None:
    signature = Signature("classification", (SPEC,), (SPEC,), labels=("no", "yes"), head="sigmoid")
    (prediction,) = encoded(signature, classified(0, 0.75, outputs=(np.array([[0.25]], dtype=np.float32),)), top_k=5)
    assert prediction["top"] == [{"label": "no", "confidence": 0.75}, {"label": "yes", "confidence": 0.25}]


def test_top_k_is_cut_to_the_number_of_classes() -> None:
    logits = np.zeros((1, 3), dtype=np.float32)
    (prediction,) = encoded(PRODUCTS, classified(0, 1 / 3, outputs=(logits,)), top_k=100)
    assert [top["label"] for top in prediction["top"]] == ["Vehicles", "Toys", "Tools"]


@pytest.mark.parametrize(
    ("task", "top_k", "outputs", "wanted"),
    [
        ("classification", 1, False, False),
        ("classification", 2, False, True),
        ("classification", 1, True, True),
        ("regression", 5, False, False),
        ("embedding", 1, False, True),
    ],
)
def test_whole_outputs_are_only_wanted_where_something_needs_them(
    task: Any, top_k: int, outputs: bool, wanted: bool
) -> None:
    assert Codec(Signature(task, (SPEC,), (SPEC,))).wants_outputs(top_k=top_k, outputs=outputs) is wanted


@pytest.mark.parametrize(("p_value", "outlier"), [(0.5, False), (0.0100001, False), (0.0099, True)])
def test_an_outlier_has_a_p_value_of_at_most_alpha(p_value: float, outlier: bool) -> None:
    (prediction,) = encoded(DIGITS, classified(0, 1.0, p_value=np.array([p_value], dtype=np.float32)))
    assert prediction["p_value"] == pytest.approx(p_value)
    assert prediction["outlier"] is outlier


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("n", [1, 100])
def test_what_json_cannot_hold_is_an_error_and_never_null(bad: float, n: int) -> None:
    values = np.zeros(n, dtype=np.float32)
    values[-1] = bad
    with pytest.raises(NonFiniteOutput):
        Codec(DIAMONDS).encode(answer(n, value=values))
    with pytest.raises(NonFiniteOutput):
        Codec(SERIES).encode(answer(n, outputs=(np.stack([values, values], axis=1), np.full(n, b"", dtype=object))))


def test_every_output_dtype_and_layout_can_be_written() -> None:
    dtypes = ["bool", "int8", "uint64", "float16", "float32", "float64"]
    specs = tuple(TensorSpec(dtype, dtype, (2, 3)) for dtype in dtypes)
    columns = tuple(np.asfortranarray(np.ones((1, 2, 3), dtype=dtype)) for dtype in dtypes)
    (prediction,) = encoded(Signature("raw", (SPEC,), specs), answer(outputs=columns))
    assert prediction["outputs"]["bool"] == [[True] * 3] * 2
    assert all(prediction["outputs"][dtype] == [[1] * 3] * 2 for dtype in dtypes[1:])


def test_every_sample_has_its_own_id() -> None:
    ids = bytes(range(16)) + bytes(range(16, 32))
    given = msgspec.structs.replace(answer(2, value=np.zeros(2, dtype=np.float32)), sample_ids=ids)
    assert [prediction["sample_id"] for prediction in encoded(DIAMONDS, given)] == [
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "10111213-1415-1617-1819-1a1b1c1d1e1f",
    ]
