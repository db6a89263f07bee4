"""A writer that is killed at any moment: what it had said to be written is there, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hoverboard.journal.finding import is_alive, journals
from tests.unit.journal.written import BATCH, read_all

_ANSWERS = """
import sys
from pathlib import Path
from tests.unit.journal.written import BATCH, entry, open_writer
writer = open_writer(Path(sys.argv[1]), segment_bytes=100_000)
i = shed = 0
while True:
    writer.append(BATCH, i.to_bytes(8, "big") * (1 + i % 500), count=2, needs={"v": b"version"})
    i += 1
    if i % 3 == 0:
        writer.shed([entry(1)])
        shed += 1
    sys.stdout.write(f"{i} {shed}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("seed", range(3))
def test_what_was_answered_is_there_once_after_a_kill(tmp_path: Path, seed: int) -> None:
    root = tmp_path / "journal"
    child = subprocess.Popen([sys.executable, "-c", _ANSWERS, str(root)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    output = child.stdout.readline()  # it runs
    deadline = time.monotonic() + random.Random(seed).uniform(0.02, 0.3)
    os.set_blocking(child.stdout.fileno(), False)
    while time.monotonic() < deadline:
        output += child.stdout.read() or b""
    (living,) = journals(root)
    assert living.alive and living.process == "engine-0"
    child.send_signal(signal.SIGKILL)
    child.wait()
    output += child.stdout.read() or b""
    child.stdout.close()
    answered, shed = map(int, output.rsplit(b"\n", 2)[-2].split())
    assert not is_alive(living.directory)
    found = read_all(living.directory, max_bytes=50_000)
    batches = [int.from_bytes(frame.payload[:8], "big") for frame in found.frames if frame.kind == BATCH]
    counted = sum(one.records for gap in found.gaps for one in gap.entries)
    # One that was not answered may be there, and one that was being written may be torn.
    assert batches == list(range(len(batches)))
    assert answered <= len(batches) <= answered + 1
    assert shed <= counted <= shed + 1
    assert all(damage.reason == "torn" for damage in found.damages) and found.state == "finished"
