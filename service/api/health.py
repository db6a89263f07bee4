"""`/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiohttp import web

from hoverboard.api.replies import as_json
from hoverboard.contract.calls import EnginePort
from hoverboard.contract.catalog import Catalog
from hoverboard.telemetry import metrics
from hoverboard.telemetry.recording_state import RecordingState

__all__ = ["Exposition", "Health", "missing", "reported"]

_SILENT_S: Final = 5.0
"""Its loop turns twice a second: an engine that is silent for longer answers nobody, whatever the reason."""


class Health:
    """What probes ask of this process.

    Args:
        engine: whose state decides readiness.
        draining: whether this process is about to leave.
        recording: whether what is answered reaches Postgres.
        silent_s: for how many seconds the engine's event loop has not turned.
    """

    def __init__(
        self,
        engine: EnginePort,
        *,
        draining: Callable[[], bool],
        recording: Callable[[], RecordingState],
        silent_s: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._draining = draining
        self._recording = recording
        self._silent_s = silent_s

    async def healthz(self, _request: web.BaseRequest) -> web.StreamResponse:
        """200 while this process turns its event loop."""
        return as_json({"status": "ok"})

    async def readyz(self, request: web.BaseRequest) -> web.StreamResponse:
        """200 when what has served, or is named, has a live version; else 503 and what is missing.

        With `?verbose` also what is wrong elsewhere, which has no say in the status: refused versions, models that never
        served, and whether recording works: records wait in the journals.
        """
        catalog = self._engine.catalog
        lacking = missing(catalog, connected=self._engine.connected)
        silent_s = self._silent_s()
        # The connection stands also while the engine hangs: only its pulse tells.
        if silent_s > _SILENT_S and not lacking:
            why = f"it has not answered for {silent_s:.0f} s; if it stays silent it is ended and started again"
            lacking.append({"what": "engine", "why": why})
        if self._draining():
            lacking.insert(0, {"what": "draining", "why": "this process is stopping"})
        models = {name: dict(model.roles) for name, model in sorted(catalog.models.items())}
        body: dict[str, Any] = {"ready": not lacking, "models": models, "missing": lacking}
        if "verbose" in request.query:
            body["recording"] = self._recording().as_json()
            body["reported"] = reported(catalog)
        return as_json(body, status=503 if lacking else 200)


def missing(catalog: Catalog, *, connected: bool) -> list[dict[str, str]]:
    """What keeps the service from being ready; empty when it is."""
    if not connected:
        return [{"what": "engine", "why": "not connected"}]
    if not catalog.ready:
        return [{"what": "engine", "why": "still looking at the models for the first time"}]
    return [
        {"what": f"model {name}", "why": model.problem or "no version is live"}
        for name, model in sorted(catalog.models.items())
        if "stable" not in model.roles and (model.served or model.serving.get("stable") is not None)
    ]


def reported(catalog: Catalog) -> list[dict[str, str]]:
    """What is wrong with models and versions, whether or not anybody needs them."""
    problems = [] if catalog.problem is None else [{"what": "models directory", "why": catalog.problem}]
    sandboxes = {status.sandbox for model in catalog.models.values() for status in model.versions}
    if "none" in sandboxes:
        why = "this system has neither landlock nor seccomp: versions are tried with full rights before they are loaded"
        problems.append({"what": "sandbox", "why": why})
    for name, model in sorted(catalog.models.items()):
        if model.problem is not None:
            problems.append({"what": f"model {name}", "why": model.problem})
        refused = [status for status in model.versions if status.state == "refused"]
        problems += [{"what": f"model {name} version {one.version}", "why": one.reason or ""} for one in refused]
    return problems


class Exposition:
    """`/metrics`, on a thread of its own: nothing that calls do on threads can hold it up. Who asks meanwhile shares it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._collecting: asyncio.Future[bytes] | None = None

    async def __call__(self, _request: web.BaseRequest) -> web.StreamResponse:
        """All processes' metrics in Prometheus' text format."""
        if self._collecting is None or self._collecting.done():
            self._collecting = asyncio.get_running_loop().run_in_executor(self._thread, metrics.exposition)
        try:
            # Shielded: others wait for the same text when this scraper leaves.
            text = await asyncio.shield(self._collecting)
        except OSError as reason:
            return as_json({"metrics": f"cannot be read now: {reason.strerror}"}, status=503)
        return web.Response(body=text, headers={"Content-Type": metrics.CONTENT_TYPE})
