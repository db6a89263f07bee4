import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from hoverboard.errors import InvalidParams, Overloaded, RpcError
from hoverboard.rpc.call import Call, CallLimits
from hoverboard.rpc.dispatch import Dispatcher
from hoverboard.rpc.examples import Example
from hoverboard.rpc.fields import NoParams
from hoverboard.rpc.methods import Method, table
from tests.unit.rpc.conftest import Ledger, arrived, asked, public_dispatcher
from tests.unit.rpc.linear import LinearEngine

PIXELS = [1.0] * 64
PREDICT = {"model": "digits", "instances": [PIXELS]}


async def answered(dispatcher: Dispatcher, body: bytes, **request: Any) -> Any:
    reply = await dispatcher.handle(body, arrived(**request))
    return None if reply.body is None else json.loads(reply.body)


@pytest.mark.parametrize(
    "call_id", ["1", "1.50", "-0.0", "1e3", "123456789012345678901234567890", '"a b"', '"\\u00e9"', "null", '""']
)
@pytest.mark.parametrize("method", ["predict", "models.list", "none.such"])
async def test_ids_are_echoed_exactly_as_they_came(dispatcher: Dispatcher, method: str, call_id: str) -> None:
    params = json.dumps(PREDICT) if method == "predict" else "{}"
    body = f'{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":  {call_id} }}'
    reply = await dispatcher.handle(body.encode(), arrived())
    assert reply.body is not None
    assert reply.body.endswith(f',"id":{call_id}}}'.encode())


@pytest.mark.parametrize("call_id", ["true", "false", "[1]", "{}"])
async def test_an_id_that_is_no_id_makes_an_invalid_request_with_id_null(dispatcher: Dispatcher, call_id: str) -> None:
    body = f'{{"jsonrpc":"2.0","method":"models.list","id":{call_id}}}'
    response = await answered(dispatcher, body.encode())
    assert response["error"]["code"] == -32600
    assert response["id"] is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"nonsense",
        b'{"jsonrpc":"2.0","method":"models.list","id":1} x',
        b'{"jsonrpc":"2.0","method":"models.list","id":1,}',
        b'{"jsonrpc":"2.0","method":"predict","params":[NaN],"id":1}',
        b'{"jsonrpc":"2.0","method":"predict","params":[Infinity],"id":1}',
        b'{"jsonrpc":"2.0","method":"predict","params":[-Infinity],"id":1}',
        b'{"jsonrpc":"2.0","method":"predict","params":["\xff"],"id":1}',
        b'{"jsonrpc":"2.0","method":"predict","params":["\\ud800"],"id":1}',
        b'{"jsonrpc":"2.0","method":"predict","params":[01],"id":1}',
        b'{"jsonrpc":"2.0","method":"predict","params":[1.],"id":1}',
        b'{"jsonrpc":"2.0","\xff":1,"method":"models.list","id":1}',
        b"'single'",
        b"[1,2",
        b"1 2",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
async def test_what_is_no_json_is_a_parse_error(dispatcher: Dispatcher, body: bytes) -> None:
    response = await answered(dispatcher, body)
    assert response["error"]["code"] == -32700
    assert response["id"] is None


@pytest.mark.parametrize(
    "body", [b"1", b"-1.5", b"null", b"true", b'"text"', b"{}", b"[]", b'{"method":"models.list","id":1}']
)
async def test_json_that_is_no_request_is_an_invalid_request(dispatcher: Dispatcher, body: bytes) -> None:
    assert (await answered(dispatcher, body))["error"]["code"] == -32600


@pytest.mark.parametrize("version", ['"1.0"', "2.0", "null", '"2"'])
async def test_other_protocol_versions_are_invalid_requests_that_keep_their_id(
    dispatcher: Dispatcher, version: str
) -> None:
    response = await answered(dispatcher, f'{{"jsonrpc":{version},"method":"models.list","id":7}}'.encode())
    assert response["error"]["code"] == -32600
    assert response["id"] == 7


