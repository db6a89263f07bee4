from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoverboard.contract.calls import PredictAnswer, PredictCall
from hoverboard.contract.signature import Array
from hoverboard.engine.socket.wire import (
    AnswerMessage,
    CallMessage,
    CancelMessage,
    FailureMessage,
    FrameReader,
    decode_calls,
    frame,
)
from hoverboard.errors import BY_KIND, HoverboardError, InvalidParams, NotReady, RpcError, StaleSignature


def _strings(*values: bytes) -> Array:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def test_a_call_survives_the_way_to_the_engine() -> None:
    columns: tuple[Array, ...] = (
        np.array([[1.5, np.float32(0.1)], [3e38, -0.0]], np.float32),
        _strings(b"a\0b", b"\xff\xfe"),
        np.array([2**63 - 1, -(2**63)], np.int64),
        np.zeros((2, 0), np.float16),
    )
    call = PredictCall("m", "stable", "f" * 16, columns, 2, 12.5, True, "r", "00-a-b-01", {"k": "v"})
    (message,) = FrameReader(decode_calls).feed(frame([CallMessage.pack(7, call)]))
    back = message.unpack()
    assert message.id == 7
    for sent, got in zip(columns, back.columns, strict=True):
        assert sent.dtype == got.dtype
        assert sent.shape == got.shape
        assert sent.tolist() == got.tolist()
    for name in (
        "model",
        "version",
        "fingerprint",
        "n",
        "deadline",
        "want_outputs",
        "request_id",
        "traceparent",
        "tags",
    ):
        assert getattr(call, name) == getattr(back, name)


def test_an_answer_survives_the_way_to_the_api() -> None:
    answer = PredictAnswer(
        3, None, b"i" * 32, np.array([1, 2], np.int32), np.array([0.1, 0.2], np.float32), None,
        (np.eye(2, dtype=np.float32),), None, 1.0, 2.0, 5,
    )  # fmt: skip
    back = AnswerMessage.pack(1, answer).unpack()
    assert back.label_index is not None and back.label_index.tolist() == [1, 2]
    assert back.confidence is not None and back.confidence.dtype == np.float32
    assert back.outputs is not None and back.outputs[0].tolist() == [[1, 0], [0, 1]]
    assert back.value is None


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_every_error_keeps_its_class_and_words(kind: str) -> None:
    cls = BY_KIND[kind]
    error: RpcError
    if cls is InvalidParams:
        error = InvalidParams("/instances/3", "64 numbers", "63")
    else:
        error = cls("Words", details={"a": 1}, retry_after_ms=5)
    back = FailureMessage.pack(1, error).unpack()
    assert type(back) is cls
    assert isinstance(back, RpcError)
    assert (back.message, back.details, back.retry_after_ms) == (error.message, error.details, error.retry_after_ms)


def test_a_stale_signature_travels_and_any_other_failure_becomes_internal() -> None:
    assert isinstance(FailureMessage.pack(1, StaleSignature()).unpack(), StaleSignature)
    back = FailureMessage.pack(1, HoverboardError("secret")).unpack()
    assert isinstance(back, RpcError)
    assert back.code == -32603
    assert "secret" not in back.message


@given(st.lists(st.integers(0, 2**40), max_size=30), st.lists(st.integers(1, 50), min_size=1))
def test_frames_survive_any_fragmentation(numbers: list[int], cuts: list[int]) -> None:
    stream = b"".join(frame([CancelMessage(n)]) for n in numbers) + frame([CancelMessage(n) for n in numbers])
    reader = FrameReader(decode_calls)
    seen = []
    position = 0
    while position < len(stream):
        size = cuts[position % len(cuts)]
        seen += [message.id for message in reader.feed(stream[position : position + size])]
        position += size
    assert seen == numbers * 2


def test_not_ready_carries_its_wait() -> None:
    back = FailureMessage.pack(1, NotReady(retry_after_ms=1000)).unpack()
    assert isinstance(back, NotReady)
    assert back.retryable
    assert back.retry_after_ms == 1000
