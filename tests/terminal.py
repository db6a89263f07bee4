"""Commands on a terminal, as a person runs them."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["OnTerminal", "on_a_terminal"]


class OnTerminal(NamedTuple):
    """What a command has shown on its terminal, what came through pipes in place of it, and its exit status."""

    shown: bytes
    piped: bytes
    status: int


def on_a_terminal(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], **streams: int | None
) -> OnTerminal:
    """Run a command to its end; a terminal 100 columns wide is its standard input, output and error.

    Args:
        command: the argument list.
        folder: it runs in.
        variables: its environment.
        streams: what it gets in place of the terminal, such as `stdout=subprocess.PIPE`.
    """
    controller, terminal = pty.openpty()
    given: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), terminal) | streams
    with subprocess.Popen(command, cwd=folder, env={**variables, "COLUMNS": "100"}, **given) as process:
        os.close(terminal)
        shown = b""
        while chunk := _read(controller):
            shown += chunk
        os.close(controller)
        piped = b"" if process.stdout is None else process.stdout.read()
        return OnTerminal(shown, piped, process.wait())


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 4096)
    except OSError:  # the other end is closed
        return b""
