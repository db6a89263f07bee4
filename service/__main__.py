"""`python -m hoverboard`: the command line, and the entry of the supervisor's child processes."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Final

__all__ = ["main"]


# Imported by name and late: the api process must never load what the engine needs, nor either of them the command line.
_CHILDREN: Final = {
    "_api": "hoverboard.api.process",
    "_carrier": "hoverboard.postmortem.carrier",
    "_engine": "hoverboard.engine.process",
    "_postgres": "hoverboard.postgres.process",
    "_recorder": "hoverboard.recorder.process",
}


def main() -> None:
    """Run the command line, or the child process that the supervisor asks for."""
    child = sys.argv[1] if len(sys.argv) > 1 else ""
    if child in _CHILDREN:
        importlib.import_module(_CHILDREN[child]).main(*_place(child))
    else:
        importlib.import_module("hoverboard.cli").main()


def _place(child: str) -> tuple[Path, int]:
    parser = argparse.ArgumentParser(prog=f"hoverboard {child}", description="A child process of hoverboard serve.")
    parser.add_argument("--runtime", type=Path, required=True, help="the service's runtime directory")
    parser.add_argument("--index", type=int, required=True, help="which one of its kind, from 0")
    given = parser.parse_args(sys.argv[2:])
    return given.runtime, given.index


if __name__ == "__main__":
    main()
