"""Keep native libraries' start-up chatter off stderr, which belongs to the log."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["silent_stderr"]


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Send file descriptor 2 nowhere for a while; Python's own exceptions are not affected."""
    sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # started without a stderr: nothing to silence
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
