import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from hoverboard.contract.calls import PredictAnswer, PredictCall
from hoverboard.contract.catalog import Catalog
from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import DeadlineExceeded, ModelFailed, NonFiniteOutput, NotReady, Overloaded, RpcError
from hoverboard.rpc.call import CallLimits
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.dispatch import Dispatcher
from tests.unit.rpc.conftest import arrived, asked, public_dispatcher
from tests.unit.rpc.linear import DIGITS, LinearEngine, live, model

Ask = Callable[..., Awaitable[Any]]
PIXELS = [1.0] * 64


async def test_predict_answers_model_version_predictions_and_timing(call: Ask) -> None:
    result = (await call("predict", {"model": "digits", "instances": [PIXELS, PIXELS]}))["result"]
    assert set(result) == {"model", "version", "predictions", "timing"}
    assert (result["model"], result["version"]) == ("digits", 1)
    assert len(result["predictions"]) == 2
    assert result["timing"] == {"queue_ms": 0.125, "infer_ms": 0.5, "batch": 2}


async def test_a_version_is_a_number_or_a_role(call: Ask, engine: LinearEngine) -> None:
    for version, expected in ((2, 2), (1, 1), ("stable", 1)):
        result = (await call("predict", {"model": "digits", "instances": [PIXELS], "version": version}))["result"]
        assert result["version"] == expected
        assert engine.calls[-1].version == version


async def test_the_call_that_reaches_the_engine_carries_all_that_was_sent(
    dispatcher: Dispatcher, engine: LinearEngine
) -> None:
    params = {"model": "digits", "instances": [PIXELS], "deadline_ms": 250, "tags": {"shop": "eu"}, "outputs": True}
    request = arrived(request_id="mine", traceparent="00-abc")
    await dispatcher.handle(asked("predict", params), request)
    (sent,) = engine.calls
    assert (sent.model, sent.n, sent.request_id, sent.traceparent) == ("digits", 1, "mine", "00-abc")
    assert sent.tags == {"shop": "eu"}
    assert sent.want_outputs
    assert sent.fingerprint == DIGITS.fingerprint
    assert sent.deadline == pytest.approx(request.received_at + 0.25)
    np.testing.assert_array_equal(sent.columns[0], [PIXELS])


async def test_the_deadline_counts_from_arrival_and_defaults_to_the_setting(engine: LinearEngine) -> None:
    dispatcher = public_dispatcher(engine, CallLimits(default_deadline_ms=500))
    long_ago = time.monotonic() - 5
    await dispatcher.handle(asked("predict", {"model": "digits", "instances": [PIXELS]}), arrived(received_at=long_ago))
    assert engine.calls[0].deadline == pytest.approx(long_ago + 0.5)


@pytest.mark.parametrize("deadline", [0, 0.5, -1, 600_001, 1e300, "5", True, [1]])
async def test_deadlines_outside_their_range_are_refused(call: Ask, deadline: Any) -> None:
    response = await call("predict", {"model": "digits", "instances": [PIXELS], "deadline_ms": deadline})
    assert response["error"]["code"] == -32602
    assert response["error"]["data"]["details"]["pointer"] == "/deadline_ms"


@pytest.mark.parametrize("deadline", [1, 1.5, 600_000, None])
async def test_deadlines_within_their_range_are_taken(call: Ask, deadline: Any) -> None:
    params = {"model": "digits", "instances": [PIXELS], "deadline_ms": deadline}
    assert "result" in await call("predict", params)


@pytest.mark.parametrize(
    ("tags", "pointer"),
    [
        ({"a": 1}, "/tags/a"),
        ({"a": None}, "/tags/a"),
        ({"": "x"}, "/tags/"),
        ({"k" * 65: "x"}, "/tags/" + "k" * 65),
        ({"a/b": "x" * 257}, "/tags/a~1b"),
        ({f"k{number}": "x" for number in range(33)}, "/tags"),
        (["a"], "/tags"),
    ],
)
async def test_tags_that_are_no_short_texts_are_refused(call: Ask, tags: Any, pointer: str) -> None:
    response = await call("predict", {"model": "digits", "instances": [PIXELS], "tags": tags})
    assert response["error"]["code"] == -32602
    assert response["error"]["data"]["details"]["pointer"] == pointer


async def test_as_many_and_as_long_tags_as_allowed_are_taken(call: Ask) -> None:
    tags = {f"{number:02}" + "k" * 62: "x" * 256 for number in range(32)}
    assert "result" in await call("predict", {"model": "digits", "instances": [PIXELS], "tags": tags})


@pytest.mark.parametrize(
    ("params", "code", "kind"),
    [
        ({"model": "nope"}, -32001, "model_not_found"),
        ({"model": "digits", "version": 9}, -32001, "version_not_found"),
        ({"model": "digits", "version": "canary"}, -32001, "version_not_found"),
        ({"model": "broken", "version": 1}, -32001, "version_not_found"),
        ({"model": "broken"}, -32001, "version_not_found"),
        ({"model": "sleepy", "version": 3}, -32002, "not_ready"),
    ],
)
async def test_what_cannot_answer_is_told_apart(call: Ask, params: dict[str, Any], code: int, kind: str) -> None:
    error = (await call("predict", {"instances": [PIXELS], **params}))["error"]
    assert (error["code"], error["data"]["type"]) == (code, kind)


async def test_a_version_on_disk_is_asked_for_so_that_it_loads(call: Ask, engine: LinearEngine) -> None:
    error = (await call("predict", {"model": "sleepy", "instances": [PIXELS], "version": 2}))["error"]
    assert error["code"] == -32002
    assert [(sent.model, sent.version) for sent in engine.calls] == [("sleepy", 2)]


