"""The command `hoverboard`: one file a command, imported when it is called."""

from hoverboard.cli.app import main

__all__ = ["main"]
