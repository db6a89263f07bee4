"""A version is tried in a process of its own before it is loaded here, once: what held is remembered with the version's checksums."""

from __future__ import annotations

import atexit
import hashlib
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from hoverboard.children import IMPORT_PATH
from hoverboard.engine.models.proof_messages import Trial, Verdict
from hoverboard.engine.models.sandbox import NONE
from hoverboard.errors import MACHINE, VersionRefused
from hoverboard.files import put_file
from hoverboard.version import __version__
from hoverboard.versions import Manifest

__all__ = ["DEADLINE_S", "Proofs", "stop_trials", "try_version"]

DEADLINE_S: Final = 240.0
"""Seconds that a version may take to load and to answer its golden samples."""
_START_S: Final = 120.0  # and those that the process itself may take to start, on a machine that is busy
_LEAVES_S: Final = 1.0  # and those to end by itself when nobody wants to know any more
_BATCH: Final = (
    2  # golden samples run alone and beside one other; what a version may be run with is the engine's own matter
)
_ENVIRONMENT: Final = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "SYSTEMROOT",
    "TMPDIR",
    "VIRTUAL_ENV",
)
_END: Final = MACHINE if sys.platform == "linux" else "crash"
"""What the end of a trial's process says: on Linux a version costs only a fork of it, so something else ended it."""
_log = structlog.get_logger(__name__)