@pytest.mark.parametrize("params", ["1", '"text"', "true"])
async def test_params_that_are_no_structure_are_an_invalid_request(dispatcher: Dispatcher, params: str) -> None:
    body = f'{{"jsonrpc":"2.0","method":"models.list","params":{params},"id":7}}'
    assert (await answered(dispatcher, body.encode()))["error"]["code"] == -32600


@pytest.mark.parametrize("params", ["", ',"params":null', ',"params":{}', ',"params":[]'])
async def test_no_params_may_be_said_in_four_ways(dispatcher: Dispatcher, params: str) -> None:
    body = f'{{"jsonrpc":"2.0","method":"models.list"{params},"id":7}}'
    assert "models" in (await answered(dispatcher, body.encode()))["result"]


async def test_unknown_and_repeated_envelope_members_are_tolerated(dispatcher: Dispatcher) -> None:
    body = b'{"jsonrpc":"2.0","trace":{"a":[1]},"method":"nope","method":"models.list","id":1,"id":2}'
    response = await answered(dispatcher, body)
    assert "result" in response
    assert response["id"] == 2


async def test_a_notification_is_carried_out_and_not_answered(dispatcher: Dispatcher, engine: LinearEngine) -> None:
    body = json.dumps({"jsonrpc": "2.0", "method": "predict", "params": PREDICT}).encode()
    assert await answered(dispatcher, body) is None
    assert len(engine.calls) == 1


@pytest.mark.parametrize("method", ["none.such", "predict"])
async def test_a_failing_notification_is_not_answered_either(dispatcher: Dispatcher, method: str) -> None:
    assert await answered(dispatcher, json.dumps({"jsonrpc": "2.0", "method": method}).encode()) is None


async def test_an_unforeseen_exception_is_logged_and_its_text_kept_from_the_client(
    dispatcher: Dispatcher, engine: LinearEngine
) -> None:
    engine.failure = RuntimeError("secret path /home/someone")
    for lane in (True, False):
        with capture_logs() as logs:
            response = await answered(public_dispatcher(engine, lane=lane), asked("predict", PREDICT), request_id="r-9")
        assert response["error"]["code"] == -32603
        assert "secret" not in json.dumps(response)
        assert response["error"]["data"] == {"type": "internal_error", "retryable": False, "request_id": "r-9"}
        (line,) = logs
        assert line["event"] == "call_failed"
        assert line["request_id"] == "r-9"
        assert "secret path" in str(line["exc_info"])


async def test_error_data_has_type_retryable_retry_after_request_id_and_details(
    dispatcher: Dispatcher, engine: LinearEngine
) -> None:
    engine.failure = Overloaded("Queue full", retry_after_ms=250, details={"queue_ms": 3000})
    response = await answered(dispatcher, asked("predict", PREDICT), request_id="r-1")
    assert response == {
        "jsonrpc": "2.0",
        "error": {
            "code": -32005,
            "message": "Queue full",
            "data": {
                "type": "overloaded",
                "retryable": True,
                "retry_after_ms": 250,
                "request_id": "r-1",
                "details": {"queue_ms": 3000},
            },
        },
        "id": 1,
    }


async def test_a_batch_is_answered_in_its_order_without_its_notifications(dispatcher: Dispatcher) -> None:
    items = [
        json.loads(asked("models.list", call_id="a")),
        {"jsonrpc": "2.0", "method": "models.list"},
        json.loads(asked("predict", PREDICT, call_id=2.5)),
        json.loads(asked("nope", call_id=None)),
        17,
    ]
    responses = await answered(dispatcher, json.dumps(items).encode())
    assert [response["id"] for response in responses] == ["a", 2.5, None, None]
    assert ["result" in response for response in responses] == [True, True, False, False]


async def test_a_batch_of_notifications_is_not_answered(dispatcher: Dispatcher) -> None:
    assert await answered(dispatcher, b'[{"jsonrpc":"2.0","method":"models.list"}]') is None


async def test_the_calls_of_a_batch_reach_the_engine_in_one_turn_of_the_loop(
    dispatcher: Dispatcher, engine: LinearEngine
) -> None:
    calls = [json.loads(asked("predict", PREDICT, call_id=number)) for number in range(20)]
    await answered(dispatcher, json.dumps(calls).encode())
    assert [tick for tick in engine.ticks if tick] == [20]


