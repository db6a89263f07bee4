"""The memory-mapped files of the metrics, with room for what is written: a full disk is an error, never a dead process."""

from __future__ import annotations

import os
from typing import Any, Final

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

__all__ = ["install"]

_FIRST_SIZE: Final = 1 << 16
_OVERHEAD: Final = 64
"""Most bytes that a value takes beside its key."""


class _RoomyDict(MmapedDict):
    """A file whose blocks exist before they are written to: a write to a hole on a full disk is a SIGBUS."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # noqa: FBT002 - prometheus' signature
        if not read_mode:
            with open(filename, "ab") as file:  # noqa: PTH123 - as prometheus names it
                os.posix_fallocate(file.fileno(), 0, max(_FIRST_SIZE, os.fstat(file.fileno()).st_size))
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        held: dict[str, Any] = vars(self)
        needed, size = held["_used"] + len(key.encode()) + _OVERHEAD, held["_capacity"]
        while needed > size:
            size *= 2
        if size > held["_capacity"]:
            os.posix_fallocate(held["_f"].fileno(), 0, size)
        super()._init_value(key)  # type: ignore[no-untyped-call]


def install() -> None:
    """Have prometheus-client write to such files; once a process."""
    # It has no hook for this; the name is looked up where files are opened.
    values.MmapedDict = _RoomyDict  # type: ignore[attr-defined]
