"""Importing TensorFlow from a command: a spinner for the seconds it takes, and none of its chatter."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

__all__ = ["load_framework"]


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
