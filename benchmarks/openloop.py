"""An open-loop client: calls leave at random times at a given rate, whether or not earlier ones are answered.

Run as a process of its own: `python -m benchmarks.openloop URL BODY RATE SECONDS CONNECTIONS`. Latency counts from when a
call should have left, so that a server that stalls is charged for every call that waits meanwhile. A plain loop around
`select`, whose timeout is in microseconds: the event loops' timers round to milliseconds.
"""

from __future__ import annotations

import json
import random
import select
import socket
import subprocess
import sys
import time
import urllib.parse
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Answers", "start"]

_GIVE_UP_S = 10.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of the calls.

    Attributes:
        sent, failed: calls; no result within 10 s of the end is failed too.
        per_second: that were sent.
        p50_ms, p99_ms, max_ms: from the time a call should have left to its answer.
        late_p99_ms: how late calls left, because this client was busy or every connection was taken.
    """

    sent: int
    failed: int
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    late_p99_ms: float


class _Client:
    """Keep-alive connections, each with one call at a time."""

    def __init__(self, url: str, body: bytes, connections: int) -> None:
        address = urllib.parse.urlsplit(url)
        host, port = address.hostname or "", address.port or 80
        head = f"POST / HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._free = deque(socket.create_connection((host, port)) for _ in range(connections))
        self._busy: dict[socket.socket, float] = {}
        self._parts: dict[socket.socket, bytes] = {}
        self.latencies: list[float] = []
        self.lateness: list[float] = []
        self.failed = 0
        for connection in self._free:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def waiting(self) -> int:
        """Calls without an answer."""
        return len(self._busy)

    def send(self, due: float) -> bool:
        """Send the call that should have left at `due`; False where no connection is free."""
        if not self._free:
            return False
        connection = self._free.popleft()
        connection.sendall(self._request)
        self._busy[connection] = due
        self.lateness.append(time.perf_counter() - due)
        return True

    def receive(self, timeout: float) -> None:
        """Take in what comes within `timeout` seconds."""
        readable, _, _ = select.select(self._busy, [], [], max(0.0, timeout))
        for connection in readable:
            data = self._parts.pop(connection, b"") + connection.recv(65536)
            if not _is_whole(data):
                if not data:
                    sys.exit("the server closed a connection")
                self._parts[connection] = data
                continue
            self.latencies.append(time.perf_counter() - self._busy.pop(connection))
            self._free.append(connection)
            self.failed += b'"result"' not in data

    def close(self) -> None:
        """Close every connection."""
        for connection in (*self._free, *self._busy):
            connection.close()


def _is_whole(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return len(body) >= int(length)


def start(url: str, body: Path, rate: float, seconds: float, connections: int) -> subprocess.Popen[bytes]:
    """The client as a process; its output is `Answers` as JSON."""
    words = [url, str(body), f"{rate}", f"{seconds}", f"{connections}"]
    return subprocess.Popen([sys.executable, "-m", "benchmarks.openloop", *words], stdout=subprocess.PIPE)


def run(client: _Client, rate: float, seconds: float) -> Answers:
    """Send calls with exponential gaps between them (a Poisson process)."""
    gaps = random.Random(1)  # noqa: S311 - arrivals, not secrets
    begin = time.perf_counter()
    due = begin + gaps.expovariate(rate)
    while (now := time.perf_counter()) < begin + seconds:
        while due <= now and client.send(due):
            due += gaps.expovariate(rate)
        client.receive(due - time.perf_counter() if due > now else 0.001)
    ended = time.perf_counter()
    while client.waiting and time.perf_counter() < ended + _GIVE_UP_S:
        client.receive(0.1)
    sent = len(client.lateness)
    found, late = sorted(client.latencies), sorted(client.lateness)
    return Answers(
        sent,
        client.failed + client.waiting,
        sent / (ended - begin),
        _quantile_ms(found, 0.5),
        _quantile_ms(found, 0.99),
        _quantile_ms(found, 1.0),
        _quantile_ms(late, 0.99),
    )


def _quantile_ms(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3


def main(url: str, body: Path, rate: float, seconds: float, connections: int) -> None:
    """Run and print."""
    client = _Client(url, body.read_bytes(), connections)
    try:
        print(json.dumps(asdict(run(client, rate, seconds))))
    finally:
        client.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
