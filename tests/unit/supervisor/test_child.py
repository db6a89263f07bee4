import asyncio
import io
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from hoverboard.supervisor.child import Backoff, Child, ChildSpec
from hoverboard.telemetry import metrics

QUICK = Backoff(first_s=0.01, most_s=0.05, healthy_s=60.0)

OBEDIENT = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('up', flush=True); signal.pause()"
)
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
)


def python(code: str, **environment: str) -> ChildSpec:
    return ChildSpec("engine-0", [sys.executable, "-c", code], environment)


@asynccontextmanager
async def kept(spec: ChildSpec, directory: Path, backoff: Backoff = QUICK) -> AsyncIterator[tuple[Child, io.BytesIO]]:
    output = io.BytesIO()
    child = Child(spec, directory, backoff, output)
    keeping = asyncio.create_task(child.keep())
    hasten = asyncio.Event()
    try:
        yield child, output
    finally:
        hasten.set()
        await child.stop(0, hasten)
        await asyncio.wait_for(keeping, 10)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_its_output_is_passed_on_line_by_line(tmp_path: Path) -> None:
    code = (
        "import sys, time; print('out', flush=True); sys.stderr.write('err\\nhalf'); sys.stderr.flush(); time.sleep(60)"
    )
    async with kept(python(code), tmp_path) as (_, output):
        await until(lambda: output.getvalue() == b"out\nerr\n")
    assert output.getvalue() == b"out\nerr\nhalf\n"


async def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    code = "import sys\nwhile True: sys.stdout.write('x' * 10_000)"
    async with kept(python(code), tmp_path) as (_, output):
        await until(lambda: len(output.getvalue()) > 1_000_000)


async def test_its_own_environment_reaches_it(tmp_path: Path) -> None:
    code = "import os; print(os.environ['GREETING'], 'PATH' in os.environ, flush=True)"
    async with kept(python(code, GREETING="hello"), tmp_path) as (_, output):
        await until(lambda: output.getvalue().startswith(b"hello True\n"))


async def test_killed_it_is_started_again(tmp_path: Path) -> None:
    async with kept(python(OBEDIENT), tmp_path, Backoff(0.01, 0.05, healthy_s=0.0)) as (child, output):
        await until(lambda: output.getvalue() == b"up\n")
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: output.getvalue() == b"up\nup\n")
        assert child.pid not in {first, None}


async def test_a_restart_is_counted(tmp_path: Path) -> None:
    metrics.init("supervisor-0", None)
    async with kept(python(OBEDIENT), tmp_path) as (child, output):
        await until(lambda: output.getvalue() == b"up\n")
        assert b'hoverboard_child_restarts_total{child="engine-0"} 0.0' in metrics.exposition()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: output.getvalue() == b"up\nup\n")
    assert b'hoverboard_child_restarts_total{child="engine-0"} 1.0' in metrics.exposition()


async def test_a_dead_one_takes_its_present_state_out_of_the_metrics(tmp_path: Path) -> None:
    (tmp_path / "gauge_livesum_engine-0.db").touch()
    (tmp_path / "gauge_livesum_api-0.db").touch()
    (tmp_path / "counter_engine-0.db").touch()
    async with kept(python("raise SystemExit"), tmp_path) as (child, _):
        await until(lambda: child.deaths > 0)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["counter_engine-0.db", "gauge_livesum_api-0.db"]


