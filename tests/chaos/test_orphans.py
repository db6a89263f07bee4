"""The supervisor killed under load: nothing is left behind that would stand in the way of the next start."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from hoverboard.errors import NotReady
from tests.integration.running import running
from tests.load import Load, report, wrong

CONNECTIONS = 32
ANSWERS = 500

Expected = Mapping[int, Any]
Questions = Sequence[Mapping[str, Any]]


async def test_a_killed_supervisor_leaves_nothing_behind_and_the_next_start_works(
    folder: Path, tmp_path: Path, questions: Questions, expected: Expected, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").symlink_to(folder / "models")
    with running(tmp_path, status=-signal.SIGKILL) as service:
        children = service.children()
        assert len(children) == 2
        async with Load(service.url, questions, connections=CONNECTIONS, backoff_s=None) as load:
            await load.more(ANSWERS)
            killed = time.perf_counter()
            service.process.kill()
            _, alive = await asyncio.to_thread(psutil.wait_procs, children, timeout=10)
            gone = time.perf_counter() - killed
            assert alive == []
            await asyncio.wait_for(load.left(), 10)
    codes = load.codes()
    assert set(codes) <= {0, NotReady.code, "broken", "refused"}
    assert wrong(load.results(), expected) == []
    port = service.url.rpartition(":")[2]
    with running(tmp_path, {"HOVERBOARD_PORT": port}) as again:
        async with Load(again.url, questions, connections=CONNECTIONS) as load:
            await load.more(ANSWERS)
        assert load.codes() == {0: len(load.answers)}
        assert wrong(load.results(), expected) == []
    report(
        capsys,
        f"supervisor killed under {CONNECTIONS} connections: its processes gone after {gone:.2f} s "
        f"({codes[0]} results before, {codes['broken'] + codes['refused']} connections cut), "
        f"and the next start on the same data and port served",
    )
