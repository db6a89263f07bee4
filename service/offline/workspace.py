"""The folder beside the output in which an unfinished run keeps its finished parts and its checkpoint.

A part counts once the checkpoint names it: parts are written and synced first, the checkpoint is replaced after.
Whatever else lies there was left by a kill and is written again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from hoverboard.errors import ConfigError
from hoverboard.files import put_file, synchronise
from hoverboard.offline.rows import RowPosition

__all__ = ["Checkpoint", "Workspace"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a run has come.

    Attributes:
        job: what is being done, JSON-ready: equal only for the same command on the same input.
        version: the model version that every row of this output is answered by.
        parts: finished parts.
        position: where reading goes on.
        faults: rows with a fault so far.
        lost: rows among them that could not be read.
        first_lost: what was wrong with the first of those.
        complete: whether the merged output is ready to take its place.
    """

    job: Mapping[str, Any]
    version: int
    parts: int = 0
    position: RowPosition = field(default_factory=RowPosition)
    faults: int = 0
    lost: int = 0
    first_lost: str = ""
    complete: bool = False

    def further(self, position: RowPosition, faults: int, lost: Sequence[str] = ()) -> Checkpoint:
        """The checkpoint after one more part.

        Args:
            position: where the part ends.
            faults: its faulty rows.
            lost: what was wrong with those of them that could not be read.
        """
        return replace(
            self,
            parts=self.parts + 1,
            position=position,
            faults=self.faults + faults,
            lost=self.lost + len(lost),
            first_lost=self.first_lost or next(iter(lost), ""),
        )


class Workspace:
    """`.NAME.scoring/` beside the output NAME; one process at a time, by a lock on it.

    Args:
        output: what the run writes.
        work: the last part of the folder's name: what is being done.
    """

    def __init__(self, output: Path, work: str = "scoring") -> None:
        self.output = output
        self.folder = output.parent / f".{output.name}.{work}"
        self.merged = self.folder / f"merged{output.suffix}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            ConfigError: the output's folder is missing, or another run writes the same output.
        """
        if not self.output.parent.is_dir():
            raise ConfigError(f"there is no folder {self.output.parent} to write {self.output.name} to")
        self.folder.mkdir(exist_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            if not self._take(descriptor):
                raise ConfigError(f"another run is writing {self.output}")
            try:
                yield
            finally:
                with suppress(OSError):  # it holds something, or is gone already
                    self.folder.rmdir()
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(descriptor), self.folder.stat())  # else a run has just removed it
        except (BlockingIOError, FileNotFoundError):
            return False

    def part(self, number: int) -> Path:
        """The path of one part, counted from 0."""
        return self.folder / f"part-{number:06d}{self.output.suffix}"

    def load(self) -> Checkpoint | None:
        """The last checkpoint, or None where no run has made one.

        Raises:
            ConfigError: the file is not a checkpoint of this program.
        """
        try:
            raw = (self.folder / "checkpoint.json").read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(raw, type=Checkpoint)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{self.folder}/checkpoint.json is unreadable ({error}); use --restart") from error

    def save(self, checkpoint: Checkpoint) -> None:
        """Make a checkpoint hold, atomically and durably."""
        path = self.folder / "checkpoint.json"
        put_file(path, msgspec.json.encode(asdict(checkpoint)))

    def clear(self) -> None:
        """Remove everything an earlier run left, the folder itself excepted."""
        (self.folder / "checkpoint.json").unlink(missing_ok=True)
        for path in self.folder.iterdir():
            path.unlink()

    def deliver(self) -> None:
        """Put the merged output in its place and remove the folder; may be called again after a kill."""
        # Else an earlier run was killed after the rename: only the folder is left to remove.
        if self.merged.exists():
            synchronise(self.merged)
            self.merged.replace(self.output)
            synchronise(self.output.parent)
        shutil.rmtree(self.folder)
