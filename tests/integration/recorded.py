"""A service that records into a database of its own, and what is in that database."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncpg

from tests.integration.running import Service, running
from tests.postgres import Server

__all__ = ["Recorded", "until"]

T = TypeVar("T")

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Recorded:
    """A service and the database that it records to.

    Attributes:
        service: it answers.
        database: URL, as the superuser.
    """

    service: Service
    database: str

    @classmethod
    @contextmanager
    def running(
        cls,
        folder: Path,
        published: Path,
        models: Sequence[str],
        postgres: Server,
        template: str,
        **settings: str,
    ) -> Iterator[Self]:
        """Serve some of the published models from an empty folder.

        Args:
            template: name of the migrated database.
            settings: further HOVERBOARD_* variables, in lower case and without the prefix.
        """
        for name in models:
            if not (folder / "models" / name).exists():
                shutil.copytree(published / name, folder / "models" / name)
        chosen = {f"HOVERBOARD_{name.upper()}": value for name, value in settings.items()}
        with postgres.database(template) as url:
            recording = {"HOVERBOARD_RECORDING": "on", "HOVERBOARD_DATABASE_URL": url}
            with running(folder, recording | chosen) as service:
                yield cls(service, url)

    def call(self, method: str, params: Any, headers: Mapping[str, str] | None = None) -> Any:
        """The response object of one call."""
        return self.post({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}, headers)

    def post(self, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        """The response to a POSTed message, JSON where it is no bytes yet."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.service.url, data, {"Content-Type": "application/json", **dict(headers or {})}
        )
        try:
            with _opener.open(request, timeout=30) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return json.loads(refused.read())

    def answers(self) -> bool:
        """Whether the service takes calls now."""
        try:
            return "result" in self.call("models.list", {})
        except OSError:
            return False

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """What a query finds in the schema `hoverboard`."""
        with ThreadPoolExecutor(1) as thread:  # pytest-asyncio keeps a loop of its own in this one
            return thread.submit(asyncio.run, _rows(self.database, query, values)).result()


async def _rows(database: str, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(database, server_settings={"search_path": "hoverboard, public"})
    try:
        return [dict(row) for row in await connection.fetch(query, *values)]
    finally:
        await connection.close()


def until(find: Callable[[], T], enough: Callable[[T], bool], seconds: float = 20.0) -> T:
    """What is found, as soon as it is enough."""
    end = time.monotonic() + seconds
    while not enough(found := find()):
        assert time.monotonic() < end, f"still not enough: {str(found)[:1000]}"
        time.sleep(0.05)
    return found
