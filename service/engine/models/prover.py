"""The process that tries versions out: `python -m hoverboard.engine.models.prover`.

It imports Keras and TensorFlow once, without running anything of them, and forks for each version, before TensorFlow has threads of
its own. The fork gives up all it can do without, loads the version, traces it and runs its golden samples. So a version that
crashes, hangs, eats memory or reaches for files costs only that fork. Trials come on standard input, a line each; answers leave on
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
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

import msgspec

from hoverboard.backends.backend import installed
from hoverboard.engine.models.loader import Loader
from hoverboard.engine.models.proof_messages import Trial, Verdict
from hoverboard.engine.models.sandbox import NONE, enter
from hoverboard.errors import MACHINE, VersionRefused
from hoverboard.machine import check_of, confine
from hoverboard.telemetry.pulse import is_stopped
from hoverboard.versions.manifest import MANIFEST_FILE, Manifest

__all__ = ["main"]

_IDLE_S: Final = 60.0  # without a trial for so long it ends; the next one starts another
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


def main() -> None:
    """Answer trials until nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asked
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for place in (1, 2):
        os.dup2(nowhere, place)
    # Whatever the forks will need is imported now: they cannot read much later.
    for backend in installed():
        for package in backend.packages:
            import_module(package)
    gc.freeze()  # else the first collection in a fork would touch, and so copy, every page that holds an object
    waiting = b""
    while select.select([0], [], [], _IDLE_S)[0]:
        waiting += (piece := os.read(0, 1 << 16))
        if not piece:
            return
        *lines, waiting = waiting.split(b"\n")
        for line in lines:
            outcome = _try_apart(msgspec.json.decode(line, type=Trial))
            os.write(answers, msgspec.json.encode(outcome) + b"\n")


def _try_apart(trial: Trial) -> Verdict:
    """Try one version in a fork, which may do to itself what it likes."""
    if sys.platform != "linux":
        return _try(trial, NONE)  # forking is not safe there: this whole process is what a bad version costs
    try:
        with tempfile.TemporaryDirectory(prefix="hoverboard-trial-", ignore_cleanup_errors=True) as folder:
            return _forked(trial, Path(folder))
    except OSError as error:  # no room for its files, say
        return Verdict(MACHINE, f"it could not be tried in a process of its own: {error.strerror or error}")


def _forked(trial: Trial, folder: Path) -> Verdict:
    reading, writing = os.pipe()
    parent = os.getpid()
    fork = os.fork()
    if not fork:
        try:
            os.close(reading)
            _become_small(trial, folder, writing, parent)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        return _outcome(trial, fork, reading)
    finally:
        os.close(reading)


def _outcome(trial: Trial, fork: int, reading: int) -> Verdict:
    """What a fork says before it ends, or what its end says."""
    answer, until, late = b"", time.monotonic() + trial.deadline_s, False
    while len(answer) < 1 << 16:
        ready = select.select([reading, 0], [], [], max(0.0, until - time.monotonic()))[0]
        if 0 in ready:
            # Nobody asks before there is an answer, so whoever asked is gone; the fork goes with this process.
            sys.exit(0)
        late = not ready
        piece = b"" if late else os.read(reading, 4096)
        if not piece:
            break
        answer += piece
    stopped = late and is_stopped(fork)
    if late:
        os.kill(fork, signal.SIGKILL)
    _, status = os.waitpid(fork, 0)
    if stopped:
        return Verdict(MACHINE, "the process in which it was tried was stopped, by SIGSTOP or a debugger")
    if late:
        return Verdict(
            "crash",
            f"it was not loaded and run within {trial.deadline_s:g} s, when it was tried in a process of its own: publish it with a "
            "smaller --max-batch, or give the server a longer load_deadline_s",
        )
    try:
        return msgspec.json.decode(answer, type=Verdict)
    except msgspec.DecodeError:
        return _last_words(status)


def _last_words(status: int) -> Verdict:
    number = -os.waitstatus_to_exitcode(status)
    how = f"ended by {signal.Signals(number).name}" if number > 0 else f"ended with status {-number}"
    check = MACHINE if number in _OUTSIDE else "crash"
    return Verdict(check, f"it {how} when it was tried in a process of its own, perhaps out of memory")


def _become_small(trial: Trial, folder: Path, answers: int, parent: int) -> None:
    """In the fork: give up what it can do without, try, say what came of it, end."""
    os.dup2(1, 0)
    os.closerange(3, answers)
    os.closerange(answers + 1, _HANDLES)
    try:
        sandbox = _enter(Path(trial.directory), folder)
    except OSError as error:
        reason = f"it could not be tried: {error.strerror or error}"
        os.write(answers, msgspec.json.encode(Verdict(check_of(error, "load"), reason)))
        return
    if os.getppid() != parent:
        return  # it died before its death would have ended this one
    outcome = _try(trial, sandbox)
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
    sandbox = enter([directory, *_software()], writable, memory, _TIMES * size + _FILES)
    confine(directory)
    return sandbox


def _software() -> list[Path]:
    """Where Python and packages lie; not `sys.path`, which may name a folder with much else in it."""
    names = ["hoverboard", *(package for backend in installed() for package in backend.packages)]
    places = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    own = [str(Path(file).parent) for file in (sys.modules[name].__file__ for name in names) if file]
    return [Path(place) for place in dict.fromkeys((*places, *own, *_SYSTEM))]


def _try(trial: Trial, sandbox: str) -> Verdict:
    """Load a version, trace it, run its golden samples alone and beside others."""
    try:
        directory = Path(trial.directory)
        manifest = Manifest.from_json((directory / MANIFEST_FILE).read_bytes())
        live = Loader(lambda job: job(), trial.max_batch, xla=False).prove(directory, manifest)
    except VersionRefused as refusal:
        return Verdict(refusal.check, refusal.reason[:_MOST_WORDS], sandbox)
    except MemoryError as error:
        return Verdict(
            check_of(error, "crash"), "it ran out of memory when it was tried in a process of its own", sandbox
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the version's, or the machine's
        return Verdict(check_of(error, "load"), f"loading failed: {type(error).__name__}: {str(error)[:200]}", sandbox)
    return Verdict(sandbox=sandbox, min_length=tuple(spec.min_length for spec in live.signature.inputs))


if __name__ == "__main__":
    main()