async def batch_of(dispatcher: Dispatcher, name: str, size: int, **request: Any) -> None:
    calls = [json.loads(asked("predict", PREDICT, call_id=number)) for number in range(size)]
    await answered(dispatcher, json.dumps(calls).encode(), request_id=name, **request)


async def test_batches_of_one_connection_begin_one_after_the_other(
    dispatcher: Dispatcher, engine: LinearEngine
) -> None:
    await asyncio.gather(*(batch_of(dispatcher, f"batch {number}", 140, source=1) for number in range(2)))
    assert [call.request_id for call in engine.calls] == ["batch 0"] * 140 + ["batch 1"] * 140


async def test_batches_of_several_connections_share_a_turn_of_the_loop(
    dispatcher: Dispatcher, engine: LinearEngine
) -> None:
    await asyncio.gather(*(batch_of(dispatcher, f"batch {number}", 300, source=number) for number in range(3)))
    assert len(engine.calls) == 900
    # The first of them may have begun while it was alone.
    assert all(tick <= 64 for tick in [tick for tick in engine.ticks if tick][1:])


async def test_nothing_of_a_batch_begins_while_its_client_does_not_read(
    dispatcher: Dispatcher, engine: LinearEngine
) -> None:
    reads = asyncio.Event()

    async def read() -> None:
        await reads.wait()

    batch = asyncio.create_task(batch_of(dispatcher, "unread", 3, source=1, read=read))
    await batch_of(dispatcher, "other", 3, source=2)
    assert {call.request_id for call in engine.calls} == {"other"}
    reads.set()
    await batch
    assert len(engine.calls) == 6


async def test_a_bad_call_in_a_batch_leaves_its_neighbours_alone(dispatcher: Dispatcher) -> None:
    bad = {"model": "digits", "instances": [[1.0] * 63]}
    calls = [json.loads(asked("predict", bad if number == 3 else PREDICT, call_id=number)) for number in range(6)]
    responses = await answered(dispatcher, json.dumps(calls).encode())
    assert ["error" in response for response in responses] == [False, False, False, True, False, False]
    assert responses[3]["error"]["data"]["details"]["pointer"] == "/instances/0"


async def test_too_large_a_batch_is_answered_once_with_the_first_id(engine: LinearEngine) -> None:
    dispatcher = public_dispatcher(engine, CallLimits(max_batch_items=2))
    calls = [json.loads(asked("models.list", call_id=f"call-{number}")) for number in range(3)]
    (response,) = await answered(dispatcher, json.dumps(calls).encode())
    assert response["error"]["code"] == -32010
    assert response["error"]["data"]["details"] == {"limit": 2, "got": 3}
    assert response["id"] == "call-0"
    assert len(await answered(dispatcher, json.dumps(calls[:2]).encode())) == 2


async def test_too_large_a_result_is_replaced_by_an_error(engine: LinearEngine) -> None:
    dispatcher = public_dispatcher(engine, CallLimits(max_response_bytes=600))
    many = {"model": "digits", "instances": [PIXELS] * 50}
    assert (await answered(dispatcher, asked("predict", many)))["error"]["code"] == -32008
    assert "result" in await answered(dispatcher, asked("predict", PREDICT))


async def test_what_exceeds_the_limit_of_a_whole_batch_is_replaced_item_by_item(engine: LinearEngine) -> None:
    dispatcher = public_dispatcher(engine, CallLimits(max_response_bytes=1000))
    calls = [json.loads(asked("predict", PREDICT, call_id=number)) for number in range(5)]
    responses = await answered(dispatcher, json.dumps(calls).encode())
    codes = [response.get("error", {}).get("code") for response in responses]
    assert codes == [None, None, None, -32008, -32008]
    assert [response["id"] for response in responses] == [0, 1, 2, 3, 4]