async def test_before_the_first_scan_is_over_an_unknown_model_is_not_ready() -> None:
    engine = LinearEngine(catalog=Catalog(ready=False))
    reply = await public_dispatcher(engine).handle(
        asked("predict", {"model": "digits", "instances": [PIXELS]}), arrived()
    )
    assert isinstance(reply.error, NotReady)
    assert reply.error.retry_after_ms is not None


@pytest.mark.parametrize("params", [{}, {"instances": [PIXELS], "inputs": {"pixels": [PIXELS]}}])
async def test_either_instances_or_inputs_must_come(call: Ask, params: dict[str, Any]) -> None:
    error = (await call("predict", {"model": "digits", **params}))["error"]
    assert error["code"] == -32602
    assert error["data"]["details"]["expected"] == "either instances or inputs"


async def test_row_form_column_form_and_tensors_give_the_same_prediction(call: Ask) -> None:
    data = base64.b64encode(np.ones(64, dtype="<f4").tobytes()).decode()
    forms: list[dict[str, Any]] = [
        {"instances": [PIXELS]},
        {"inputs": {"pixels": [PIXELS]}},
        {"instances": [{"pixels": PIXELS}]},
        {"instances": [{"b64": data, "dtype": "float32", "shape": [64]}]},
        {"inputs": {"pixels": {"b64": data, "dtype": "float32", "shape": [1, 64]}}},
    ]
    answers = [(await call("predict", {"model": "digits", **form}))["result"]["predictions"] for form in forms]
    assert len({(answer[0]["label"], answer[0]["confidence"]) for answer in answers}) == 1


@pytest.mark.parametrize("failure", [NotReady(), Overloaded(), DeadlineExceeded(), ModelFailed(), NonFiniteOutput()])
async def test_what_the_engine_refuses_is_passed_on(call: Ask, engine: LinearEngine, failure: RpcError) -> None:
    engine.failure = failure
    error = (await call("predict", {"model": "digits", "instances": [PIXELS]}))["error"]
    assert (error["code"], error["data"]["type"]) == (failure.code, failure.kind)


SHORT = Signature(
    "classification",
    (TensorSpec("pixels", "float32", (2,)),),
    (TensorSpec("probabilities", "float32", (2,)),),
    labels=("small", "large"),
)


class Swapping(LinearEngine):
    """Makes another version stable between a call's encoding and its arrival."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.next_stable: Signature | None = None
        self.late = False

    async def predict(self, call: PredictCall) -> PredictAnswer:
        if self.next_stable is not None:
            swapped = model("digits", live(1, DIGITS), live(3, self.next_stable), stable=3)
            self.next_stable = None
            if self.late:
                asyncio.get_running_loop().call_later(0.01, self.publish, swapped)
                self.catalog = Catalog({"digits": swapped}, 2, ready=True)
            else:
                self.publish(swapped)
        return await super().predict(call)


@pytest.mark.parametrize("late", [False, True])
async def test_a_call_that_met_a_swap_to_other_inputs_is_checked_against_the_new_ones(late: bool) -> None:
    engine = Swapping()
    engine.late = late
    dispatcher = public_dispatcher(engine)
    engine.next_stable = SHORT
    reply = await dispatcher.handle(asked("predict", {"model": "digits", "instances": [PIXELS]}), arrived())
    assert reply.body is not None
    assert json.loads(reply.body)["error"]["data"]["details"] == {
        "pointer": "/instances/0",
        "expected": "2 numbers",
        "got": "64",
    }


async def test_a_call_that_met_a_swap_to_other_dtypes_is_encoded_anew() -> None:
    engine = Swapping()
    dispatcher = public_dispatcher(engine)
    engine.next_stable = replace(DIGITS, inputs=(TensorSpec("pixels", "float64", (64,)),))
    reply = await dispatcher.handle(asked("predict", {"model": "digits", "instances": [PIXELS]}), arrived())
    assert reply.body is not None
    assert json.loads(reply.body)["result"]["version"] == 3
    assert [sent.columns[0].dtype.name for sent in engine.calls] == ["float32", "float64"]


async def test_an_answer_is_read_with_the_labels_of_the_version_that_gave_it() -> None:
    engine = Swapping()
    dispatcher = public_dispatcher(engine)
    engine.next_stable = replace(DIGITS, labels=tuple("abcdefghij"))
    reply = await dispatcher.handle(asked("predict", {"model": "digits", "instances": [PIXELS]}), arrived())
    assert reply.body is not None
    result = json.loads(reply.body)["result"]
    assert result["version"] == 3
    assert result["predictions"][0]["label"] in "abcdefghij"


async def test_inputs_that_never_settle_are_not_ready() -> None:
    class Restless(LinearEngine):
        async def predict(self, call: PredictCall) -> PredictAnswer:
            length = len(self.calls) + 65
            self.publish(model("digits", live(1, replace(DIGITS, inputs=(TensorSpec("x", "float32", (length,)),)))))
            self.publish(model("digits", live(1, replace(DIGITS, labels=("a", str(length))))))
            return await super().predict(msgspec.structs.replace(call, fingerprint="old"))

    reply = await public_dispatcher(Restless()).handle(
        asked("predict", {"model": "digits", "instances": [PIXELS]}), arrived()
    )
    assert isinstance(reply.error, NotReady)


async def test_codecs_are_kept_while_their_signature_stays(engine: LinearEngine) -> None:
    book = CodecBook()
    engine.subscribe(book.update)
    before = book.route("digits", "stable").codec
    engine.publish(model("other", live(1, SHORT)))
    assert book.route("digits", "stable").codec is before
    assert book.route("other", 1).codec is not before
