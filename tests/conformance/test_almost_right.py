"""Bodies that are almost right, over real HTTP: never a 500, never a hang, always JSON-RPC or 204."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoverboard.api.app import running
from hoverboard.api.listener import listening_socket
from hoverboard.config import Settings
from hoverboard.errors import BY_KIND
from tests.unit.rpc.linear import LinearEngine
from tests.unit.rpc.test_fastlane import envelopes, junk

CODES = {error.code for error in BY_KIND.values()}
STATUSES = {200, 204, 400, 413, 415, 503}


class Server:
    """A service in a loop of its own, called from synchronous tests."""

    def __init__(self, data_dir: Path) -> None:
        self.runner = asyncio.Runner()
        self.stop = asyncio.Event()
        self.port = 0
        self.serving: asyncio.Task[None] | None = None
        self.session: aiohttp.ClientSession | None = None
        self.runner.run(self._start(data_dir))

    async def _start(self, data_dir: Path) -> None:
        started = asyncio.Event()
        self.serving = asyncio.create_task(self._serve(data_dir, started))
        await started.wait()
        self.session = aiohttp.ClientSession()

    async def _serve(self, data_dir: Path, started: asyncio.Event) -> None:
        public = listening_socket("127.0.0.1", 0)
        self.port = public.getsockname()[1]
        async with running(Settings.load(data_dir=data_dir, log_level="error"), LinearEngine(), public=public):
            started.set()
            await self.stop.wait()

    def close(self) -> None:
        async def end() -> None:
            assert self.session is not None
            assert self.serving is not None
            await self.session.close()
            self.stop.set()
            await self.serving

        self.runner.run(end())
        self.runner.close()

    def post(self, body: bytes, **headers: str) -> tuple[int, bytes]:
        async def one() -> tuple[int, bytes]:
            assert self.session is not None
            url = f"http://127.0.0.1:{self.port}/"
            sent = {"Content-Type": "application/json", **headers}
            async with asyncio.timeout(10), self.session.post(url, data=body, headers=sent) as response:
                return response.status, await response.read()

        return self.runner.run(one())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("data"))
    yield server
    server.close()


def check(status: int, body: bytes) -> None:
    """That an answer is JSON-RPC, or nothing for notifications."""
    assert status in STATUSES
    if status == 204:
        assert body == b""
        return
    answers = json.loads(body, parse_constant=pytest.fail)
    assert answers != []
    for answer in answers if isinstance(answers, list) else [answers]:
        assert answer["jsonrpc"] == "2.0"
        assert ("result" in answer) != ("error" in answer)
        assert set(answer) <= {"jsonrpc", "result", "error", "id"}
        assert "id" in answer
        if "error" in answer:
            check_error(answer["error"])


def check_error(error: Any) -> None:
    assert set(error) == {"code", "message", "data"}
    assert error["code"] in CODES
    assert error["code"] != -32603
    assert {"type", "retryable", "request_id"} <= set(error["data"])
    assert set(error["data"]) <= {"type", "retryable", "retry_after_ms", "request_id", "details"}
    assert BY_KIND[error["data"]["type"]].code == error["code"]


messages = envelopes | st.lists(envelopes | junk, max_size=4) | junk
documents = st.builds(lambda message: json.dumps(message).encode(), messages)
quick = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(body=documents)
def test_almost_right_messages_are_answered_in_json_rpc(server: Server, body: bytes) -> None:
    check(*server.post(body))


@quick
@given(body=documents, at=st.integers(0, 300), change=st.binary(max_size=3), cut=st.booleans())
def test_damaged_bodies_are_answered_in_json_rpc(
    server: Server, body: bytes, at: int, change: bytes, cut: bool
) -> None:
    check(*server.post(body[:at] + change + (b"" if cut else body[at + 1 :])))


@quick
@given(body=st.binary(max_size=60))
def test_arbitrary_bytes_are_answered_in_json_rpc(server: Server, body: bytes) -> None:
    check(*server.post(body))


@quick
@given(body=st.binary(max_size=40), encoding=st.sampled_from(["gzip", "x-gzip", "identity", "br", ""]))
def test_arbitrary_encodings_are_answered_in_json_rpc(server: Server, body: bytes, encoding: str) -> None:
    check(*server.post(body, **{"Content-Encoding": encoding}))


@pytest.mark.parametrize("depth", [10, 100, 900, 1000, 5000, 150_000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_nesting_of_any_depth_is_answered_in_json_rpc(server: Server, depth: int, pair: str) -> None:
    opened = "[" if pair == "[]" else '{"a":'
    nested = opened * depth + "1" + pair[1] * depth
    for body in (
        nested,
        f'{{"jsonrpc":"2.0","method":"predict","params":{{"model":"digits","instances":{nested}}},"id":1}}',
    ):
        check(*server.post(body.encode()))


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 4000, "1e-400", "-0", "0.1e+1"])
def test_numbers_of_any_size_are_answered_in_json_rpc(server: Server, number: str) -> None:
    for params in (f'["digits",[[{number}]]]', f'{{"model":"digits","instances":[[1]],"deadline_ms":{number}}}'):
        body = f'{{"jsonrpc":"2.0","method":"predict","params":{params},"id":{number}}}'
        status, answer = server.post(body.encode())
        check(status, answer)
        assert answer.endswith(f'"id":{number}}}'.encode())
