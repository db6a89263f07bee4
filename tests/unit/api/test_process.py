"""The api process as the supervisor starts it, with an engine of ours behind its socket."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from hoverboard.config import TOKEN_FILE, Settings
from hoverboard.contract.catalog import Catalog
from hoverboard.engine.socket.wire import (
    AnswerMessage,
    CallMessage,
    CatalogMessage,
    FailureMessage,
    FrameReader,
    decode_calls,
    frame,
)
from hoverboard.errors import HoverboardError
from hoverboard.journal.records import LabelRecord, RejectionRecord
from tests.journals import records_of
from tests.unit.api.conftest import PREDICT, TOKEN, http
from tests.unit.rpc.linear import DIGITS, LinearEngine, live, model

BODY = json.dumps(PREDICT).encode()


class SocketEngine(asyncio.Protocol):
    """One api process's connection to an engine in this process."""

    def __init__(self, engine: LinearEngine) -> None:
        self.engine = engine
        self.reader = FrameReader(decode_calls)
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.engine.subscribe(lambda catalog: self.transport.write(frame([CatalogMessage(catalog)])))

    def data_received(self, data: bytes) -> None:
        for message in self.reader.feed(data):
            if isinstance(message, CallMessage):
                task = asyncio.create_task(self.answer(message))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    async def answer(self, message: CallMessage) -> None:
        try:
            answer = await self.engine.predict(message.unpack())
            reply: AnswerMessage | FailureMessage = AnswerMessage.pack(message.id, answer)
        except HoverboardError as error:
            reply = FailureMessage.pack(message.id, error)
        self.transport.write(frame([reply]))


class Api:
    """A running api process."""

    def __init__(self, process: Process, settings: Settings) -> None:
        self.process = process
        self.settings = settings
        self.first_line: dict[str, Any] = {}
        self.url = f"http://127.0.0.1:{settings.port}"
        self.admin_url = f"http://127.0.0.1:{settings.admin_port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def ready(session: aiohttp.ClientSession, url: str) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with session.get(url + "/readyz") as response:
                if response.status == 200:
                    return
        await asyncio.sleep(0.05)


Spawn = Callable[..., Awaitable[Api]]


@pytest.fixture
def engine() -> LinearEngine:
    return LinearEngine(catalog=Catalog({"digits": model("digits", live(1, DIGITS))}, 1, ready=True))


@pytest.fixture
async def spawn(engine: LinearEngine, tmp_path: Path) -> AsyncIterator[Spawn]:
    (tmp_path / "metrics").mkdir()
    (tmp_path / TOKEN_FILE).write_text(TOKEN)
    ports = {"port": free_port(), "admin_port": free_port()}
    settings = Settings.load(data_dir=tmp_path, drain_timeout_s=10.0, log_format="json", **ports)
    settings.to_runtime(tmp_path)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: SocketEngine(engine), str(tmp_path / "engine-0.sock"))
    started: list[Process] = []

    async def run(index: int = 0) -> Api:
        command = [sys.executable, "-P", "-m", "hoverboard", "_api", "--runtime", str(tmp_path), "--index", str(index)]
        root = Path(__file__).parents[3]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stderr=PIPE, env={**os.environ, "PYTHONPATH": str(root)}
        )
        started.append(process)
        api = Api(process, settings)
        async with asyncio.timeout(20), aiohttp.ClientSession() as session:
            assert process.stderr is not None
            api.first_line = json.loads(await process.stderr.readline())
            await ready(session, api.url)
        return api

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    server.close()


async def logged(process: Process) -> list[dict[str, Any]]:
    assert process.stderr is not None
    errors = await process.stderr.read()  # `communicate` may close its standard input, by which it is told to leave
    await process.wait()
    return [json.loads(line) for line in errors.splitlines()]


async def test_an_api_process_serves_and_leaves_cleanly(spawn: Spawn) -> None:
    api = await spawn()
    async with aiohttp.ClientSession() as session:
        async with session.post(api.url, data=BODY, headers={"Content-Type": "application/json"}) as response:
            answer = await response.json()
            assert answer["result"]["model"] == "digits", answer
        async with session.post(api.admin_url, data=b"{}") as response:
            assert response.status == 401
    api.process.send_signal(signal.SIGTERM)
    lines = await logged(api.process)
    assert api.process.returncode == 0
    events = [line["event"] for line in (api.first_line, *lines)]
    assert events == ["api_started", "call_refused", "api_draining", "api_stopped"]
    assert all(line["process"] == "api-0" for line in (api.first_line, *lines))
    assert lines[-1]["complete"] is True


