"""What a person sees once the service answers, and a program that reads a pipe."""

from __future__ import annotations

import asyncio
import http.client
import json
import textwrap
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from hoverboard.config import Settings
from hoverboard.telemetry.recording_state import RecordingState
from hoverboard.version import __version__

__all__ = ["Readiness", "banner", "ready_line", "wait_ready"]

_CURL: Final = "curl -s -H 'Content-Type: application/json'"
_FIRST_CALL: Final = '{"jsonrpc": "2.0", "id": 1, "method": "models.list"}'
_POLL_S: Final = 0.1
_PROBE_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """What `GET /readyz` said.

    Attributes:
        status: the HTTP status; 0 where nothing answered.
        body: its JSON object; empty where it had none.
    """

    status: int
    body: Mapping[str, Any]

    @property
    def ready(self) -> bool:
        """Whether every model has a live version."""
        return self.status == HTTPStatus.OK

    @property
    def models(self) -> Mapping[str, Any]:
        """Model name -> role -> live version, as far as it was said."""
        models = self.body.get("models")
        return models if isinstance(models, dict) else {}

    @property
    def missing(self) -> Sequence[Any]:
        """What keeps the service from being ready, as it says itself."""
        missing = self.body.get("missing")
        return missing if isinstance(missing, list) else [{"what": "api", "why": "does not answer"}]


async def wait_ready(settings: Settings, patience_s: float) -> Readiness:
    """Ask `/readyz` until it answers 200, or until the patience ends; returns the last answer."""
    loop = asyncio.get_running_loop()
    until = loop.time() + patience_s
    while True:
        answer = await asyncio.to_thread(_probe, f"{settings.public_url}/readyz")
        if answer.ready or loop.time() >= until:
            return answer
        await asyncio.sleep(_POLL_S)


def _probe(address: str) -> Readiness:
    try:
        return _fetch(address)
    except (OSError, http.client.HTTPException):  # the latter where an api process dies while it answers
        return Readiness(0, {})


def _fetch(address: str) -> Readiness:
    # Past any proxy of the environment: it could not reach an address on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=_PROBE_TIMEOUT_S) as response:
            return Readiness(response.status, _object(response.read()))
    except urllib.error.HTTPError as error:
        with error:
            return Readiness(error.code, _object(error.read()))


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def ready_line(settings: Settings, readiness: Readiness, recording: RecordingState, token: Path) -> str:
    """One line of JSON for a program: where the service listens, what it serves, and whether that is recorded."""
    return json.dumps(
        {
            "event": "ready",
            "url": settings.public_url,
            "admin_url": settings.admin_url,
            "admin_token_file": str(token),
            "models": readiness.models,
            "recording": recording.as_json(),
        },
    )


def banner(settings: Settings, readiness: Readiness, recording: RecordingState, token: Path) -> str:
    """A few lines for a person: what is served where, whether it is recorded, and what to try first. Names the token's
    file, not the token.
    """
    address = settings.public_url
    lines = [f"Hoverboard {__version__} serves {_models(readiness.models, settings.models)}", "", f"  {address}"]
    lines += [
        f"  {settings.admin_url}  (admin; bearer token in {token})",
        "",
        *_recording_lines(recording),
        "Try:",
    ]
    lines.append(f"  {_CURL} {address} -d '{_FIRST_CALL}'")
    lines += ["", "Ctrl-C drains and stops."]
    return "\n".join(["", *lines, ""])


def _recording_lines(recording: RecordingState) -> Sequence[str]:
    if recording.state == "failing":
        return [*textwrap.wrap(f"RECORDING DOES NOT WORK: {recording.why}", 100), f"Meanwhile {recording.then}.", ""]
    if recording.state == "starting":
        return [f"Recording has not begun: {recording.why}. /readyz?verbose says when it has.", ""]
    return []


def _models(models: Mapping[str, Any], directory: Path) -> str:
    if not models:
        return f"no model yet (hoverboard publish writes one to {directory})"
    return ", ".join(f"{name} ({_roles(roles)})" for name, roles in sorted(models.items()))


def _roles(roles: Any) -> str:
    if not isinstance(roles, dict) or not roles:
        return "no live version"
    return ", ".join(f"{role} {version}" for role, version in roles.items())
