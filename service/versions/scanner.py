"""What lies in the models directory now: names, version numbers, and whether anything changed since the last look."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.errors import ConfigError
from service.versions.manifest import check_name
from service.versions.serving import SERVING_FILE, Serving

__all__ = ["ModelOnDisk", "VersionOnDisk", "scan"]


@dataclass(frozen=True, slots=True)
class VersionOnDisk:
    """One version's directory.

    Attributes:
        number: its name.
        path: where it is.
        stamp: names, sizes and times of its files; another stamp means other content.
    """

    number: int
    path: Path
    stamp: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class ModelOnDisk:
    """One model's directory.

    Attributes:
        name: its name.
        path: where it is.
        versions: by number.
        serving: what `serving.toml` says; None where it is malformed.
        problem: why it is malformed.
    """

    name: str
    path: Path
    versions: Mapping[int, VersionOnDisk]
    serving: Serving | None
    problem: str | None = None


def scan(models: Path) -> dict[str, ModelOnDisk]:
    """Look at every model under `models`; hidden names, files and directories that are no numbers are passed over.

    Raises:
        ConfigError: the directory itself cannot be read.
    """
    try:
        entries = sorted(entry.name for entry in os.scandir(models) if entry.is_dir() and _is_name(entry.name))
    except OSError as error:
        raise ConfigError(f"models directory {models}: {error.strerror}") from error
    found = (_scan_model(models / name) for name in entries)
    return {model.name: model for model in found if model is not None}


def _scan_model(path: Path) -> ModelOnDisk | None:
    try:
        numbers = sorted(int(entry.name) for entry in os.scandir(path) if entry.is_dir() and _is_number(entry.name))
        versions = {number: VersionOnDisk(number, path / str(number), _stamp(path / str(number))) for number in numbers}
    except OSError:
        return None  # it went away under our feet: the next scan tells
    serving, problem = _read_serving(path / SERVING_FILE)
    if not versions and problem is None and not (path / SERVING_FILE).exists():
        return None
    return ModelOnDisk(path.name, path, versions, serving, problem)


def _read_serving(path: Path) -> tuple[Serving | None, str | None]:
    try:
        return Serving.parse(path.read_bytes()), None
    except FileNotFoundError:
        return Serving(), None
    except OSError as error:
        return None, f"{SERVING_FILE}: {error.strerror}"
    except ConfigError as error:
        return None, str(error)


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    stamps = []
    for root, _, files in os.walk(path):
        for file in files:
            status = (Path(root) / file).lstat()
            stamps.append((str(Path(root, file).relative_to(path)), status.st_size, status.st_mtime_ns))
    return tuple(sorted(stamps))


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except ValueError:
        return False
    return True


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and not name.startswith("0") and len(name) <= 18
