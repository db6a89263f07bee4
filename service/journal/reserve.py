"""The gap that is not yet in the journal: what was left out, in a file whose blocks were allocated beforehand.

It can be written on a full disk, and outlives a kill -9.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from hoverboard.files import is_the_file, open_plain
from hoverboard.journal.format import RESERVE_FILE, SLOT_BYTES, SLOT_PAYLOAD, pack_slot, unpack_slot
from hoverboard.journal.records import GapEntry, GapRecord, decode, encode

__all__ = ["PendingGap", "Reserve", "reserved_gap", "synchronise"]

_Key = tuple[str | None, int | None, str]

synchronise: Final = getattr(os, "fdatasync", os.fsync)
"""Waits until a file's bytes are on the disk; macOS has no fdatasync."""


class Reserve:
    """The writer's side.

    Args:
        descriptor: of the file; this object's from now on.
        fsync: whether `put` waits for the disk.
    """

    def __init__(self, descriptor: int, *, fsync: bool) -> None:
        self._descriptor = descriptor
        self._fsync = fsync
        self._serial = 0

    @classmethod
    def create(cls, directory: int, *, fsync: bool) -> Reserve:
        """Make the file in a directory, given by its descriptor.

        Raises:
            OSError: there is no room for it, say.
        """
        # Exclusive: a file that is there belongs to somebody else.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(RESERVE_FILE, flags, 0o600, dir_fd=directory)
        try:
            _allocate(descriptor, 2 * SLOT_BYTES)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, fsync=fsync)

    def put(self, payload: bytes) -> None:
        """Replace what the file says; a failure leaves what it said.

        Raises:
            OSError: it could not be written.
        """
        if len(payload) > SLOT_PAYLOAD:
            raise OSError(f"a gap of {len(payload)} bytes does not fit into {RESERVE_FILE}")
        slot = pack_slot(self._serial + 1, payload)
        # The other slot holds what was put last: only after a success is it the next one to be overwritten.
        written = os.pwrite(self._descriptor, slot, self._serial % 2 * SLOT_BYTES)
        if written != len(slot):
            raise OSError(f"{written} of {len(slot)} bytes written to {RESERVE_FILE}")
        if self._fsync:
            synchronise(self._descriptor)
        self._serial += 1

    def is_there(self, directory: int) -> bool:
        """Whether the file is still in its directory, given by its descriptor, and as large as it was made."""
        return is_the_file(RESERVE_FILE, self._descriptor, size=2 * SLOT_BYTES, directory=directory)

    def close(self) -> None:
        os.close(self._descriptor)


def reserved_gap(directory: Path) -> GapRecord | None:
    """What a journal's reserve file says last; None where it says nothing that checks."""
    try:
        with os.fdopen(open_plain(directory / RESERVE_FILE), "rb") as file:
            data = file.read(2 * SLOT_BYTES)
    except OSError:
        return None
    slots = [unpack_slot(data[begin : begin + SLOT_BYTES]) for begin in (0, SLOT_BYTES)]
    # One may be torn: a kill or a power cut in the middle of `put` leaves what the other slot said.
    whole = [slot for slot in slots if slot is not None]
    if not whole:
        return None
    try:
        record = decode(max(whole)[1])
    except msgspec.DecodeError:
        return None
    return record if isinstance(record, GapRecord) else None


class PendingGap(NamedTuple):
    """What was left out, and is no frame yet.

    Attributes:
        entries: one for each model, version and reason.
        payload: of its record.
    """

    entries: Mapping[_Key, GapEntry] = MappingProxyType({})
    payload: bytes = b""

    def plus(self, entries: Sequence[GapEntry], generation: int) -> PendingGap:
        """With some more. Where that is more than a slot takes, models and versions are given up and only the reasons
        are told apart.
        """
        gap = _add(dict(self.entries), entries)
        payload = encode(GapRecord(generation, list(gap.values())))
        if len(payload) > SLOT_PAYLOAD:
            gap = _add({}, [msgspec.structs.replace(entry, model=None, version=None) for entry in gap.values()])
            payload = encode(GapRecord(generation, list(gap.values())))
        return PendingGap(gap, payload)


def _add(gap: dict[_Key, GapEntry], entries: Sequence[GapEntry]) -> dict[_Key, GapEntry]:
    for new in entries:
        key = new.model, new.version, new.reason
        old = gap.get(key)
        gap[key] = new if old is None else old.plus(new)
    return gap


def _allocate(descriptor: int, size: int) -> None:
    """Have the file's blocks truly there: what is only promised may be refused by a full disk later."""
    if hasattr(os, "posix_fallocate"):
        with suppress(OSError):  # not every file system knows it, and the zeros below find out as well
            os.posix_fallocate(descriptor, 0, size)
    written = os.pwrite(descriptor, bytes(size), 0)
    if written != size:
        raise OSError(f"{written} of {size} bytes written to {RESERVE_FILE}")
    # Even without --journal-fsync, once: blocks that are only promised are no reserve.
    os.fsync(descriptor)
