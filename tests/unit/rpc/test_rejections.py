"""Every refused call reaches the recording, with as much of it as could be understood."""

import asyncio
import json
from typing import Any

import pytest

from hoverboard.errors import DeadlineExceeded, NotReady, Overloaded, RequestTooLarge, RpcError
from hoverboard.rpc.call import CallLimits
from hoverboard.rpc.dispatch import Dispatcher
from hoverboard.rpc.recording import Rejection
from tests.unit.rpc.conftest import Records, arrived, asked, public_dispatcher
from tests.unit.rpc.linear import LinearEngine

PIXELS = [1.0] * 64
PREDICT = {"model": "digits", "instances": [PIXELS]}


@pytest.fixture(params=[True, False], ids=["lane", "no lane"])
def face(engine: LinearEngine, records: Records, request: pytest.FixtureRequest) -> Dispatcher:
    return public_dispatcher(engine, CallLimits(max_response_bytes=1000), recording=records, lane=request.param)


async def refused(face: Dispatcher, records: Records, body: bytes, **request: Any) -> Rejection:
    """The one rejection of a message that is refused as a whole."""
    before = len(records.rejections)
    await face.handle(body, arrived(**request))
    (rejection,) = records.rejections[before:]
    return rejection


def facts(rejection: Rejection) -> tuple[Any, ...]:
    return rejection.error.code, rejection.method, rejection.model, rejection.version, rejection.tags


async def test_an_answered_call_is_no_rejection(face: Dispatcher, records: Records) -> None:
    for method, params in (("predict", PREDICT), ("models.list", {})):
        reply = await face.handle(asked(method, params), arrived())
        assert reply.error is None
    assert records.rejections == []


@pytest.mark.parametrize(
    ("params", "code", "understood"),
    [
        ({**PREDICT, "model": "nope", "version": 3, "tags": {"a": "b"}}, -32001, ("nope", 3, {"a": "b"})),
        ({**PREDICT, "version": "canary"}, -32001, ("digits", "canary", None)),
        ({**PREDICT, "version": 99}, -32001, ("digits", 99, None)),
        ({**PREDICT, "instances": [[1]], "tags": {"a": "b"}}, -32602, ("digits", "stable", {"a": "b"})),
        ({**PREDICT, "top_k": 0, "version": 2, "tags": {"a": "b"}}, -32602, ("digits", 2, {"a": "b"})),
        ({**PREDICT, "surplus": 1, "version": 2}, -32602, ("digits", 2, None)),
        ({**PREDICT, "tags": {"a": 1}}, -32602, ("digits", "stable", None)),
        ({**PREDICT, "tags": {"a": "\0"}}, -32602, ("digits", "stable", None)),
        ({**PREDICT, "tags": {"\0": "a"}}, -32602, ("digits", "stable", None)),
        ({**PREDICT, "model": 7, "tags": {"a": "b"}}, -32602, (None, "stable", {"a": "b"})),
        ({**PREDICT, "version": [1]}, -32602, ("digits", None, None)),
        ({"instances": [PIXELS]}, -32602, (None, "stable", None)),
        (["digits", [[1]], None, 2], -32602, ("digits", 2, None)),
        ([], -32602, (None, "stable", None)),
        (None, -32602, (None, "stable", None)),
        ({**PREDICT, "instances": [PIXELS] * 40}, -32008, ("digits", "stable", None)),
    ],
)
async def test_what_was_understood_of_a_call_is_kept(
    face: Dispatcher, records: Records, params: Any, code: int, understood: tuple[Any, ...]
) -> None:
    rejection = await refused(face, records, asked("predict", params), request_id="mine", traceparent="00-abc")
    assert facts(rejection) == (code, "predict", *understood)
    assert (rejection.request.request_id, rejection.request.traceparent) == ("mine", "00-abc")


@pytest.mark.parametrize(
    "failure", [Overloaded(retry_after_ms=9), DeadlineExceeded(), NotReady(), RuntimeError("a secret")]
)
async def test_what_the_engine_refuses_is_a_rejection(
    face: Dispatcher, engine: LinearEngine, records: Records, failure: Exception
) -> None:
    engine.failure = failure
    rejection = await refused(face, records, asked("predict", PREDICT))
    assert facts(rejection)[1:] == ("predict", "digits", "stable", None)
    assert rejection.error.code == getattr(failure, "code", -32603)
    assert "secret" not in rejection.error.message


