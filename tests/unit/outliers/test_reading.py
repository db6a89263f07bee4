from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from service.errors import PublishError
from service.outliers.reading import input_matrix, logits_of, numeric_inputs, without_tap
from service.types import Signature, TensorSpec


def signature(
    *inputs: TensorSpec,
    task: Literal["classification", "regression", "embedding", "raw"] = "raw",
    out: tuple[int | None, ...] = (3,),
    head: Literal["softmax", "logits", "sigmoid"] = "softmax",
) -> Signature:
    return Signature(task, inputs, (TensorSpec("y", "float32", out),), head=head)


TABLE = (
    TensorSpec("carat", "float32", ()),
    TensorSpec("cut", "string", ()),
    TensorSpec("size", "int64", (3,)),
    TensorSpec("many", "float32", (None,)),
    TensorSpec("flag", "bool", (1,)),
)


def test_numbers_of_a_fixed_shape_stand_side_by_side_in_the_signatures_order() -> None:
    columns = [
        np.array([0.5, np.nan], np.float32),
        np.array([b"a", b"b"], object),
        np.array([[1, 2, 3], [4, 5, 6]]),
        np.zeros((2, 9), np.float32),
        np.array([[True], [False]]),
    ]
    matrix = input_matrix(signature(*TABLE), columns)
    assert numeric_inputs(signature(*TABLE)) == (0, 2, 4)
    assert matrix is not None
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.array([[0.5, 1, 2, 3, 1], [np.nan, 4, 5, 6, 0]], np.float32))


def test_an_image_or_a_text_is_no_table() -> None:
    assert numeric_inputs(signature(TensorSpec("image", "float32", (32, 32, 3)))) == ()
    text = signature(TensorSpec("text", "string", ()))
    assert input_matrix(text, [np.array([b"a"], object)]) is None


@pytest.mark.parametrize("logits", [[[-3.0, 0.0, 4.0], [1.0, 1.0, 1.0]]])
def test_log_probabilities_give_the_same_probabilities_as_logits(logits: Any) -> None:
    logits = np.array(logits)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(logits_of("softmax", p.astype(np.float32))), p, rtol=1e-5)
    assert logits_of("logits", logits) is logits


def test_a_sigmoid_gives_two_logits_and_its_ends_stay_finite() -> None:
    found = logits_of("sigmoid", np.array([[0.0], [0.5], [0.8], [1.0]], np.float32))
    assert found.shape == (4, 2)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found[2]) / np.exp(found[2]).sum(), [0.2, 0.8], rtol=1e-5)
    assert np.isfinite(logits_of("softmax", np.array([[0.0, 1.0]]))).all()


X = TensorSpec("x", "float32", (4,))
COLUMNS = [np.ones((2, 4), np.float32)]


def test_a_classifier_without_an_inner_layer_is_judged_by_its_outputs() -> None:
    features = without_tap(signature(X, task="classification"), COLUMNS, [np.full((2, 3), 1 / 3, np.float32)])
    assert features.space == "outputs"
    assert features.logits is features.z
    assert features.inputs is not None


def test_an_embedding_is_judged_by_its_outputs_and_one_number_by_the_inputs() -> None:
    embedding = without_tap(signature(X, out=(2, 5)), COLUMNS, [np.zeros((2, 2, 5), np.float32)])
    assert (embedding.space, embedding.get("z").shape, embedding.logits) == ("outputs", (2, 10), None)
    price = without_tap(signature(X, task="regression", out=()), COLUMNS, [np.zeros(2, np.float32)])
    assert (price.space, price.get("z").shape) == ("inputs", (2, 4))
    sigmoid = signature(X, task="classification", head="sigmoid", out=(1,))
    binary = without_tap(sigmoid, COLUMNS, [np.full((2, 1), 0.2, np.float32)])
    assert (binary.space, binary.get("logits").shape) == ("inputs", (2, 2))


def test_a_model_with_nothing_to_go_by_is_refused_with_a_sentence() -> None:
    text = signature(TensorSpec("text", "string", ()), task="regression", out=())
    with pytest.raises(PublishError, match="there is nothing to tell outliers by"):
        without_tap(text, [np.array([b"a"], object)], [np.zeros(1, np.float32)])
