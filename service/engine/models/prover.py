"""The process that tries versions out: `python -m hoverboard.engine.models.prover`.

It imports Keras and TensorFlow once, without running anything of them, and forks for each version, before TensorFlow has threads of
its own. The fork gives up all it can do without, loads the version, traces it and runs its golden samples. So a version that
crashes, hangs, eats memory or reaches for files costs only that fork. Requests come on standard input, a line each; answers leave on
what was standard output. Its end ends this process, and each fork with it.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from hoverboard.engine.models.sandbox import NONE, enter
from hoverboard.errors import MACHINE
from hoverboard.machine import check_of, confine
from hoverboard.telemetry.pulse import is_stopped
from hoverboard.contract.signature import TensorSpec

__all__ = ["Request", "Verdict", "main"]

_IDLE_S: Final = 60.0  # without a request for so long it ends; the next one starts another
_MOST_WORDS: Final = 2000
_MEMORY: Final = 8 * 1024**3
"""Bytes of address space beside what its files take, or what the machine has where that is more."""
_FILES: Final = 64 * 1024**2  # bytes of a temporary file beside what its files take
_HANDLES: Final = 1024  # more than a process of one thread has open
_OUTSIDE: Final = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Ends that come from outside: a fork may send no signal, and what it does wrong ends it by another one."""
_TIMES: Final = 8  # what a model may take in memory, as a multiple of its files
_SYSTEM: Final = (
    "/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache", "/proc/cpuinfo", "/proc/meminfo",
    "/sys/devices/system/cpu", "/dev/urandom",
)  # fmt: skip


class Request(msgspec.Struct, frozen=True):
    """A version to try.

    Attributes:
        directory: of the version.
        max_batch: largest bucket to run.
        deadline_s: seconds it may take.
    """

    directory: str
    max_batch: int
    deadline_s: float


