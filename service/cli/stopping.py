"""A long command that is asked to stop, by Ctrl-C or SIGTERM, cleans up and says so, whatever it is doing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

import click

from hoverboard.children import stop_signals

__all__ = ["stoppable"]

_GRACE_S: Final = 2.0
"""Seconds to leave what it is doing. TensorFlow returns from a graph when that has ended, which may be never."""
_SHOW_CURSOR: Final = "\x1b[?25h"


class _Stopped(BaseException):
    """Not an `Exception`, so that nothing on its way takes it for a failure of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable(sentence: str, at_once: Callable[[], None]) -> Iterator[None]:
    """Let stop signals end what runs within, with each `finally` on the way; call it in the main thread.

    The process then ends with status 128 and the signal's number.

    Args:
        sentence: what to say then, on stderr.
        at_once: cleans up where the main thread does not come back from what it does, on another thread.
    """
    # Python runs its own handlers only once the main thread is back in Python; a byte in this pipe is seen at once.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    left = threading.Event()
    before = {number: signal.signal(number, _stop) for number in stop_signals()}
    waker = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(reading, left, sentence, at_once), name="stop-watch", daemon=True)
    watch.start()
    try:
        yield
    except _Stopped as stopped:
        left.set()
        click.echo(sentence, err=True)
        sys.exit(128 + stopped.number)
    finally:
        left.set()
        signal.set_wakeup_fd(waker)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)  # which ends the thread
        watch.join()
        os.close(reading)


def _stop(number: int, _: FrameType | None) -> NoReturn:
    for stop in stop_signals():
        signal.signal(stop, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
    raise _Stopped(number)


def _watch(reading: int, left: threading.Event, sentence: str, at_once: Callable[[], None]) -> None:
    said = os.read(reading, 1)
    if not said or left.wait(_GRACE_S):
        return
    at_once()
    with suppress(OSError):
        shown = _SHOW_CURSOR if os.isatty(2) else ""  # which a live line hides
        os.write(2, f"{shown}{sentence}\n".encode())
    os._exit(128 + said[0])
