"""The tables say what callers got: no prediction of a call that was refused or that nobody waited for any more."""

from __future__ import annotations

import socket
import struct
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.recorded import Recorded, until
from tests.postgres import Server

CODES = ("-32800", "0")
"""Of a call whose caller went, and of one that was answered."""

_BATCHES = 'hoverboard_batch_size_count{model="poisoned"'

ROWS = 200
"""More than one batch holds."""

COUNTS = """
select s.request_id, count(*) as samples, count(p.sample_id) as predictions
from samples s left join predictions p on p.sample_id = s.id group by s.request_id order by s.request_id
"""


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, published: Path, postgres: Server, migrated_template: str
) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("refused-rows")
    with Recorded.running(folder, published, ["poisoned"], postgres, migrated_template, recorder_yield_s="0") as here:
        yield here


def _metric(service: Recorded, start: str) -> float:
    with urllib.request.urlopen(f"{service.service.url}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def test_of_a_refused_call_samples_and_the_reason_are_recorded_and_no_prediction(service: Recorded) -> None:
    for request_id, rows in (("fine", [[1]] * 3), ("one-batch", [[1], [12]]), ("many", [[1]] * (ROWS - 1) + [[12]])):
        answer = service.call("predict", {"model": "poisoned", "instances": rows}, {"X-Request-ID": request_id})
        assert ("result" in answer) == (request_id == "fine")
    expected = [("fine", 3, 3), ("many", ROWS, 0), ("one-batch", 2, 0)]
    until(lambda: [tuple(row.values()) for row in service.rows(COUNTS)], lambda found: found == expected)
    refused = service.rows("select request_id, pointer, kind from rejections order by request_id")
    assert [tuple(row.values()) for row in refused] == [
        ("many", f"/instances/{ROWS - 1}", "model_failed"),
        ("one-batch", "/instances/1", "model_failed"),
    ]


def _leave(service: Recorded, request_id: str) -> bool:
    """Whether a long call ended because its caller went: on a busy machine it may be answered before that."""
    body = b'{"jsonrpc":"2.0","method":"predict","id":1,"params":{"model":"poisoned","instances":[%s]}}'
    body %= b",".join([b"[1]"] * 100_000)
    url = urlsplit(service.service.url)
    gone, answered = (_metric(service, f'hoverboard_calls_total{{code="{code}",method="predict"') for code in CODES)
    before = _metric(service, _BATCHES)
    with socket.create_connection((url.hostname or "", url.port or 0)) as caller:
        head = (
            f"POST / HTTP/1.1\r\nHost: {url.netloc}\r\nX-Request-ID: {request_id}\r\nContent-Type: application/json\r\n"
        )
        caller.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        # Some of it has run, so that there is something to take back.
        until(lambda: _metric(service, _BATCHES), lambda batches: batches > before)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a half-close
    ends = until(
        lambda: [_metric(service, f'hoverboard_calls_total{{code="{code}",method="predict"') for code in CODES],
        lambda ends: sum(ends) > gone + answered,
    )
    assert sum(ends) == gone + answered + 1
    return ends[0] > gone


def test_a_caller_that_goes_is_counted_and_recorded_as_gone_and_not_as_answered(service: Recorded) -> None:
    request_id = next(f"gone-{attempt}" for attempt in range(10) if _leave(service, f"gone-{attempt}"))
    query = "select code, kind, model from rejections where request_id = $1"
    until(
        lambda: [tuple(row.values()) for row in service.rows(query, request_id)],
        lambda found: found == [(-32800, "cancelled", "poisoned")],
    )
    until(
        lambda: [row["predictions"] for row in service.rows(COUNTS) if row["request_id"] == request_id],
        lambda n: n == [0],
    )
