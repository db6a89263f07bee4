"""Asking `/readyz`: whatever answers, and however badly, is an answer."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hoverboard.config import Settings
from hoverboard.supervisor.banner import Readiness, _probe, banner, ready_line
from hoverboard.telemetry.recording_state import RecordingState


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(answer)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it overrides
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/readyz"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 99\r\n\r\n{",
        b"rubbish\r\n\r\n",
    ],
    ids=["nothing", "half of a 200", "half of a 503", "no HTTP"],
)
def test_an_api_process_that_dies_while_it_answers_is_asked_again(answer: bytes) -> None:
    with answering(answer) as url:
        assert _probe(url) == Readiness(0, {})


def test_a_refusal_says_what_is_missing() -> None:
    body = b'{"missing":[{"what":"model","name":"m"}]}'
    with answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)) as url:
        readiness = _probe(url)
    assert not readiness.ready
    assert readiness.missing == [{"what": "model", "name": "m"}]


@pytest.mark.parametrize(
    "recording, said",
    [
        (RecordingState("working"), None),
        (RecordingState("off"), None),
        (RecordingState("failing", "no room on disk", "records wait"), "RECORDING DOES NOT WORK: no room on disk"),
        (RecordingState("starting", "Postgres is starting"), "Recording has not begun: Postgres is starting."),
    ],
)
def test_a_person_and_a_program_are_told_whether_answers_are_recorded(
    make_settings: Callable[..., Settings], recording: RecordingState, said: str | None
) -> None:
    settings, readiness = make_settings(), Readiness(200, {"models": {"m": {"stable": 1}}})
    text = banner(settings, readiness, recording, Path("token"))
    assert (said or "Try:") in text
    assert ("RECORDING" in text) == (recording.state == "failing")
    line = json.loads(ready_line(settings, readiness, recording, Path("token")))
    assert line["recording"]["state"] == recording.state
    assert line["recording"].get("why") == recording.why