class _Prover:
    """The process that tries versions, started when it is needed and shared by all of this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    @property
    def busy(self) -> bool:
        """Whether it tries a version now."""
        return self._lock.locked()

    def ask(self, trial: Trial, wanted: Callable[[], bool]) -> Verdict:
        """Try a version, as long as `wanted` says so; blocks."""
        line = msgspec.json.encode(trial) + b"\n"
        with self._lock:
            for _ in range(2):  # an idle one may end just when it is asked
                answer = self._answer(line, trial.deadline_s + min(_START_S, trial.deadline_s)) if wanted() else None
                if answer is not None:
                    return answer
            return Verdict(_END, "the process that was to try it ended before it said anything")

    def start(self) -> None:
        """Let it start while something else is done."""
        with self._lock:
            self._running()

    def interrupt(self) -> None:
        """End it while another thread waits for its answer."""
        process = self._process
        if process is not None:
            process.kill()

    def _answer(self, line: bytes, patience_s: float) -> Verdict | None:
        process = self._running()
        try:
            return self._read(process, line, patience_s)
        except BaseException:  # such as Ctrl-C: what it answers later must not be taken for the answer to the next one
            if process.stdin is not None:
                with suppress(OSError, subprocess.TimeoutExpired):
                    process.stdin.close()
                    process.wait(_LEAVES_S)  # it removes the trial's temporary files
            self.close()
            raise

    def _read(self, process: subprocess.Popen[bytes], line: bytes, patience_s: float) -> Verdict | None:
        if process.stdin is None or process.stdout is None:
            return None
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except OSError:
            self.close()
            return None
        if not select.select([process.stdout], [], [], patience_s)[0]:
            self.close()
            return Verdict(_END, f"the process that was to try it said nothing within {patience_s:g} s")
        try:
            return msgspec.json.decode(process.stdout.readline(), type=Verdict)
        except msgspec.DecodeError:
            self.close()
            return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        self.close()
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "hoverboard.engine.models.prover"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
        atexit.register(self.close)
        return self._process

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


_provers = (_Prover(), _Prover())
"""The second one is for what is wanted while a version keeps the first one busy: a roll-back does not wait for it."""


def stop_trials() -> None:
    """End each trial of this process, for one that ends at once."""
    for prover in _provers:
        prover.interrupt()


def _environment() -> Mapping[str, str]:
    """What the process needs to find its modules: no secret, and no accelerator, which may be busy or small."""
    passed_on = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
    python_path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [str(IMPORT_PATH), *(str(Path(place).absolute()) for place in python_path if place)]
    return {
        **passed_on,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(places)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def try_version(
    directory: Path, max_batch: int, deadline_s: float = DEADLINE_S, wanted: Callable[[], bool] = lambda: True
) -> Verdict:
    """Load a version and run its golden samples in a process that can reach nothing else; blocks.

    Args:
        directory: of the version, whose files are known to be whole.
        max_batch: largest bucket to run.
        deadline_s: seconds it may take.
        wanted: whether anybody still wants to know.

    Returns:
        What kept it from reaching out, and what was found of its inputs.

    Raises:
        VersionRefused: whatever the engine would refuse it for, and where it crashes, hangs or eats memory.
    """
    prover = next((prover for prover in _provers if not prover.busy), _provers[0])
    try:
        outcome = prover.ask(Trial(str(directory.absolute()), max_batch, deadline_s), wanted)
    except OSError as error:  # no process can be started, say
        message = f"it could not be tried in a process of its own: {error.strerror or error}"
        raise VersionRefused(message, check=MACHINE) from error
    if outcome.check:
        raise VersionRefused(outcome.reason, check=outcome.check)
    return outcome


@dataclass(slots=True)
class Proofs:
    """Which versions were tried on this machine with this software.

    Attributes:
        directory: where that is remembered between starts; None for as long as this process lives.
        deadline_s: seconds that a version may take.
        attempt: tries a version; see `try_version`.
    """

    directory: Path | None
    deadline_s: float = DEADLINE_S
    attempt: Callable[[Path, int, float, Callable[[], bool]], Verdict] = try_version
    _trying: int = 0
    _closed: bool = False

    def require(self, directory: Path, manifest: Manifest, software: Mapping[str, str]) -> Verdict:
        """Try a version, unless that was done before.

        Args:
            directory: of the version, whose checksums hold.
            manifest: with the checksums of all its files.
            software: versions of what a graph runs on, by name.

        Returns:
            As `try_version` does; also where that was before.

        Raises:
            VersionRefused: as `try_version` does.
        """
        key = _key(manifest, software)
        tried = _known.get(key) or self._recalled(key)
        if tried is None:
            self._trying += 1
            try:
                size = min(_BATCH, manifest.max_batch or _BATCH)
                tried = self.attempt(directory, size, self.deadline_s, lambda: not self._closed)
            finally:
                self._trying -= 1
            self._remember(key, tried)
        _known[key] = tried
        _log_sandbox(tried.sandbox)
        return tried

    def _recalled(self, key: str) -> Verdict | None:
        if self.directory is None:
            return None
        try:
            return msgspec.json.decode((self.directory / key).read_bytes(), type=Verdict)
        except (OSError, msgspec.DecodeError):
            return None  # never tried here, or unreadable: try it

    def _remember(self, key: str, tried: Verdict) -> None:
        if self.directory is not None:
            with suppress(OSError):  # only a memory: it is tried again next time
                self.directory.mkdir(parents=True, exist_ok=True)
                put_file(self.directory / key, msgspec.json.encode(tried), durable=False)

    def prepare(self) -> None:
        """Where nothing was tried before, let the process that will be needed start already."""
        with suppress(OSError):  # it is started when it is needed
            if self.directory is None or not self.directory.is_dir() or not any(self.directory.iterdir()):
                _provers[0].start()

    def close(self) -> None:
        """Wait for no trial that still runs."""
        self._closed = True
        if self._trying:
            stop_trials()


def _key(manifest: Manifest, software: Mapping[str, str]) -> str:
    # The whole manifest, since limits and allowed operations decide what a trial does; its checksums stand for the files.
    parts = (*(f"{name}={version}" for name, version in sorted(software.items())), __version__)
    return hashlib.sha256("|".join(parts).encode() + manifest.to_json()).hexdigest()


_known: dict[str, Verdict] = {}
_logged: set[str] = set()


def _log_sandbox(sandbox: str) -> None:
    """Once for each kind, what keeps versions from reaching out while they are tried."""
    if sandbox in _logged:
        return
    _logged.add(sandbox)
    if sandbox == NONE:
        _log.warning(
            "no_sandbox", reason="this system has neither landlock nor seccomp: versions are tried with full rights"
        )
    else:
        _log.info("sandbox", kind=sandbox)
