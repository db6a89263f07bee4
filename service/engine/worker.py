"""The thread that executes: longer batches in order, and between them the single runs that warm up a new version."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Self, TypeVar

__all__ = ["Worker"]

T = TypeVar("T")
_Job = tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]


class Worker:
    """A thread with a queue. Use as a context manager; leaving it lets the queued jobs finish.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._unfinished = 0
        self._lock = threading.Lock()
        # A daemon: a graph that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)
        self._thread.join()

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        return not self._unfinished

    def submit(self, job: Callable[[], T], done: Callable[[T, BaseException | None], None]) -> None:
        """Run `job` in the thread, then `done(result, error)` on the event loop that entered the worker."""

        def report(result: Any, error: BaseException | None) -> None:
            try:
                self._loop.call_soon_threadsafe(done, result, error)
            except RuntimeError:
                return  # the loop is closed: nobody is left to tell

        self._put(job, report)

    def call(self, job: Callable[[], T]) -> T:
        """Run `job` in the thread and wait for it here, in another thread; raises what it raises."""
        outcome: Future[T] = Future()

        def report(result: Any, error: BaseException | None) -> None:
            if error is None:
                outcome.set_result(result)
            else:
                outcome.set_exception(error)

        self._put(job, report)
        return outcome.result()

    def _put(self, job: Callable[[], Any], report: Callable[[Any, BaseException | None], None]) -> None:
        with self._lock:
            self._unfinished += 1
        self._jobs.put((job, report))

    def _work(self) -> None:
        while (entry := self._jobs.get()) is not None:
            job, report = entry
            result: Any = None
            failure: BaseException | None = None
            try:
                result = job()
            except BaseException as error:  # noqa: BLE001 - the thread must live; whoever asked is told
                failure = error
            with self._lock:
                self._unfinished -= 1  # before anybody hears of it, who may look at `idle` then
            report(result, failure)
            del entry, job, report, result, failure
