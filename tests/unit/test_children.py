import os
import signal
import subprocess
import sys

import pytest

from hoverboard.children import ORPHANED

WATCHING = "from hoverboard.children import watch_parent; watch_parent(); print('up', flush=True)\n"


def test_a_child_leaves_at_once_when_its_parent_is_gone_even_while_it_is_busy() -> None:
    code = WATCHING + "while True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"up\n"
        child.stdin.close()
        assert child.wait(5) == ORPHANED


def test_a_child_stays_while_its_parent_lives_whatever_it_writes() -> None:
    code = WATCHING + "import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.write(b"noise" * 10_000)
        child.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
        child.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_signal_sets_the_event_and_the_status_is_the_coroutines(number: signal.Signals) -> None:
    code = (
        "from hoverboard.children import run, stop_event\n"
        "async def main():\n"
        "    stop = stop_event()\n"
        "    print('up', flush=True)\n"
        "    await stop.wait()\n"
        "    return 3\n"
        "raise SystemExit(run(main()))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        os.kill(child.pid, number)
        assert child.wait(10) == 3


def test_started_to_live_on_without_a_terminal_it_does() -> None:
    code = (
        "from hoverboard.children import run, stop_event\n"
        "async def main():\n"
        "    stop = stop_event()\n"
        "    print('up', flush=True)\n"
        "    await stop.wait()\n"
        "    return 3\n"
        "raise SystemExit(run(main()))"
    )
    with subprocess.Popen(["nohup", sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        child.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
        child.terminate()
        assert child.wait(10) == 3
