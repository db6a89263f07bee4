"""Remembers which versions the engine died on, so that one bad version cannot keep the service from serving the others.

The supervisor writes it down when it sees an engine die; that an engine dies with its supervisor is no version's fault.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from hoverboard.errors import VersionRefused
from hoverboard.files import put_file

__all__ = ["CRASH", "LoadAttempts", "attempts_dir"]

CRASH: Final = "crash"
"""The check that refuses a version on which the engine died."""
_MOST: Final = 2
_REMEMBERED_S: Final = 24 * 3600.0


class _Death(msgspec.Struct, frozen=True):
    """One death of an engine.

    Attributes:
        at: seconds since the epoch.
        what: `load` or `batch`.
        how: in words.
    """

    at: float
    what: str
    how: str


def attempts_dir(data_dir: Path) -> Path:
    """Where a service remembers them."""
    return data_dir / "loading"


class LoadAttempts:
    """A file a version on which an engine died, with the deaths of the last day.

    Args:
        directory: where the files lie; None remembers nothing.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def check(self, model: str, version: int) -> None:
        """Ask before a load.

        Raises:
            VersionRefused: the engine died on this version twice.
        """
        deaths = self._read(model, version)
        if len(deaths) >= _MOST:
            raise VersionRefused(
                f"the engine died {len(deaths)} times while it ran ({deaths[-1].how}): "
                f"`hoverboard models load {model} {version}` tries it again",
                check=CRASH,
            )

    def deaths(self, model: str, version: int) -> int:
        """How often the engine died on it of late."""
        return len(self._read(model, version))

    def count(self, model: str, version: int, what: str, how: str) -> int:
        """Write a death down; returns how many there are of late."""
        deaths = [*self._read(model, version), _Death(time.time(), what, how)]
        self._write(model, version, deaths)
        return len(deaths)

    def survived(self, model: str, version: int) -> None:
        """A load of it has ended: what ended an earlier one has passed. Deaths in batches still count."""
        deaths = self._read(model, version)
        if deaths:
            self._write(model, version, [death for death in deaths if death.what != "load"])

    def forget(self, model: str, version: int) -> None:
        """Give a version another chance."""
        self._write(model, version, [])

    def _read(self, model: str, version: int) -> list[_Death]:
        if self._directory is None:
            return []
        try:
            deaths = msgspec.json.decode((self._directory / f"{model}.{version}").read_bytes(), type=list[_Death])
        except (OSError, msgspec.DecodeError):
            return []  # also what version 0.1.0 wrote: it counted the supervisor's deaths as well
        if len(deaths) >= _MOST:
            return deaths  # until somebody says otherwise
        return [death for death in deaths if time.time() - death.at < _REMEMBERED_S]

    def _write(self, model: str, version: int, deaths: list[_Death]) -> None:
        if self._directory is None:
            return
        file = self._directory / f"{model}.{version}"
        with suppress(OSError):  # a full disk, or a directory that is not ours, costs the memory of it
            if not deaths:
                file.unlink(missing_ok=True)
                return
            self._directory.mkdir(parents=True, exist_ok=True)
            put_file(file, msgspec.json.encode(deaths), durable=False)
