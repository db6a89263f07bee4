"""What all journals together take on the disk: the budget is theirs, whoever writes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["DiskUsage"]


class DiskUsage:
    """Own writes as they are made, other processes' as of the last look. Not thread-safe, but for `look`.

    Args:
        root: directory of all journals.

    Attributes:
        bytes: they take.
    """

    def __init__(self, root: Path) -> None:
        self.bytes = 0
        self._root = root
        self._written = 0

    def add(self, size: int) -> None:
        """Count bytes that this process has written."""
        self._written += size
        self.bytes += size

    def look(self) -> tuple[int, int]:
        """Look at every file, which may take a while; for `take`."""
        before = self._written
        return bytes_below(self._root), before

    def take(self, on_disk: int, written_before: int) -> None:
        """Take over what a look has found. What was written meanwhile may be counted twice, until the next one; never not
        at all.
        """
        self.bytes = on_disk + self._written - written_before


def bytes_below(root: Path) -> int:
    """Bytes in the files of all journals; what vanishes meanwhile counts nothing."""
    total = 0
    # Each level may vanish while it is looked at: the recorder deletes journals, and so do people.
    with suppress(OSError), os.scandir(root) as journals:
        for journal in journals:
            with suppress(OSError), os.scandir(journal) as files:
                for file in files:
                    with suppress(OSError):
                        total += file.stat(follow_symlinks=False).st_size
    return total
