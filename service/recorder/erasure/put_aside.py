"""What was put aside and is erased."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from hoverboard.recorder.erasure.tombstones import Tombstone, means, samples_of
from hoverboard.recorder.quarantine import Quarantine

__all__ = ["erased_files", "purge", "sample_ids"]


def sample_ids(quarantine: Quarantine) -> list[UUID]:
    """Of the samples, supplements and labels that were put aside, as far as they can be read."""
    return [UUID(bytes=each) for _, record in quarantine.records() for each in samples_of(record)]


def erased_files(quarantine: Quarantine, tombstones: Sequence[Tombstone]) -> list[Path]:
    """The files of what was erased; one that nobody can read is among them, since nobody can say whom it holds."""
    if not tombstones:
        return []
    return [
        path
        for path, record in quarantine.records()
        if record is None or any(means(tombstone, record) for tombstone in tombstones)
    ]


def purge(quarantine: Quarantine, tombstones: Sequence[Tombstone]) -> list[Path]:
    """Remove the files of what was erased.

    Returns:
        The files that are gone.
    """
    files = erased_files(quarantine, tombstones)
    for path in files:
        path.unlink(missing_ok=True)
    return files
