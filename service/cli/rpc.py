"""A JSON-RPC client for the commands: one connection, one call at a time, retried where the server says it helps."""

from __future__ import annotations

import http.client
import itertools
import random
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec

from hoverboard.config import TOKEN_FILE
from hoverboard.errors import ConfigError, HoverboardError

__all__ = ["Answered", "Client", "Unreachable", "admin_token"]

_ATTEMPTS: Final = 6
_LONGEST_PAUSE_S: Final = 10.0


class Unreachable(HoverboardError):
    """No server answers at the URL."""


class Answered(HoverboardError):
    """The server answered with a JSON-RPC error.

    Args:
        error: the `error` member of the response.
    """

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.code = int(error.get("code", 0))
        data = error.get("data")
        self.data: Mapping[str, Any] = data if isinstance(data, dict) else {}
        super().__init__(f"{error.get('message')} ({self.code} {self.data.get('type', '')}".rstrip() + ")")

    @property
    def retryable(self) -> bool:
        """Whether the server says that trying again may help."""
        return bool(self.data.get("retryable"))

    def pause(self, attempt: int) -> float:
        """Seconds to wait before the next attempt: what the server asks for, with jitter, growing when it does not."""
        asked = self.data.get("retry_after_ms")
        seconds = asked / 1000 if isinstance(asked, int | float) else 0.1 * 2**attempt
        return min(seconds * random.uniform(1.0, 1.25), _LONGEST_PAUSE_S)  # noqa: S311 - jitter, no secret


class Client:
    """Calls one server; a context manager.

    Args:
        url: `http://` or `https://`, host and port; a path other than `/` is kept.
        token: bearer token, for the admin listener.
        timeout_s: of each attempt.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 630.0) -> None:
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        try:
            parts = urlsplit(url)
            kind, host, port = kinds.get(parts.scheme), parts.hostname, parts.port
        except ValueError:  # a port that is none, a bracket that nothing closes
            kind = host = port = None
        if kind is None or not host:
            raise ConfigError(f"--url {url}: expected something like http://127.0.0.1:8080")
        self.url = url
        self._connection = kind(host, port, timeout=timeout_s)
        self._path = parts.path or "/"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """The result of one call, after as many as six attempts.

        Raises:
            Unreachable: no server answers, or what answers is no JSON-RPC server.
            Answered: the server refused for good.
        """
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params})
        for attempt in range(_ATTEMPTS):
            try:
                return self._once(body)
            except Answered as error:
                if not error.retryable or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(error.pause(attempt))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _once(self, body: bytes) -> Any:
        try:
            self._connection.request("POST", self._path, body, self._headers)
            response = self._connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Unreachable(f"no server answers at {self.url} ({_reason(error)})") from error
        try:
            answer = msgspec.json.decode(raw)
            refusal, result = answer.get("error"), answer.get("result")
        except (msgspec.DecodeError, AttributeError) as error:
            raise Unreachable(f"{self.url} answered HTTP {response.status} without JSON-RPC") from error
        if refusal is not None:
            raise Answered(refusal)
        return result


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def admin_token(data_dir: Path) -> str:
    """The admin listener's bearer token.

    Raises:
        ConfigError: no server has been started on that data directory, or the file is not ours to read.
    """
    path = data_dir / TOKEN_FILE
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"{path}: {(error.strerror or '').lower()}; `hoverboard serve` writes it, --data-dir says where"
        ) from error
