"""Pinned responses, at least one per error class, in `golden/<data.type>[.<case>].json`: what a client may rely on."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from hoverboard.api.body import accept_content
from hoverboard.api.replies import HttpRefusal, error_headers, refusal
from hoverboard.errors import BY_KIND, Cancelled, InvalidParams, RpcError
from hoverboard.rpc.call import CallLimits, RpcRequest
from hoverboard.rpc.running import error_reply
from tests.unit.rpc.conftest import Records, public_dispatcher
from tests.unit.rpc.linear import LinearEngine

GOLDEN = Path(__file__).parent / "golden"
PIXELS = [1.0] * 64
FILES = sorted(GOLDEN.glob("*.json"))


def test_every_error_class_has_its_golden_file_and_no_other_exists() -> None:
    assert {kind_of(path) for path in FILES} == set(BY_KIND)


def test_every_error_class_has_a_type_of_its_own() -> None:
    def leaves(cls: type[RpcError]) -> list[type[RpcError]]:
        return [cls, *(leaf for sub in cls.__subclasses__() for leaf in leaves(sub))]

    never_sent = (RpcError, Cancelled)
    named = [
        cls for cls in leaves(RpcError) if cls.__module__.startswith("hoverboard.errors") and cls not in never_sent
    ]
    kinds = [cls.kind for cls in named]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == set(BY_KIND)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_an_error_keeps_its_pinned_shape(path: Path) -> None:
    golden = json.loads(path.read_text())
    engine, records = LinearEngine(), Records()
    if "engine" in golden:
        engine.failure = failure(kind_of(path), golden["engine"])
    if "journal" in golden:
        records.failure = failure(kind_of(path), golden["journal"])
    recording = records if golden.get("recording", True) else None
    dispatcher = public_dispatcher(engine, CallLimits(**golden.get("limits", {})), recording=recording)
    request = RpcRequest("request-1", time.monotonic())
    body = golden["body"] if isinstance(golden["body"], str) else json.dumps(with_pixels(golden["body"]))
    if "refused" in golden:
        error = failure(kind_of(path), golden["refused"])
        reply = error_reply(error, request)
    else:
        reply = await dispatcher.handle(body.encode(), request)
    assert reply.body is not None
    response = json.loads(reply.body)
    assert response == golden["response"]
    (single,) = response if isinstance(response, list) else [response]
    cls = BY_KIND[kind_of(path)]
    assert (single["error"]["code"], single["error"]["data"]["type"]) == (cls.code, cls.kind)
    assert len(records.rejections) == (0 if recording is None or "refused" in golden else 1)
    assert golden["http_status"] == (200 if reply.error is None else reply.error.http_status)
    assert golden.get("http_headers", {}) == ({} if reply.error is None else error_headers(reply.error))


def kind_of(path: Path) -> str:
    return path.name.partition(".")[0]


def failure(kind: str, fields: dict[str, Any]) -> RpcError:
    cls = BY_KIND[kind]
    return InvalidParams(**fields) if cls is InvalidParams else cls(**fields)


def with_pixels(value: Any) -> Any:
    """A request with `"PIXELS"` replaced by 64 numbers."""
    if isinstance(value, dict):
        return {key: with_pixels(each) for key, each in value.items()}
    if isinstance(value, list):
        return [with_pixels(each) for each in value]
    return PIXELS if value == "PIXELS" else value


def test_refusals_of_http_have_the_same_shape() -> None:
    with pytest.raises(HttpRefusal) as caught:
        accept_content("text/plain")
    response = refusal(caught.value, "request-1")
    assert response.status == 415
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == {
        "jsonrpc": "2.0",
        "error": {
            "code": -32600,
            "message": "Invalid Request: Content-Type must be application/json, in UTF-8",
            "data": {"type": "invalid_request", "retryable": False, "request_id": "request-1"},
        },
        "id": None,
    }
