"""The application: both faces, wired to an engine, opened and closed in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import msgspec
import structlog

from hoverboard.api.admin import TokenGuard
from hoverboard.api.body import Intake
from hoverboard.api.call_log import CallObserver
from hoverboard.api.decoder import DecoderProcess
from hoverboard.api.handlers import RpcHandler
from hoverboard.api.health import Exposition, Health
from hoverboard.api.hosts import Hosts
from hoverboard.api.listener import Listener
from hoverboard.api.memory import Tidying
from hoverboard.api.routes import Routes, Table
from hoverboard.api.websocket import WebSockets
from hoverboard.config import TOKEN_FILE, Settings, url
from hoverboard.contract.calls import EnginePort
from hoverboard.rpc.budget import Budget
from hoverboard.rpc.call import CallLimits
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.dispatch import Dispatcher
from hoverboard.rpc.fastlane import FastLane
from hoverboard.rpc.methods import UNRECORDED, Method, admin_methods, public_methods, table
from hoverboard.rpc.openrpc import with_discovery
from hoverboard.rpc.recording import CallRecording
from hoverboard.telemetry import families
from hoverboard.telemetry.calls import calls
from hoverboard.telemetry.recording_state import RecordingState

__all__ = ["Application", "limits_of", "running"]

log = structlog.get_logger(__name__)

_MIB = 1 << 20
_IDLE_GRACE_S = 1.0
# Kept back of the drain's time, so that what is left can be cut before the supervisor kills the process.
_CUT_S = 1.0
_GAUGE_EVERY_S = 0.25


class Application:
    """The public and the admin face of one api process on one engine. Nothing listens until `listen`.

    Args:
        url, admin_url: where the faces answer, for their OpenRPC documents.
        recording: where refused calls and labels of the public face are written down, and resets of alarms of the admin
            face; without it, they take neither.
        recording_state: whether what is answered reaches Postgres.
        engine_silent_s: for how many seconds the engine's event loop has not turned.
    """

    def __init__(
        self,
        settings: Settings,
        engine: EnginePort,
        *,
        url: str,
        admin_url: str,
        recording: CallRecording | None,
        recording_state: Callable[[], RecordingState],
        engine_silent_s: Callable[[], float],
    ) -> None:
        self._settings = settings
        self.intake = Intake(
            max_body_bytes=settings.max_body_bytes,
            body_timeout_s=settings.body_timeout_s,
            bodies=Budget(settings.body_memory_mb * _MIB, "large requests"),
            answers=Budget(settings.answer_memory_mb * _MIB, "answers that are not read"),
            draining=self._is_draining,
        )
        self.decoder = DecoderProcess(
            limit=settings.max_body_bytes, memory=settings.decode_memory_mb * _MIB, budget=self.intake.bodies
        )
        self.draining = False
        self.book = CodecBook()
        self._observer = CallObserver(settings.log_level)
        self._health = Health(engine, draining=self._is_draining, recording=recording_state, silent_s=engine_silent_s)
        # A dispatcher for each face: calls of the admin face, which may take minutes, take no place of predict calls.
        public = public_methods(engine, self.book, limits_of(settings), recording, self.decoder)
        admin = admin_methods(engine, self.book, recording)
        # Only `predict` is called often enough for a lane of its own; it stands first in the list.
        lane, unrecorded = FastLane(public[0]), UNRECORDED if recording is None else {}
        absent = _others(admin, "the admin listener") | unrecorded
        self._public = self._dispatcher(public, url, "Hoverboard", absent, recording, lane)
        absent = _others(public, "the public listener") | unrecorded
        self._admin = self._dispatcher(admin, admin_url, "Hoverboard admin", absent)
        calls.know_methods([*self._public.names, *self._admin.names])
        self._sockets = WebSockets(
            self._public,
            self.intake,
            max_inflight=settings.ws_max_inflight,
            max_unsent_bytes=settings.max_response_bytes,
        )
        self._exposition = Exposition()
        allowed = settings.allowed_hosts.replace(",", " ").split()
        self._hosts = Hosts([settings.host, *allowed])
        self._admin_hosts = Hosts([settings.admin_host, *allowed])
        self.public = self._listener(self._public_table(), self._hosts)
        self.admin = self._listener(self._admin_table(), self._admin_hosts)

    async def listen(self, public: socket.socket, admin: socket.socket | None) -> None:
        """Accept connections on bound sockets; without an admin socket that face stays shut."""
        self._hosts.bound_to(public)
        await self.public.start(public)
        # Only the first api process opens the admin face.
        if admin is not None:
            self._admin_hosts.bound_to(admin)
            await self.admin.start(admin)

    async def drain(self) -> bool:
        """Stop taking connections, answer everything that was sent, and close.

        Takes `drain_timeout_s` at most. Returns whether everything was answered.
        """
        self.draining = True
        until = asyncio.get_running_loop().time() + max(0.0, self._settings.drain_timeout_s - _CUT_S)
        # First no new connection, then the sockets, then what is at work: otherwise each answered client could come
        # again.
        await self.public.stop_accepting()
        await self.admin.stop_accepting()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._sockets.drain()
        left = max(0.0, until - asyncio.get_running_loop().time())
        ended = await asyncio.gather(
            *(
                face.finish(idle_grace_s=min(_IDLE_GRACE_S, left / 2), timeout_s=left)
                for face in (self.public, self.admin)
            )
        )
        return all(ended)

    async def close(self) -> None:
        """Cut what is left."""
        self.draining = True
        await self.public.close()
        await self.admin.close()

    async def watch(self) -> None:
        """Keep the gauge of calls in flight up to date, and the memory tidy, for ever."""
        tidying = Tidying()
        while True:
            tidying.look()
            families.in_flight.set(self._public.in_flight + self._admin.in_flight)
            await asyncio.sleep(_GAUGE_EVERY_S)

    def _is_draining(self) -> bool:
        return self.draining

    def _dispatcher(  # noqa: PLR0917 - one line a face
        self,
        methods: list[Method[Any]],
        url: str,
        title: str,
        absent: Mapping[str, str],
        recording: CallRecording | None = None,
        lane: FastLane[Any] | None = None,
    ) -> Dispatcher:
        known, limits = table(with_discovery(methods, self.book, url=url, title=title)), limits_of(self._settings)
        return Dispatcher(
            known, limits, self._observer, lane=lane, recording=recording, decoder=self.decoder, absent=absent
        )

    def _public_table(self) -> Table:
        post = {"POST": RpcHandler(self._public, self.intake).post}
        return {"/": post, "/rpc": post, "/ws": {"GET": self._sockets.get}, **self._probes()}

    def _admin_table(self) -> Table:
        guard = TokenGuard(self._settings.data_dir / TOKEN_FILE)
        post = {"POST": RpcHandler(self._admin, self.intake, guard).post}
        return {"/": post, "/rpc": post, **self._probes()}

    def _probes(self) -> Table:
        return {
            "/healthz": {"GET": self._health.healthz},
            "/readyz": {"GET": self._health.readyz},
            "/metrics": {"GET": self._exposition},
        }

    def _listener(self, routes: Table, hosts: Hosts) -> Listener:
        return Listener(
            Routes(routes, hosts),
            max_connections=self._settings.max_connections,
            header_timeout_s=self._settings.header_timeout_s,
            keepalive_timeout_s=self._settings.keepalive_timeout_s,
            write_timeout_s=self._settings.write_timeout_s,
        )


def _others(methods: Sequence[Method[Any]], listener: str) -> dict[str, str]:
    return {method.name: f"is on {listener}" for method in methods}


@asynccontextmanager
async def running(
    settings: Settings,
    engine: EnginePort,
    *,
    public: socket.socket,
    admin: socket.socket | None = None,
    recording: CallRecording | None = None,
    recording_state: Callable[[], RecordingState] = lambda: RecordingState("off"),
    engine_silent_s: Callable[[], float] = lambda: 0.0,
) -> AsyncIterator[Application]:
    """An application that listens; what is still open at the end is cut."""
    admin_url = "" if admin is None else _url(admin)
    application = Application(
        settings,
        engine,
        url=_url(public),
        admin_url=admin_url,
        recording=recording,
        recording_state=recording_state,
        engine_silent_s=engine_silent_s,
    )
    # Closed in reverse: listeners first, then the decoder that their calls may wait for, then the catalog.
    async with AsyncExitStack() as stack:
        stack.callback(engine.subscribe(application.book.update))
        stack.callback(engine.subscribe(calls.know_catalog))
        watching = asyncio.create_task(application.watch())
        stack.callback(watching.cancel)
        await stack.enter_async_context(application.decoder)
        stack.push_async_callback(application.close)
        await application.listen(public, admin)
        yield application


def limits_of(settings: Settings) -> CallLimits:
    """The settings that the JSON-RPC layer needs."""
    return msgspec.convert(settings, CallLimits, from_attributes=True)


def _url(bound: socket.socket) -> str:
    """The address of a bound socket, whose port may have been any: 0 in the settings."""
    host, port = bound.getsockname()[:2]
    return f"{url(host, port)}/"
