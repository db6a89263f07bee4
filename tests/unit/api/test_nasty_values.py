"""Whatever stands in whatever place of a request: each call gets an answer of its own, over HTTP and WebSocket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoverboard.api.app import running
from hoverboard.api.listener import listening_socket
from hoverboard.config import Settings
from tests.unit.api.conftest import PIXELS, Service
from tests.unit.rpc.conftest import Records
from tests.unit.rpc.linear import LinearEngine

NASTY = [
    "9" * 20,
    "-" + "9" * 20,
    "9" * 400,
    "9" * 5000,
    "18446744073709551615",
    "9223372036854775808",
    "-9223372036854775809",
    "1e400",
    "-1e-400",
    "1.5",
    "NaN",
    "Infinity",
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u0000"',
    '""',
    '"' + "x" * 5000 + '"',
    '"caf\u00e9 \U0001f6f9"',
    '"\x01"',
    "null",
    "true",
    "{}",
    "[]",
    "[[[[]]]]",
    '{"\\ud800":1}',
    '{"":{"":[]}}',
    "[" * 600 + "]" * 600,
    '{"b64":"a"}',
    '{"b64":"AAAA","dtype":"float32","shape":[' + "9" * 30 + "]}",
]
HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
PLACES: dict[str, str] = {
    "jsonrpc": '"2.0"',
    "method": '"predict"',
    "id": "1",
    "params": "",
}
PARAMS: dict[str, dict[str, str]] = {
    "predict": {
        "model": '"digits"',
        "instances": json.dumps([PIXELS]),
        "inputs": "",
        "version": "1",
        "deadline_ms": "5000",
        "top_k": "2",
        "outputs": "false",
        "tags": '{"a":"b"}',
    },
    "models.describe": {"model": '"digits"', "version": "1"},
    "models.list": {},
    "label": {
        "sample_id": '"01980000-0000-7000-8000-000000000000"',
        "label": '"x"',
        "value": "",
        "source": '"s"',
        "author": '"a"',
        "labels": "",
    },
}


def _object(members: dict[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in members.items() if text) + "}"


@st.composite
def _calls(draw: st.DrawFn) -> str:
    """A call that would be right, but for one or two places."""
    method = draw(st.sampled_from(sorted(PARAMS)))
    params = dict(PARAMS[method])
    envelope = {**PLACES, "method": json.dumps(method)}
    for _ in range(draw(st.integers(1, 2))):
        nasty = draw(st.sampled_from(NASTY))
        place = draw(st.sampled_from([*envelope, *params, "surplus"]))
        if place in params:
            wrapped = st.sampled_from([nasty, f"[{nasty}]", '{"pixels":' + nasty + "}", f'{{"x":{nasty}}}'])
            params[place] = draw(wrapped)
        elif place == "surplus":
            params["\ud800" if draw(st.booleans()) else "x" * 3000] = nasty
        else:
            envelope[place] = nasty
    return _object({**envelope, "params": envelope["params"] or _object(params)})


@asynccontextmanager
async def _connected(folder: Path) -> AsyncIterator[tuple[Service, ClientWebSocketResponse]]:
    chosen = Settings.load(data_dir=folder)
    public = listening_socket("127.0.0.1", 0)
    port = public.getsockname()[1]
    async with (
        running(chosen, LinearEngine(), public=public, recording=Records()) as application,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        service = Service(application, session, port, 0)
        yield service, await session.ws_connect(service.url + "/ws")


async def _asked(folder: Path, call: str, neighbour: str) -> None:
    batch = f"[{neighbour},{call},{neighbour}]"
    async with _connected(folder) as (service, socket), asyncio.timeout(10):
        for body in (call, batch):
            data = body.encode("utf-8", "surrogatepass")
            async with service.session.post(service.url, data=data, headers=HEADERS) as response:
                answer = _parsed(await response.text())
                assert response.status in (200, 204), answer
            _check(answer, body, batch)
            await socket.send_bytes(data)
            if answer is not None:
                _check(_parsed(await socket.receive_str()), body, batch)


def _parsed(text: str) -> Any:
    return json.loads(text, parse_int=str) if text else None


def _check(answer: Any, body: str, batch: str) -> None:
    answers = answer if isinstance(answer, list) else [answer]
    for one in answers:
        if one is not None and "error" in one:
            assert one["error"]["data"]["type"] != "internal_error", (body[:300], one)
            assert len(json.dumps(one["error"])) < 3000
    if body is batch and isinstance(answer, list):
        assert [one.get("result") is not None for one in answers if one["id"] == "neighbour"] == [True, True]


NEIGHBOUR = _object({**PLACES, "id": '"neighbour"', "params": _object(PARAMS["predict"])})


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(call=_calls())
def test_whatever_a_request_holds_each_call_gets_its_own_answer(tmp_path: Path, call: str) -> None:
    asyncio.run(_asked(tmp_path, call, NEIGHBOUR))


@pytest.mark.parametrize("place", ["model", "version", "deadline_ms", "top_k", "id"])
async def test_an_integer_past_64_bits_costs_only_its_own_call(tmp_path: Path, place: str) -> None:
    huge = "9" * 20
    params = {**PARAMS["predict"], **({place: huge} if place != "id" else {})}
    call = _object({**PLACES, "id": huge if place == "id" else "1", "params": _object(params)})
    async with _connected(tmp_path) as (service, socket):
        response, answer = await service.post(call.encode(), headers=HEADERS)
        assert response.status == 200
        assert ("result" in answer) == (place == "id")
        assert answer["id"] == (int(huge) if place == "id" else 1)
        _, answers = await service.post(f"[{NEIGHBOUR},{call}]".encode(), headers=HEADERS)
        assert "result" in answers[0]
        await socket.send_str(call)
        assert json.loads(await socket.receive_str(timeout=5))["id"] == answer["id"]
