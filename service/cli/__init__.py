"""The command `hoverboard`: one file a command, imported when it is called.

In: a command line, files, and settings from the environment. Out: tables for people or JSON for programs on stdout, one sentence on
stderr where something failed, and an exit status.
"""

from hoverboard.cli.app import main

__all__ = ["main"]
