"""A server that answers what it was told to, one answer after the other."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def serving(*answers: tuple[int, Any], pause_s: float = 0.0) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that gives one answer after the other, each with the id of its request; yields its URL and the requests."""
    left, seen = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({"headers": dict(self.headers), "path": self.path, **call})
            status, answer = left.pop(0)
            time.sleep(pause_s)
            own = {"id": call["id"]} if isinstance(answer, dict) else {}
            raw = answer if isinstance(answer, bytes) else json.dumps({**answer, **own}).encode()
            with suppress(ConnectionError):  # a client that waits no longer has gone
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
