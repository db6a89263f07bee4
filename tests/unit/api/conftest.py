import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hoverboard.api.app import Application, running
from hoverboard.api.listener import listening_socket
from hoverboard.config import TOKEN_FILE, Settings
from hoverboard.rpc.recording import CallRecording
from tests.unit.rpc.linear import LinearEngine

TOKEN = "a-token-for-tests"
PIXELS = [1.0] * 64
PREDICT = {"jsonrpc": "2.0", "method": "predict", "params": {"model": "digits", "instances": [PIXELS]}, "id": 1}


class Service:
    """An application on free ports, and a client of it."""

    def __init__(self, application: Application, session: aiohttp.ClientSession, port: int, admin_port: int) -> None:
        self.application = application
        self.session = session
        self.port = port
        self.admin_port = admin_port
        self.url = f"http://127.0.0.1:{port}"
        self.admin_url = f"http://127.0.0.1:{admin_port}"

    async def post(self, body: Any, path: str = "/", **options: Any) -> tuple[aiohttp.ClientResponse, Any]:
        """POST a body; JSON where it is none yet. Answers the response and its JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        async with self.session.post(self.url + path, data=data, headers=headers, **options) as response:
            text = await response.read()
            return response, json.loads(text) if text else None

    async def raw(self, sent: bytes, *, seconds: float = 5.0) -> bytes:
        """Send bytes on a new connection; answers all that comes until the server closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        await writer.drain()
        try:
            async with asyncio.timeout(seconds):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


Start = Callable[..., Awaitable[Service]]


@pytest.fixture
def engine() -> LinearEngine:
    return LinearEngine()


@pytest.fixture
async def start(engine: LinearEngine, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a service with some settings changed, recording into `journal`; it ends with the test."""
    (tmp_path / TOKEN_FILE).write_text(TOKEN + "\n")
    async with AsyncExitStack() as stack:

        async def started(*, journal: CallRecording | None = None, **settings: Any) -> Service:
            chosen = Settings.load(data_dir=tmp_path, **{"drain_timeout_s": 5.0, **settings})
            public, admin = listening_socket("127.0.0.1", 0), listening_socket("127.0.0.1", 0)
            ports = public.getsockname()[1], admin.getsockname()[1]
            application = await stack.enter_async_context(
                running(chosen, engine, public=public, admin=admin, recording=journal)
            )
            session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
            return Service(application, session, *ports)

        yield started


@pytest.fixture
async def service(start: Start) -> Service:
    return await start()


def http(body: bytes, *headers: str, path: str = "/", verb: str = "POST") -> bytes:
    """A request as bytes, closing its connection."""
    lines = [f"{verb} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if "Content-Length" not in "".join(headers) and "Transfer-Encoding" not in "".join(headers):
        lines.append(f"Content-Length: {len(body)}")
    if "Content-Type" not in "".join(headers):
        lines.append("Content-Type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + body
