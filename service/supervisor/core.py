"""The supervisor itself: claims, starts, watches, announces, drains."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

from hoverboard.children import stop_signals
from hoverboard.config import Settings
from hoverboard.engine.models.deaths import LoadAttempts, attempts_dir
from hoverboard.engine.slots import Run, slots_path
from hoverboard.errors import ConfigError
from hoverboard.postgres import process as postgres_process
from hoverboard.postgres.cluster import Cluster
from hoverboard.supervisor import open_files
from hoverboard.supervisor.banner import banner, ready_line, wait_ready
from hoverboard.supervisor.child import Backoff, Child, ChildSpec
from hoverboard.supervisor.chronicle import Chronicle
from hoverboard.supervisor.claims import DataDir, address_of, admin_token, reserve, runtime_directory
from hoverboard.supervisor.hangs import ChildWatch, EngineWatch, Note
from hoverboard.supervisor.processes import ChildSpecs, service_children
from hoverboard.telemetry import logs, metrics, recording_state
from hoverboard.telemetry.pulse import pulse_path
from hoverboard.telemetry.recording_state import Part

__all__ = ["Supervisor"]

_PATIENCE_S: Final = 30.0
_GRACE_S: Final = 2.0
_STUCK_S: Final = 3.0
_RECORDING_PATIENCE_S: Final = 10.0
_POLL_S: Final = 0.1
_LOOK_S: Final = 2.0
_ROOM_MIB: Final = 1
"""Of disk for each process that journals: a reserve for what could not be written, and the first frames."""

_log = logs.get("supervisor")


@dataclass(frozen=True, slots=True)
class _Claimed:
    """What is this service's own while it runs.

    Attributes:
        settings: with real ports.
        data: the data directory.
        runtime: the folder of sockets and metrics.
        token: the file with the admin listener's bearer token.
    """

    settings: Settings
    data: DataDir
    runtime: Path
    token: Path


class Supervisor:
    """Runs one service in the foreground.

    Args:
        settings: as loaded; a port of 0 is resolved when the service starts.
        children: which processes to run, given the resolved settings and the runtime directory.
        backoff: how long a dead child stays dead.
        announce: told once, when `/readyz` first answers 200: a banner on a terminal, a line of JSON in a pipe.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        children: Callable[[Settings, Path], ChildSpecs] = service_children,
        backoff: Backoff | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self._settings = settings
        self._children = children
        self._backoff = backoff
        self._announce = announce or _print

    def run(self) -> int:
        """Serve until SIGTERM, SIGINT or SIGHUP; returns the exit status, 0 after a drain.

        Raises:
            DataDirLocked, PortInUse, ConfigError: the service cannot start here; nothing was started.
        """
        logs.configure(self._settings.log_level, self._settings.log_format, process="supervisor")
        return asyncio.run(self.serve())

    async def serve(self) -> int:
        """As `run`, in a loop that already runs in the main thread."""
        with self._claimed() as claimed:
            metrics.init("supervisor-0", claimed.runtime / "metrics")
            try:
                await self._supervise(claimed)
            finally:
                metrics.init("supervisor-0", None)
        return 0

    @contextmanager
    def _claimed(self) -> Iterator[_Claimed]:
        """Everything that must be this service's own, while it is."""
        with ExitStack() as held:
            try:
                claimed = self._claim(held)
            except OSError as error:  # a disk that is full or cannot be written to
                place = f"{error.filename}: " if error.filename else ""
                raise ConfigError(
                    f"the service cannot start: {place}{error.strerror or error}; it writes to --data-dir "
                    f"({self._settings.data_dir}) and to TMPDIR ({os.environ.get('TMPDIR', '/tmp')})"  # noqa: S108
                ) from error
            yield claimed

    def _claim(self, held: ExitStack) -> _Claimed:
        configured = self._settings
        if not configured.models.is_dir():
            raise ConfigError(
                f"models directory {configured.models} does not exist; make it, or choose another with --models"
            )
        # A folder that another service owns says more than the ports which that one has as well. A new folder is made last,
        # so that a service which is refused leaves none behind.
        data = self._data(held) if configured.data_dir.exists() else None
        public = held.enter_context(reserve(configured.host, configured.port))
        admin = held.enter_context(reserve(configured.admin_host, configured.admin_port, setting="admin_port"))
        data = data or self._data(held)
        runtime = held.enter_context(runtime_directory(data.previous.get("runtime")))
        settings = configured.model_copy(
            update={
                "port": address_of(public),
                "admin_port": address_of(admin),
                "log_format": _format(configured),
                "max_connections": open_files.connections(configured.max_connections),
            },
        )
        (runtime / "metrics").mkdir()
        settings.to_runtime(runtime)
        data.note(
            pid=os.getpid(),
            runtime=str(runtime),
            url=settings.public_url,
            admin_url=settings.admin_url,
        )
        return _Claimed(settings, data, runtime, admin_token(configured.data_dir))

    def _data(self, held: ExitStack) -> DataDir:
        configured = self._settings
        recording = configured.recording == "on"
        embedded = recording and not configured.database_url.get_secret_value()
        if embedded and not configured.data_dir.exists():
            Cluster.of(configured.data_dir)  # a machine that has no Postgres is told before a folder is made
        data = DataDir.claim(configured.data_dir)
        held.callback(data.release)
        if recording:
            data.require_room(_ROOM_MIB * (2 + configured.api_workers))
        if embedded:
            # Refused here, in words, where this machine or user cannot run one; nothing has been started yet.
            Cluster.of(configured.data_dir)
        return data

    async def _supervise(self, claimed: _Claimed) -> None:
        settings, runtime = claimed.settings, claimed.runtime
        specs = self._children(settings, runtime)
        recording_state.expect(runtime, specs.recording)
        chronicle = Chronicle(settings)
        groups = [
            [
                Child(spec, runtime / "metrics", self._backoff, watch=watch(spec, partial(chronicle.note, spec.name)))
                for spec in kind
            ]
            for kind, watch in (
                (specs.databases, partial(_watch, runtime)),
                (specs.recorders, partial(_watch, runtime)),
                (specs.engines, partial(_watch_engine, settings, runtime)),
                (specs.apis, partial(_watch, runtime)),
            )
        ]
        with _stop_signals() as (stop, hasten):
            _log.info("service_starting", url=settings.public_url, models=str(settings.models))
            keeping = [asyncio.create_task(child.keep()) for child in chain(*groups)]
            announcing = asyncio.create_task(self._announce_when_ready(claimed))
            watching = asyncio.gather(_watch_data(claimed), _watch_recorder(runtime))
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait([stopping, *keeping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (announcing, watching, stopping):
                    task.cancel()
                await _drain(settings, groups, chronicle, hasten)
                await asyncio.gather(*keeping)
                await asyncio.gather(announcing, watching, stopping, return_exceptions=True)
                _log.info("service_stopped")

    async def _announce_when_ready(self, claimed: _Claimed) -> None:
        while True:
            readiness = await wait_ready(claimed.settings, _PATIENCE_S)
            if readiness.ready:
                break
            _log.warning("not_ready_yet", status=readiness.status, missing=readiness.missing)
        person = sys.stdout.isatty()
        until = asyncio.get_running_loop().time() + (_RECORDING_PATIENCE_S if person else 0.0)
        while (recording := recording_state.read(claimed.runtime)).state == "starting":
            if asyncio.get_running_loop().time() >= until:
                break
            await asyncio.sleep(_POLL_S)
        text = banner if person else ready_line
        self._announce(text(claimed.settings, readiness, recording, claimed.token))


def _watch_engine(settings: Settings, runtime: Path, spec: ChildSpec, note: Note) -> EngineWatch:
    attempts = LoadAttempts(attempts_dir(settings.data_dir))
    return EngineWatch(slots_path(runtime, spec.name), attempts, pulse_path(runtime, spec.name), note)


def _watch(runtime: Path, spec: ChildSpec, note: Note) -> ChildWatch:
    return ChildWatch(pulse_path(runtime, spec.name), note)


async def _watch_data(claimed: _Claimed) -> None:
    """Say when the data directory is gone: open files in it go on being written, and nobody will find them."""
    part, path = Part(claimed.runtime, recording_state.DATA), claimed.data.path.absolute()
    part.say(None)
    while True:
        await asyncio.sleep(_LOOK_S)
        if claimed.data.intact:
            if part.say(None):
                _log.info("data_directory_back", data_dir=str(path))
            continue
        why = f"the data directory {path} was removed, moved or replaced while the service ran"
        if part.say(f"{why}; put it back, or restart the service"):
            _log.critical("data_directory_gone", why=why, then="put it back, or restart the service")


async def _watch_recorder(runtime: Path) -> None:
    """Say when the recorder lives and does nothing: it cannot say so itself."""
    silent = False
    while True:
        await asyncio.sleep(_LOOK_S)
        why = recording_state.silence(runtime)
        if why is not None and not silent:
            _log.error("recorder_silent", why=why, then="calls are answered, and their records wait in the journals")
        if why is None and silent:
            _log.info("recorder_speaks_again")
        silent = why is not None


async def _drain(
    settings: Settings, groups: Sequence[Sequence[Child]], chronicle: Chronicle, hasten: asyncio.Event
) -> None:
    """The api processes first, since what they accepted still needs the engine, and so on to the database."""
    databases, recorders, engines, apis = groups
    _log.info("service_draining", at_most_s=settings.drain_timeout_s)
    until = asyncio.get_running_loop().time() + settings.drain_timeout_s
    # A batch that runs all that time answers nobody any more, and holds up those who wait behind it.
    stuck_s = min(_STUCK_S, settings.drain_timeout_s / 3)
    async with _ending_what_hangs(engines, settings.drain_timeout_s - stuck_s, EngineWatch.executes):
        await _stop(apis, settings.drain_timeout_s + _GRACE_S, hasten)
    left = max(0.0, until - asyncio.get_running_loop().time())
    async with _ending_what_hangs(engines, stuck_s, EngineWatch.runs):  # whoever asked is gone
        await _stop(engines, left + _GRACE_S, hasten)
    chronicle.close()  # now, so that the recorder carries it over, too
    # What it cannot carry over in its own time waits in the journals for the next start.
    await _stop(recorders, settings.drain_timeout_s + _GRACE_S, hasten)
    await _stop(databases, postgres_process.STOP_S, hasten)


@asynccontextmanager
async def _ending_what_hangs(
    engines: Sequence[Child], after_s: float, runs: Callable[[EngineWatch], Sequence[Run]]
) -> AsyncIterator[None]:
    """Meanwhile, end each engine in which something goes on from now until `after_s` seconds later."""

    async def end() -> None:
        before = [
            (engine, engine.watch, set(runs(engine.watch)))
            for engine in engines
            if isinstance(engine.watch, EngineWatch)
        ]
        await asyncio.sleep(after_s)
        for engine, watch, seen in before:
            for run in seen & set(runs(watch)):
                engine.end(f"a {run.kind} of {run.model} {run.version} goes on while the service stops")

    ending = asyncio.create_task(end())
    try:
        yield
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)


async def _stop(children: Sequence[Child], patience_s: float, hasten: asyncio.Event) -> None:
    await asyncio.gather(*(child.stop(patience_s, hasten) for child in children))


@contextmanager
def _stop_signals() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Two events: the first stop signal sets the first, the second one the second."""
    stop, hasten = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        (hasten if stop.is_set() else stop).set()

    numbers = stop_signals()
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop, hasten
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _format(settings: Settings) -> str:
    """What `auto` means for the children, whose standard error is a pipe to ours."""
    if settings.log_format != "auto":
        return settings.log_format
    return "console" if sys.stderr.isatty() else "json"


def _print(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it: no reason not to serve
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
