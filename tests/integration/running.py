"""`hoverboard serve` as users run it: a process of its own, on free ports."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from hoverboard.config import TOKEN_FILE

ROOT = Path(__file__).parents[2]
_PROOFS = Path(tempfile.mkdtemp(prefix="hoverboard-proofs-"))
"""What services of this session have tried: as between two starts of one service, the next need not try it again."""
atexit.register(shutil.rmtree, _PROOFS, ignore_errors=True)
HOVERBOARD = (sys.executable, "-P", "-m", "hoverboard")


@dataclass(frozen=True, slots=True)
class Service:
    """A service that answers.

    Attributes:
        process: the supervisor.
        url: of the public listener.
        admin_url: of the admin listener.
        log: what it writes to stderr.
    """

    process: subprocess.Popen[str]
    url: str
    admin_url: str
    log: Path

    @property
    def folder(self) -> Path:
        """Its working directory, with `models` and `data`."""
        return self.log.parent

    @property
    def token(self) -> str:
        """The admin listener's bearer token."""
        return (self.folder / "data" / TOKEN_FILE).read_text().strip()

    def children(self, kind: str = "") -> list[psutil.Process]:
        """Its processes, or those of one kind, `_engine` or `_api`, by index."""
        found = [child for child in psutil.Process(self.process.pid).children() if kind in " ".join(child.cmdline())]
        return sorted(found, key=lambda child: child.cmdline()[-1])

    @property
    def environment(self) -> dict[str, str]:
        """Settings by which commands find it."""
        ports = {"HOVERBOARD_PORT": self.url, "HOVERBOARD_ADMIN_PORT": self.admin_url}
        return environment() | {name: url.rpartition(":")[2] for name, url in ports.items()}


def environment() -> dict[str, str]:
    """This process's environment without its own settings, and with this checkout importable."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOVERBOARD_")}
    return inherited | {"PYTHONPATH": str(ROOT)}


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def proofs_kept(data: Path) -> Iterator[None]:
    """A data directory that knows what services of this session have tried, and tells what is tried with it."""
    tried = data / "proofs"
    shutil.copytree(_PROOFS, tried, dirs_exist_ok=True)
    try:
        yield
    finally:
        if tried.is_dir():  # a test may remove it, and what failed there must not be hidden by this
            shutil.copytree(tried, _PROOFS, dirs_exist_ok=True)


@contextmanager
def running(folder: Path, settings: Mapping[str, str] | None = None, *, status: int = 0) -> Iterator[Service]:
    """Serve `folder/models` with `folder/data`; ends with SIGTERM, which must drain cleanly.

    Args:
        folder: working directory of the service.
        settings: further HOVERBOARD_* variables; without `HOVERBOARD_RECORDING=on` nothing is recorded.
        status: with which it must end; a test that kills it expects another one than 0.
    """
    log = folder / "service.log"
    free = {"HOVERBOARD_PORT": "0", "HOVERBOARD_ADMIN_PORT": "0", "HOVERBOARD_SCAN_INTERVAL_S": "0.2"}
    quick = {"HOVERBOARD_RECORDING": "off"}
    with proofs_kept(folder / "data"), log.open("w") as stderr:
        process = subprocess.Popen(
            [*HOVERBOARD, "serve"],
            cwd=folder,
            env=environment() | free | quick | dict(settings or {}),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            ready = json.loads(line)
            yield Service(process, ready["url"], ready["admin_url"], log)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == status, log.read_text()
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
