import asyncio
import gzip
import json
from typing import Any

import pytest

from hoverboard.errors import DeadlineExceeded, NotReady, Overloaded
from tests.unit.api.conftest import PIXELS, PREDICT, Service, Start, http
from tests.unit.rpc.linear import LinearEngine

MANY = {**PREDICT, "params": {"model": "digits", "instances": [PIXELS] * 20}}


@pytest.mark.parametrize("path", ["/", "/rpc", "/?trace=1"])
async def test_json_rpc_is_answered_on_both_paths(service: Service, path: str) -> None:
    response, answer = await service.post(PREDICT, path)
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    assert answer["result"]["model"] == "digits"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json-rpc",
        "application/jsonrequest",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
    ],
)
async def test_json_content_types_are_taken(service: Service, content_type: str) -> None:
    response, answer = await service.post(PREDICT, headers={"Content-Type": content_type})
    assert response.status == 200
    assert "result" in answer


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""]
)
async def test_other_content_types_are_415_with_a_json_rpc_body(service: Service, content_type: str) -> None:
    response, answer = await service.post(PREDICT, headers={"Content-Type": content_type})
    assert response.status == 415
    assert answer["error"]["code"] == -32600
    assert answer["id"] is None


async def test_no_content_type_at_all_is_415(service: Service) -> None:
    body = json.dumps(PREDICT).encode()
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    assert (await service.raw(head.encode() + body)).startswith(b"HTTP/1.1 415 ")


@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
async def test_other_verbs_are_405_with_allow(service: Service, verb: str) -> None:
    async with service.session.request(verb, service.url + "/rpc") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"
        if verb != "HEAD":
            assert (await response.json())["error"]["code"] == -32600


async def test_unknown_paths_are_404_with_json(service: Service) -> None:
    response, answer = await service.post(PREDICT, "/nope")
    assert response.status == 404
    assert answer["error"]["code"] == -32600


async def test_no_cross_origin_headers_are_sent(service: Service) -> None:
    response, _ = await service.post(PREDICT, headers={"Origin": "http://elsewhere.example"})
    assert not [name for name in response.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "body", [{"jsonrpc": "2.0", "method": "models.list"}, [{"jsonrpc": "2.0", "method": "models.list"}] * 2]
)
async def test_only_notifications_are_204_without_a_body(service: Service, body: Any) -> None:
    response, answer = await service.post(body)
    assert response.status == 204
    assert answer is None
    assert "Content-Type" not in response.headers


@pytest.mark.parametrize("failure", [NotReady(retry_after_ms=1500), Overloaded(retry_after_ms=10), Overloaded()])
async def test_not_ready_and_overloaded_are_503_with_retry_after(
    service: Service, engine: LinearEngine, failure: Any
) -> None:
    engine.failure = failure
    response, answer = await service.post(PREDICT)
    assert response.status == 503
    assert response.headers["Retry-After"] == ("2" if failure.retry_after_ms == 1500 else "1")
    assert answer["error"]["code"] == failure.code


async def test_inside_a_batch_not_ready_is_200(service: Service, engine: LinearEngine) -> None:
    engine.failure = NotReady()
    response, answers = await service.post([PREDICT, PREDICT])
    assert response.status == 200
    assert "Retry-After" not in response.headers
    assert [answer["error"]["code"] for answer in answers] == [-32002, -32002]


@pytest.mark.parametrize("body", [b"nonsense", b"[]", b'{"jsonrpc":"2.0","method":"nope","id":1}'])
async def test_errors_of_the_protocol_are_200(service: Service, body: bytes) -> None:
    response, answer = await service.post(body)
    assert response.status == 200
    assert "error" in answer


async def test_a_missed_deadline_is_200(service: Service, engine: LinearEngine) -> None:
    engine.failure = DeadlineExceeded()
    response, answer = await service.post(PREDICT)
    assert response.status == 200
    assert answer["error"]["data"]["retryable"] is True


