"""What a service must own before it starts: its data directory, its ports, its runtime directory, its admin token."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil

from hoverboard.config import TOKEN_FILE, resolved
from hoverboard.errors import ConfigError, DataDirLocked, PortInUse
from hoverboard.files import put_file

__all__ = ["LOCK_FILE", "DataDir", "address_of", "admin_token", "reserve", "runtime_directory"]

LOCK_FILE: Final = "lock"

_RUNTIME_PREFIX: Final = "hoverboard-"
_LONGEST_SOCKET_BASE: Final = 60  # a socket's path has room for 104 bytes on macOS
_PROBE_PATIENCE_S: Final = 2.0


class DataDir:
    """The exclusive claim on a data directory, held until `release` or the end of this process.

    The lock file says who holds it, for people and for the next start.
    """

    def __init__(self, path: Path, descriptor: int, previous: Mapping[str, Any]) -> None:
        self.path = path
        self.previous = previous
        self._descriptor = descriptor

    @classmethod
    def claim(cls, path: Path) -> DataDir:
        """Make the directory where it is missing, and lock it.

        Raises:
            DataDirLocked: another process holds it; the text says which.
            ConfigError: it cannot be made or written to.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(
                f"data_dir {path} cannot be used: {error.strerror}; mend that, or choose another with --data-dir"
            ) from error
        try:
            # Not a file with a pid, which a killed service would leave behind: a lock goes with its process.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _read(descriptor).get("pid", "unknown")
            os.close(descriptor)
            raise DataDirLocked(
                f"data directory {path} belongs to a running service (pid {holder}); "
                "stop that one, or choose another with --data-dir",
            ) from error
        claimed = cls(path, descriptor, _read(descriptor))
        claimed.note(pid=os.getpid())
        return claimed

    @property
    def intact(self) -> bool:
        """Whether the directory is still where it was: a service that claims it now finds this lock."""
        with suppress(OSError):
            return os.path.samestat((self.path / LOCK_FILE).stat(), os.fstat(self._descriptor))
        return False

    def require_room(self, mib: int) -> None:
        """See that its disk has at least so much room, before anything is started that would fail for want of it.

        Raises:
            ConfigError: it has less.
        """
        free = shutil.disk_usage(self.path).free >> 20
        if free < mib:
            raise ConfigError(
                f"data_dir {self.path} is on a disk with {free} MiB of room, and its journals begin with {mib}; make room, "
                "choose another with --data-dir, or serve without with --recording off"
            )

    def note(self, **facts: object) -> None:
        """Replace what the lock file says."""
        text = json.dumps(facts).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)

    def release(self) -> None:
        """Give the directory up; the file stays, since removing it would race with the next claim."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _read(descriptor: int) -> Mapping[str, Any]:
    with suppress(ValueError, OSError):
        facts = json.loads(os.pread(descriptor, 4096, 0))
        if isinstance(facts, dict):
            return facts
    return {}


@contextmanager
def runtime_directory(previous: str | None = None) -> Iterator[Path]:
    """A short, private directory for sockets and metrics, removed at the end.

    Args:
        previous: that of a service that was killed on the same data directory; it is removed first.
    """
    base = tempfile.gettempdir()
    base = base if len(base) <= _LONGEST_SOCKET_BASE else "/tmp"  # noqa: S108 - mkdtemp makes a private one in it
    # The lock file is only text: nothing is removed that does not look like a folder of ours.
    if previous and Path(previous).name.startswith(_RUNTIME_PREFIX) and Path(previous).parent == Path(base):
        shutil.rmtree(previous, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX, dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def reserve(host: str, port: int, *, setting: str = "port") -> socket.socket:
    """Hold an address for processes that will share it with `SO_REUSEPORT`.

    First it is probed without that option, so that two services never share a port by accident. The socket returned
    never listens: it only keeps the address, and answers which port a `port` of 0 became.

    Args:
        setting: the setting that chose the port, for the error.

    Raises:
        PortInUse: another process has it; the text says which where that can be known.
        ConfigError: no such address on this machine, or no right to it.
    """
    family, address = _resolve(host, port)
    if port:
        _probe(family, address, setting)
    try:
        try:
            return _hold(family, address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # Connections in TIME_WAIT that were not shared stand in the way of this first attempt. It comes first
            # since, without the option that overlooks them, the reservation also shows in another service's probe.
            return _hold(family, address, socket.SO_REUSEADDR)
    except OSError as error:
        raise _refusal(error, address, setting) from error


def _hold(family: socket.AddressFamily, address: tuple[Any, ...], *options: int) -> socket.socket:
    holder = socket.socket(family, socket.SOCK_STREAM)
    for option in (socket.SO_REUSEPORT, *options):
        holder.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        holder.bind(address)
    except OSError:
        holder.close()
        raise
    return holder


def address_of(holder: socket.socket) -> int:
    """The port that a reserved address has."""
    port: int = holder.getsockname()[1]
    return port


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    try:
        return resolved(host, port)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"host {host!r} is no address: {error}") from error


def _probe(family: socket.AddressFamily, address: tuple[Any, ...], setting: str) -> None:
    patience = time.monotonic() + _PROBE_PATIENCE_S
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Lets connections in TIME_WAIT be, but not a socket that listens.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                # The children of a service that was just killed need a moment to notice.
                if error.errno != errno.EADDRINUSE or time.monotonic() > patience:
                    raise _refusal(error, address, setting) from error
            else:
                return
        time.sleep(0.1)


def _refusal(error: OSError, address: tuple[Any, ...], setting: str) -> Exception:
    place = f"{address[0]}:{address[1]}"
    if error.errno == errno.EADDRINUSE:
        flag = f"--{setting.replace('_', '-')}"
        return PortInUse(f"{place} is in use{_owner(address[1])}; stop that one, or choose another with {flag}")
    return ConfigError(f"{setting}: cannot listen on {place}: {error.strerror}")


def _owner(port: int) -> str:
    """Who listens on a port, in words; empty where the system does not tell."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""


def admin_token(data_dir: Path) -> Path:
    """The file with the admin listener's bearer token; made with a new one where it is missing. Mode 0600."""
    path = data_dir / TOKEN_FILE
    if path.exists():
        # It may have come out of a backup, or from a person, with wider rights.
        path.chmod(0o600)
        return path
    put_file(path, f"{secrets.token_urlsafe(32)}\n".encode("ascii"))
    return path
