"""The command `hoverboard`: one file a command, imported when it is called."""

from service.cli.app import main

__all__ = ["main"]
