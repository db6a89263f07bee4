"""Remembers which models have served, so that readiness after a restart waits for those and for no others."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["Served"]


class Served:
    """An empty file a model that has had a live stable version.

    Args:
        directory: where they lie; None remembers nothing.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._names: set[str] = set()
        if directory is not None:
            with suppress(OSError):
                self._names = {path.name for path in directory.iterdir()}

    def __contains__(self, model: str) -> bool:
        return model in self._names

    def add(self, model: str) -> None:
        """Remember a model."""
        if model in self._names:
            return
        self._names.add(model)
        if self._directory is not None:
            with suppress(OSError):  # a full disk costs the memory of it, not the model
                self._directory.mkdir(parents=True, exist_ok=True)
                (self._directory / model).touch()

    def remove(self, model: str) -> None:
        """Forget a model whose directory is gone."""
        self._names.discard(model)
        if self._directory is not None:
            with suppress(OSError):
                (self._directory / model).unlink()