class Verdict(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        check: which check refused it; empty where it may be served.
        reason: why.
        sandbox: what held while it was tried.
        min_length: of each input: what its manifest says, or else what was found.
    """

    check: str = ""
    reason: str = ""
    sandbox: str = NONE
    min_length: tuple[int | tuple[int, ...] | None, ...] = ()

    def told(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """The inputs of the version that was tried, with what was found of them."""
        found = self.min_length if len(self.min_length) == len(inputs) else (None,) * len(inputs)
        return tuple(
            replace(s, min_length=n) if s.min_length is None else s for s, n in zip(inputs, found, strict=True)
        )


def main() -> None:
    """Answer requests until nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asked
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for place in (1, 2):
        os.dup2(nowhere, place)
    # Whatever the forks will need is imported now: they cannot read much later.
    import h5py  # noqa: F401

    from hoverboard.engine.models import loading  # noqa: F401

    gc.freeze()
    waiting = b""
    while select.select([0], [], [], _IDLE_S)[0]:
        waiting += (piece := os.read(0, 1 << 16))
        if not piece:
            return
        *lines, waiting = waiting.split(b"\n")
        for line in lines:
            outcome = _try_apart(msgspec.json.decode(line, type=Request))
            os.write(answers, msgspec.json.encode(outcome) + b"\n")


def _try_apart(request: Request) -> Verdict:
    """Try one version in a fork, which may do to itself what it likes."""
    if sys.platform != "linux":
        return _try(request, NONE)  # forking is not safe there: this whole process is what a bad version costs
    try:
        with tempfile.TemporaryDirectory(prefix="hoverboard-trial-", ignore_cleanup_errors=True) as folder:
            return _forked(request, Path(folder))
    except OSError as error:  # no room for its files, say
        return Verdict(MACHINE, f"it could not be tried in a process of its own: {error.strerror or error}")


def _forked(request: Request, folder: Path) -> Verdict:
    reading, writing = os.pipe()
    asked_by = os.getpid()
    fork = os.fork()
    if not fork:
        try:
            os.close(reading)
            _become_small(request, folder, writing, asked_by)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        return _outcome(request, fork, reading)
    finally:
        os.close(reading)


def _outcome(request: Request, fork: int, reading: int) -> Verdict:
    """What a fork says before it ends, or what its end says."""
    said, until, late = b"", time.monotonic() + request.deadline_s, False
    while len(said) < 1 << 16:
        ready = select.select([reading, 0], [], [], max(0.0, until - time.monotonic()))[0]
        if 0 in ready:
            # Nobody asks before there is an answer, so whoever asked is gone; the fork goes with this process.
            sys.exit(0)
        late = not ready
        piece = b"" if late else os.read(reading, 4096)
        if not piece:
            break
        said += piece
    stopped = late and is_stopped(fork)
    if late:
        os.kill(fork, signal.SIGKILL)
    _, status = os.waitpid(fork, 0)
    if stopped:
        return Verdict(MACHINE, "the process in which it was tried was stopped, by SIGSTOP or a debugger")
    if late:
        return Verdict(
            "crash",
            f"it was not loaded and run within {request.deadline_s:g} s, when it was tried in a process of its own: publish it with a "
            "smaller --max-batch, or give the server a longer load_deadline_s",
        )
    try:
        return msgspec.json.decode(said, type=Verdict)
    except msgspec.DecodeError:
        return _last_words(status)


def _last_words(status: int) -> Verdict:
    number = -os.waitstatus_to_exitcode(status)
    how = f"ended by {signal.Signals(number).name}" if number > 0 else f"ended with status {-number}"
    check = MACHINE if number in _OUTSIDE else "crash"
    return Verdict(check, f"it {how} when it was tried in a process of its own, perhaps out of memory")


def _become_small(request: Request, folder: Path, answers: int, asked_by: int) -> None:
    """In the fork: give up what it can do without, try, say what came of it, end."""
    os.dup2(1, 0)
    os.closerange(3, answers)
    os.closerange(answers + 1, _HANDLES)
    try:
        held = _enter(Path(request.directory), folder)
    except OSError as error:
        said = f"it could not be tried: {error.strerror or error}"
        os.write(answers, msgspec.json.encode(Verdict(check_of(error, "load"), said)))
        return
    if os.getppid() != asked_by:
        return  # it died before its death would have ended this one
    outcome = _try(request, held)
    os.write(answers, msgspec.json.encode(outcome))
    os._exit(0)


def _enter(directory: Path, folder: Path) -> str:
    """Keep nothing but reading a version and writing to a folder; returns what holds."""
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory is short, this is what goes first
    # The C library names threads by writing below /proc/self.
    writable = [folder, Path(os.devnull), Path("/proc/self").resolve()]
    memory = max(_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) + _TIMES * size
    held = enter([directory, *_software()], writable, memory, _TIMES * size + _FILES)
    confine(directory)
    return held


def _software() -> list[Path]:
    """Where Python and packages lie; not `sys.path`, which may name a folder with much else in it."""
    packages = [sys.modules[name].__file__ for name in ("hoverboard", "keras", "tensorflow", "numpy", "h5py")]
    places = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    own = [str(Path(file).parent) for file in packages if file]
    return [Path(place) for place in dict.fromkeys((*places, *own, *_SYSTEM))]


def _try(request: Request, held: str) -> Verdict:
    """Load a version, trace it, run its golden samples alone and beside others."""
    from hoverboard.engine.models import loading
    from hoverboard.backends.tensorflow import runtime
    from hoverboard.errors import VersionRefused
    from hoverboard.versions.manifest import MANIFEST_FILE, Manifest

    try:
        runtime.configure(1, 1)
        directory = Path(request.directory)
        manifest = Manifest.from_json((directory / MANIFEST_FILE).read_bytes())
        live = loading.Loader(lambda job: job(), request.max_batch, xla=False).prove(directory, manifest)
    except VersionRefused as refusal:
        return Verdict(refusal.check, refusal.reason[:_MOST_WORDS], held)
    except MemoryError as error:
        return Verdict(check_of(error, "crash"), "it ran out of memory when it was tried in a process of its own", held)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the version's, or the machine's
        return Verdict(check_of(error, "load"), f"loading failed: {type(error).__name__}: {str(error)[:200]}", held)
    return Verdict(sandbox=held, min_length=tuple(spec.min_length for spec in live.signature.inputs))


if __name__ == "__main__":
    main()
