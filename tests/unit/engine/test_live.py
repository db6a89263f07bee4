from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hoverboard.contract.heads import read_head
from hoverboard.contract.signature import Array, Signature, TensorSpec
from hoverboard.engine.isolation import pad
from hoverboard.engine.live import LiveVersion
from hoverboard.errors import ModelFailed, NonFiniteOutput, Overloaded
from tests.unit.engine.fakes import Doubling, version


def _rows(n: int) -> np.ndarray:
    return np.arange(2 * n, dtype=np.float32).reshape(n, 2)


def test_padding_is_cut_off_again() -> None:
    executor = Doubling()
    done = version(executor).execute([_rows(3)], 3, 4)
    assert executor.batches == [4]
    assert np.array_equal(done.outputs[0], 2 * _rows(3))
    assert not done.errors


def test_one_poisonous_row_fails_alone_and_its_neighbours_are_right() -> None:
    x = _rows(16)
    x[11, 1] = 666
    done = version().execute([x], 16, 16)
    assert list(done.errors) == [11]
    assert isinstance(done.errors[11], ModelFailed)
    good = [row for row in range(16) if row != 11]
    assert np.array_equal(done.outputs[0][good], 2 * x[good])


def test_every_row_poisonous_fails_every_row() -> None:
    done = version().execute([np.full((8, 2), 666, np.float32)], 8, 16)
    assert sorted(done.errors) == list(range(8))


def test_running_out_of_memory_lowers_the_bucket_and_answers_everybody() -> None:
    live = version(Doubling(memory=4))
    done = live.execute([_rows(16)], 16, 16)
    assert not done.errors
    assert np.array_equal(done.outputs[0], 2 * _rows(16))
    assert live.costs.largest == 4


def test_running_out_of_memory_with_one_row_is_overload() -> None:
    done = version(Doubling(memory=0)).execute([_rows(2)], 2, 4)
    assert {type(error) for error in done.errors.values()} == {Overloaded}


def test_a_nan_is_an_error_of_its_own_row() -> None:
    x = _rows(4)
    x[2, 0] = np.nan
    done = version().execute([x], 4, 4)
    assert list(done.errors) == [2]
    assert isinstance(done.errors[2], NonFiniteOutput)


def _growing(executor: Doubling) -> LiveVersion:
    """A version of a free length."""
    spec = TensorSpec("x", "float32", (None, 2))
    base = version(executor)
    return replace(base, manifest=replace(base.manifest, inputs=(spec,), outputs=(replace(spec, name="y"),)))


def test_a_poisonous_row_of_a_free_length_fails_alone_too() -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    x[1, 2, 0] = 666
    done = _growing(Doubling()).execute([x], 4, 4)
    assert list(done.errors) == [1]
    assert np.array_equal(done.outputs[0][[0, 2, 3]], 2 * x[[0, 2, 3]])


class _Otherwise(Doubling):
    """Answers in another shape than its input has."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def run(self, columns: Sequence[Array]) -> list[Array]:
        return [np.zeros((len(columns[0]), *self.shape), np.float32)]


@pytest.mark.parametrize(
    ("shape", "said"), [((3,), "[1, 3]"), ((), "[1]"), ((2, 1), "[1, 2, 1]")], ids=["dimension", "rank", "deeper"]
)
def test_what_has_another_shape_than_declared_is_no_answer(shape: tuple[int, ...], said: str) -> None:
    done = version(_Otherwise(*shape)).execute([_rows(2)], 2, 4)
    assert {type(error) for error in done.errors.values()} == {ModelFailed}
    assert sorted(done.errors) == [0, 1]
    cause = done.errors[0].cause
    assert cause is not None
    assert cause.reason == f"output y has shape {said} where [1, 2] is declared"


@pytest.mark.parametrize("shape", [(5, 3), (2,), (0, 1)], ids=["dimension", "rank", "empty"])
def test_a_free_length_excuses_no_other_dimension(shape: tuple[int, ...]) -> None:
    done = _growing(_Otherwise(*shape)).execute([np.zeros((1, 3, 2), np.float32)], 1, 1)
    assert isinstance(done.errors[0], ModelFailed)
    free = _growing(_Otherwise(7, 2)).execute([np.zeros((1, 3, 2), np.float32)], 1, 1)
    assert not free.errors
    assert free.outputs[0].shape == (1, 7, 2)


def test_a_failed_batch_does_not_teach_the_cost_model() -> None:
    live = version()
    before = live.costs.seconds(4)
    x = _rows(4)
    x[0, 0] = 666
    live.execute([x], 4, 4)
    assert live.costs.seconds(4) == before


def test_pad_repeats_the_last_row() -> None:
    assert pad(_rows(2), 4).tolist() == [[0, 1], [2, 3], [2, 3], [2, 3]]
    assert len(pad(_rows(4), 2)) == 4


def _signature(head: str, labels: int, shape: tuple[int, ...]) -> Signature:
    spec = TensorSpec("p", "float32", shape)
    names = tuple(str(i) for i in range(labels))
    return Signature("classification", (spec,), (spec,), names, head)  # type: ignore[arg-type]


def test_softmax_logits_and_sigmoid_are_read_for_what_they_are() -> None:
    probabilities = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]], np.float32)
    read = read_head(_signature("softmax", 3, (3,)), probabilities)
    assert read.label_index is not None and read.label_index.tolist() == [1, 0]
    assert read.confidence is not None and read.confidence.tolist() == pytest.approx([0.7, 0.5])
    logits = read_head(_signature("logits", 3, (3,)), np.log(probabilities) + 1000)
    assert logits.confidence is not None and logits.confidence.tolist() == pytest.approx([0.7, 0.5], rel=1e-3)
    sigmoid = read_head(_signature("sigmoid", 2, (1,)), np.array([[0.9], [0.2]], np.float32))
    assert sigmoid.label_index is not None and sigmoid.label_index.tolist() == [1, 0]
    assert sigmoid.confidence is not None and sigmoid.confidence.tolist() == pytest.approx([0.9, 0.8])
    assert sigmoid.confidence.dtype == np.float32


def test_a_regression_reads_one_value_a_row() -> None:
    spec = TensorSpec("price", "float32", (1,))
    read = read_head(Signature("regression", (spec,), (spec,)), np.array([[1.5], [2.5]], np.float32))
    assert read.value is not None and read.value.tolist() == [1.5, 2.5]
    assert read.label_index is None