@pytest.mark.parametrize("given", ["mine-1", "a b", "x" * 128, "550e8400-e29b-41d4-a716-446655440000"])
async def test_request_ids_are_echoed_and_recorded(service: Service, engine: LinearEngine, given: str) -> None:
    response, _ = await service.post(PREDICT, headers={"X-Request-ID": given})
    assert response.headers["X-Request-ID"] == given
    assert engine.calls[-1].request_id == given
    _, answer = await service.post({"x": 1}, headers={"X-Request-ID": given})
    assert answer["error"]["data"]["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "caf\u00e9", "tab\there"])
async def test_unfit_request_ids_are_replaced(service: Service, engine: LinearEngine, given: str) -> None:
    raw = await service.raw(http(json.dumps(PREDICT).encode(), f"X-Request-ID: {given}"))
    head = raw.partition(b"\r\n\r\n")[0].decode()
    (line,) = [line for line in head.split("\r\n") if line.lower().startswith("x-request-id:")]
    assert line.partition(": ")[2] == engine.calls[-1].request_id
    assert engine.calls[-1].request_id not in (given, "")


async def test_requests_without_an_id_get_one_each(service: Service) -> None:
    ids = {(await service.post(PREDICT))[0].headers["X-Request-ID"] for _ in range(3)}
    assert len(ids) == 3


async def test_trace_context_is_passed_on_when_well_formed(service: Service, engine: LinearEngine) -> None:
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await service.post(PREDICT, headers={"traceparent": good})
    assert engine.calls[-1].traceparent == good
    for bad in ("00-xyz", good.upper(), good + "\u00e9"):
        await service.post(PREDICT, headers={"traceparent": bad})
        assert engine.calls[-1].traceparent is None


async def test_answers_are_compressed_when_large_and_asked_for(service: Service) -> None:
    body = json.dumps(MANY).encode()
    headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip, deflate"}
    async with service.session.post(service.url, data=body, headers=headers) as response:
        packed = await response.read()
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Vary"] == "Accept-Encoding"
        assert len(json.loads(gzip.decompress(packed))["result"]["predictions"]) == 20


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "gzip; q=0.000", "deflate", "br, *;q=0", "gzip;q=0, *"])
async def test_answers_are_not_compressed_when_that_is_not_wanted(service: Service, accepted: str) -> None:
    response, _ = await service.post(MANY, headers={"Accept-Encoding": accepted})
    assert "Content-Encoding" not in response.headers


async def test_small_answers_and_errors_are_never_compressed(service: Service) -> None:
    for body in (PREDICT, {**PREDICT, "params": {"model": "digits", "surplus" * 1000: 1}}):
        response, _ = await service.post(body, headers={"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in response.headers


async def test_large_answers_are_compressed_off_the_event_loop(service: Service) -> None:
    many = {**PREDICT, "params": {"model": "digits", "instances": [PIXELS] * 1000, "outputs": True}}
    async with service.session.post(
        service.url,
        data=json.dumps(many).encode(),
        headers={"Content-Type": "application/json", "Accept-Encoding": "gzip"},
    ) as response:
        assert len(json.loads(gzip.decompress(await response.read()))["result"]["predictions"]) == 1000


async def test_a_client_that_disconnects_cancels_what_it_had_waiting(service: Service, engine: LinearEngine) -> None:
    engine.gate.clear()
    body = json.dumps([PREDICT, PREDICT]).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(http(body))
    async with asyncio.timeout(5):
        while len(engine.calls) < 2:
            await asyncio.sleep(0.01)
        writer.close()
        while engine.cancelled < 2:
            await asyncio.sleep(0.01)
    engine.gate.set()
    assert "result" in (await service.post(PREDICT))[1]


async def test_pipelined_requests_are_answered_in_order(service: Service) -> None:
    first, second = (json.dumps({**PREDICT, "id": number}).encode() for number in ("a", "b"))
    kept = http(first).replace(b"Connection: close\r\n", b"")
    raw = await service.raw(kept + http(second))
    assert raw.index(b'"id":"a"') < raw.index(b'"id":"b"')


async def test_what_is_no_http_is_400_with_a_json_rpc_body(service: Service) -> None:
    for sent in (b"\x16\x03\x01\x02\x00garbage\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\nx\r\n\r\n"):
        raw = await service.raw(sent)
        head, _, body = raw.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 400 ")
        error = json.loads(body)["error"]
        assert error["code"] == -32600
        assert f"X-Request-ID: {error['data']['request_id']}\r\n".encode() in head + b"\r\n"
        assert error["data"]["request_id"]


async def test_a_bug_in_a_handler_is_500_with_a_json_rpc_body_and_no_text(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("hoverboard.rpc.dispatch.Dispatcher.handle", broken)
    service = await start()
    response, answer = await service.post(PREDICT)
    assert response.status == 500
    assert answer["error"]["code"] == -32603
    assert "secret" not in json.dumps(answer)


async def test_unknown_and_foreign_labels_do_not_grow_the_metrics(service: Service) -> None:
    for number in range(50):
        await service.post({"jsonrpc": "2.0", "method": f"made.up.{number}", "id": 1})
        await service.post({**PREDICT, "params": {"model": f"made-up-{number}", "instances": [1]}})
    async with service.session.get(service.url + "/metrics") as response:
        text = await response.text()
        assert response.status == 200
    assert "made" not in text
    assert 'method="unknown"' in text
