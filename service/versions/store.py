"""Reading and writing one version's directory: checksums verified, written whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hoverboard.errors import PublishError, VersionRefused
from hoverboard.files import synchronise
from hoverboard.machine import check_of
from hoverboard.versions.golden import GOLDEN_FILE, GoldenSet
from hoverboard.versions.manifest import MANIFEST_FILE, MOST_BYTES, Manifest
from hoverboard.versions.reading import files, open_file, read_file

__all__ = ["VersionWriter", "read_version", "remove_leftovers", "remove_unfinished", "verify_checksums"]

_HIDDEN: Final = ".publishing-"
_MOST_GOLDEN: Final = 128 << 20


def read_version(directory: Path) -> Manifest:
    """Read `models/<name>/<version>/manifest.json` and hold it against the directory's own name.

    Raises:
        VersionRefused: no manifest, a malformed one, or one that belongs elsewhere.
    """
    try:
        text = read_file(directory / MANIFEST_FILE, MOST_BYTES)
    except FileNotFoundError as error:
        message = f"no {MANIFEST_FILE}: write versions with `hoverboard publish`"
        raise VersionRefused(message, check="manifest") from error
    except OSError as error:
        raise VersionRefused(f"{MANIFEST_FILE}: {error.strerror}", check=check_of(error, "manifest")) from error
    manifest = Manifest.from_json(text)
    # A folder that was copied or renamed would answer, and be recorded, as another version.
    if (manifest.name, str(manifest.version)) != (directory.parent.name, directory.name):
        here = f"{directory.parent.name}/{directory.name}"
        message = f"{MANIFEST_FILE}: says {manifest.name}/{manifest.version} but lies in {here}"
        raise VersionRefused(message, check="manifest")
    return manifest


def verify_checksums(directory: Path, manifest: Manifest) -> None:
    """Hash every file of a version and compare with the manifest.

    Raises:
        VersionRefused: a file differs, is missing, is a link, or is not in the manifest; it is named.
    """
    try:
        _compare_checksums(directory, manifest.sha256)
    except OSError as error:
        name = Path(error.filename).name if error.filename else "its files"
        raise VersionRefused(f"{name}: {error.strerror}", check=check_of(error, "checksum")) from error
    # A manifest that leaves these out would agree with a folder that lacks them.
    for needed in (manifest.artifact, GOLDEN_FILE):
        if not (directory / needed).exists():
            raise VersionRefused(f"{needed}: missing", check="checksum")


def _compare_checksums(directory: Path, listed: Mapping[str, str]) -> None:
    files = set(_files(directory))
    # Names come first: hashing a large model takes seconds.
    for name in sorted(listed.keys() - files):
        raise VersionRefused(f"{name}: missing", check="checksum")
    # What nobody has listed is refused, too: a framework reads whatever lies in the folder of a SavedModel.
    for name in sorted(files - listed.keys()):
        raise VersionRefused(f"{name}: not in the manifest", check="checksum")
    for name, want in sorted(listed.items()):
        if _sha256(directory / name) != want:
            raise VersionRefused(f"{name}: sha256 differs from the manifest's", check="checksum")


def read_golden(directory: Path, manifest: Manifest, first: int | None = None) -> GoldenSet:
    """Read a version's golden samples, or only the first ones.

    Raises:
        VersionRefused: they cannot be read, are too many or too large, or do not suit the manifest.
    """
    try:
        text = read_file(directory / GOLDEN_FILE, _MOST_GOLDEN)
    except FileNotFoundError as error:
        raise VersionRefused(f"{GOLDEN_FILE}: missing", check="checksum") from error
    except OSError as error:
        raise VersionRefused(f"{GOLDEN_FILE}: {error.strerror}", check=check_of(error, "golden")) from error
    return GoldenSet.from_json(text, manifest.signature, first)


@dataclass(slots=True)
class VersionWriter:
    """Writes a version beside its final place and renames it there, so that a scan sees it whole or not at all.

    Use as a context manager: put files under `path`, then call `commit`. Without a commit nothing stays.

    Attributes:
        model_dir: `models/<name>`, made when missing.
        path: the hidden sibling to write to.
    """

    model_dir: Path
    path: Path = field(init=False)
    _done: bool = field(default=False, init=False)

    def __enter__(self) -> Self:
        self.model_dir.mkdir(parents=True, exist_ok=True)
        # Beside its final place and not in TMPDIR: across file systems a rename would be a copy, which a scan can see half done.
        self.path = Path(tempfile.mkdtemp(dir=self.model_dir, prefix=_HIDDEN))
        _unfinished.add(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._done:
            _remove(self.path)
        _unfinished.discard(self.path)

    def checksums(self) -> Mapping[str, str]:
        """Relative path -> SHA-256 of everything written so far, the manifest left out."""
        return {name: _sha256(self.path / name) for name in sorted(_files(self.path))}

    def commit(self, manifest: Manifest) -> Path:
        """Write the manifest, sync everything to disk, and rename to the final place, which is returned.

        Raises:
            PublishError: that version exists already; versions are immutable.
        """
        (self.path / MANIFEST_FILE).write_bytes(manifest.to_json())
        self.path.chmod(0o755)  # mkdtemp made it for its owner alone; the service may run as somebody else
        for name in (*_files(self.path), MANIFEST_FILE):
            (self.path / name).chmod(0o644)
            synchronise(self.path / name)
        # All of it before the rename: after a power cut no name must lead to half a version.
        synchronise(self.path)
        final = self.model_dir / str(manifest.version)
        if final.exists():  # a rename would replace an empty directory
            raise PublishError(f"{final} exists already: versions are immutable, publish the next number")
        try:
            self.path.rename(final)
        except OSError as error:
            raise PublishError(f"{final}: {error.strerror}") from error
        self._done = True
        # The new name is part of this folder: without it the version may be gone after a power cut.
        synchronise(self.model_dir)
        return final


_unfinished: set[Path] = set()
"""What this process is writing to."""


def remove_unfinished() -> None:
    """Remove what this process was about to write, for one that ends at once and runs nothing any more."""
    for path in list(_unfinished):
        _remove(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.parent.rmdir()  # only if it was made for nothing


def remove_leftovers(model_dir: Path, older_than_s: float, now: float) -> list[Path]:
    """Remove hidden directories that a killed publisher left, once they are `older_than_s` seconds old."""
    gone = []
    for path in model_dir.glob(f"{_HIDDEN}*"):
        with suppress(OSError):  # its publisher has just renamed it, or it is another user's
            # A publisher may be at work in a young one.
            if now - path.lstat().st_mtime > older_than_s:
                shutil.rmtree(path, ignore_errors=True)
                gone.append(path)
    return gone


def _files(directory: Path) -> list[str]:
    return [name for name, _ in files(directory) if name != MANIFEST_FILE]


def _sha256(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
