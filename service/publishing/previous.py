"""A version to be published, held against the one before it."""

from __future__ import annotations

from pathlib import Path

from hoverboard.errors import PublishError, VersionRefused
from hoverboard.publishing.names import renumbered
from hoverboard.versions import Manifest, read_version
from hoverboard.versions.compare import breaking

__all__ = ["compare_with_previous", "numbers", "previous"]


def numbers(model_dir: Path) -> list[int]:
    """The version numbers that are taken in a model's directory."""
    return [int(path.name) for path in model_dir.iterdir() if path.name.isascii() and path.name.isdecimal()]


def previous(model_dir: Path, number: int | None) -> Manifest | None:
    """The highest version below `number`, or of all; one whose manifest cannot be read is passed over."""
    for known in sorted(numbers(model_dir), reverse=True):
        if number is None or known < number:
            try:
                return read_version(model_dir / str(known))
            # One that cannot be read has no callers who could break.
            except VersionRefused:
                continue
    return None


def compare_with_previous(model_dir: Path, manifest: Manifest, number: int | None) -> None:
    """Refuse a version on which callers of the one before it may break, unless its manifest says that this is meant.

    Args:
        model_dir: `models/<name>`.
        manifest: of the new version.
        number: the one it will have; None for the next free one.

    Raises:
        PublishError: names each difference.
    """
    if manifest.breaking:
        return
    before = previous(model_dir, number)
    found = breaking(before, manifest) if before is not None else ()
    if before is not None and found:
        raise PublishError(
            f"callers of {before.name} version {before.version} may break on this one: {'; '.join(map(str, found))}. "
            f"{renumbered(before, manifest)}Give what is missing, or publish it as it is with --breaking (in Python: breaking=True)"
        )
