"""Importing TensorFlow from a command: a spinner for the seconds it takes, and none of its chatter."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from hoverboard.telemetry.logs import Level

__all__ = ["load_as_guest", "load_framework"]

_NICE: Final = 10


def load_framework(*, shown: bool = True) -> None:
    """Import Keras and TensorFlow.

    TensorFlow writes to file descriptor 2 before any setting of its own can stop it; what it wrote is shown only when
    the import fails.

    Args:
        shown: whether a spinner says so; not where a step of something else does.
    """
    from rich.console import Console

    from hoverboard.backends.backend import backend_of
    from hoverboard.versions.manifest import KERAS_FILE

    with _stderr_aside() as terminal, ExitStack() as stack:
        if shown:
            stack.enter_context(Console(file=terminal).status("Loading TensorFlow ..."))
        backend_of(KERAS_FILE)


def load_as_guest(process: str, *, shown: bool = True, level: Level = "warning") -> None:
    """The same for a command beside a service, whose calls come first; the log is that of a process of this name, from this level on."""
    from hoverboard.telemetry import logs

    with suppress(OSError):  # a container may not allow it; then it is as any other process
        os.nice(_NICE)
    load_framework(shown=shown)
    logs.configure(level, process=process)


@contextmanager
def _stderr_aside() -> Iterator[TextIO]:
    """Collect what goes to file descriptor 2 meanwhile; yields the real standard error."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as collected, os.fdopen(os.dup(2), "w") as terminal:
        # The descriptor and not `sys.stderr`: what is written is C++.
        os.dup2(collected.fileno(), 2)
        try:
            yield terminal
        except BaseException:
            collected.seek(0)
            shutil.copyfileobj(collected, terminal.buffer)
            raise
        finally:
            # Also after Ctrl-C: the terminal gets its stderr back whatever happens.
            sys.stderr.flush()
            os.dup2(terminal.fileno(), 2)