async def test_one_that_cannot_start_is_logged_with_its_last_words_and_tried_again(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logged:
        async with kept(python("import no_such_framework"), tmp_path) as (child, _):
            await until(lambda: child.deaths >= 3)
    failures = [line for line in logged if line["event"] == "child_cannot_start"]
    assert [line["deaths"] for line in failures[:3]] == [1, 2, 3]
    assert failures[0]["how"] == "exit status 1"
    assert "No module named 'no_such_framework'" in failures[0]["last_words"]


async def test_one_whose_command_is_missing_is_logged_and_tried_again(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logged:
        async with kept(ChildSpec("engine-0", [str(tmp_path / "missing")]), tmp_path) as (child, _):
            await until(lambda: child.deaths >= 2)
    assert logged[0]["how"] == "could not be started: No such file or directory"


async def test_one_that_was_healthy_is_logged_by_its_signal(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logged:
        async with kept(python(OBEDIENT), tmp_path, Backoff(0.01, 0.05, healthy_s=0.0)) as (child, output):
            await until(lambda: output.getvalue() == b"up\n")
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            await until(lambda: output.getvalue() == b"up\nup\n")
            assert child.deaths == 1
    (death,) = [line for line in logged if line["event"] == "child_died"]
    assert death["how"] == "killed by SIGKILL"


async def test_one_that_dies_soon_after_it_was_ready_has_died_and_did_start(tmp_path: Path) -> None:
    code = "from hoverboard.children import say_ready; say_ready(); say_ready(); raise SystemExit(3)"
    with structlog.testing.capture_logs() as logged:
        async with kept(python(code), tmp_path) as (child, _):
            await until(lambda: child.deaths >= 2)
    assert {line["event"] for line in logged if line["log_level"] == "error"} == {"child_died"}
    assert [(line["how"], line["deaths"]) for line in logged[:1]] == [("exit status 3", 1)]


async def test_each_life_says_anew_that_it_is_ready(tmp_path: Path) -> None:
    marker = tmp_path / "lived"
    code = (
        f"import pathlib; from hoverboard.children import say_ready; marker = pathlib.Path({str(marker)!r})\n"
        "if marker.exists(): raise SystemExit(1)\n"
        "marker.touch(); say_ready(); raise SystemExit(1)"
    )
    with structlog.testing.capture_logs() as logged:
        async with kept(python(code), tmp_path) as (child, _):
            await until(lambda: child.deaths >= 2)
    assert [line["event"] for line in logged[:2]] == ["child_died", "child_cannot_start"]


async def test_no_descriptor_is_left_of_a_life(tmp_path: Path) -> None:
    async with kept(python("raise SystemExit(1)"), tmp_path) as (child, _):
        await until(lambda: child.deaths >= 2)
        before = len(list(Path("/dev/fd").iterdir()))
        await until(lambda: child.deaths >= 12)
        assert len(list(Path("/dev/fd").iterdir())) <= before + 5


def test_backoff_doubles_to_its_limit_with_jitter() -> None:
    backoff = Backoff(first_s=0.2, most_s=15.0)
    for deaths in range(1, 2000):
        full = min(15.0, 0.2 * 2.0 ** min(deaths - 1, 50))
        assert full / 2 <= backoff.delay(deaths) <= full
    assert len({backoff.delay(9) for _ in range(20)}) > 10


async def test_stopped_it_may_finish(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "def stop(*_): time.sleep(0.3); print('drained', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop); print('up', flush=True); signal.pause()"
    )
    async with kept(python(code), tmp_path) as (child, output):
        await until(lambda: output.getvalue() == b"up\n")
        await child.stop(20, asyncio.Event())
        assert child.pid is None
        await until(lambda: output.getvalue() == b"up\ndrained\n")


@pytest.mark.alone
async def test_one_that_will_not_stop_is_killed_after_the_patience(tmp_path: Path) -> None:
    async with kept(python(STUBBORN), tmp_path) as (child, output):
        await until(lambda: output.getvalue() == b"up\n")
        begun = time.monotonic()
        await child.stop(0.3, asyncio.Event())
        assert child.pid is None
        assert 0.3 <= time.monotonic() - begun < 5


async def test_hastened_it_is_killed_at_once(tmp_path: Path) -> None:
    async with kept(python(STUBBORN), tmp_path) as (child, output):
        await until(lambda: output.getvalue() == b"up\n")
        hasten = asyncio.Event()
        stopping = asyncio.create_task(child.stop(60, hasten))
        await asyncio.sleep(0.1)
        assert not stopping.done()
        hasten.set()
        await asyncio.wait_for(stopping, 5)
        assert child.pid is None


async def test_stopped_while_it_waits_to_be_started_again_it_stays_down(tmp_path: Path) -> None:
    child = Child(python("raise SystemExit(1)"), tmp_path, Backoff(60.0, 60.0), io.BytesIO())
    keeping = asyncio.create_task(child.keep())
    await until(lambda: child.deaths == 1)
    await child.stop(60, asyncio.Event())
    await asyncio.wait_for(keeping, 5)
    assert child.pid is None


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.01])
async def test_stopped_while_it_is_being_started_it_ends(delay: float, tmp_path: Path) -> None:
    child = Child(python(STUBBORN), tmp_path, QUICK, io.BytesIO())
    keeping = asyncio.create_task(child.keep())
    await asyncio.sleep(delay)
    await child.stop(0.2, asyncio.Event())
    await asyncio.wait_for(keeping, 10)
    assert child.pid is None


async def test_ctrl_c_on_the_terminal_does_not_reach_it(tmp_path: Path) -> None:
    code = "import os; print(os.getsid(0) == os.getpid(), flush=True); import signal; signal.pause()"
    async with kept(python(code), tmp_path) as (_, output):
        await until(lambda: output.getvalue() == b"True\n")
