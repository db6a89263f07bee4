"""One child process: started, listened to, started again when it dies, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from hoverboard.children import READY_FD
from hoverboard.database.address import DATABASE_VARIABLE
from hoverboard.supervisor.hangs import ChildWatch
from hoverboard.telemetry import families, logs, metrics

__all__ = ["Backoff", "Child", "ChildSpec"]

_CHUNK: Final = 1 << 16
_LAST_LINES: Final = 20
_LAST_WORDS_S: Final = 1.0
_KILL_PATIENCE_S: Final = 5.0

_log = logs.get("supervisor")


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How one child is started.

    Attributes:
        name: its place in the service, such as `api-0`; the name of its metrics files, too.
        command: the argument list.
        environment: variables beside the supervisor's own; of those it gets no secret.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a dead child stays dead: doubling, jittered, forgotten after a healthy while.

    Attributes:
        first_s: after the first death.
        most_s: the longest.
        healthy_s: a child that lived this long starts over at `first_s`.
    """

    first_s: float = 0.2
    most_s: float = 15.0
    healthy_s: float = 10.0

    def delay(self, deaths: int) -> float:
        """Seconds to wait after so many deaths in a row: between half the full delay and all of it."""
        # The exponent is bounded: a child that dies for days would overflow it.
        full = min(self.most_s, self.first_s * 2.0 ** min(deaths - 1, 30))
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - spreads restarts, guards nothing


class Child:
    """Keeps one process running until it is told to stop.

    The process gets a pipe as its standard input, whose other end lives as long as this process; and a session of its
    own, so that Ctrl-C on the terminal reaches only the supervisor.

    Args:
        spec: how it is started.
        metrics_dir: where it leaves its metrics.
        backoff: how long it stays dead.
        watch: told about each life of the process, which it may end.
        output: where its standard output and error go, line by line; this process's standard error when left out.
    """

    def __init__(
        self,
        spec: ChildSpec,
        metrics_dir: Path,
        backoff: Backoff | None = None,
        output: BinaryIO | None = None,
        watch: ChildWatch | None = None,
    ) -> None:
        self.spec = spec
        self.watch = watch
        self.deaths = 0
        self._metrics_dir = metrics_dir
        self._backoff = backoff or Backoff()
        self._output = output
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)

    @property
    def pid(self) -> int | None:
        """Of the running process; None between two."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def keep(self) -> None:
        """Start it, and start it again whenever it dies, until `stop`."""
        families.restarts.labels(self.spec.name).inc(0)
        while not self._stopping.is_set():
            started = time.monotonic()
            with _ready_pipe() as pipe:
                ended = await self._run_once(pipe)
                ready = pipe.said()
            metrics.forget(self.spec.name, self._metrics_dir)
            if self._stopping.is_set():
                return
            await self._pause(ended, time.monotonic() - started, ready=ready)

    async def stop(self, patience_s: float, hasten: asyncio.Event) -> None:
        """Ask it to finish, and kill it when it does not.

        Args:
            patience_s: seconds it may take to drain.
            hasten: cuts the patience short once set.
        """
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        if await _ended(process, patience_s, hasten):
            return
        _log.warning("child_killed", child=self.spec.name, after_s=patience_s, hastened=hasten.is_set())
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await _ended(process, _KILL_PATIENCE_S, asyncio.Event())

    def end(self, why: str) -> None:
        """Kill it for good."""
        self._stopping.set()
        process = self._process
        if process is not None and process.returncode is None:
            _log.warning("child_killed", child=self.spec.name, why=why)
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _run_once(self, pipe: _ReadyPipe) -> str:
        """One life of the process; returns how it ended, in words."""
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *self.spec.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=_inherited() | dict(self.spec.environment) | {READY_FD: str(pipe.writing)},
                pass_fds=(pipe.writing,),
                # Ctrl-C on the terminal goes to a whole session: the children are told by us, in their order.
                start_new_session=True,
            )
        except OSError as error:
            return f"could not be started: {error.strerror}"
        _log.debug("child_started", child=self.spec.name, pid=process.pid)
        self._last_lines.clear()
        if self._stopping.is_set():  # asked to stop while it was being started: it has nothing to drain yet
            process.kill()
        passing_on = asyncio.create_task(self._pass_on(process))
        watching = asyncio.create_task(self.watch.watch(process)) if self.watch is not None else None
        status = await process.wait()
        if self.watch is not None and watching is not None:
            watching.cancel()
            self.watch.ended(_how(status), asked=self._stopping.is_set())
        await asyncio.wait([passing_on], timeout=_LAST_WORDS_S)
        passing_on.cancel()  # a process of its own may still hold the pipe
        return _how(status)

    async def _pass_on(self, process: asyncio.subprocess.Process) -> None:
        """Pass whole lines on, so that those of several children do not mix, and remember the last ones."""
        stream = process.stdout
        if stream is None:
            return
        rest = b""
        while chunk := await stream.read(_CHUNK):
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            self._write(lines + newline)
            # A program that never ends its line must not fill our memory.
            if len(rest) > _CHUNK:
                self._write(rest + b"\n")
                rest = b""
        if rest:
            self._write(rest + b"\n")

    def _write(self, lines: bytes) -> None:
        if not lines:
            return
        self._last_lines.extend(lines.decode(errors="replace").splitlines())
        output = self._output or sys.stderr.buffer
        with contextlib.suppress(OSError, ValueError):  # whoever read our output left; the service goes on
            output.write(lines)
            output.flush()

    async def _pause(self, ended: str, lived_s: float, *, ready: bool) -> None:
        healthy = lived_s >= self._backoff.healthy_s
        self.deaths = 1 if healthy else self.deaths + 1
        delay = self._backoff.delay(self.deaths)
        facts: dict[str, Any] = {"child": self.spec.name, "how": ended}
        facts |= {"lived_s": round(lived_s, 1), "restart_in_s": round(delay, 1)}
        if not healthy:
            facts |= {"deaths": self.deaths, "last_words": "\n".join(self._last_lines)}
        _log.error("child_died" if healthy or ready else "child_cannot_start", **facts)
        families.restarts.labels(self.spec.name).inc()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay)


@dataclass(frozen=True, slots=True)
class _ReadyPipe:
    """Where one life of a child says that it is at work; see `children.say_ready`.

    Attributes:
        reading, writing: file descriptors; the child inherits the latter.
    """

    reading: int
    writing: int

    def said(self) -> bool:
        """Whether it has said so by now."""
        with contextlib.suppress(BlockingIOError):  # a process of its own may still hold the pipe
            return bool(os.read(self.reading, 1))
        return False


@contextmanager
def _ready_pipe() -> Iterator[_ReadyPipe]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        yield _ReadyPipe(reading, writing)
    finally:
        os.close(reading)
        os.close(writing)


def _inherited() -> dict[str, str]:
    """Our environment without the database's password, which only the recorder needs."""
    return {name: value for name, value in os.environ.items() if name.upper() != DATABASE_VARIABLE}


async def _ended(process: asyncio.subprocess.Process, patience_s: float, hasten: asyncio.Event) -> bool:
    """Whether the process ends within the patience, which `hasten` cuts short."""
    waits = [asyncio.create_task(process.wait()), asyncio.create_task(hasten.wait())]
    await asyncio.wait(waits, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    return process.returncode is not None


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"
