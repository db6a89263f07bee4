"""The directory of one process's journal: made and locked, and looked after while it is written to."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Self
from uuid import UUID

import uuid_utils

from hoverboard.files import synchronise
from hoverboard.journal.reserve import Reserve

__all__ = ["Home"]


class Home(NamedTuple):
    """A journal's directory, and what its writer holds open in it.

    Attributes:
        uuid: the journal's name.
        directory: of its files.
        descriptor: of the directory, with the lock that says that somebody writes.
        reserve: for gaps.
    """

    uuid: UUID
    directory: Path
    descriptor: int
    reserve: Reserve

    @classmethod
    @contextmanager
    def made(cls, root: Path, *, fsync: bool) -> Iterator[Self]:
        """A new one. It has its name when the block ends; where the block raises, nothing is left of it.

        Raises:
            OSError: there is no place for it.
        """
        uuid = UUID(bytes=uuid_utils.uuid7().bytes)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Under a hidden name until its lock is held, or a reader would take it for an orphan.
        hidden, directory = root / f".{uuid}", root / str(uuid)
        hidden.mkdir(mode=0o700)
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, hidden, ignore_errors=True)
            descriptor = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, descriptor)
            # On the directory itself: a lock file could be removed, and another one locked in its place.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            reserve = Reserve.create(descriptor, fsync=fsync)
            undo.callback(reserve.close)
            # The first segment is begun here, so that a journal with a name always has a header to say whose it is.
            yield cls(uuid, directory, descriptor, reserve)
            hidden.rename(directory)
            # Frames that are waited for are of no use in a directory whose name a power cut takes away.
            synchronise(root)
            undo.pop_all()
