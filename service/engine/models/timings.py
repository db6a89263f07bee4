"""How quickly a version's graph runs on this machine, remembered between starts: which way won, and each bucket's time.

Only a cache: where it cannot be read or written, the version is measured again.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from pathlib import Path

import msgspec

from hoverboard.contract.catalog import BucketTiming
from hoverboard.files import put_file

__all__ = ["Measured", "file_for", "processor", "recall", "remember"]


class Measured(msgspec.Struct, frozen=True):
    """A version's timings on this machine."""

    executor: str
    buckets: list[BucketTiming]


def file_for(directory: Path, parts: Iterable[str]) -> Path:
    """The file for everything that a timing depends on, in words."""
    return directory / f"{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}.json"


def recall(path: Path) -> Measured | None:
    """What was remembered; None for nothing that can be used."""
    try:
        measured = msgspec.json.decode(path.read_bytes(), type=Measured)
    except (OSError, msgspec.DecodeError):
        return None  # never measured here, or unreadable
    sound = measured.buckets and all(timing.size > 0 < timing.mean_ms for timing in measured.buckets)
    return measured if sound else None


def remember(path: Path, measured: Measured) -> None:
    """Keep it for the next start."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put_file(path, msgspec.json.encode(measured), durable=False)
    except OSError:
        return


def processor() -> str:
    """This machine's, as Linux calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
