"""wrk, the closed-loop load generator: one run, its figures."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = assert(io.open("{body}", "rb"))
wrk.body = file:read("*a")
done = function(summary, latency, requests)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format("FIGURES %d %d %d %d %d %d", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed, summary.errors.status))
end
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """One run of wrk.

    Attributes:
        calls: answered requests.
        per_second: of them a second.
        p50_ms, p99_ms: latency.
        failed: requests without a good answer: socket errors, time-outs, other statuses than 2xx.
    """

    calls: int
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


def run(url: str, body: Path, connections: int, seconds: int, scripts: Path) -> Figures:
    """POST `body` to `url` over `connections` keep-alive connections for `seconds`, from one thread."""
    script = scripts / f"{body.stem}.lua"
    script.write_text(_SCRIPT.format(body=body))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"FIGURES (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    assert found, output
    requests, microseconds, p50, p99, failed, status = map(int, found.groups())
    return Figures(requests, requests / (microseconds / 1e6), p50 / 1e3, p99 / 1e3, failed + status)
