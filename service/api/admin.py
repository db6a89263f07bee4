"""Who may use the admin listener: whoever knows the token in the data directory."""

from __future__ import annotations

import hmac
from pathlib import Path

from aiohttp import web

from service.errors import Unauthorized

__all__ = ["TokenGuard"]


class TokenGuard:
    """Lets requests with the right bearer token pass.

    Args:
        path: the token's file; read for every request, so that a new token counts at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, request: web.BaseRequest) -> None:
        """Check one request.

        Raises:
            Unauthorized: no token, or not this one; or the service has none.
        """
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        expected = self._token()
        right = hmac.compare_digest(given.strip().encode(), expected)
        if scheme.lower() != "bearer" or not expected or not right:
            raise Unauthorized

    def _token(self) -> bytes:
        try:
            return self._path.read_bytes().strip()
        except OSError:
            return b""
