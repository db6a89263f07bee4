"""What lies in the models directory now: names, version numbers, and whether anything changed since the last look."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hoverboard.errors import ConfigError
from hoverboard.machine import check_of
from hoverboard.versions.manifest import MANIFEST_FILE, check_name
from hoverboard.versions.reading import entries, files
from hoverboard.versions.serving import SERVING_FILE, Serving, read_serving

__all__ = ["ModelOnDisk", "VersionOnDisk", "scan"]

_MOST_DIGITS: Final = 18
"""A longer number does not fit the 64 bits that records have for it."""


@dataclass(frozen=True, slots=True)
class VersionOnDisk:
    """One version's directory.

    Attributes:
        number: its name.
        path: where it is.
        stamp: names, sizes and times of its files; another stamp means other content, or other rights to read it.
        problem: why its files could not be looked at; None where they were.
        check: which check that fails.
    """

    number: int
    path: Path
    stamp: tuple[tuple[str, int, int, int], ...]
    problem: str | None = None
    check: str = "files"


@dataclass(frozen=True, slots=True)
class ModelOnDisk:
    """One model's directory.

    Attributes:
        name: its name.
        path: where it is.
        versions: by number.
        serving: what `serving.toml` says; None where it is malformed.
        problem: why it is malformed, or why the directory could not be listed.
        listed: whether the directory could be listed; where not, `versions` says nothing.
        passed_over: what looks like a version and cannot be one, a sentence each.
    """

    name: str
    path: Path
    versions: Mapping[int, VersionOnDisk]
    serving: Serving | None
    problem: str | None = None
    listed: bool = True
    passed_over: tuple[str, ...] = ()


def scan(models: Path, tell: Callable[[str], None] | None = None) -> dict[str, ModelOnDisk]:
    """Look at every model under `models`. Hidden names and files are passed over, and folders that hold no version.

    Args:
        models: the directory.
        tell: told about each folder that holds versions under a name no model can have, in a sentence.

    Raises:
        ConfigError: the directory itself cannot be listed.
    """
    try:
        folders = sorted(entry.name for entry in entries(models) if _is_folder(entry))
    except OSError as error:
        raise ConfigError(f"models directory {models}: {error.strerror}") from error
    by_name = {}
    for name in folders:
        problem = _name_problem(name)
        model = _scan_model(models / name)
        if model is not None and problem is None:
            by_name[name] = model
        elif model is not None and model.versions and tell is not None:
            tell(f"{problem}; rename the folder")
    return by_name


def _scan_model(path: Path) -> ModelOnDisk | None:
    versions, strays = {}, []
    serving, problem = _read_serving(path / SERVING_FILE)
    try:
        for entry in entries(path):
            if not _is_folder(entry):
                continue
            if _is_number(entry.name):
                versions[int(entry.name)] = _look(path / entry.name)
            elif _like_a_version(path / entry.name):
                strays.append(_stray(entry.name))
    except FileNotFoundError:
        # It went between the listing and this look.
        return None
    except OSError as error:
        # Not listed is not gone: what is in memory goes on answering.
        return ModelOnDisk(path.name, path, {}, serving, f"{path.name}: {error.strerror}", listed=False)
    if not versions and not strays and problem is None and not os.path.lexists(path / SERVING_FILE):
        return None
    return ModelOnDisk(path.name, path, dict(sorted(versions.items())), serving, problem, passed_over=tuple(strays))


def _look(path: Path) -> VersionOnDisk:
    try:
        # The time of change is in it, too: `cp -p` keeps size and modification time.
        stamp = sorted((name, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for name, each in files(path))
    except OSError as error:
        problem = f"its files cannot be looked at: {error.strerror}"
        return VersionOnDisk(int(path.name), path, (), problem, check_of(error, "files"))
    return VersionOnDisk(int(path.name), path, tuple(stamp))


def _read_serving(path: Path) -> tuple[Serving | None, str | None]:
    try:
        return read_serving(path), None
    except ConfigError as error:
        return None, str(error)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return True  # it cannot be looked at, which is no reason to believe that it is gone


def _name_problem(name: str) -> str | None:
    try:
        check_name(name)
    except ValueError as error:
        return str(error)
    return None


def _is_number(name: str) -> bool:
    # `01` beside `1` would be two folders of one version.
    return name.isascii() and name.isdecimal() and not name.startswith("0") and len(name) <= _MOST_DIGITS


def _like_a_version(path: Path) -> bool:
    return path.name.isdecimal() or os.path.lexists(path / MANIFEST_FILE)


def _stray(name: str) -> str:
    shown = name if len(name) <= 40 else f"{name[:40]}..."
    return f"folder {shown!r} is no version: a version's folder is its number, 1 to {_MOST_DIGITS} digits, without zeros before it"
