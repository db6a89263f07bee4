"""Where the running embedded Postgres is reached: a socket in a folder of its own, and a file that says which.

It imports no database driver: commands that only look do not wait for one.
"""

from __future__ import annotations

import json
import shutil
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hoverboard.errors import ConfigError
from hoverboard.files import put_file
from hoverboard.postgres.passwords import USER, recorder_password, superuser_password

__all__ = ["DATABASE", "PORT", "SOCKET_PREFIX", "Endpoint", "embedded_url", "endpoint", "libpq_variables", "url_of"]

DATABASE: Final = "hoverboard"
PORT: Final = 5432
"""Names the socket's file; no TCP port is opened."""
SOCKET_PREFIX: Final = "hoverboard-pg-"
_ENDPOINT_FILE: Final = "postgres.json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a running cluster listens; a small JSON file in the data directory says so.

    Attributes:
        socket_dir: the folder of its socket.
        pid: of the server.
    """

    socket_dir: Path
    pid: int

    @contextmanager
    def announced(self, data_dir: Path) -> Iterator[None]:
        """Let `embedded_url` find it, until the end."""
        self.announce(data_dir)
        try:
            yield
        finally:
            if endpoint(data_dir) == self:  # not that of a service that has taken over
                (data_dir / _ENDPOINT_FILE).unlink(missing_ok=True)

    def announce(self, data_dir: Path) -> None:
        """Write down where it listens, again where the file was removed.

        Raises:
            OSError: the file cannot be written.
        """
        where = json.dumps({"socket_dir": str(self.socket_dir), "port": PORT, "pid": self.pid})
        put_file(data_dir / _ENDPOINT_FILE, where.encode(), mode=0o644, durable=False)

    @property
    def socket(self) -> Path:
        """The socket itself; there once the server is."""
        return self.socket_dir / f".s.PGSQL.{PORT}"

    @staticmethod
    def forget(data_dir: Path) -> None:
        """Remove what one that was killed has left: its file, and the folder of its socket."""
        left = endpoint(data_dir)
        # Only a folder of ours: the file may hold anything, and what it names is removed.
        if left is not None and left.socket_dir.name.startswith(SOCKET_PREFIX):
            shutil.rmtree(left.socket_dir, ignore_errors=True)
        (data_dir / _ENDPOINT_FILE).unlink(missing_ok=True)


def endpoint(data_dir: Path) -> Endpoint | None:
    """What the file in the data directory says, living or not."""
    try:
        written: dict[str, Any] = json.loads((data_dir / _ENDPOINT_FILE).read_bytes())
        return Endpoint(Path(written["socket_dir"]), int(written["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def embedded_url(data_dir: Path, user: str = USER) -> str:
    """How to reach the running embedded Postgres of a data directory; holds the password.

    A server that still recovers from a crash counts as running: it refuses connections in its own words.

    Args:
        data_dir: the service's.
        user: its superuser, or the role that records, once `roles.prepare` has let it in.

    Returns:
        `postgresql://hoverboard:PASSWORD@/hoverboard?host=SOCKET_DIR&port=5432`, for libpq and asyncpg.

    Raises:
        ConfigError: nothing listens there now, or its password cannot be read.
    """
    running = endpoint(data_dir)
    if running is None or not _listens(running.socket):
        raise ConfigError(
            f"the embedded Postgres of {data_dir} does not run; it runs while `hoverboard serve` does, with that "
            "--data-dir and without --database-url",
        )
    password = superuser_password(data_dir) if user == USER else recorder_password(data_dir)
    return url_of(running.socket_dir, password, DATABASE, user)


def url_of(socket_dir: Path, password: str, database: str, user: str = USER) -> str:
    """How to reach a server at its socket, in the form that libpq and asyncpg take; holds the password."""
    query = urllib.parse.urlencode({"host": str(socket_dir), "port": PORT})
    return f"postgresql://{user}:{urllib.parse.quote(password, safe='')}@/{database}?{query}"


def libpq_variables(url: str) -> Mapping[str, str]:
    """The environment variables that stand for a URL of this module, so that no argument list holds its password."""
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query))
    return {
        "PGHOST": query["host"],
        "PGPORT": query["port"],
        "PGUSER": parts.username or "",
        "PGPASSWORD": urllib.parse.unquote(parts.password or ""),
        "PGDATABASE": parts.path.removeprefix("/"),
    }


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except PermissionError:
            return True  # another user's; the password's file will say so
        except OSError:
            return False
        return True
