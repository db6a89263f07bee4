"""Who may use the admin listener: whoever knows the token in the data directory."""

from __future__ import annotations

import asyncio
import hmac
import time
from pathlib import Path

from aiohttp import web

from hoverboard.errors import Unauthorized

__all__ = ["TokenGuard"]

_WHAT_TO_SEND = (
    "The admin listener's token is missing or wrong: send `Authorization: Bearer` and what admin.token in the "
    "service's data directory holds"
)
_STEP_S = 0.05
_LONGEST_S = 2.0
_HALF_LIFE_S = 60.0


class TokenGuard:
    """Lets requests with the right bearer token pass.

    Args:
        path: the token's file; read for every request, so that a new token counts at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failures = 0.0
        self._looked_at = time.monotonic()

    def __call__(self, request: web.BaseRequest) -> None:
        """Check one request.

        Raises:
            Unauthorized: no token, or not this one; or the service has none.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        expected = self._token()
        # In time that does not tell how much of a guess was right.
        right = hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), expected)
        if scheme.lower() != "bearer" or not expected or not right:
            self._failures = self._recent() + 1.0
            raise Unauthorized(_WHAT_TO_SEND)

    async def slow_down(self) -> None:
        """Make whoever guesses wait: longer the more have guessed wrong lately. The right token never waits."""
        await asyncio.sleep(min(_LONGEST_S, _STEP_S * self._recent()))

    def _recent(self) -> float:
        """Wrong guesses, each forgotten by half in a minute."""
        now = time.monotonic()
        self._failures *= 0.5 ** ((now - self._looked_at) / _HALF_LIFE_S)
        self._looked_at = now
        return self._failures

    def _token(self) -> bytes:
        try:
            return self._path.read_bytes().strip()
        except OSError:
            return b""