@pytest.mark.parametrize(
    ("body", "code", "method"),
    [
        (b"nonsense", -32700, ""),
        (b"\xff", -32700, ""),
        (b"7", -32600, ""),
        (b"[]", -32600, ""),
        (b"[7]", -32600, ""),
        (b'{"jsonrpc":"1.0","method":"predict","id":1}', -32600, ""),
        (asked("no.such"), -32601, "no.such"),
        (asked("models.describe", {"model": "nope"}), -32001, "models.describe"),
        (asked("models.describe", {"model": "nope", "versions": 1}), -32602, "models.describe"),
    ],
)
async def test_messages_that_are_no_calls_are_rejections_too(
    face: Dispatcher, records: Records, body: bytes, code: int, method: str
) -> None:
    rejection = await refused(face, records, body)
    assert (rejection.error.code, rejection.method) == (code, method)


async def test_a_call_that_is_shed_before_it_is_looked_into_keeps_its_model(
    engine: LinearEngine, records: Records
) -> None:
    face = public_dispatcher(engine, CallLimits(max_concurrency=1), recording=records)
    engine.gate.clear()
    first = asyncio.create_task(face.handle(asked("predict", PREDICT), arrived()))
    await asyncio.sleep(0)
    for params in (PREDICT, [PREDICT["model"], PREDICT["instances"]]):
        rejection = await refused(face, records, asked("predict", params))
        assert facts(rejection) == (-32005, "predict", "digits", "stable", None)
    engine.gate.set()
    await first


async def test_a_message_that_is_refused_as_it_arrives_is_a_rejection_of_each_call(
    face: Dispatcher, records: Records
) -> None:
    batch = [json.loads(asked("predict", PREDICT)), json.loads(asked("models.list"))]
    await face.handle(json.dumps(batch).encode(), arrived(refusal=Overloaded()))
    assert {(one.error.code, one.method, one.model) for one in records.rejections} == {
        (-32005, "predict", "digits"),
        (-32005, "models.list", None),
    }


async def test_each_refused_item_of_a_batch_is_a_rejection_and_no_other(face: Dispatcher, records: Records) -> None:
    good, bad = json.loads(asked("models.list")), json.loads(asked("predict", {**PREDICT, "instances": []}))
    notification = {name: value for name, value in bad.items() if name != "id"}
    await face.handle(json.dumps([good, bad, 7, notification]).encode(), arrived(request_id="mine"))
    assert sorted((one.error.code, one.method) for one in records.rejections) == [
        (-32602, "predict"),
        (-32602, "predict"),
        (-32600, ""),
    ]
    assert {one.request.request_id for one in records.rejections} == {"mine"}


async def test_too_many_calls_in_a_batch_are_one_rejection(engine: LinearEngine, records: Records) -> None:
    face = public_dispatcher(engine, CallLimits(max_batch_items=2), recording=records)
    await face.handle(json.dumps([json.loads(asked("models.list"))] * 3).encode(), arrived())
    assert [one.error.code for one in records.rejections] == [-32010]


async def test_results_that_no_longer_fit_into_the_answer_of_a_batch_are_rejections(
    face: Dispatcher, records: Records
) -> None:
    calls = [json.loads(asked("predict", PREDICT, call_id=number)) for number in range(5)]
    wrong = json.loads(asked("predict", {**PREDICT, "instances": []}))
    reply = await face.handle(json.dumps([*calls, wrong]).encode(), arrived())
    assert reply.body is not None
    replaced = [one for one in json.loads(reply.body)[:5] if "error" in one]
    assert 0 < len(replaced) < 5
    codes = [one.error.code for one in records.rejections]
    assert codes.count(-32008) == len(replaced)
    assert codes.count(-32602) == 1
    assert len(codes) == len(replaced) + 1
    assert {one.model for one in records.rejections} == {"digits"}


async def test_a_message_refused_outside_is_written_down_as_it_is(face: Dispatcher, records: Records) -> None:
    error = RequestTooLarge()
    await face.note_refused(error, arrived(request_id="mine"))
    (rejection,) = records.rejections
    assert rejection.error is error
    assert (rejection.method, rejection.model, rejection.request.request_id) == ("", None, "mine")


async def test_the_answer_waits_until_the_rejection_is_written(engine: LinearEngine) -> None:
    written = asyncio.Event()

    class Slow(Records):
        async def reject(self, rejection: Rejection) -> None:
            await written.wait()
            await super().reject(rejection)

    face = public_dispatcher(engine, recording=Slow())
    for body in (b"nonsense", asked("no.such"), asked("predict", {**PREDICT, "model": "nope"})):
        written.clear()
        answering = asyncio.create_task(face.handle(body, arrived()))
        done, _ = await asyncio.wait([answering], timeout=0.02)
        assert not done
        written.set()
        assert isinstance((await answering).error, RpcError)
