"""Remembers loads that took the whole process down, so that one bad version cannot keep the service from starting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from service.errors import VersionRefused

__all__ = ["LoadAttempts"]

_MOST: Final = 3


class LoadAttempts:
    """A marker file a version while it loads; one that is found again counts a death.

    Args:
        directory: where the markers lie; None remembers nothing.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    @contextmanager
    def trying(self, model: str, version: int) -> Iterator[None]:
        """Mark a load while it runs.

        Raises:
            VersionRefused: loading this version has ended the process three times.
        """
        if self._directory is None:
            yield
            return
        marker = self._directory / f"{model}.{version}"
        deaths = _read(marker)
        if deaths >= _MOST:
            raise VersionRefused(
                f"the engine died {deaths} times while loading it; load it by an admin call to retry", check="crash"
            )
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            marker.write_text(str(deaths + 1))
        try:
            yield
        finally:
            marker.unlink(missing_ok=True)

    def deaths(self, model: str, version: int) -> int:
        """How often loading it has ended the process."""
        return 0 if self._directory is None else _read(self._directory / f"{model}.{version}")

    def forget(self, model: str, version: int) -> None:
        """Give a version another chance."""
        if self._directory is not None:
            (self._directory / f"{model}.{version}").unlink(missing_ok=True)


def _read(marker: Path) -> int:
    try:
        return int(marker.read_text())
    except (OSError, ValueError):
        return 0