async def test_what_was_accepted_and_refused_is_in_the_journal_of_a_process_that_left(
    spawn: Spawn, tmp_path: Path
) -> None:
    api = await spawn(index=1)
    label = {"sample_id": "0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718", "label": "7"}
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
        for call in ({**PREDICT, "method": "label", "params": label}, {**PREDICT, "method": "no.such"}):
            async with session.post(api.url, json=call) as response:
                assert response.status == 200
    api.process.send_signal(signal.SIGTERM)
    await logged(api.process)
    accepted, refused = records_of(tmp_path / "journal", "api-1")
    assert isinstance(accepted, LabelRecord) and accepted.label == "7"
    assert isinstance(refused, RejectionRecord) and refused.code == -32601
    assert len(list((tmp_path / "journal").glob("*/closed"))) == 1


async def test_an_accepted_label_outlives_kill_minus_nine(spawn: Spawn, tmp_path: Path) -> None:
    api = await spawn()
    several = {"labels": [{"sample_id": "0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718", "label": str(n)} for n in range(300)]}
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
        async with session.post(api.url, json={**PREDICT, "method": "label", "params": several}) as response:
            assert (await response.json())["result"] == {"accepted": 300}
        api.process.kill()
    await api.process.wait()
    labels = [record.label for record in records_of(tmp_path / "journal") if isinstance(record, LabelRecord)]
    assert labels == [str(n) for n in range(300)]


async def test_an_api_process_that_cannot_open_its_journal_says_so_and_ends(
    tmp_path: Path, engine: LinearEngine
) -> None:
    (tmp_path / "journal").write_text("in the way")
    Settings.load(data_dir=tmp_path, port=0, admin_port=0, log_format="json").to_runtime(tmp_path)
    (tmp_path / "metrics").mkdir()
    command = [sys.executable, "-P", "-m", "hoverboard", "_api", "--runtime", str(tmp_path), "--index", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stderr=PIPE, env=environment)
    (line,) = await logged(process)
    assert process.returncode == 1
    assert (line["event"], line["level"]) == ("api_cannot_start", "critical")
    assert line["reason"].startswith(f"no journal can be opened in {tmp_path / 'journal'}: ")


async def test_only_the_first_api_process_opens_the_admin_listener(spawn: Spawn) -> None:
    api = await spawn(index=1)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", api.settings.admin_port)


async def test_an_api_process_never_imports_a_framework(spawn: Spawn) -> None:
    api = await spawn()
    maps = Path(f"/proc/{api.process.pid}/maps")
    if not maps.exists():
        pytest.skip("no /proc here")
    assert "tensorflow" not in maps.read_text()


async def test_an_api_process_leaves_at_once_when_its_supervisor_dies(spawn: Spawn) -> None:
    api = await spawn()
    assert api.process.stdin is not None
    api.process.stdin.close()
    async with asyncio.timeout(5):
        assert await api.process.wait() != 0


async def test_two_api_processes_share_the_port(spawn: Spawn) -> None:
    first, second = await spawn(0), await spawn(1)
    first.process.send_signal(signal.SIGTERM)
    await first.process.communicate()
    async with (
        aiohttp.ClientSession() as session,
        session.post(second.url, data=BODY, headers={"Content-Type": "application/json"}) as response,
    ):
        assert "result" in await response.json()


class Load:
    """Clients that note what was answered, and what was sent and not."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered: list[bytes] = []
        self.lost: list[str] = []

    async def keep_calling(self) -> None:
        """Call on one connection until the server says that it ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = b""
        while b"connection: close" not in head.lower():
            writer.write(http(BODY).replace(b"Connection: close\r\n", b""))
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                self.answered.append(await reader.readexactly(int(length.partition(b":")[2])))
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                self.lost.append(repr(error))
                break
        writer.close()

    async def keep_connecting(self) -> None:
        """Call once on each of many connections, until none is accepted."""
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                return
            writer.write(http(BODY))
            try:
                self.answered.append(await reader.read())
            except ConnectionError as error:
                self.lost.append(repr(error))
            writer.close()


async def test_no_accepted_call_is_lost_when_a_process_is_stopped_under_load(spawn: Spawn) -> None:
    api = await spawn()
    load = Load(api.settings.port)
    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(load.keep_calling())
        group.create_task(load.keep_connecting())
        while len(load.answered) < 200:
            await asyncio.sleep(0.01)
        api.process.send_signal(signal.SIGTERM)
    lines = await logged(api.process)
    assert api.process.returncode == 0
    assert load.lost == []
    assert all(b'"result"' in answer for answer in load.answered)
    assert lines[-1]["complete"] is True
