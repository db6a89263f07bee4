from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hoverboard.cli.rpc import Answered, Client, Unreachable, admin_token
from hoverboard.errors import ConfigError


@contextmanager
def serving(*answers: tuple[int, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that gives one answer after the other; yields its URL and the requests it saw."""
    left, seen = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append({"headers": dict(self.headers), "path": self.path, **json.loads(body)})
            status, answer = left.pop(0)
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def refusal(code: int, *, retryable: bool, after: int | None = None) -> dict[str, Any]:
    data = {"type": "overloaded", "retryable": retryable, "retry_after_ms": after}
    return {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "Overloaded", "data": data}}


OK = {"jsonrpc": "2.0", "id": 1, "result": {"x": 1}}


def test_a_call_is_one_json_rpc_request() -> None:
    with serving((200, OK)) as (url, seen), Client(url, token="secret") as client:
        assert client.call("predict", {"model": "m"}) == {"x": 1}
    assert seen[0]["headers"]["Content-Type"] == "application/json"
    assert seen[0]["headers"]["Authorization"] == "Bearer secret"
    assert (seen[0]["method"], seen[0]["params"], seen[0]["path"]) == ("predict", {"model": "m"}, "/")


def test_a_retryable_error_is_tried_again_after_the_time_the_server_names() -> None:
    busy = refusal(-32005, retryable=True, after=20)
    with serving((503, busy), (503, busy), (200, OK)) as (url, seen), Client(url) as client:
        assert client.call("predict", {}) == {"x": 1}
    assert len(seen) == 3


def test_an_error_that_is_for_good_is_not_tried_again() -> None:
    said = pytest.raises(Answered, match=r"^Overloaded \(-32602 overloaded\)$")
    with serving((200, refusal(-32602, retryable=False))) as (url, seen), Client(url) as client, said:
        client.call("predict", {})
    assert len(seen) == 1


def test_trying_again_ends() -> None:
    busy = refusal(-32005, retryable=True, after=1)
    with serving(*[(503, busy)] * 6) as (url, seen), Client(url) as client, pytest.raises(Answered):
        client.call("predict", {})
    assert len(seen) == 6


def test_the_pause_follows_the_server_and_is_bounded() -> None:
    asked = Answered({"code": -32005, "message": "", "data": {"retry_after_ms": 1000}})
    assert 1.0 <= asked.pause(0) <= 1.25
    assert Answered({"code": -32005, "message": "", "data": {"retry_after_ms": 10**9}}).pause(0) == 10.0
    silent = Answered({"code": -32005, "message": ""})
    assert silent.pause(4) > silent.pause(0)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"3"])
def test_what_is_no_json_rpc_is_said_to_be_none(answer: bytes) -> None:
    said = pytest.raises(Unreachable, match="answered HTTP 502 without JSON-RPC")
    with serving((502, answer)) as (url, _), Client(url) as client, said:
        client.call("predict", {})


def test_nobody_at_the_address_is_one_sentence() -> None:
    with serving() as (url, _):
        pass
    with Client(url) as client, pytest.raises(Unreachable, match=rf"no server answers at {url} \(connection refused\)"):
        client.call("predict", {})


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://x", "http://", "http://x:many", "http://x:99999", "http://[::1"]
)
def test_an_impossible_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected something like http"):
        Client(url)


def test_a_missing_token_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file.*hoverboard serve"):
        admin_token(tmp_path)