async def test_calls_above_the_concurrency_limit_are_refused_at_once(engine: LinearEngine) -> None:
    dispatcher = public_dispatcher(engine, CallLimits(max_concurrency=2))
    engine.gate.clear()
    waiting = [asyncio.create_task(answered(dispatcher, asked("predict", PREDICT))) for _ in range(2)]
    await asyncio.sleep(0)
    refused = await answered(dispatcher, asked("predict", PREDICT))
    assert refused["error"]["code"] == -32005
    assert refused["error"]["data"]["retry_after_ms"] > 0
    engine.gate.set()
    assert all("result" in response for response in await asyncio.gather(*waiting))
    assert dispatcher.in_flight == 0
    assert "result" in await answered(dispatcher, asked("predict", PREDICT))


async def test_a_connection_with_less_than_its_share_is_let_in_whatever_others_have_in_flight(
    engine: LinearEngine,
) -> None:
    dispatcher = public_dispatcher(engine, CallLimits(max_concurrency=4))
    engine.gate.clear()
    flood = [asyncio.create_task(answered(dispatcher, asked("predict", PREDICT), source=1)) for _ in range(4)]
    await asyncio.sleep(0)
    polite = asyncio.create_task(answered(dispatcher, asked("predict", PREDICT), source=2))
    await asyncio.sleep(0)
    refused = await answered(dispatcher, asked("predict", PREDICT), source=1)
    assert refused["error"]["code"] == -32005
    engine.gate.set()
    assert all("result" in response for response in await asyncio.gather(polite, *flood))
    assert "result" in await answered(dispatcher, asked("predict", PREDICT), source=1)


async def test_a_refused_message_has_every_call_refused_with_its_own_id(dispatcher: Dispatcher) -> None:
    body = json.dumps([json.loads(asked("models.list", call_id=number)) for number in (1, 2)]).encode()
    responses = await answered(dispatcher, body, refusal=Overloaded())
    assert [(response["id"], response["error"]["code"]) for response in responses] == [(1, -32005), (2, -32005)]


async def test_cancelling_a_message_cancels_what_waits_in_the_engine(
    dispatcher: Dispatcher, engine: LinearEngine
) -> None:
    engine.gate.clear()
    body = json.dumps([json.loads(asked("predict", PREDICT, call_id=number)) for number in range(3)]).encode()
    task = asyncio.create_task(answered(dispatcher, body))
    while len(engine.calls) < 3:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.cancelled == 3
    assert dispatcher.in_flight == 0


class Deaf(Ledger):
    def finished(self, call: Call, error: RpcError | None, seconds: float) -> None:
        pass


@pytest.mark.parametrize("lane", [True, False])
async def test_no_call_waits_for_garbage_collection(engine: LinearEngine, lane: bool) -> None:
    dispatcher = public_dispatcher(engine, lane=lane, ledger=Deaf())
    bodies = [asked("predict", {**PREDICT, **change}) for change in ({}, {"model": "x"}, {"top_k": 0}, {"inputs": 1})]
    bodies += [asked("predict", {**PREDICT, "instances": [["x"] * 64]}), asked("none.such"), b"{", b"[1]"]
    gc.collect()
    gc.disable()
    before = set(map(id, gc.get_objects()))
    try:
        for body in bodies:
            await dispatcher.handle(body, arrived())
        await asyncio.sleep(0)
        left = [found for found in gc.get_objects() if isinstance(found, Call | RpcError) and id(found) not in before]
    finally:
        gc.enable()
    assert not left


async def test_the_observer_hears_of_every_call_with_what_answered_it(engine: LinearEngine, ledger: Ledger) -> None:
    dispatcher = public_dispatcher(engine, ledger=ledger)
    for body in (
        asked("predict", {**PREDICT, "version": 2}),
        asked("predict", PREDICT),
        asked("models.describe", {"model": "digits"}),
        asked("nope"),
        b"no json",
    ):
        await dispatcher.handle(body, arrived())
    heard = [
        (call.method, call.model, call.version, call.role, None if error is None else error.code)
        for call, error, _ in ledger.finished_calls
    ]
    assert heard == [
        ("predict", "digits", 2, None, None),
        ("predict", "digits", 1, "stable", None),
        ("models.describe", "digits", None, None, None),
        ("nope", None, None, None, -32601),
        ("", None, None, None, -32700),
    ]
    assert all(seconds >= 0 for _, _, seconds in ledger.finished_calls)


class Pair(msgspec.Struct, forbid_unknown_fields=True):
    first: int
    second: int = 0


def with_method(run: Callable[[Call, Any], Awaitable[bytes]], params: Any = Pair) -> Dispatcher:
    return Dispatcher(table([Method("pair", params, run, "", int, lambda _: Example({}, {}))]), CallLimits(), Ledger())


async def _total(_: Call, pair: Pair) -> bytes:
    return msgspec.json.encode(pair.first - pair.second)


@pytest.mark.parametrize("params", [[5, 2], {"first": 5, "second": 2}, {"second": 2, "first": 5}])
async def test_params_are_named_or_positional(params: Any) -> None:
    assert (await answered(with_method(_total), asked("pair", params)))["result"] == 3


@pytest.mark.parametrize(
    ("params", "pointer", "expected", "got"),
    [
        ([1, 2, 3], "", "at most 2 positional params", "3"),
        ({"first": 1, "third": 3}, "/third", "one of first, second", "an unknown param"),
        ({"second": 1}, "/first", "an integer", "nothing"),
        ([], "/first", "an integer", "nothing"),
        (["x"], "/0", "an integer", "a string"),
        ({"first": "x"}, "/first", "an integer", "a string"),
        ({"context": 1}, "/context", "one of first, second", "an unknown param"),
        ({"self": 1}, "/self", "one of first, second", "an unknown param"),
        ({"a/b": 1}, "/a~1b", "one of first, second", "an unknown param"),
    ],
)
async def test_params_that_do_not_fit_are_refused_at_their_place(
    params: Any, pointer: str, expected: str, got: str
) -> None:
    error = (await answered(with_method(_total), asked("pair", params)))["error"]
    assert error["code"] == -32602
    assert error["data"]["details"] == {"pointer": pointer, "expected": expected, "got": got}


async def test_pointers_of_positional_params_begin_with_an_index() -> None:
    async def refuse(_: Call, __: Pair) -> bytes:
        raise InvalidParams("/second/3/x", "something", "nothing")

    error = (await answered(with_method(refuse), asked("pair", [1, 2])))["error"]
    assert error["data"]["details"]["pointer"] == "/1/3/x"
    assert error["message"].startswith("Invalid params: /1/3/x:")


async def test_methods_without_params_take_none() -> None:
    async def nothing(_: Call, __: NoParams) -> bytes:
        return b"[]"

    error = (await answered(with_method(nothing, NoParams), asked("pair", {"x": 1})))["error"]
    assert error["data"]["details"] == {"pointer": "/x", "expected": "no params", "got": "an unknown param"}


async def test_a_method_of_the_other_listener_is_told_where_it_is() -> None:
    dispatcher = Dispatcher(table([]), CallLimits(), Ledger(), absent={"models.load": "is on the admin listener"})
    error = (await answered(dispatcher, asked("models.load", {"model": "digits", "version": 1})))["error"]
    assert (error["code"], error["data"]["type"]) == (-32601, "method_not_found")
    assert error["message"] == "Method not found: models.load is on the admin listener"
    assert (await answered(dispatcher, asked("foobar")))["error"]["message"] == "Method not found"


async def test_a_method_that_is_not_there_names_the_one_that_may_be_meant() -> None:
    async def nothing(_: Call, __: NoParams) -> bytes:
        return b"[]"

    async def message(method: str) -> str:
        answer = await answered(with_method(nothing, NoParams), asked(method))
        return str(answer["error"]["message"])

    assert await message("piar") == "Method not found; is 'pair' meant?"
    assert await message("predict") == "Method not found"
    dispatcher = Dispatcher(table([]), CallLimits(), Ledger(), absent={"models.load": "is on the admin listener"})
    assert (await answered(dispatcher, asked("models.lode")))["error"][
        "message"
    ] == "Method not found; is 'models.load' meant?"
